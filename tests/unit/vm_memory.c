/* SPDX-License-Identifier: MIT */
/* Guest memory: holes, ends, overflow, page bits, pieces at the edges. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "vm_test.h"

static gpa_t changed_at;
static uint64_t changed_len;
static unsigned changed_count;

static void note_change(struct vm *vm, gpa_t gpa, uint64_t len)
{
	changed_at = gpa;
	changed_len = len;
	changed_count++;
}

static void test_bounds(struct vm *vm)
{
	uint64_t value = 0x1122334455667788, back = 0;
	uint8_t byte = 7;

	ok(!guest_write(vm, 0x1000, &value, 8) && !guest_read(vm, 0x1000, &back, 8) && back == value,
		"write and read back");
	ok(!guest_write(vm, 0x1ffd, &value, 8) && !guest_read(vm, 0x1ffd, &back, 8) && back == value, "across a page");
	ok(!guest_write(vm, 64 * MiB - 8, &value, 8), "the last bytes of RAM");
	ok(guest_write(vm, 64 * MiB - 7, &value, 8) == -EFAULT, "one byte beyond RAM");
	back = 0;
	guest_read(vm, 64 * MiB - 8, &back, 8);
	ok(back == value, "a refused write copies nothing");
	ok(guest_write(vm, 64 * MiB, &byte, 1) == -EFAULT, "behind RAM");
	ok(guest_read(vm, UINT64_MAX, &byte, 1) == -EFAULT, "the last address there is");
	ok(guest_read(vm, UINT64_MAX - 3, &value, 8) == -EFAULT, "a range that wraps around");
	ok(guest_read(vm, 0x1000, &value, UINT64_MAX) == -EFAULT, "a length that wraps around");
	ok(!guest_read(vm, UINT64_MAX, NULL, 0), "nothing can be read anywhere");
	ok(memory_host(vm, 64 * MiB - 4, 4) && !memory_host(vm, 64 * MiB - 4, 5) && !memory_host(vm, 0, UINT64_MAX),
		"memory_host");
}

static void test_bits(struct vm *vm)
{
	struct memory *m = &vm->memory;
	uint64_t value = 1;

	page_bits_clear(m, 16, PAGE_DIRTY);
	page_bits_clear(m, 17, PAGE_DIRTY);
	guest_write(vm, 0x10ffc, &value, 4);
	ok((page_bits_get(m, 16) & PAGE_DIRTY) && !(page_bits_get(m, 17) & PAGE_DIRTY),
		"only the page that was written is dirty");
	guest_write(vm, 0x10ffc, &value, 8);
	ok(page_bits_get(m, 17) & PAGE_DIRTY, "and the second one when it is crossed");
	page_bits_set(m, 17, PAGE_CODE);
	changed_count = 0;
	guest_write(vm, 0x10ff0, &value, 8);
	ok(changed_count == 0, "a write beside code tells nobody");
	guest_write(vm, 0x10ffc, &value, 8);
	ok(changed_count == 1 && changed_at == 0x11000 && changed_len == 4,
		"a write to code tells the engine which bytes");
	page_bits_clear(m, 17, PAGE_CODE);
	page_bits_set(m, 16, PAGE_TRACED);
	guest_write(vm, 0x10000, &value, 1);
	ok(changed_count == 2 && changed_at == 0x10000 && changed_len == 1, "a traced page too");
	page_bits_clear(m, 16, PAGE_TRACED);
}

static void test_iov(struct vm *vm)
{
	struct iovec iov[2];

	ok(guest_iov_begin(vm, 0x2000, 0x3000, true, iov, 2) == 1 && iov[0].iov_len == 0x3000,
		"one piece where memory is whole");
	page_bits_clear(&vm->memory, 2, PAGE_DIRTY);
	page_bits_clear(&vm->memory, 3, PAGE_DIRTY);
	page_bits_clear(&vm->memory, 4, PAGE_DIRTY);
	guest_iov_end(vm, 0x2000, 0x1001, true);
	ok((page_bits_get(&vm->memory, 3) & PAGE_DIRTY) && !(page_bits_get(&vm->memory, 4) & PAGE_DIRTY),
		"dirty as far as it was written");
	ok(guest_iov_begin(vm, 64 * MiB - 16, 32, true, iov, 2) == -EFAULT, "pieces beyond RAM");
	ok(guest_iov_begin(vm, 0, 0, true, iov, 2) == 0, "no pieces of nothing");
	ok(guest_iov_begin(vm, UINT64_MAX - 8, 16, false, iov, 2) == -EFAULT, "pieces that wrap around");
}

static void test_rom(struct vm *vm)
{
	static uint8_t image[8192];
	struct x86_core *core = &vm->vcpu[0]->core;
	struct iovec iov[2];
	uint64_t value = 0;
	bool traced;

	memset(image, 0xab, sizeof(image));
	ok(!memory_add_rom(vm, 64 * MiB, image, sizeof(image), "rom"), "a ROM behind RAM");
	ok(memory_add_rom(vm, 64 * MiB + 4096, image, sizeof(image), "rom2") == -EEXIST,
		"another on top of it is refused");
	ok(memory_add_rom(vm, GiB, image, 64 * MiB, "huge") == -ENOSPC, "one that is too large is refused");
	ok(memory_add_rom(vm, GiB, image, 100, "odd") == -EINVAL, "one that is not whole pages is refused");
	ok(!guest_read(vm, 64 * MiB - 4, &value, 8) && value >> 32 == 0xabababab, "reading goes on from RAM into ROM");
	ok(guest_write(vm, 64 * MiB, &value, 1) == -EFAULT, "writing to ROM");
	ok(guest_write(vm, 64 * MiB - 4, &value, 8) == -EFAULT, "writing into ROM");
	ok(guest_iov_begin(vm, 64 * MiB - 16, 32, false, iov, 2) == 2 && iov[1].iov_len == 16,
		"two pieces across the edge");
	ok(guest_iov_begin(vm, 64 * MiB - 16, 32, false, iov, 1) == -E2BIG, "too many pieces");
	ok(vcpu_env.page(core, 64 * MiB, ACCESS_FETCH, &traced) &&
		!vcpu_env.page(core, 64 * MiB, ACCESS_WRITE, &traced),
	   "a processor fetches from ROM, and does not write it");
	vcpu_env.io_write(core, SPACE_MEMORY, 64 * MiB, 4, 0);
	guest_read(vm, 64 * MiB, &value, 4);
	ok((uint32_t)value == 0xabababab, "what a processor writes to ROM is dropped");
	ok(vcpu_env.page(core, 0x5000, ACCESS_WRITE, &traced) == vm->memory.host + 0x5000 && !traced, "a page of RAM");
	page_bits_set(&vm->memory, 5, PAGE_CODE);
	ok(vcpu_env.page(core, 0x5000, ACCESS_WRITE, &traced) && traced, "a page that holds code is traced");
	page_bits_clear(&vm->memory, 5, PAGE_CODE);
	ok(!vcpu_env.page(core, 0xfee00000, ACCESS_READ, &traced), "no page where a device is");
}

static void test_hole(void)
{
	struct vm *vm = test_vm_engine("null", CLOCK_STEPPED, RAM_HOLE_START + 2 * MiB, 1);
	uint32_t value = 5, back = 0;
	bool traced;

	ok(!guest_write(vm, RAM_HOLE_START - 4, &value, 4) && guest_write(vm, RAM_HOLE_START, &value, 4) == -EFAULT,
		"the hole begins at 3 GiB");
	ok(guest_write(vm, RAM_HOLE_START - 2, &value, 4) == -EFAULT, "nothing reaches into the hole");
	ok(guest_write(vm, RAM_HOLE_END - 2, &value, 4) == -EFAULT, "nothing reaches out of it");
	ok(!guest_write(vm, RAM_HOLE_END, &value, 4) && !guest_read(vm, RAM_HOLE_END, &back, 4) && back == 5,
		"RAM goes on at 4 GiB");
	ok(guest_write(vm, RAM_HOLE_END + 2 * MiB, &value, 4) == -EFAULT, "and ends where it should");
	ok(vcpu_env.page(&vm->vcpu[0]->core, RAM_HOLE_END, ACCESS_WRITE, &traced) == vm->memory.host + RAM_HOLE_START,
	   "high RAM follows low RAM in the file");
	vm_destroy(vm);
}

static uint8_t byte_at(struct vm *vm, gpa_t at)
{
	uint8_t byte = 0xee;

	guest_read(vm, at, &byte, 1);
	return byte;
}

/* Three windows: one over RAM, one over that, and one under everything. */
static void test_windows(void)
{
	static struct memory_window low, high, under;
	struct vm *vm = test_vm();
	struct memory *m = &vm->memory;
	struct memory_region ram = { .start = 64 * MiB - 0x2000, .size = 0x4000, .kind = MEMORY_RAM, .name = "under" };
	struct memory_region hole = { .start = 0x10000, .size = 0x8000, .kind = MEMORY_HOLE, .name = "hole" };
	struct memory_region rom = { .start = 0x14000, .size = 0x1000, .kind = MEMORY_ROM, .name = "rom" };
	uint64_t other;
	uint8_t one = 1, image[4096];

	under.under = true;
	memory_window_add(vm, &low);
	memory_window_add(vm, &high);
	memory_window_add(vm, &under);
	memset(image, 0x77, sizeof(image));
	ok(!memory_reserve(vm, image, sizeof(image), "rom", &rom.offset) &&
	   !memory_reserve(vm, NULL, 0x4000, "ram", &ram.offset), "room for windows");
	ok(memory_reserve(vm, NULL, 64 * MiB, "huge", &other) == -ENOSPC, "no room for a large one");
	ok(m->plain_start == 0 && m->plain_size == 64 * MiB && m->map->count == 1, "all RAM is plain");
	memory_window_set(vm, &low, &hole);
	ok(byte_at(vm, 0x10000) == 0, "nothing changes before the commit");
	memory_window_set(vm, &high, &rom);
	memory_window_set(vm, &under, &ram);
	ok(!memory_commit(vm) && m->map->count == 4, "three windows");
	ok(byte_at(vm, 0xffff) == 0 && byte_at(vm, 0x10000) == 0xee && byte_at(vm, 0x13fff) == 0xee, "a hole in RAM");
	ok(byte_at(vm, 0x14000) == 0x77 && byte_at(vm, 0x15000) == 0xee && byte_at(vm, 0x18000) == 0,
		"a ROM in the hole");
	ok(!guest_write(vm, 64 * MiB + 0x1fff, &one, 1) && guest_write(vm, 64 * MiB + 0x2000, &one, 1) == -EFAULT &&
	   m->host[ram.offset + 0x3fff] == 1, "of a window under RAM shows what RAM does not hide");
	ok(m->plain_start == 0x18000 && m->plain_size == 64 * MiB - 0x18000,
		"the longest stretch of RAM is the plain one");
	memory_window_set(vm, &high, NULL);
	rom.start = 0;
	rom.size = 0x1000;
	memory_window_set(vm, &low, &rom);
	memory_commit(vm);
	ok(byte_at(vm, 0) == 0x77 && byte_at(vm, 0x1000) == 0 && byte_at(vm, 0x14000) == 0, "windows move");
	rom.start = UINT64_MAX - 0xfff;
	memory_window_set(vm, &low, &rom);
	memory_commit(vm);
	ok(byte_at(vm, UINT64_MAX) == 0x77 && byte_at(vm, 0) == 0, "to the end of the address space");
	atomic_fetch_add(&m->readers, 1);
	for (unsigned i = 0; i < 50; i++)
		memory_commit(vm);
	ok(m->retirees == 50, "maps that somebody may look at are kept");
	atomic_fetch_sub(&m->readers, 1);
	memory_commit(vm);
	ok(!m->retirees && !m->retired, "and freed afterwards");
	vm_destroy(vm);
}

static sigjmp_buf fault;
static void on_fault(int signal)
{
	siglongjmp(fault, 1);
}

static bool faults(const volatile uint8_t *at)
{
	if (sigsetjmp(fault, 1))
		return true;
	(void)*at;
	return false;
}

static void test_guards(struct vm *vm)
{
	struct memory *m = &vm->memory;

	signal(SIGSEGV, on_fault);
	ok(faults(m->host - 1) && faults(m->host + m->size), "guard pages on both sides");
	ok(!faults(m->host) && !faults(m->host + m->size - 1), "and none within");
	signal(SIGSEGV, SIG_DFL);
	ok(ftruncate(m->fd, 4096) < 0, "the memory file cannot be made shorter");
}

/* How many pages from there on, up to a number of them, the host has. */
static unsigned resident(struct vm *vm, gpa_t gpa, unsigned pages)
{
	unsigned char there[64] = { 0 };
	unsigned count = 0;

	mincore(memory_host(vm, gpa, X86_PAGE_SIZE), pages * X86_PAGE_SIZE, there);
	for (unsigned n = 0; n < pages; n++)
		count += there[n] & 1;
	return count;
}

/* What a processor is about to write is there with what is beside it: the host is called once for 16 pages. */
static void test_populate(struct vm *vm)
{
	struct x86_core *core = &vm->vcpu[0]->core;
	const gpa_t at = 32 * MiB;
	bool traced;

	if (madvise(memory_host(vm, 16 * MiB, 1), X86_PAGE_SIZE, MADV_POPULATE_WRITE)) {
		skip("memory is touched at once - the host cannot do that (Linux 5.14 can)");
		return;
	}
	ok(!resident(vm, at, 32), "memory that nobody touched is not there");
	core->env->page(core, at + 5 * X86_PAGE_SIZE, ACCESS_READ, &traced);
	ok(!resident(vm, at, 32), "nor if it is to be read");
	core->env->page(core, at + 5 * X86_PAGE_SIZE, ACCESS_WRITE, &traced);
	ok(resident(vm, at, 16) == 16 && !resident(vm, at + 16 * X86_PAGE_SIZE, 16), "if a page is to be written, it is, and what is beside it");
}

static void test_refused(void)
{
	struct vm_config config = { .engine = "null", .memory = 500000 * GiB, .cpus = 1, .clock = CLOCK_STEPPED };
	struct vm *vm;

	ok(vm_create(&vm, &config) == -ENOMEM, "more memory than the host has is refused");
	config.memory = 12345;
	ok(vm_create(&vm, &config) == -EINVAL, "a part of a page is refused");
	config.memory = 0;
	ok(vm_create(&vm, &config) == -EINVAL, "no memory is refused");
}

int main(void)
{
	struct vm *vm = test_vm();
	static struct engine watching;

	watching = null_engine;
	watching.code_changed = note_change;
	test_engine(vm, &watching);
	test_bounds(vm);
	test_bits(vm);
	test_iov(vm);
	test_rom(vm);
	test_guards(vm);
	test_populate(vm);
	test_engine(vm, &null_engine);
	uint64_t hash = vm_hash(vm);
	uint8_t zero = 0, one = 1;
	guest_write(vm, 0x700000, &zero, 1);
	ok(vm_hash(vm) == hash, "a touched page of zeros changes no hash");
	guest_write(vm, 0x700000, &one, 1);
	ok(vm_hash(vm) != hash, "one byte changes the hash");
	vm_destroy(vm);
	test_hole();
	test_windows();
	test_refused();
	return done();
}
