/* SPDX-License-Identifier: MIT */
/* Stores that fault in the host. An instruction that keeps hitting pages of code is done by its exec function before long; one whose faults are the guest's own,
 * as that of a program whose pages are copied when they are written, is not. */
#include "engine/bt/bt.h"
#include "flat_vm.h"
#include "vm_test.h"
#include "bt_loop.h"

#define CODE 0x20000
#define HANDLER 0x28000
#define STACK 0x40000
#define PT 0x14000   /* of the 2 MiB with these pages, each of which may be read at first */
#define PAGES 0x200000
#define COUNT 40
#define MEMORY (4 * MiB)

static const uint8_t code[] = {
	0x8b, 0x16,                   /* 1: mov edx, [rsi] */
	0x89, 0x06,                   /*    mov [rsi], eax */
	0x4c, 0x01, 0xe6,             /*    add rsi, r12 */
	0xff, 0xc9,                   /*    dec ecx */
	0x75, 0xf5,                   /*    jnz 1b */
	0xf4,                         /*    hlt */
};
static const uint8_t handler[] = {
	0x50, 0x52,                   /* push rax, rdx */
	0x0f, 0x20, 0xd0,             /* mov rax, cr2 */
	0x48, 0x89, 0xc2,             /* mov rdx, rax */
	0xc1, 0xea, 0x0c,             /* shr edx, 12 */
	0x81, 0xe2, 0xff, 1, 0, 0,    /* and edx, 511 */
	0x80, 0x0c, 0xd5, PT & 255, PT >> 8 & 255, PT >> 16, 0, 2, /* or byte [PT + rdx * 8], 2 */
	0x0f, 0x01, 0x38,             /* invlpg [rax] */
	0x5a, 0x58,                   /* pop rdx, rax */
	0x48, 0x83, 0xc4, 0x08,       /* add rsp, 8 */
	0x48, 0xcf,                   /* iretq */
};
static struct vm *vm;

static void load(struct flat *f)
{
	memset(flat_ram, 0, MEMORY);
	flat_mode(f, FLAT_LONG, 0);
	flat_set_gate(f, VECTOR_PF, FLAT_CODE64, HANDLER, SYS_INT, 0, 0);
	flat_put((flat_get(flat_get(FLAT_PML4, 8) & X86_PAGE_MASK, 8) & X86_PAGE_MASK) + 8, 8, PT | PTE_P | PTE_W);
	for (unsigned n = 0; n < 512; n++)
		flat_put(PT + 8 * n, 8, (PAGES + n * X86_PAGE_SIZE) | PTE_P);
	memcpy(flat_ram + CODE, code, sizeof(code));
	memcpy(flat_ram + HANDLER, handler, sizeof(handler));
	f->core.cpu.cr0 |= CR0_WP;
}

static void run(struct flat *f, uint64_t from, uint64_t step)
{
	struct x86_cpu *cpu = &f->core.cpu;

	cpu->gpr[RAX] = 0x12345678;
	cpu->gpr[RCX] = COUNT;
	cpu->gpr[RSI] = from;
	cpu->gpr[R12] = step;
	cpu->gpr[RSP] = STACK;
	cpu->gpr[X86_GPR_RIP] = CODE;
	flat_give(vm, f, MEMORY);
	loop_run(vm->vcpu[0]);
}

static unsigned written(uint64_t from, uint64_t step)
{
	unsigned count = 0;

	for (unsigned n = 0; n < COUNT; n++)
		count += *(const uint32_t *)memory_host(vm, from + n * step, 4) == 0x12345678;
	return count;
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	vm = test_vm_engine("bt", CLOCK_HOST, MEMORY, 1);
	const struct bt *bt = bt_of(vm->vcpu[0]);
	struct flat *f = flat_new("max");

	load(f);
	run(f, PAGES, X86_PAGE_SIZE);
	uint64_t exec = bt->stat.exec[X86_OP_MOV], faults = bt->stat.left[BT_FAULTED][BT_GUEST_FAULT];
	ok(written(PAGES, X86_PAGE_SIZE) == COUNT && faults == COUNT, "%u pages that may only be read fault (%lu) and are written", COUNT, faults);
	ok(exec == COUNT, "the exec function raises these faults, and does nothing else (%lu)", exec);
	run(f, CODE + 0x100, 4);
	uint64_t hits = bt->stat.left[BT_FAULTED][BT_CODE_WRITE];
	ok(written(CODE + 0x100, 4) == COUNT && hits == BT_SITE_FAULTS, "of %u writes to a page of code, the first %lu fault", COUNT, hits);
	vm_destroy(vm);
	return done();
}
