/* SPDX-License-Identifier: MIT */
/* An indirect CALL to an address that is not canonical, in code that has run often and in code that has not: the fault is that of the call, which has pushed nothing.
 * SDM volume 2, CALL. */
#include "engine/bt/bt.h"
#include "flat_vm.h"
#include "vm_test.h"
#include "bt_loop.h"

#define MEMORY (4 * MiB)
#define CODE 0x20000
#define HANDLER 0x28000
#define STACK0 0x30000   /* of the handler */
#define STACK 0x40000
#define TARGETS 0x100000 /* by RCX: where each round calls */
#define NOWHERE 0x8000000000000000ULL
#define BELOW 0x1234567  /* what stands below RSP */

struct form {
	const char *name;
	uint8_t put[5], put_size;   /* of the target, in RAX, where the call takes it from */
	uint8_t call[4], call_size;
};

static const struct form forms[] = {
	{ "call rax", { 0 }, 0, { 0xff, 0xd0 }, 2 },
	{ "call r10", { 0x49, 0x89, 0xc2 }, 3, { 0x41, 0xff, 0xd2 }, 3 },
	{ "call [rsi]", { 0x48, 0x89, 0x06 }, 3, { 0xff, 0x16 }, 2 },
	{ "call [rsp-8]", { 0x48, 0x89, 0x44, 0x24, 0xf8 }, 5, { 0xff, 0x54, 0x24, 0xf8 }, 4 },
};
static uint8_t *at; /* in flat_ram */

static void put(const void *code, unsigned size)
{
	memcpy(at, code, size);
	at += size;
}

/* The address of the call. */
static uint64_t program(struct flat *f, const struct form *form, uint64_t rounds)
{
	uint64_t function, call;

	memset(flat_ram, 0, MEMORY);
	flat_mode(f, FLAT_LONG, 3);
	flat_set_gate(f, VECTOR_GP, FLAT_CODE64, HANDLER, SYS_INT, 0, 0);
	flat_put(FLAT_TSS + 4, 8, STACK0);
	flat_ram[HANDLER] = 0xf4;                            /* hlt */
	at = flat_ram + CODE;
	function = CODE;
	put("\x48\xff\xc2\xc3", 4);                          /* inc rdx; ret */
	f->core.cpu.gpr[X86_GPR_RIP] = (uint64_t)(at - flat_ram);
	put("\x48\x8b\x04\xcf", 4);                          /* 1: mov rax, [rdi + rcx * 8] */
	put("\x48\xc7\x44\x24\xf8\x67\x45\x23\x01", 9);      /*    mov qword [rsp - 8], BELOW */
	put(form->put, form->put_size);
	call = (uint64_t)(at - flat_ram);
	put(form->call, form->call_size);
	put("\x48\xff\xc9\xeb", 4);                          /*    dec rcx; jmp 1b */
	*at = (uint8_t)((int64_t)f->core.cpu.gpr[X86_GPR_RIP] - (at + 1 - flat_ram));
	for (uint64_t n = 1; n <= rounds; n++)
		flat_put(TARGETS + 8 * n, 8, function);
	flat_put(TARGETS, 8, NOWHERE);
	f->core.cpu.gpr[RCX] = rounds;
	f->core.cpu.gpr[RDX] = 0;
	f->core.cpu.gpr[RDI] = TARGETS;
	f->core.cpu.gpr[RSI] = STACK + 64;
	f->core.cpu.gpr[RSP] = STACK;
	return call;
}

static void calls(struct vm *vm, struct flat *f, const struct form *form, uint64_t rounds)
{
	const struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;
	uint64_t hot = bt_of(vm->vcpu[0])->stat.hot, call = program(f, form, rounds);
	bool reads_below = form->put_size == 5;

	flat_give(vm, f, MEMORY);
	loop_run(vm->vcpu[0]);
	vcpu_state(vm->vcpu[0], X86_ALL_GROUPS);
	hot = bt_of(vm->vcpu[0])->stat.hot - hot;
	const uint64_t *frame = (uint64_t *)memory_host(vm, STACK0 - 48, 48);
	ok(cpu->gpr[RDX] == rounds && !cpu->gpr[RCX] && cpu->gpr[RSP] == STACK0 - 48 && !frame[0] && frame[1] == call && frame[4] == STACK, "%s%s: #GP of the call", form->name,
	   hot ? ", hot" : "");
	ok(*(uint64_t *)memory_host(vm, STACK - 8, 8) == (reads_below ? NOWHERE : BELOW), "%s%s: nothing is pushed", form->name, hot ? ", hot" : "");
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	struct vm *vm = test_vm_engine("bt", CLOCK_HOST, MEMORY, 1);
	struct flat *f = flat_new("max");
	uint64_t hot = bt_of(vm->vcpu[0])->stat.hot;

	for (unsigned n = 0; n < ARRAY_SIZE(forms); n++) {
		calls(vm, f, &forms[n], 3);
		calls(vm, f, &forms[n], 3 * BT_HEAT);
	}
	ok(bt_of(vm->vcpu[0])->stat.hot >= hot + ARRAY_SIZE(forms), "the loops became hot");
	vm_destroy(vm);
	return done();
}
