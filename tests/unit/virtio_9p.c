/* SPDX-License-Identifier: MIT */
/* The virtio 9P transport: messages through a ring, answers that find no room, what is no message, state. The messages themselves are
 * tests/unit/ninep.c's. */
#include <unistd.h>
#include "backend/ninep.h"
#include "virtio_driver.h"

#define REPLY (BUFFERS + 0x10000)

static char folder[] = "/tmp/doppel-v9p.XXXXXX";
static struct ninep *share;
static struct virtio_9p_config config;
static const struct device_place places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &virtio_9p_class, .name = "share", .base = DRIVER_AT, .irq = -1, .config = &config },
};

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	driver_find(machine(1, places, ARRAY_SIZE(places)));
	driver_start(BIT(0), 1);
}

static void put_message(const void *body, uint32_t size, uint32_t claimed, uint8_t type)
{
	uint8_t message[64] = { (uint8_t)claimed, (uint8_t)(claimed >> 8), 0, 0, type, 0xff, 0xff };
	memcpy(message + 7, body, size);
	guest_write(vm, BUFFERS, message, 7 + size);
}

/* Asks with room for so many bytes; the length of what was written, or -1. */
static int ask(uint32_t size, uint32_t room)
{
	uint32_t length;
	put_desc(0, 0, BUFFERS, 3, D_NEXT, 1);
	put_desc(0, 1, BUFFERS + 3, size - 3, room ? D_NEXT : 0, 2);
	put_desc(0, 2, REPLY, room, D_WRITE, 0);
	offer(0, 0);
	kick(0);
	return take_used(0, &length) == 0 ? (int)length : -1;
}

static const uint8_t version[] = { 0, 0x20, 0, 0, 8, 0, '9', 'P', '2', '0', '0', '0', '.', 'L' };

static void messages(void)
{
	uint8_t reply[64];
	fresh();
	ok((offered() & 1) && bus_read(vm, BUS_MEMORY, drv.device, 2) == 3 && bus_read(vm, BUS_MEMORY, drv.device + 2, 1) == 't', "9p: the tag");
	put_message(version, sizeof(version), 7 + sizeof(version), 100);
	ok(ask(7 + sizeof(version), 64) == 21, "9p: a message in two parts is answered");
	guest_read(vm, REPLY, reply, 21);
	ok(reply[4] == 101 && reply[5] == 0xff && !memcmp(reply + 13, "9P2000.L", 8), "9p: with what it asks for");
	ok(line_level[DRIVER_LINE], "9p: and an interrupt");
	put_message("", 0, 7, 99);
	ok(ask(7, 64) == 11, "9p: what is not known is an error of the protocol");
	put_message(version, sizeof(version), 7 + sizeof(version), 100);
	ok(ask(7 + sizeof(version), 20) == -1 && is_broken(), "9p: no room for the answer breaks it");
	fresh();
	ok(ask(7, 0) == -1 && is_broken(), "9p: so does no room at all");
	fresh();
	put_message("", 0, 6, 100);
	ok(ask(7, 64) == -1 && is_broken(), "9p: and what is no message");
	fresh();
	put_message("", 0, 8, 100);
	ok(ask(7, 64) == -1 && is_broken(), "9p: or claims to be longer than it is");
}

static void round_trip(void)
{
	fresh();
	put_message(version, sizeof(version), 7 + sizeof(version), 100);
	ask(7 + sizeof(version), 64);
	struct vm *one = vm, *two = machine(1, places, ARRAY_SIZE(places));
	memcpy(two->memory.host, one->memory.host, 16 * MiB);
	ok(copy_state(one, two) && same_state(one, two), "9p: state loads");
	vm = two;
	ok(ask(7 + sizeof(version), 64) == 21, "9p: and the folder can be mounted again");
	vm_destroy(one);
}

static void use(struct vm *v)
{
	vm = v;
	drv.size[0] = 16;
	put_message(version, sizeof(version), 7 + sizeof(version), 100);
	ask(7 + sizeof(version), 64);
}

int main(void)
{
	char spec[64];
	if (!mkdtemp(folder))
		return 1;
	snprintf(spec, sizeof(spec), "%s,tag=tag", folder);
	if (ninep_open(&share, spec))
		return 1;
	config.folder = share;
	messages();
	round_trip();
	abuse_state(vm, "share", use);
	vm_destroy(vm);
	ninep_close(share);
	rmdir(folder);
	return done();
}
