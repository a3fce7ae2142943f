/* SPDX-License-Identifier: MIT */
/* The e1000: what it says of the checksums of frames that come, and frames that come back to itself. */
#include "e1000_driver.h"

/* IPv4 with a UDP (17) or TCP (6) segment of 26 bytes, all of whose checksums are right; from byte 60 on: beyond the packet. */
static void packet(uint8_t *frame, uint8_t protocol)
{
	uint8_t pseudo[12] = { 10, 0, 2, 15, 10, 0, 2, 2, 0, protocol, 0, 26 };
	unsigned at = 34 + (protocol == 6 ? 16u : 6u);
	memset(frame, 0, 70);
	memcpy(frame, net.mac, NET_MAC);
	memcpy(frame + 12, (uint8_t[]){ 8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, protocol }, 12);
	memcpy(frame + 26, pseudo, 8);
	memset(frame + 60, 0x55, 10);
	frame[34] = 0x12;
	frame[39] = 26;
	uint16_t sum = (uint16_t)~net_sum(frame + 14, 20);
	memcpy(frame + 24, &sum, 2);
	uint32_t both = (uint32_t)net_sum(pseudo, sizeof(pseudo)) + net_sum(frame + 34, 26);
	sum = (uint16_t)~((both & 0xffff) + (both >> 16));
	memcpy(frame + at, &sum, 2);
}

enum { S_IXSM = 4, S_L4 = 0x20, S_IP = 0x40 };

/* What the card says of a frame: status, and errors above it. */
static unsigned verdict(const uint8_t *frame, uint32_t rxcsum)
{
	fresh(RCTL_EN);
	put(RXCSUM, rxcsum);
	come(frame, 70);
	return (received(0).status & (S_IXSM | S_L4 | S_IP)) | received(0).errors << 8;
}

static void received_checksums(void)
{
	enum { IP = BIT(8), L4 = BIT(9) };
	uint8_t frame[70];
	packet(frame, 6);
	ok(verdict(frame, 0) == S_IXSM, "checksums: nobody asks for them");
	ok(verdict(frame, IP) == S_IP && verdict(frame, L4) == S_L4 && verdict(frame, IP | L4) == (S_IP | S_L4), "checksums: TCP over IP");
	verdict(frame, 14);
	ok(received(0).checksum == net_sum(frame + 14, 56), "checksums: of the packet");
	frame[55] ^= 1;
	ok(verdict(frame, IP | L4) == (S_IP | S_L4 | S_L4 << 8), "checksums: wrong data");
	packet(frame, 6);
	frame[25] ^= 1;
	ok(verdict(frame, IP | L4) == (S_IP | S_L4 | S_IP << 8), "checksums: a wrong header");
	packet(frame, 17);
	ok(verdict(frame, L4) == S_L4, "checksums: UDP");
	frame[40] = frame[41] = 0;
	ok(verdict(frame, L4) == S_IXSM && verdict(frame, IP | L4) == S_IP, "checksums: UDP without one");
	packet(frame, 47);
	ok(verdict(frame, L4) == S_IXSM, "checksums: another protocol");
	packet(frame, 6);
	frame[20] = 0x20;
	ok(verdict(frame, L4) == S_IXSM, "checksums: a fragment");
	packet(frame, 6);
	frame[17] = 57;
	ok(verdict(frame, IP | L4) == S_IXSM, "checksums: a packet that is longer than the frame");
	frame[17] = 30;
	ok(verdict(frame, L4) == S_IXSM, "checksums: one that is shorter than its headers");
	frame[14] = 0x44;
	ok(verdict(frame, IP | L4) == S_IXSM, "checksums: a header that is none");
}

static void loops(void)
{
	uint8_t frame[100] = { 0x52, 0x54, 0, 1, 2, 3, [20] = 0x77 }, back[100] = { 0 };
	for (unsigned way = 0; way < 2; way++) {
		fresh(RCTL_EN | (way ? RCTL_LBM : 0));
		tx = 0;
		if (!way)
			put(MDIC, BIT(26) | 1 << 21 | 0 << 16 | 0x4140);
		guest_write(vm, BUFFERS + 0x10000, frame, sizeof(frame));
		describe(BUFFERS + 0x10000, 0x0b000000 | 100, 0);
		send_to(1);
		guest_read(vm, BUFFERS, back, sizeof(back));
		ok(!sent && get(RDH) == 1 && received(0).length == 104 && !memcmp(frame, back, sizeof(back)), "loop: by the %s", way ? "card" : "PHY");
		come(frame, sizeof(frame));
		ok(get(RDH) == 1, "loop: nothing else comes");
	}
	fresh(RCTL_LBM);
	tx = 0;
	describe(BUFFERS, 0x0b000000 | 100, 0);
	send_to(1);
	ok(!sent && get(RDH) == 0 && is_done(0), "loop: a card that does not listen");
}

int main(void)
{
	received_checksums();
	loops();
	vm_destroy(vm);
	return done();
}
