/* SPDX-License-Identifier: MIT */
/* The e1000: EEPROM, PHY, interrupts, filters, frames both ways with checksums, tags and segments, rings good and bad, state. */
#include "e1000_driver.h"

static uint16_t eeprom_by_lines(unsigned word)
{
	uint32_t bits = 6u << 6 | word, value = 0;
	put(EECD, 0x42);
	for (int i = 8; i >= 0; i--) {
		uint32_t in = bits >> i & 1 ? 4 : 0;
		put(EECD, 0x42 | in);
		put(EECD, 0x43 | in);
		put(EECD, 0x42 | in);
	}
	for (unsigned i = 0; i < 16; i++) {
		put(EECD, 0x43);
		value = value << 1 | (get(EECD) >> 3 & 1);
		put(EECD, 0x42);
	}
	put(EECD, 0);
	return (uint16_t)value;
}

static uint16_t phy_read(unsigned number)
{
	put(MDIC, BIT(27) | 1 << 21 | number << 16);
	return get(MDIC) & BIT(28) ? (uint16_t)get(MDIC) : 0xffff;
}

static void chips(void)
{
	fresh(0);
	uint16_t sum = 0;
	bool same = true;
	for (unsigned i = 0; i < 64; i++) {
		put(EERD, i << 8 | 1);
		uint32_t value = get(EERD);
		same &= (value & 0x10) && value >> 16 == eeprom_by_lines(i);
		sum = (uint16_t)(sum + (value >> 16));
	}
	ok(same, "eeprom: its serial line and its register say the same");
	ok(sum == 0xbaba, "eeprom: its sum");
	ok(eeprom_by_lines(0) == 0x5452 && eeprom_by_lines(2) == 0x0302, "eeprom: the address");
	put(EECD, 0x40);
	ok(get(EECD) & 0x80, "eeprom: is granted to who asks");
	ok(phy_read(2) == 0x0141 && (phy_read(3) & 0xfff0) == 0x0c20, "phy: which one it is");
	ok((phy_read(1) & 0x24) == 0x24 && (phy_read(17) & 0xec00) == 0xac00, "phy: the link is up, at a gigabit");
	put(MDIC, BIT(26) | 1 << 21 | 0 << 16 | 0x9140);
	ok(phy_read(0) == 0x1140, "phy: a reset ends by itself");
	put(MDIC, BIT(27) | 2 << 21 | 2 << 16);
	ok(get(MDIC) & BIT(30), "phy: there is but one");
	ok((get(STATUS) & 0xc3) == 0x83, "e1000: link up, full duplex, 1000 Mb/s");
	ok(get(RA) == 0x01005452 && get(RA + 4) == 0x80000302, "e1000: its address");
	bus_write(vm, BUS_PORT, PORTS, 4, STATUS);
	ok(bus_read(vm, BUS_PORT, PORTS + 4, 4) == get(STATUS), "e1000: registers by ports");
	put(VET, 0x1234);
	put(CTRL, CTRL_RST);
	ok(get(VET) == 0x8100 && !get(RDLEN) && !(get(CTRL) & CTRL_RST), "e1000: reset by software");
	ok(!get(0x1f000) && bus_read(vm, BUS_MEMORY, REGS + STATUS, 1) == 0x83, "e1000: nothing at other offsets; bytes");
}

static void interrupts(void)
{
	fresh(0);
	put(ICS, ICR_TXDW | ICR_LSC);
	ok(!line_level[LINE], "interrupts: masked");
	put(IMS, ICR_LSC);
	ok(line_level[LINE] && get(IMS) == ICR_LSC, "interrupts: not masked");
	ok(get(ICR) == (ICR_TXDW | ICR_LSC) && !line_level[LINE] && !get(ICR), "interrupts: reading the causes takes them away");
	put(ICS, ICR_LSC | ICR_RXT0);
	put(ICR, ICR_LSC);
	ok(!line_level[LINE] && get(ICR) == ICR_RXT0, "interrupts: a one written takes one away");
	put(ICS, ICR_LSC);
	put(IMC, ICR_LSC);
	ok(!line_level[LINE], "interrupts: masking");
	get(ICR);
	put(IMS, ICR_LSC);
	put(ITR, 1000);
	clock_step(vm, 1000000);
	put(ICS, ICR_LSC);
	ok(line_level[LINE], "interrupts: moderated: the first at once");
	get(ICR);
	put(ICS, ICR_LSC);
	ok(!line_level[LINE], "interrupts: moderated: the second waits");
	clock_step(vm, 255000);
	bool early = line_level[LINE];
	clock_step(vm, 2000);
	ok(!early && line_level[LINE], "interrupts: moderated: until 256 us have gone");
}

static void receiving(void)
{
	uint8_t frame[3000] = { 0x52, 0x54, 0, 1, 2, 3, 1, 2, 3, 4, 5, 6, 8, 0 }, got[4096];
	for (unsigned i = 14; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 7);
	fresh(0);
	come(frame, 100);
	ok(get(RDH) == 0, "receive: nothing while it is off");
	put(RCTL, RCTL_EN);
	put(IMS, ICR_RXT0);
	come(frame, 1000);
	guest_read(vm, BUFFERS, got, 1000);
	ok(get(RDH) == 1 && received(0).length == 1000 + CHECK && (received(0).status & 3) == 3 && !memcmp(got, frame, 1000), "receive: a frame");
	ok(line_level[LINE] && (get(ICR) & ICR_RXT0), "receive: with an interrupt");
	come(frame, 40);
	ok(received(1).length == 64, "receive: a short one is filled up");
	put(RCTL, RCTL_EN | RCTL_SECRC | 3 << RCTL_BSIZE);
	come(frame, 600);
	guest_read(vm, BUFFERS + 0x2000, got, 256);
	guest_read(vm, BUFFERS + 0x3000, got + 256, 256);
	guest_read(vm, BUFFERS + 0x4000, got + 512, 88);
	ok(received(2).status == 1 && received(3).status == 1 && (received(4).status & 3) == 3 && received(4).length == 88 && !memcmp(got, frame, 600),
	   "receive: over three buffers, without the check sequence");
	get(ICR);
	come(frame, 300);
	ok((get(ICR) & ICR_RXDMT0) && get(RDH) == 7, "receive: few buffers are left");
	come(frame, 70);
	ok(get(RDH) == 7 && (get(ICR) & ICR_RXO), "receive: no buffer");
	put(RDT, 0);
	ok(get(RDH) == 0 && received(7).length == 70, "receive: it waited for one");
	for (unsigned i = 0; i < 100; i++)
		come(frame, 60);
	ok(net.full && !resumed, "receive: the backend is to hold back");
	for (unsigned i = 0; i < 200; i++)
		put(RDT, (get(RDH) + RING - 1) % RING);
	ok(!net.full && resumed == 1, "receive: and to go on");
	fresh(RCTL_EN);
	come(frame, 1600);
	bool small = get(RDH) == 0;
	put(RCTL, RCTL_EN | RCTL_LPE | RCTL_BSEX | 1 << RCTL_BSIZE);
	come(frame, 3000);
	ok(small && received(0).length == 3000 + CHECK && (received(0).status & 2), "receive: long packets where they are wanted");
	ok(get(STATISTICS + 4 * STAT_GPRC) == 1 && get(STATISTICS + 4 * STAT_GPRC) == 0 && get(STATISTICS + 4 * STAT_GORC) == 3004,
	   "receive: counted, until it is read");
}

static bool arrives(const uint8_t to[6], uint32_t rctl)
{
	uint8_t frame[64] = { 0 };
	fresh(RCTL_EN | rctl);
	put(MTA + 4 * (0xabc / 32), 1u << 0xabc % 32);
	memcpy(frame, to, 6);
	come(frame, sizeof(frame));
	return get(RDH) == 1;
}

static void filters(void)
{
	static const uint8_t ours[] = { 0x52, 0x54, 0, 1, 2, 3 }, other[] = { 0x52, 0x54, 0, 1, 2, 4 }, all[] = { 255, 255, 255, 255, 255, 255 };
	/* 12 bits ABCh, at each of the four places */
	static const uint8_t group[][6] = { { 1, 0, 0, 0, 0xc0, 0xab }, { 1, 0, 0, 0, 0xe0, 0x55 }, { 1, 0, 0, 0, 0xf0, 0x2a }, { 1, 0, 0, 0, 0xbc, 0x0a } };
	ok(arrives(ours, 0) && !arrives(other, 0) && arrives(other, RCTL_UPE), "filter: our address, others");
	ok(!arrives(all, 0) && arrives(all, RCTL_BAM), "filter: broadcasts");
	bool good = true;
	for (unsigned i = 0; i < 4; i++)
		good &= arrives(group[i], i << RCTL_MO);
	ok(good && !arrives(group[1], 0) && arrives(group[1], RCTL_MPE), "filter: groups by their hash");
	uint8_t frame[64] = { 0x52, 0x54, 0, 1, 2, 3, 1, 2, 3, 4, 5, 6, 0x81, 0, 0x61, 0x23, 8, 0, 0x77 };
	fresh(RCTL_EN | RCTL_VFE);
	come(frame, sizeof(frame));
	bool dropped = get(RDH) == 0;
	put(VFTA + 4 * (0x123 / 32), 1u << 0x123 % 32);
	come(frame, sizeof(frame));
	ok(dropped && get(RDH) == 1 && received(0).length == 68, "filter: a VLAN");
	put(CTRL, CTRL_VME);
	come(frame, sizeof(frame));
	uint8_t byte;
	guest_read(vm, BUFFERS + 0x1000 + 14, &byte, 1);
	ok(received(1).special == 0x6123 && (received(1).status & 8) && byte == 0x77, "receive: the tag is taken off");
	for (unsigned i = 0; i < 4; i++)
		guest_write(vm, RX_RING + 16 * (2 + i), (uint64_t[]){ 0xfffffffffffff000, 0 }, 16);
	come(frame, sizeof(frame));
	ok(get(RDH) == 3 && (received(2).status & 1), "receive: a buffer beyond memory");
}

static uint16_t sum_of(const struct frame *f, unsigned start, unsigned end)
{
	return net_sum(f->data + start, end - start);
}

static void sending(void)
{
	uint8_t frame[1500];
	for (unsigned i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 3);
	fresh(0);
	tx = 0;
	guest_write(vm, BUFFERS, frame, sizeof(frame));
	put(IMS, ICR_TXDW);
	describe(BUFFERS, 0x0b000000 | 200, 0);
	send_to(1);
	ok(sent == 1 && out[0].size == 200 && !memcmp(out[0].data, frame, 200) && is_done(0) && get(TDH) == 1, "send: a frame");
	ok(line_level[LINE] && (get(ICR) & (ICR_TXDW | ICR_TXQE)) == (ICR_TXDW | ICR_TXQE), "send: with an interrupt");
	describe(BUFFERS, 100, 0);
	send_to(2);
	ok(sent == 1 && get(TDH) == 1, "send: a part waits for the rest");
	describe(BUFFERS + 100, 0x09000000 | 300, 0);
	send_to(3);
	ok(sent == 2 && out[1].size == 400 && !memcmp(out[1].data, frame, 400) && get(TDH) == 3, "send: of two parts");
	describe(BUFFERS, 0x0d000000 | 50 << 16 | 100, 14 << 8);
	send_to(4);
	uint16_t sum = (uint16_t)~net_sum(frame + 14, 100 - 14);
	ok(out[2].size == 100 && !memcmp(out[2].data + 50, &sum, 2) && !memcmp(out[2].data, frame, 50), "send: a checksum is put in");
	put(CTRL, CTRL_VME);
	describe(BUFFERS, 0x49000000 | 60, 0x2345u << 16);
	send_to(5);
	ok(out[3].size == 64 && out[3].data[12] == 0x81 && !out[3].data[13] && out[3].data[14] == 0x23 && out[3].data[15] == 0x45 &&
	   out[3].data[16] == frame[12], "send: with a tag");
	ok(get(STATISTICS + 4 * STAT_GPTC) == 4, "send: counted");
}

/* Ethernet, IPv4, TCP, and 2500 bytes that are cut into three. */
static void segments(void)
{
	uint8_t packet[54 + 2500] = { 0 };
	fresh(0);
	tx = 0;
	packet[12] = 8;
	packet[14] = 0x45;
	packet[19] = 0xfe; /* identification 00FEh */
	packet[22] = 64;
	packet[23] = 6;
	for (unsigned i = 26; i < 34; i++)
		packet[i] = (uint8_t)(10 + i);
	packet[38] = packet[39] = packet[40] = 0xff; /* sequence number FFFFFF00h */
	packet[46] = 0x50;
	packet[47] = 0x19;
	for (unsigned i = 54; i < sizeof(packet); i++)
		packet[i] = (uint8_t)(i * 11);
	uint16_t pseudo = net_sum(packet + 26, 8);
	pseudo = (uint16_t)(pseudo + 0x0600 + (pseudo + 0x0600 > 0xffff));
	memcpy(packet + 50, &pseudo, 2);
	guest_write(vm, BUFFERS, packet, sizeof(packet));
	uint64_t context = 14 | 24 << 8 | 33 << 16 | 34ULL << 32 | 50ULL << 40;
	describe(context, 0x27000000 | 2500, 54 << 8 | 1000u << 16);
	describe(BUFFERS, 0x2e100000 | 54, 3 << 8);
	describe(BUFFERS + 54, 0x2f100000 | 2500, 3 << 8);
	send_to(3);
	bool good = sent == 3 && get(TDH) == 3;
	ok(good, "segments: three of them");
	for (unsigned i = 0; good && i < 3; i++) {
		struct frame *f = &out[i];
		unsigned size = i == 2 ? 500 : 1000;
		uint32_t sequence = 0xffffff00u + 1000 * i;
		uint8_t wanted[4] = { (uint8_t)(sequence >> 24), (uint8_t)(sequence >> 16), (uint8_t)(sequence >> 8), (uint8_t)sequence };
		good &= f->size == 54 + size && !memcmp(f->data + 54, packet + 54 + 1000 * i, size);
		good &= f->data[16] == (40 + size) >> 8 && f->data[17] == (uint8_t)(40 + size) && f->data[18] == (0xfe + i) >> 8;
		good &= f->data[19] == (uint8_t)(0xfe + i) && !memcmp(f->data + 38, wanted, 4) && f->data[47] == (i == 2 ? 0x19 : 0x10);
		good &= sum_of(f, 14, 34) == 0xffff;
		uint8_t all[12 + 1020] = { 0 };
		memcpy(all, f->data + 26, 8);
		all[9] = 6;
		all[10] = (uint8_t)((20 + size) >> 8);
		all[11] = (uint8_t)(20 + size);
		memcpy(all + 12, f->data + 34, 20 + size);
		good &= net_sum(all, 32 + size) == 0xffff;
	}
	ok(good, "segments: headers, checksums and bytes of each");
	/* Contexts that make no sense: nothing goes out, the ring goes on. */
	static const struct { uint64_t context; uint32_t rest; } bad[] = {
		{ 14 | 24 << 8 | 34ULL << 32 | 50ULL << 40, 54 << 8 },                        /* no payload in a segment */
		{ 14 | 24 << 8 | 34ULL << 32 | 50ULL << 40, 20 << 8 | 1000u << 16 },          /* headers that end before TCP's */
		{ 14 | 24 << 8 | 250ULL << 32 | 50ULL << 40, 54 << 8 | 1000u << 16 },         /* TCP behind the headers */
		{ 14 | 255 << 8 | 34ULL << 32 | 255ULL << 40, 54 << 8 | 1000u << 16 },        /* checksums there */
	};
	sent = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		describe(bad[i].context, 0x27000000 | 2500, bad[i].rest);
		describe(BUFFERS, 0x2f100000 | 2554, 3 << 8);
		send_to(tx);
	}
	ok(!sent && get(TDH) == tx, "segments: contexts that make no sense send nothing");
	describe(14 | 200 << 8 | 0xffffULL << 48, 0x20000000, 0);
	describe(BUFFERS, 0x29100000 | 60, 3 << 8);
	send_to(tx);
	ok(sent == 1 && out[0].size == 60, "checksums: beyond the frame they are left out");
}

static void bad_rings(void)
{
	fresh(RCTL_EN | RCTL_UPE);
	tx = 0;
	describe(0xffffffffffffff00, 0x09000000 | 200, 0);
	describe(64 * MiB - 10, 0x09000000 | 200, 0);
	describe(BUFFERS, 0x29100000 | 0xfffff, 0);
	describe(BUFFERS, 0x09000000 | 0, 0);
	send_to(4);
	ok(!sent && get(TDH) == 4 && is_done(0), "bad: frames beyond memory, too long, empty");
	put(TDH, 0xffff);
	send_to(2);
	put(TDH, 0);
	send_to(0xfff0);
	ok(!sent, "bad: head and tail beyond the ring");
	put(TDLEN, 0);
	send_to(1);
	put(TDT, 0);
	put(TDBAH, 0xffffffff);
	put(TDLEN, 0xfff80);
	put(TDT, 0xffff);
	put(RDBAH, 0xffffffff);
	uint8_t frame[60] = { 0x52, 0x54, 0, 1, 2, 3 };
	come(frame, sizeof(frame));
	put(RDLEN, 0);
	put(RDH, 77);
	come(frame, sizeof(frame));
	ok(!sent && !vm->end, "bad: rings beyond memory, and of no length");
	fresh(RCTL_EN);
	for (unsigned i = 0; i < RING; i++) {
		tx = i;
		describe(BUFFERS, 60, 0); /* no end */
	}
	send_to(RING - 1);
	ok(!sent && get(TDH) == 0, "bad: a packet without an end");
	pci_write(vm, CARD_AT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	come(frame, sizeof(frame));
	ok(get(RDH) == 0, "e1000: no bus master, no frames");
}

static void use(struct vm *used)
{
	static uint32_t random = 77;
	uint8_t frame[200] = { 0x52, 0x54, 0, 1, 2, 3 };
	vm = used;
	come(frame, sizeof(frame));
	get(ICR);
	for (unsigned i = 0; i < 6; i++) {
		random = random * 1664525 + 1013904223;
		put((random >> 8) % 0x6000 & ~3u, random * 31);
	}
	put(TDT, random >> 20);
	put(RDT, random >> 22);
	clock_step(vm, 100000);
}

static void saving(void)
{
	uint8_t frame[300] = { 0x52, 0x54, 0, 1, 2, 3 };
	fresh(RCTL_EN);
	tx = 0;
	put(IMS, ICR_RXT0);
	put(ITR, 2000);
	come(frame, sizeof(frame));
	get(ICR);
	come(frame, sizeof(frame));
	put(EECD, 0x42);
	phy_read(2);
	struct vm *first = vm, *second = made();
	bool good = !line_level[LINE] && copy_state(first, second) && same_state(first, second);
	vm = second;
	good &= get(RDH) == 2 && get(RA) == 0x01005452;
	clock_step(vm, 2000 * 256);
	ok(good && line_level[LINE] && get(ICR), "saving: another machine goes on, and has the interrupt that was held back");
	vm_destroy(second);
	vm = first; /* without its network, which the other had last */
	fresh(RCTL_EN);
	abuse_state(vm, "net", use);
}

int main(void)
{
	chips();
	interrupts();
	receiving();
	filters();
	sending();
	segments();
	bad_rings();
	saving();
	vm_destroy(vm);
	return done();
}
