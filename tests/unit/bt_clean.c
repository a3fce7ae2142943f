/* SPDX-License-Identifier: MIT */
/* The first write to a page that was only read so far faults in translated code, which then gets the right to write it: for each kind of instruction that
 * writes, where it does. No exec function is needed for that, and no other page is touched. */
#include "engine/bt/bt.h"
#include "vm/memory.h"
#include "vm_test.h"
#include "bt_loop.h"

#define CODE 0x1000
#define FIRST 0x100000 /* of the pages, on each of which it writes one word */
#define PAGES 100

/* Reads the word that is then written, by [esp - 4]; goes a page on. */
#define LOOP(...) { 0x8b, 0x5c, 0x24, 0xfc, __VA_ARGS__, 0x8d, 0xa4, 0x24, 0x04, 0x10, 0x00, 0x00, 0x49, 0x75 }
static const struct {
	const char *name;
	unsigned op;
	uint8_t size, code[32];
} rows[] = {
	{ "PUSH of a register", X86_OP_PUSH, 1, LOOP(0x50) },
	{ "PUSH of a constant", X86_OP_PUSH, 2, LOOP(0x6a, 0x07) },
	{ "PUSH of memory", X86_OP_PUSH, 2, LOOP(0xff, 0x36) },
	{ "PUSHF", X86_OP_PUSHFD, 1, LOOP(0x9c) },
	{ "CALL", X86_OP_CALL, 5, LOOP(0xe8, 0x00, 0x00, 0x00, 0x00) },
	{ "CALL of a register", X86_OP_CALL, 2, LOOP(0xff, 0xd7) },
	{ "MOV", X86_OP_MOV, 5, LOOP(0x89, 0x44, 0x24, 0xfc, 0x50) },
	{ "ADD", X86_OP_ADD, 5, LOOP(0x01, 0x44, 0x24, 0xfc, 0x50) },
};
static struct vm *vm;

static void row(unsigned n)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct bt *bt = bt_of(vcpu);
	unsigned size = 4u + rows[n].size + 7 + 1, written = 0;
	uint8_t code[40];

	memcpy(code, rows[n].code, sizeof(rows[n].code));
	code[size] = 0x75;                      /* jnz to the start */
	code[size + 1] = (uint8_t)-(int)(size + 2);
	code[size + 2] = 0xf4;
	loop_prepare(vm, CODE, code, size + 3);
	cpu->gpr[RCX] = PAGES;
	cpu->gpr[RSI] = CODE;
	cpu->gpr[RDI] = CODE + 4u + rows[n].size; /* behind the instruction, where a call of it goes on */
	cpu->gpr[RAX] = 5;
	cpu->gpr[RSP] = FIRST + 0x800;
	cpu->gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vcpu, X86_ALL_GROUPS);
	for (unsigned p = 0; p < PAGES; p++) {
		static const uint8_t zeros[X86_PAGE_SIZE];
		uint64_t offset = memory_offset(&vm->memory, memory_host(vm, FIRST + p * X86_PAGE_SIZE, 1));
		guest_write(vm, FIRST + p * X86_PAGE_SIZE, zeros, sizeof(zeros));
		page_bits_clear(&vm->memory, offset >> X86_PAGE_SHIFT, PAGE_DIRTY);
	}
	bt_table_flush(bt, FLUSH_ALL, 0);
	memset(bt->stat.exec, 0, sizeof(bt->stat.exec));
	bt->stat.upgrades = 0;
	loop_run(vcpu);
	for (unsigned p = 0; p < PAGES; p++)
		written += !!*(uint32_t *)memory_host(vm, FIRST + p * X86_PAGE_SIZE + 0x7fc, 4);
	ok(written == PAGES && !cpu->gpr[RCX], "%s: writes each page", rows[n].name);
	ok(bt->stat.upgrades == PAGES && !bt->stat.exec[rows[n].op], "%s: %lu pages of %u became writable where it ran, and %lu times it had to be done otherwise",
	   rows[n].name, bt->stat.upgrades, PAGES, bt->stat.exec[rows[n].op]);
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	vm = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++)
		row(n);
	vm_destroy(vm);
	return done();
}
