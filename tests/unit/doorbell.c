/* SPDX-License-Identifier: MIT */
/* Doorbells: an engine is told where they are, wherever a guest moves them and whenever it comes; what rings them is looked at by the loop, or at the
 * latest before anybody looks at the device's state; and a write over the bus does the same at once. With a virtio disk. */
#include <fcntl.h>
#include <unistd.h>
#include "backend/image.h"
#include "engine/engine.h"
#include "virtio_driver.h"

#define QUEUES 2
#define T_GET_ID 8
#define HEADER BUFFERS
#define DATA (BUFFERS + 0x100)
#define STATUS_AT (BUFFERS + 0x200)
#define S_NONE 0xee
#define OTHER_BAR 0xe4000000ULL
#define DONE_NS 1000000

static char path[300];
static struct virtio_blk_config config = { .serial = "serial", .queues = QUEUES };
static const struct device_place places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &virtio_blk_class, .name = "disk", .base = DRIVER_AT, .irq = -1, .config = &config },
};

/* --- an engine with ears --- */

#define LISTEN_SLOT 6

static struct { uint64_t address; int fd; } heard[8]; /* where a write would ring at present */
static unsigned mistakes;

static void listen_doorbell(struct vm *machine_, const struct doorbell *b)
{
	for (unsigned n = 0; n < ARRAY_SIZE(heard); n++) {
		if (b->placed && !heard[n].fd) {
			heard[n].address = b->address;
			heard[n].fd = b->ready.fd;
			return;
		}
		if (!b->placed && heard[n].fd == b->ready.fd && heard[n].address == b->address) {
			heard[n].fd = 0;
			return;
		}
	}
	mistakes++;
}

static unsigned count(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(heard); i++)
		n += heard[i].fd != 0;
	return n;
}

/* What the engine does when the guest writes there. */
static bool write_unseen(uint64_t address)
{
	uint64_t one = 1;

	for (unsigned n = 0; n < ARRAY_SIZE(heard); n++)
		if (heard[n].fd && heard[n].address == address)
			return write(heard[n].fd, &one, sizeof(one)) == sizeof(one);
	return false;
}

static struct engine listening;

/* --- the disk --- */

static void ask(uint16_t head)
{
	struct { uint32_t type, reserved; uint64_t sector; } h = { .type = T_GET_ID };
	uint8_t none = S_NONE;

	guest_write(vm, HEADER, &h, sizeof(h));
	guest_write(vm, STATUS_AT, &none, 1);
	put_desc(0, head, HEADER, sizeof(h), D_NEXT, head + 1);
	put_desc(0, head + 1, DATA, 20, D_NEXT | D_WRITE, head + 2);
	put_desc(0, head + 2, STATUS_AT, 1, D_WRITE, 0);
	offer(0, head);
}

static bool answered(void)
{
	uint8_t status = S_NONE;

	clock_step(vm, DONE_NS);
	guest_read(vm, STATUS_AT, &status, 1);
	return take_used(0, NULL) >= 0 && !status;
}

static void tests(void)
{
	struct device *disk = device_find(vm, "disk");
	struct buffer state = { 0 };

	ok(count() == QUEUES && !mistakes, "an engine that comes hears of the doorbells that there are");
	ask(0);
	ok(write_unseen(drv.notify), "a write that the bus does not see");
	ok(!answered(), "the device has not looked yet");
	doorbells_settle(vm);
	ok(answered(), "it looks when that is settled");
	ok(vm->stat.doorbells == 1, "that was counted");
	ask(0);
	write_unseen(drv.notify);
	ok(!device_save(disk, &state), "the disk's state is saved");
	ok(answered(), "before that it looked");
	ask(0);
	kick(0);
	ok(answered() && vm->stat.doorbells == 2, "a write over the bus is enough");
	doorbells_settle(vm);
	ok(vm->stat.doorbells == 2, "nobody rang");

	pci_write(vm, DRIVER_AT, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	ok(!count() && !mistakes, "the BAR answers no more: no doorbell");
	pci_write(vm, DRIVER_AT, PCI_BAR + 16, 4, (uint32_t)OTHER_BAR);
	pci_write(vm, DRIVER_AT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	ok(count() == QUEUES && !mistakes && write_unseen(drv.notify - DRIVER_BAR + OTHER_BAR) && !write_unseen(drv.notify), "elsewhere they are there");
	pci_write(vm, DRIVER_AT, PCI_BAR + 16, 4, (uint32_t)DRIVER_BAR);
	ok(count() == QUEUES && !mistakes && write_unseen(drv.notify) && !write_unseen(drv.notify - DRIVER_BAR + OTHER_BAR), "and moved while they answer");
	doorbells_settle(vm);
	ask(0);
	write_unseen(drv.notify + drv.notify_step);
	doorbells_settle(vm);
	ok(!answered(), "the other queue's doorbell is not this one's");
	write_unseen(drv.notify);
	doorbells_settle(vm);
	ok(answered(), "this one's is");

	write_unseen(drv.notify);
	device_reset_all(vm, RESET_COLD);
	ok(!count() && !mistakes, "a reset takes them away");
	doorbells_settle(vm);
	ok(true, "and who rang before is no trouble");
	state.at = 0;
	ok(!device_load(disk, &state) && count() == QUEUES && !mistakes && write_unseen(drv.notify), "a load puts them back");
	doorbells_settle(vm);
	buffer_fini(&state);
}

/* By the loop's own thread, while nobody is at a safe point. */
static void test_loop(void)
{
	uint64_t before = vm->stat.doorbells;

	write_unseen(drv.notify);
	loop_start(vm);
	for (unsigned n = 0; n < 1000 && *(volatile uint64_t *)&vm->stat.doorbells == before; n++)
		usleep(1000);
	loop_stop(vm);
	ok(vm->stat.doorbells == before + 1, "the loop has the device look");
}

int main(void)
{
	int fd;

	snprintf(path, sizeof(path), "%s/doppel-doorbell-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	fd = mkstemp(path);
	if (fd < 0 || ftruncate(fd, 65536) || image_open(&config.image, path, 0)) {
		ok(false, "an image");
		return done();
	}
	close(fd);
	listening = null_engine;
	listening.slot = LISTEN_SLOT;
	listening.doorbell = listen_doorbell;
	driver_find(machine(1, places, ARRAY_SIZE(places)));
	driver_start(offered(), QUEUES);
	doorbells_show(vm, &listening);
	vm->engines[LISTEN_SLOT] = &listening;
	tests();
	test_loop();
	vm->engines[LISTEN_SLOT] = NULL;
	vm_destroy(vm);
	image_close(config.image);
	unlink(path);
	return done();
}
