/* SPDX-License-Identifier: MIT */
/* ACPI fixed hardware: PM1a event and control blocks, PM timer, an empty GPE block, and the SMI command port that
 * hands the events to the operating system. After the ACPI specification 6.3, section 4.8; register offsets are
 * chips.h's, for the FADT.
 *
 * There is no system management mode: what would raise an SMI raises nothing. The only sleep state is S5, off. */
#include "device/chips.h"
#include <errno.h>
#include <string.h>

#define PM_TIMER_HZ 3579545ULL
#define NS 1000000000ULL

/* PM1 status (write one to clear) and enable, 4.8.3.1 */
#define PM1_TMR 0x0001u
#define PM1_BM 0x0010u
#define PM1_GBL 0x0020u
#define PM1_PWRBTN 0x0100u
#define PM1_SLPBTN 0x0200u
#define PM1_RTC 0x0400u
#define PM1_WAK 0x8000u
#define PM1_STATUS_BITS (PM1_TMR | PM1_BM | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC | PM1_WAK)
#define PM1_ENABLE_BITS (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)
/* PM1 control, 4.8.3.2 */
#define PM1_SCI_EN 0x0001u
#define PM1_BM_RLD 0x0002u
#define PM1_SLP_TYP_SHIFT 10
#define PM1_SLP_TYP (7u << PM1_SLP_TYP_SHIFT)
#define PM1_SLP_EN 0x2000u /* write only */

/* The SMI ports are behind the register file: APM control (the command) and APM status, 82371AB section 7.2.2 */
#define SMI_OFFSET ACPI_PM_SIZE
#define SMI_PORTS 2

struct acpi_pm_regs {
	uint16_t status;  /* PM1a_STS, write one to clear */
	uint16_t enable;  /* PM1a_EN, read/write */
	uint16_t control; /* PM1a_CNT without SLP_EN; SCI_EN is the firmware's */
	uint16_t gpe_status; /* GPE0_STS: no event is wired to it */
	uint16_t gpe_enable; /* GPE0_EN, read/write */
	uint8_t smi[SMI_PORTS]; /* APMC, APMS, read/write */
	uint64_t half;    /* half periods of the PM timer that TMR_STS has seen */
};

struct acpi_pm {
	struct device device;
	struct acpi_pm_regs r;
	struct {
		struct irq_pin sci;
		struct timer timer;
		unsigned bits; /* of the PM timer */
		uint16_t base; /* where the ports are; 0: nowhere */
	} host;
};

static struct acpi_pm *of(struct device *d)
{
	return container_of(d, struct acpi_pm, device);
}

static uint64_t timer_ticks(struct acpi_pm *p)
{
	return (unsigned __int128)clock_now(p->device.vm) * PM_TIMER_HZ / NS;
}

static bool sci(const struct acpi_pm *p)
{
	bool event = (p->r.status & p->r.enable & PM1_ENABLE_BITS) || (p->r.gpe_status & p->r.gpe_enable);
	return event && (p->r.control & PM1_SCI_EN);
}

/* TMR_STS is set whenever the highest bit of the timer changes. Nobody looks unless it is enabled. */
static void sync_timer(struct acpi_pm *p)
{
	uint64_t half = timer_ticks(p) >> (p->host.bits - 1);
	if (half != p->r.half)
		p->r.status |= PM1_TMR;
	p->r.half = half;
}

static void update(struct acpi_pm *p)
{
	unsigned __int128 next_half = (unsigned __int128)(p->r.half + 1) << (p->host.bits - 1);
	uint64_t deadline = TIMER_OFF;
	if (p->r.enable & PM1_TMR)
		deadline = (next_half * NS + PM_TIMER_HZ - 1) / PM_TIMER_HZ;
	timer_arm(&p->host.timer, deadline);
	irq_set(&p->host.sci, sci(p));
}

static void timer_fired(struct device *d, void *arg)
{
	struct acpi_pm *p = of(d);
	sync_timer(p);
	update(p);
}

/* The 16-bit register at an even offset; NULL: none, or the timer. */
static uint16_t *reg(struct acpi_pm *p, uint64_t offset)
{
	switch (offset & ~1ULL) {
	case ACPI_PM1_EVENT:
		return &p->r.status;
	case ACPI_PM1_EVENT + 2:
		return &p->r.enable;
	case ACPI_PM1_CONTROL:
		return &p->r.control;
	case ACPI_GPE0:
		return &p->r.gpe_status;
	case ACPI_GPE0 + 2:
		return &p->r.gpe_enable;
	}
	return NULL;
}

static uint8_t read_byte(struct acpi_pm *p, uint64_t offset)
{
	if (offset >= SMI_OFFSET)
		return p->r.smi[offset - SMI_OFFSET];
	const uint16_t *value = reg(p, offset);
	return value ? *value >> 8 * (offset & 1) : 0;
}

static uint64_t acpi_pm_read(struct device *d, uint64_t offset, unsigned size)
{
	struct acpi_pm *p = of(d);
	uint64_t value = 0;
	sync_timer(p);
	if (offset >= ACPI_PM_TIMER && offset < ACPI_PM_TIMER + 4)
		return bits_get(timer_ticks(p), 0, p->host.bits) >> 8 * (offset - ACPI_PM_TIMER);
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)read_byte(p, offset + i) << 8 * i;
	return value;
}

static void write_control(struct acpi_pm *p, uint16_t value)
{
	p->r.control = (p->r.control & PM1_SCI_EN) | (value & (PM1_BM_RLD | PM1_SLP_TYP));
	if ((value & PM1_SLP_EN) && (value & PM1_SLP_TYP) >> PM1_SLP_TYP_SHIFT == ACPI_S5_TYPE)
		vm_finish(p->device.vm, VM_POWERED_OFF, 0);
}

static void write_smi(struct acpi_pm *p, uint64_t offset, uint8_t value)
{
	p->r.smi[offset] = value;
	if (!offset && value == ACPI_ENABLE_VALUE)
		p->r.control |= PM1_SCI_EN;
	else if (!offset && value == ACPI_DISABLE_VALUE)
		p->r.control &= ~PM1_SCI_EN;
}

static void write_byte(struct acpi_pm *p, uint64_t offset, uint8_t value)
{
	unsigned shift = 8 * (offset & 1);
	uint16_t *at = offset < SMI_OFFSET ? reg(p, offset) : NULL;
	if (offset >= SMI_OFFSET) {
		write_smi(p, offset - SMI_OFFSET, value);
		return;
	}
	if (!at)
		return;
	uint16_t whole = (*at & ~(0xffu << shift)) | value << shift;
	if (at == &p->r.status || at == &p->r.gpe_status)
		*at &= ~(value << shift);
	else if (at == &p->r.control)
		write_control(p, whole);
	else
		*at = at == &p->r.enable ? whole & PM1_ENABLE_BITS : whole;
}

static void acpi_pm_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct acpi_pm *p = of(d);
	sync_timer(p);
	for (unsigned i = 0; i < size; i++)
		write_byte(p, offset + i, value >> 8 * i);
	update(p);
}

static void acpi_pm_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct acpi_pm *p = of(d);
	if (kind == ACPI_POWER_BUTTON)
		p->r.status |= PM1_PWRBTN;
	update(p);
}

static void acpi_pm_reset(struct device *d, enum reset_kind kind)
{
	struct acpi_pm *p = of(d);
	memset(&p->r, 0, sizeof(p->r));
	p->r.half = timer_ticks(p) >> (p->host.bits - 1);
	update(p);
}

static int acpi_pm_post_load(struct device *d, uint32_t version)
{
	struct acpi_pm *p = of(d);
	p->r.status &= PM1_STATUS_BITS;
	p->r.enable &= PM1_ENABLE_BITS;
	p->r.control &= PM1_SCI_EN | PM1_BM_RLD | PM1_SLP_TYP;
	p->r.gpe_status = 0;
	sync_timer(p);
	update(p);
	irq_pin_restore(&p->host.sci, sci(p));
	return 0;
}

static const struct bus_ops ops = { .read = acpi_pm_read, .write = acpi_pm_write, .max_size = 4 };

void acpi_pm_place(struct device *d, uint16_t base)
{
	struct acpi_pm *p = of(d);
	if (base == p->host.base)
		return;
	if (p->host.base)
		bus_remove(d->vm, BUS_PORT, p->host.base);
	p->host.base = base && !bus_claim(d->vm, BUS_PORT, base, ACPI_PM_SIZE, &ops, d, 0) ? base : 0;
}

uint16_t acpi_pm_base(const struct device *d)
{
	return container_of(d, struct acpi_pm, device)->host.base;
}

static int acpi_pm_init(struct device *d)
{
	struct acpi_pm *p = of(d);
	const struct acpi_pm_config *config = d->place->config;
	p->host.bits = config && config->timer_24bit ? 24 : 32;
	irq_pin_init(&p->host.sci, d->vm, d->place->irq);
	timer_init(&p->host.timer, d, d->name, timer_fired, NULL);
	acpi_pm_place(d, (uint16_t)d->place->base);
	return bus_add_at(d->vm, BUS_PORT, ACPI_SMI_COMMAND, SMI_PORTS, &ops, d, SMI_OFFSET);
}

static void acpi_pm_fini(struct device *d)
{
	timer_cancel(&of(d)->host.timer);
}

static const struct field regs_fields[] = {
	FIELD_U16(struct acpi_pm_regs, status),
	FIELD_U16(struct acpi_pm_regs, enable),
	FIELD_U16(struct acpi_pm_regs, control),
	FIELD_U16(struct acpi_pm_regs, gpe_status),
	FIELD_U16(struct acpi_pm_regs, gpe_enable),
	FIELD_U8(struct acpi_pm_regs, smi),
	FIELD_U64(struct acpi_pm_regs, half),
	FIELD_END,
};

static const struct field fields[] = {
	FIELD_STRUCT(struct acpi_pm, r, regs_fields, struct acpi_pm_regs),
	FIELD_END,
};

const struct device_class acpi_pm_class = {
	.name = "acpi-pm", .summary = "ACPI power management block", .size = sizeof(struct acpi_pm),
	.init = acpi_pm_init,
	.reset = acpi_pm_reset, .fini = acpi_pm_fini, .event = acpi_pm_event, .fields = fields, .version = 1,
	.post_load = acpi_pm_post_load,
};
DEVICE_CLASS(acpi_pm_class);
