/* SPDX-License-Identifier: MIT */
/* Loops with streams, as many as there may be and more, and a look-up before the branch back, at each distance from it: what moves the streams on stands
 * between that and what is out of line, which a short jump has to reach. */
#include "engine/bt/bt.h"
#include "vm/memory.h"
#include "vm_test.h"
#include "bt_loop.h"

#define CODE 0x1000
#define LINK 0x3000            /* a word that points to itself */
#define DATA 0x10000
#define APART 0x3000           /* rows */
#define ROUNDS (2 * BT_HEAT)
#define MOST 8                 /* rows: more than there may be streams */
#define FILLERS 12

static void put32(uint8_t *at, uint32_t value) { memcpy(at, &value, 4); }

/* add eax, [ebx + row], for each row; add ebx, stride; dec ecx; mov edx, [edx]; mov dl, 0, so many times; jnz */
static unsigned code_of(uint8_t *code, unsigned rows, unsigned stride, unsigned fillers)
{
	uint8_t *at = code;

	for (unsigned n = 0; n < rows; n++, at += 4)
		*at++ = 0x03, *at++ = 0x83, put32(at, n * APART);
	*at++ = 0x81, *at++ = 0xc3, put32(at, stride), at += 4;
	*at++ = 0x49;
	*at++ = 0x8b, *at++ = 0x12;
	for (unsigned n = 0; n < fillers; n++)
		*at++ = 0xb2, *at++ = 0; /* mov dl, 0: which it is */
	*at++ = 0x0f, *at++ = 0x85, put32(at, (uint32_t)-(int32_t)(at + 4 - code)), at += 4;
	*at++ = 0xf4;
	return (unsigned)(at - code);
}

static uint32_t word_at(uint32_t address) { return address * 2654435761u; }

static bool runs(struct vm *vm, unsigned rows, unsigned stride, unsigned fillers)
{
	struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;
	uint8_t code[256];
	uint32_t sum = 0;

	for (unsigned n = 0; n < ROUNDS; n++)
		for (unsigned r = 0; r < rows; r++)
			sum += word_at(DATA + n * stride + r * APART);
	loop_prepare(vm, CODE, code, code_of(code, rows, stride, fillers));
	cpu->gpr[RAX] = 0;
	cpu->gpr[RBX] = DATA;
	cpu->gpr[RCX] = ROUNDS;
	cpu->gpr[RDX] = LINK;
	cpu->gpr[RSP] = 2 * MiB;
	cpu->gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
	loop_run(vm->vcpu[0]);
	return cpu->gpr[RAX] == sum && !cpu->gpr[RCX];
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	struct vm *vm = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	for (uint32_t at = DATA; at < 2 * MiB; at += 4) {
		uint32_t word = word_at(at);
		guest_write(vm, at, &word, 4);
	}
	uint32_t link = LINK;
	guest_write(vm, LINK, &link, 4);
	for (unsigned rows = 1; rows <= MOST; rows++) {
		uint64_t loops = bt_of(vm->vcpu[0])->stat.hot_loops;
		unsigned wrong = 0, count = 0;
		for (unsigned stride = 4; stride <= 64; stride *= 16)
			for (unsigned fillers = 0; fillers <= FILLERS; fillers++, count++)
				wrong += !runs(vm, rows, stride, fillers);
		loops = bt_of(vm->vcpu[0])->stat.hot_loops - loops;
		ok(!wrong && loops == count, "%u rows: %u wrong of %u, %llu with streams", rows, wrong, count, (unsigned long long)loops);
	}
	vm_destroy(vm);
	return done();
}
