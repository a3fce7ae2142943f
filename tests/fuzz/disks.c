/* SPDX-License-Identifier: MIT */
/* Fuzzes the IDE, ATAPI, floppy and DMA controllers: the input is a list of accesses to their ports, of 3 bytes each, and of steps of time.
 * Whatever a guest does, no device may touch memory that is not its own, stop, or end the machine; and what it saves it must be able to load. */
#include "device/i82077.h"
#include "device/pci.h"
#include "media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct medium disk, disc, floppy;
static struct ide_config ide_config;
static struct i82077_config fdc_config;
static const struct pci_config pci_config = { .reset_control = "cf9" };
static const struct device_place places[] = {
	{ .class = &cf9_class, .name = "cf9", .irq = -1 },
	{ .class = &i8237_class, .name = "dma", .irq = -1 },
	{ .class = &pci_class, .name = "pci", .irq = -1, .config = &pci_config },
	{ .class = &ide_class, .name = "ide", .base = PCI_AT(1, 1), .irq = -1, .config = &ide_config },
	{ .class = &i82077_class, .name = "fdc", .base = 0x3f0, .irq = 6, .config = &fdc_config },
};
static struct vm *vm;

static void set_up(void)
{
	disk = medium_make(100, 0);
	disc = medium_make(400, IMAGE_READONLY);
	floppy = medium_make(2880, 0);
	ide_config = (struct ide_config){ .drive = { [0] = { disk.image, false }, [2] = { disc.image, true } } };
	fdc_config = (struct i82077_config){ .image = { floppy.image }, .dma = "dma" };
	vm = machine(1, places, ARRAY_SIZE(places));
	unlink(disk.path);
	unlink(disc.path);
	unlink(floppy.path);
}

/* What drivers need in large amounts: a sector moved; some time. */
static void more(uint8_t what, uint8_t value)
{
	uint16_t base = what & 1 ? 0x1f0 : 0x170;
	switch (what >> 1 & 3) {
	case 0:
		clock_step(vm, (value + 1) * 10000ULL);
		break;
	case 1:
		for (unsigned i = 0; i < 256; i++)
			bus_read(vm, BUS_PORT, base, what & 8 ? 4 : 2);
		break;
	case 2:
		for (unsigned i = 0; i < (value & 1 ? 6u : 256u); i++)
			bus_write(vm, BUS_PORT, base, 2, value * (i + 1));
		break;
	case 3:
		for (unsigned i = 0; i < 16; i++)
			in8(vm, 0x3f5);
		break;
	}
}

static void save_and_load(void)
{
	for (struct device *d = vm->devices; d; d = d->next) {
		struct buffer b = { 0 };
		if (device_save(d, &b) || device_load(d, &b))
			abort();
		buffer_fini(&b);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!vm)
		set_up();
	device_reset_all(vm, RESET_COLD);
	for (size_t at = 0; at + 3 <= size; at += 3) {
		uint8_t kind = data[at], value = data[at + 2];
		static const uint16_t bases[] = { 0x1f0, 0x170, 0x3f0, 0x00, 0x3f6, 0x376, 0x80, 0xc0 };
		uint16_t port = (uint16_t)(bases[kind & 7] + data[at + 1] % 16);
		switch (kind >> 3 & 7) {
		case 0:
		case 1:
		case 2:
			out8(vm, port, value);
			break;
		case 3:
		case 4:
			in8(vm, port);
			break;
		case 5:
		case 6:
			more(data[at + 1], value);
			break;
		case 7:
			save_and_load();
			break;
		}
	}
	clock_step(vm, MILLISECOND);
	save_and_load();
	if (vm->end)
		abort();
	return 0;
}
