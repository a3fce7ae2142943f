/* SPDX-License-Identifier: MIT */
/* Fuzzes the e1000: the input is a list of accesses to its registers, of bytes in its rings and buffers, of frames that come, and of steps of
 * time. */
#include "backend/net.h"
#include "device/pci.h"
#include "machine.h"
#include "net_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CARD_AT PCI_AT(3, 0)
#define REGS 0xe0000000u
#define RINGS 0x100000u

static const struct e1000_config config = { .net = &net };
static const struct device_place places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &e1000_class, .name = "net", .base = CARD_AT, .irq = -1, .config = &config },
};

struct input {
	const uint8_t *data;
	size_t left;
};

static uint32_t take(struct input *in, unsigned size)
{
	uint32_t value = 0;
	for (unsigned i = 0; i < size && in->left; i++, in->left--)
		value |= (uint32_t)*in->data++ << 8 * i;
	return value;
}

static void step(struct vm *vm, struct input *in)
{
	static const uint16_t hot[] = { 0x0100, 0x0400, 0x2800, 0x2804, 0x2808, 0x2810, 0x2818, 0x3800, 0x3804, 0x3808, 0x3810, 0x3818, 0, 0x10, 0x20, 0xc0 };
	switch (take(in, 1) % 8) {
	case 0:
		bus_write(vm, BUS_MEMORY, REGS + take(in, 2) % 0x6000, 4, take(in, 4));
		break;
	case 1:
		bus_write(vm, BUS_MEMORY, REGS + hot[take(in, 1) % ARRAY_SIZE(hot)], 4, take(in, 4));
		break;
	case 2:
		bus_read(vm, BUS_MEMORY, REGS + take(in, 2), 1u << take(in, 1) % 3);
		break;
	case 3:   /* the tails, by few bytes */
		bus_write(vm, BUS_MEMORY, REGS + (take(in, 1) & 1 ? 0x2818 : 0x3818), 4, take(in, 1) % 32);
		break;
	case 4:
	case 5: { /* a descriptor: address near, then command */
		uint32_t at = RINGS + (take(in, 1) % 64) * 16;
		uint64_t first = 0x200000 + take(in, 2);
		uint32_t rest[2] = { take(in, 2) | take(in, 1) << 20 | take(in, 1) << 24, take(in, 4) };
		guest_write(vm, at, &first, 8);
		guest_write(vm, at + 8, rest, 8);
		break;
	}
	case 6: {
		uint8_t frame[sizeof(struct net_offload) + 9000] = { 0 };
		uint32_t size = 14 + take(in, 2) % 8900, kind_of = take(in, 1);
		memcpy(frame + sizeof(struct net_offload), kind_of & 1 ? net.mac : (const uint8_t[]){ 1, 0, 0, (uint8_t)kind_of, 0, 0 }, NET_MAC);
		frame[sizeof(struct net_offload) + 12] = kind_of & 2 ? 0x81 : 8;
		net_receive(&net, frame, sizeof(struct net_offload) + size);
		break;
	}
	case 7:
		clock_step(vm, take(in, 2) * 1000ULL);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm *vm;
	struct input in = { data, size };
	if (!vm)
		vm = machine(1, places, ARRAY_SIZE(places));
	device_reset_all(vm, RESET_COLD);
	pci_write(vm, CARD_AT, PCI_BAR, 4, REGS);
	pci_write(vm, CARD_AT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	static const uint32_t start[][2] = { { 0x2800, RINGS }, { 0x2808, 512 }, { 0x2818, 31 }, { 0x100, 0x8012 }, { 0x3800, RINGS + 512 }, { 0x3808, 512 },
		{ 0x400, 2 } };
	for (unsigned i = 0; i < ARRAY_SIZE(start); i++)
		bus_write(vm, BUS_MEMORY, REGS + start[i][0], 4, start[i][1]);
	while (in.left)
		step(vm, &in);
	if (vm->end)
		abort();
	struct buffer b = { 0 };
	struct device *d = device_find(vm, "net");
	if (device_save(d, &b) || device_load(d, &b))
		abort();
	buffer_fini(&b);
	return 0;
}
