/* SPDX-License-Identifier: MIT */
/* See e1000.h: registers, interrupts and life of the card.
 *
 * The delay timers (RDTR, RADV, TIDV, TADV) are stored: an interrupt is held back by ITR alone. Not modelled: wake up, flow control,
 * the TBI, flash and boot ROM. Registers that are not there read as zero. */
#include "device/e1000.h"
#include <string.h>
#include "device/chips.h"
#include "util/log.h"

#define REGISTERS 0x20000u
#define IO_WINDOW 0x40u
enum { IO_ADDRESS = 0, IO_DATA = 4 };
enum { BAR_REGISTERS = 0, BAR_IO = 2 };
#define STATUS_VALUE 0x83u      /* full duplex, link up, 1000 Mb/s */
#define ITR_NS 256u
#define ITR_MASK 0xffffu
#define RING_LENGTH 0xfff80u
#define RING_INDEX 0xffffu
#define ADDRESS_VALID BIT(31)
#define CTRL_RESET 0x00000a09u  /* full duplex, speed detection; 1000 Mb/s */
#define PBA_RESET 0x00100030u   /* 48 KiB for receiving, 16 for sending: nothing depends on it */
#define VLAN_TYPE 0x8100u
#define TIPG_RESET 0x00602008u

static struct e1000 *of(struct device *d)
{
	return container_of(d, struct e1000, device);
}

/* ---- Interrupts --------------------------------------------------------------------------------------------------------- */

static void drive(struct e1000 *e, bool level)
{
	e->host.asserted = level;
	pci_intx(&e->pci, level);
}

/* The pin goes up when the time since it did so last allows it, and stays until nothing is left to tell. */
static void update(struct e1000 *e)
{
	uint64_t now = clock_now(e->device.vm);
	if (!(e->r.icr & e->r.ims)) {
		timer_cancel(&e->host.timer);
		drive(e, false);
	} else if (!e->host.asserted && now < e->r.quiet_until) {
		timer_arm(&e->host.timer, e->r.quiet_until);
	} else if (!e->host.asserted) {
		e->r.quiet_until = now + (uint64_t)(e->r.itr & ITR_MASK) * ITR_NS;
		drive(e, true);
	}
}

static void quiet_ends(struct device *d, void *arg)
{
	update(of(d));
}

void e1000_cause(struct e1000 *e, uint32_t causes)
{
	e->r.icr |= causes;
	update(e);
}

static uint32_t read_causes(struct e1000 *e)
{
	uint32_t value = e->r.icr;
	e->r.icr = 0;
	update(e);
	return value;
}

/* ---- Statistics: 13.7; they stop at their greatest value, and reading clears them ---------------------------------------- */

void e1000_count(struct e1000 *e, unsigned statistic, uint32_t by)
{
	uint32_t *s = &e->r.statistics[statistic];
	*s = *s + by < *s ? UINT32_MAX : *s + by;
}

void e1000_count_bytes(struct e1000 *e, unsigned statistic, uint64_t bytes)
{
	uint64_t sum = ((uint64_t)e->r.statistics[statistic + 1] << 32 | e->r.statistics[statistic]) + bytes;
	e->r.statistics[statistic] = (uint32_t)sum;
	e->r.statistics[statistic + 1] = (uint32_t)(sum >> 32);
}

/* ---- Registers ---------------------------------------------------------------------------------------------------------- */

/* Those that are read and written without more, and what of them can be written. */
static const struct plain {
	uint32_t at, mask;
	size_t member;
} plain[] = {
#define PLAIN(at, mask, name) { at, mask, offsetof(struct e1000_regs, name) }
	PLAIN(CTRL_EXT, ~0u, ctrl_ext), PLAIN(FCAL, ~0u, fcal), PLAIN(FCAH, 0xffff, fcah), PLAIN(FCT, 0xffff, fct), PLAIN(VET, 0xffff, vet),
	PLAIN(ITR, ITR_MASK, itr), PLAIN(FCTTV, 0xffff, fcttv), PLAIN(TXCW, ~0u, txcw), PLAIN(TIPG, ~0u, tipg), PLAIN(AIFS, 0xffff, aifs),
	PLAIN(LEDCTL, ~0u, ledctl), PLAIN(PBA, 0xffff, pba), PLAIN(FCRTL, ~0u, fcrtl), PLAIN(FCRTH, 0xffff, fcrth),
	PLAIN(RDBAL, ~15u, rx.base_low), PLAIN(RDBAH, ~0u, rx.base_high), PLAIN(RDLEN, RING_LENGTH, rx.length), PLAIN(RDH, RING_INDEX, rx.head),
	PLAIN(RDTR, 0xffff, rdtr), PLAIN(RXDCTL, ~0u, rxdctl), PLAIN(RADV, 0xffff, radv),
	PLAIN(TDBAL, ~15u, tx.base_low), PLAIN(TDBAH, ~0u, tx.base_high), PLAIN(TDLEN, RING_LENGTH, tx.length), PLAIN(TDH, RING_INDEX, tx.head),
	PLAIN(TIDV, 0xffff, tidv), PLAIN(TXDCTL, ~0u, txdctl), PLAIN(TADV, 0xffff, tadv), PLAIN(RXCSUM, 0x7ff, rxcsum), PLAIN(WUC, ~0u, wuc),
	PLAIN(WUFC, ~0u, wufc), PLAIN(MANC, ~0u, manc), PLAIN(RDT, RING_INDEX, rx.tail), PLAIN(TDT, RING_INDEX, tx.tail), PLAIN(RCTL, ~0u, rctl),
	PLAIN(TCTL, ~0u, tctl),
#undef PLAIN
};

static uint32_t *find(struct e1000 *e, uint32_t at, uint32_t *mask)
{
	*mask = ~0u;
	if (at >= MTA && at < MTA_END)
		return &e->r.mta[(at - MTA) / 4];
	if (at >= RA && at < RA_END)
		return &e->r.ra[(at - RA) / 4];
	if (at >= VFTA && at < VFTA_END)
		return &e->r.vfta[(at - VFTA) / 4];
	for (unsigned i = 0; i < ARRAY_SIZE(plain); i++) {
		if (plain[i].at != at)
			continue;
		*mask = plain[i].mask;
		return (uint32_t *)((uint8_t *)&e->r + plain[i].member);
	}
	return NULL;
}

static void reset_registers(struct e1000 *e)
{
	struct e1000_regs *r = &e->r;
	uint32_t io_address = r->io_address;
	memset(r, 0, sizeof(*r));
	r->io_address = io_address;
	r->ctrl = CTRL_RESET;
	r->pba = PBA_RESET;
	r->vet = VLAN_TYPE;
	r->tipg = TIPG_RESET;
	r->ra[0] = e->host.eeprom[0] | (uint32_t)e->host.eeprom[1] << 16;
	r->ra[1] = e->host.eeprom[2] | ADDRESS_VALID;
	e1000_phy_reset(e);
	e1000_eeprom_lines(e, 0);
	net_backlog_drop(&e->host.backlog, e->host.net);
	update(e);
}

static void write_ctrl(struct e1000 *e, uint32_t value)
{
	uint32_t old = e->r.ctrl;
	if (value & CTRL_RST) {
		reset_registers(e);
		return;
	}
	e->r.ctrl = value & ~CTRL_PHY_RST;
	if (value & CTRL_PHY_RST)
		e1000_phy_reset(e);
	if ((value & CTRL_PHY_RST) || (~old & value & CTRL_SLU))
		e1000_cause(e, ICR_LSC);
}

bool e1000_can_receive(const struct e1000 *e)
{
	return (e->r.rctl & RCTL_EN) && pci_is_master(&e->pci);
}

static uint32_t read_register(struct e1000 *e, uint32_t at)
{
	uint32_t mask, value, *reg;
	switch (at) {
	case CTRL:
		return e->r.ctrl;
	case STATUS:
		return STATUS_VALUE;
	case EECD:
		return e1000_eeprom_state(e);
	case EERD:
		return e->r.eerd;
	case MDIC:
		return e->r.mdic;
	case ICR:
		return read_causes(e);
	case IMS:
		return e->r.ims;
	case STATISTICS ... STATISTICS_END - 1:
		value = e->r.statistics[(at - STATISTICS) / 4];
		e->r.statistics[(at - STATISTICS) / 4] = 0;
		return value;
	}
	reg = find(e, at, &mask);
	return reg ? *reg : 0;
}

/* What a write does beyond being stored. */
static void written(struct e1000 *e, uint32_t at)
{
	switch (at) {
	case RCTL:
	case RDT:
		if (e1000_can_receive(e))
			e1000_receive_waiting(e);
		break;
	case TCTL:
	case TDT:
		e1000_send(e);
		break;
	}
}

static void write_register(struct e1000 *e, uint32_t at, uint32_t value)
{
	uint32_t mask, *reg;
	switch (at) {
	case CTRL:
		write_ctrl(e, value);
		return;
	case EECD:
		e1000_eeprom_lines(e, value);
		return;
	case EERD:
		e1000_eeprom_read(e, value);
		return;
	case MDIC:
		e1000_phy_access(e, value);
		return;
	case ICR:
		e->r.icr &= ~value;
		update(e);
		return;
	case ICS:
		e1000_cause(e, value);
		return;
	case IMS:
		e->r.ims |= value;
		update(e);
		return;
	case IMC:
		e->r.ims &= ~value;
		update(e);
		return;
	}
	reg = find(e, at, &mask);
	if (!reg)
		return;
	*reg = value & mask;
	written(e, at);
}

/* Registers are of 32 bits: of a smaller access the rest is not touched, and not read twice. */
static uint64_t mmio_read(struct device *d, uint64_t offset, unsigned size)
{
	return (uint64_t)read_register(of(d), (uint32_t)offset & ~3u) >> 8 * (offset & 3) & size_mask(size);
}

static void mmio_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	if (size == 4 && !(offset & 3))
		write_register(of(d), (uint32_t)offset, (uint32_t)value);
}

static uint64_t io_read(struct device *d, uint64_t offset, unsigned size)
{
	struct e1000 *e = of(d);
	switch (offset & ~3ULL) {
	case IO_ADDRESS:
		return e->r.io_address;
	case IO_DATA:
		return e->r.io_address < REGISTERS ? mmio_read(d, e->r.io_address & ~3u, size) : 0;
	}
	return 0;
}

static void io_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct e1000 *e = of(d);
	if (offset == IO_ADDRESS && size == 4)
		e->r.io_address = (uint32_t)value;
	else if (offset == IO_DATA && e->r.io_address < REGISTERS)
		mmio_write(d, e->r.io_address & ~3u, size, value);
}

/* ---- Life --------------------------------------------------------------------------------------------------------------- */

static void card_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct e1000 *e = of(d);
	if (len < sizeof(struct net_offload) || len > sizeof(struct net_offload) + NET_FRAME_MAX || !e1000_can_receive(e) || e1000_is_looped(e))
		return;
	if (e->host.backlog.first || !e1000_receive(e, data, len)) {
		net_backlog_keep(&e->host.backlog, e->host.net, data, len);
		e1000_cause(e, ICR_RXO);
	}
}

static void config_written(struct device *d, unsigned at, unsigned size)
{
	if (at <= PCI_COMMAND + 1u && at + size > PCI_COMMAND)
		e1000_send(of(d));
}

static const struct bus_ops mmio_ops = { .read = mmio_read, .write = mmio_write, .max_size = 4 };
static const struct bus_ops io_ops = { .read = io_read, .write = io_write, .max_size = 4 };
static const struct pci_model model = {
	.vendor = 0x8086, .device = 0x100e, .subsystem_vendor = 0x8086, .subsystem = 0x001e, .class = 0x020000, .revision = 2, .pin = 1,
	.status = 0x0220, .written = config_written,
	.bar = {
		[BAR_REGISTERS] = { .kind = PCI_BAR_MEMORY, .size = REGISTERS, .ops = &mmio_ops },
		[BAR_IO] = { .kind = PCI_BAR_IO, .size = IO_WINDOW, .ops = &io_ops },
	},
};

static int card_init(struct device *d)
{
	struct e1000 *e = of(d);
	const struct e1000_config *config = d->place->config;
	net_backlog_init(&e->host.backlog);
	timer_init(&e->host.timer, d, d->name, quiet_ends, NULL);
	int error = pci_function_init(&e->pci, d, &model);
	if (error)
		return error;
	e1000_eeprom_fill(e, config->net->mac);
	e->host.net = config->net;
	net_plain(e->host.net);
	return net_start(e->host.net, d, 0);
}

static void card_reset(struct device *d, enum reset_kind kind)
{
	struct e1000 *e = of(d);
	pci_function_reset(&e->pci);
	e->r.io_address = 0;
	reset_registers(e);
}

static int card_post_load(struct device *d, uint32_t version)
{
	struct e1000 *e = of(d);
	uint64_t now = clock_now(d->vm);
	pci_function_loaded(&e->pci);
	net_backlog_drop(&e->host.backlog, e->host.net);
	timer_cancel(&e->host.timer);
	e->r.quiet_until = MIN(e->r.quiet_until, now + (uint64_t)ITR_MASK * ITR_NS);
	e->host.asserted = e->pci.intx;
	update(e);
	return 0;
}

static void card_fini(struct device *d)
{
	struct e1000 *e = of(d);
	if (e->host.net)
		net_stop(e->host.net);
	e->host.net = NULL;
	net_backlog_drop(&e->host.backlog, NULL);
}

static const struct field ring_fields[] = {
	FIELD_U32(struct e1000_ring, base_low),
	FIELD_U32(struct e1000_ring, base_high),
	FIELD_U32(struct e1000_ring, length),
	FIELD_U32(struct e1000_ring, head),
	FIELD_U32(struct e1000_ring, tail),
	FIELD_END,
};

static const struct field context_fields[] = {
	FIELD_U8(struct e1000_context, ip_start),
	FIELD_U8(struct e1000_context, ip_offset),
	FIELD_U16(struct e1000_context, ip_end),
	FIELD_U8(struct e1000_context, data_start),
	FIELD_U8(struct e1000_context, data_offset),
	FIELD_U16(struct e1000_context, data_end),
	FIELD_U8(struct e1000_context, header),
	FIELD_U16(struct e1000_context, mss),
	FIELD_BOOL(struct e1000_context, tcp),
	FIELD_BOOL(struct e1000_context, ipv4),
	FIELD_END,
};

#define R(member) FIELD_U32(struct e1000_regs, member)
static const struct field register_fields[] = {
	R(ctrl), R(ctrl_ext), R(fcal), R(fcah), R(fct), R(vet), R(rctl), R(fcttv), R(txcw), R(tctl), R(tipg), R(aifs), R(ledctl), R(pba), R(fcrtl),
	R(fcrth), R(rdtr), R(rxdctl), R(radv), R(tidv), R(txdctl), R(tadv), R(rxcsum), R(wuc), R(wufc), R(manc), R(icr), R(ims), R(itr), R(mdic),
	R(eerd), R(mta), R(ra), R(vfta), R(statistics), R(eecd), R(eeprom_in), R(eeprom_count), R(eeprom_out), R(io_address),
	FIELD_STRUCT(struct e1000_regs, rx, ring_fields, struct e1000_ring),
	FIELD_STRUCT(struct e1000_regs, tx, ring_fields, struct e1000_ring),
	FIELD_STRUCT(struct e1000_regs, context, context_fields, struct e1000_context),
	FIELD_STRUCT(struct e1000_regs, segmentation, context_fields, struct e1000_context),
	FIELD_U16(struct e1000_regs, phy),
	FIELD_U64(struct e1000_regs, quiet_until),
	FIELD_END,
};
#undef R

static const struct field fields[] = {
	FIELD_STRUCT(struct e1000, pci, pci_function_fields, struct pci_function),
	FIELD_STRUCT(struct e1000, r, register_fields, struct e1000_regs),
	FIELD_END,
};

const struct device_class e1000_class = {
	.name = "e1000", .summary = "Intel 82540EM gigabit network card", .size = sizeof(struct e1000), .init = card_init, .reset = card_reset,
	.fini = card_fini, .event = card_event, .fields = fields, .version = 1, .post_load = card_post_load,
};
DEVICE_CLASS(e1000_class);
