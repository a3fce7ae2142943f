/* SPDX-License-Identifier: MIT */
/* When the map of memory changes, translations of pages that are elsewhere go, those of other pages stay, and are still told of writes. */
#include <pthread.h>
#include "engine/bt/bt.h"
#include "vm/memory.h"
#include "vm_test.h"
#include "bt_loop.h"

#define STAYS 0x1000
#define MOVES 0x5000
#define CROSSES (MOVES - 2)
#define FRAME 0x9000
#define AWAY 0xb000

static struct vm *vm;
static const struct bt *bt;

/* MOV EAX, value; HLT */
static void code(uint8_t bytes[6], uint8_t value)
{
	memcpy(bytes, (const uint8_t[]){ 0xb8, value, 0, 0, 0, 0xf4 }, 6);
}

/* Runs what is there, which leaves this in EAX and takes so many new blocks. */
static void runs(const char *what, uint32_t at, uint32_t value, unsigned blocks)
{
	struct vcpu *vcpu = vm->vcpu[0];
	uint64_t before = bt->stat.blocks;

	vcpu->core.cpu.gpr[RAX] = 0;
	vcpu->core.cpu.gpr[X86_GPR_RIP] = at;
	vcpu->core.cpu.activity = X86_RUNNING;
	vcpu_changed(vcpu, X86_GPRS);
	loop_run(vcpu);
	ok(vcpu->core.cpu.gpr[RAX] == value && bt->stat.blocks == before + blocks, "%s: EAX %lu, %lu new blocks", what, vcpu->core.cpu.gpr[RAX],
	   bt->stat.blocks - before);
}

static void all(const char *what, uint32_t stays, uint32_t moves, uint32_t crosses, unsigned blocks)
{
	char text[80];

	snprintf(text, sizeof(text), "%s: a page that stays", what);
	runs(text, STAYS, stays, 0);
	snprintf(text, sizeof(text), "%s: one that moves", what);
	runs(text, MOVES + 0x100, moves, blocks);
	snprintf(text, sizeof(text), "%s: an instruction that reaches into it", what);
	runs(text, CROSSES, crosses, 2 * blocks);
}

/* Another thread writes MOV EAX, value; HLT, as a device does. */
struct change { gpa_t at; uint8_t bytes[6]; };

static void *change(void *arg)
{
	struct change *c = arg;

	guest_write(vm, c->at, c->bytes, sizeof(c->bytes));
	return NULL;
}

static void device_writes(gpa_t at, uint8_t value)
{
	struct change c = { .at = at };
	pthread_t thread;

	code(c.bytes, value);
	pthread_create(&thread, NULL, change, &c);
	pthread_join(thread, NULL);
}

/* The code is written while its page is at another address; the processor learns of all that when it is back. */
static void wrote_elsewhere(void)
{
	static uint8_t image[X86_PAGE_SIZE];
	static struct memory_window window;
	struct memory_region ram = { .start = FRAME, .size = X86_PAGE_SIZE, .kind = MEMORY_RAM, .name = "frame" };

	code(image + 0x100, 5);
	memory_window_add(vm, &window);
	memory_reserve(vm, image, sizeof(image), "frame", &ram.offset);
	memory_window_set(vm, &window, &ram);
	memory_commit(vm);
	runs("in a window", FRAME + 0x100, 5, 1);
	ram.start = AWAY;
	memory_window_set(vm, &window, &ram);
	memory_commit(vm);
	device_writes(AWAY + 0x100, 6);
	ram.start = FRAME;
	memory_window_set(vm, &window, &ram);
	memory_commit(vm);
	runs("written while it was away", FRAME + 0x100, 6, 1);
	memory_window_set(vm, &window, NULL);
	memory_commit(vm);
}

/* The code is written while a ROM is read in its place. */
static void wrote_below(struct memory_window *window)
{
	static uint8_t image[X86_PAGE_SIZE];
	struct memory_region shadow = { .start = MOVES, .size = X86_PAGE_SIZE, .kind = MEMORY_SHADOW, .shadow = MOVES, .name = "other" };

	runs("before it is hidden", MOVES + 0x100, 2, 1); /* all went, see above */
	memory_reserve(vm, image, sizeof(image), "other", &shadow.offset);
	memory_window_set(vm, window, &shadow);
	memory_commit(vm);
	device_writes(MOVES + 0x100, 8);
	memory_window_set(vm, window, NULL);
	memory_commit(vm);
	runs("written while a ROM was read", MOVES + 0x100, 8, 1);
}

int main(void)
{
	static uint8_t image[X86_PAGE_SIZE], bytes[6];
	static struct memory_window window;
	struct memory_region rom = { .start = MOVES, .size = X86_PAGE_SIZE, .kind = MEMORY_ROM, .name = "rom" };

	if (!loop_possible("bt"))
		return done();
	vm = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	bt = bt_of(vm->vcpu[0]);
	code(bytes, 1);
	loop_prepare(vm, STAYS, bytes, sizeof(bytes));
	code(bytes, 2);
	guest_write(vm, MOVES + 0x100, bytes, sizeof(bytes));
	code(image + 0x100, 3);
	code(bytes, 4);
	guest_write(vm, CROSSES, bytes, sizeof(bytes));
	memcpy(image, bytes + 2, 4);
	image[0] = 1; /* 0x104 */
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
	memory_window_add(vm, &window);
	memory_reserve(vm, image, sizeof(image), "rom", &rom.offset);
	runs("at first", STAYS, 1, 1);
	runs("at first", MOVES + 0x100, 2, 1);
	runs("at first", CROSSES, 4, 2);
	all("the same map", 1, 2, 4, 0);
	memory_window_set(vm, &window, &rom);
	memory_commit(vm);
	all("a ROM hides the page", 1, 3, 0x104, 1);
	all("again", 1, 3, 0x104, 0);
	memory_commit(vm);
	all("another map with the same pages", 1, 3, 0x104, 0);
	memory_window_set(vm, &window, NULL);
	memory_commit(vm);
	all("the page is back", 1, 2, 4, 1);
	memory_window_set(vm, &window, &rom);
	memory_commit(vm);
	memory_window_set(vm, &window, NULL);
	memory_commit(vm);
	all("away and back at once", 1, 2, 4, 0);
	ok(bt->stat.maps == 4 && !bt->stat.flushes, "%lu maps, no flush of all", bt->stat.maps);
	wrote_elsewhere();
	wrote_below(&window);
	code(bytes, 7);
	guest_write(vm, STAYS, bytes, sizeof(bytes));
	guest_write(vm, MOVES + 0x100, bytes, sizeof(bytes));
	runs("written: the page that stayed", STAYS, 7, 1);
	runs("written: the one that moved", MOVES + 0x100, 7, 1);
	vm_destroy(vm);
	return done();
}
