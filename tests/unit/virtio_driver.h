/* SPDX-License-Identifier: MIT */
/* A virtio driver for the device tests: finds the capabilities, negotiates, lays out rings in guest memory, adds chains. */
#pragma once
#include "device/virtio_devices.h"
#include "machine.h"

#define DRIVER_SLOT 3
#define DRIVER_AT PCI_AT(DRIVER_SLOT, 0)
#define DRIVER_BAR 0xe0000000ULL
#define DRIVER_MSIX 0xe1000000ULL
#define DRIVER_PORTS 0xd000          /* of the legacy interface */
#define RINGS 0x100000ULL            /* each queue has 64 KiB from here on */
#define RING_STEP 0x10000ULL
#define RING_AVAIL 0x2000ULL
#define RING_USED 0x3000ULL
#define BUFFERS 0x800000ULL
#define DRIVER_LINE 10

enum { /* of the common configuration */
	DEVICE_SELECT = 0, DEVICE_FEATURE = 4, DRIVER_SELECT = 8, DRIVER_FEATURE = 12, CONFIG_VECTOR = 16, NUM_QUEUES = 18, STATUS = 20,
	GENERATION = 21, QUEUE_SELECT = 22, QUEUE_SIZE_AT = 24, QUEUE_VECTOR = 26, QUEUE_ENABLE = 28, QUEUE_NOTIFY = 30, QUEUE_DESC = 32,
	QUEUE_DRIVER = 40, QUEUE_DEVICE = 48, QUEUE_RESET = 58,
};
enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };

struct vdesc {
	uint64_t at;
	uint32_t length;
	uint16_t flags, next;
};

static struct vm *vm; /* the machine whose device the driver drives */
static struct {
	uint64_t common, isr, device, notify;
	uint32_t notify_step;
	uint16_t avail[VIRTIO_QUEUES_MAX], used[VIRTIO_QUEUES_MAX], size[VIRTIO_QUEUES_MAX];
} drv;

static uint64_t reg(unsigned at, unsigned size)
{
	return bus_read(vm, BUS_MEMORY, drv.common + at, size);
}

static void set_reg(unsigned at, unsigned size, uint64_t value)
{
	if (size == 8) {
		bus_write(vm, BUS_MEMORY, drv.common + at, 4, (uint32_t)value);
		bus_write(vm, BUS_MEMORY, drv.common + at + 4, 4, value >> 32);
		return;
	}
	bus_write(vm, BUS_MEMORY, drv.common + at, size, value);
}

static void poke16(gpa_t at, uint16_t value)
{
	guest_write(vm, at, &value, sizeof(value));
}

static uint16_t peek16(gpa_t at)
{
	uint16_t value = 0;
	guest_read(vm, at, &value, sizeof(value));
	return value;
}

__attribute__((unused)) static gpa_t ring(unsigned queue)
{
	return RINGS + queue * RING_STEP;
}

/* Maps the device and finds its registers. */
static void driver_find(struct vm *machine_)
{
	vm = machine_;
	pci_write(vm, PCI_AT(1, 0), PIIX3_PIRQ_ROUTE + pci_pirq(DRIVER_AT, 1), 1, DRIVER_LINE);
	pci_write(vm, DRIVER_AT, PCI_BAR, 4, DRIVER_PORTS);
	pci_write(vm, DRIVER_AT, PCI_BAR + 4, 4, DRIVER_MSIX);
	pci_write(vm, DRIVER_AT, PCI_BAR + 16, 4, (uint32_t)DRIVER_BAR);
	pci_write(vm, DRIVER_AT, PCI_BAR + 20, 4, DRIVER_BAR >> 32);
	pci_write(vm, DRIVER_AT, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	memset(&drv, 0, sizeof(drv));
	for (unsigned at = pci_read(vm, DRIVER_AT, PCI_CAPABILITIES, 1); at; at = pci_read(vm, DRIVER_AT, at + 1, 1)) {
		uint64_t where = DRIVER_BAR + pci_read(vm, DRIVER_AT, at + 8, 4);
		if (pci_read(vm, DRIVER_AT, at, 1) != PCI_CAP_VENDOR)
			continue;
		switch (pci_read(vm, DRIVER_AT, at + 3, 1)) {
		case 1: drv.common = where; break;
		case 2: drv.notify = where; drv.notify_step = pci_read(vm, DRIVER_AT, at + 16, 4); break;
		case 3: drv.isr = where; break;
		case 4: drv.device = where; break;
		}
	}
}

__attribute__((unused)) static uint64_t offered(void)
{
	set_reg(DEVICE_SELECT, 4, 0);
	uint64_t low = reg(DEVICE_FEATURE, 4);
	set_reg(DEVICE_SELECT, 4, 1);
	return low | reg(DEVICE_FEATURE, 4) << 32;
}

/* False: the device did not take these features. */
static bool driver_accept(uint64_t features)
{
	set_reg(STATUS, 1, 0);
	set_reg(STATUS, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	for (unsigned i = 0; i < 2; i++) {
		set_reg(DRIVER_SELECT, 4, i);
		set_reg(DRIVER_FEATURE, 4, features >> 32 * i & UINT32_MAX);
	}
	set_reg(STATUS, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	return reg(STATUS, 1) & VIRTIO_FEATURES_OK;
}

static void driver_queue(unsigned queue, uint16_t size)
{
	uint8_t zeros[RING_STEP] = { 0 };
	guest_write(vm, ring(queue), zeros, sizeof(zeros));
	set_reg(QUEUE_SELECT, 2, queue);
	set_reg(QUEUE_SIZE_AT, 2, size);
	set_reg(QUEUE_DESC, 8, ring(queue));
	set_reg(QUEUE_DRIVER, 8, ring(queue) + RING_AVAIL);
	set_reg(QUEUE_DEVICE, 8, ring(queue) + RING_USED);
	set_reg(QUEUE_VECTOR, 2, queue + 1);
	set_reg(QUEUE_ENABLE, 2, 1);
	drv.avail[queue] = drv.used[queue] = 0;
	drv.size[queue] = size;
}

static void driver_ok(void)
{
	set_reg(STATUS, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
}

/* Everything: all queues with 16 descriptors. */
__attribute__((unused)) static void driver_start(uint64_t features, unsigned queues)
{
	driver_accept(features | VIRTIO_F_VERSION_1);
	for (unsigned i = 0; i < queues; i++)
		driver_queue(i, 16);
	driver_ok();
}

static void put_desc(unsigned queue, unsigned i, uint64_t at, uint32_t length, uint16_t flags, uint16_t next)
{
	struct vdesc d = { at, length, flags, next };
	guest_write(vm, ring(queue) + i * sizeof(d), &d, sizeof(d));
}

__attribute__((unused)) static void kick(unsigned queue)
{
	set_reg(QUEUE_SELECT, 2, queue);
	bus_write(vm, BUS_MEMORY, drv.notify + reg(QUEUE_NOTIFY, 2) * drv.notify_step, 2, queue);
}

/* Makes a chain that begins at descriptor `head` available, without telling the device. */
__attribute__((unused)) static void offer(unsigned queue, uint16_t head)
{
	poke16(ring(queue) + RING_AVAIL + 4 + 2 * (drv.avail[queue] % drv.size[queue]), head);
	poke16(ring(queue) + RING_AVAIL + 2, ++drv.avail[queue]);
}

__attribute__((unused)) static unsigned used_count(unsigned queue)
{
	return (uint16_t)(peek16(ring(queue) + RING_USED + 2) - drv.used[queue]);
}

/* The next chain that the device gave back: its head, or -1; *length: what was written. */
__attribute__((unused)) static int take_used(unsigned queue, uint32_t *length)
{
	uint32_t entry[2];
	if (!used_count(queue))
		return -1;
	guest_read(vm, ring(queue) + RING_USED + 4 + 8 * (drv.used[queue] % drv.size[queue]), entry, sizeof(entry));
	drv.used[queue]++;
	if (length)
		*length = entry[1];
	return (int)entry[0];
}

__attribute__((unused)) static bool is_broken(void)
{
	return reg(STATUS, 1) & VIRTIO_NEEDS_RESET;
}
