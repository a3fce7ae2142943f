/* SPDX-License-Identifier: MIT */
/* BT, BTS, BTR and BTC with the number of the bit in a register, which is far from the operand on either side: what they make of memory, and the carry,
 * is computed here. Pages are clean at first, and bits lie in words that cross from one to the next. */
#include "engine/bt/bt.h"
#include "vm_test.h"
#include "x86/cpuid.h"
#include "bt_loop.h"

#define CODE 0x1000u
#define NUMBERS 0x10000u /* pairs of words: a number, and the carry that it gave */
#define COUNT (BT_HEAT + 1000u)
#define BITS 0x100000u   /* the operand */
#define REACH 0x80000    /* bits on either side */

static const struct { const char *name; uint16_t op; uint8_t prefix, opcode; } rows[] = {
	{ "BT", X86_OP_BT, 0x90, 0xa3 }, { "BTS", X86_OP_BTS, 0x90, 0xab }, { "BTR", X86_OP_BTR, 0x90, 0xb3 },
	{ "BTC", X86_OP_BTC, 0x90, 0xbb }, { "LOCK BTS", X86_OP_BTS, 0xf0, 0xab }, { "LOCK BTC", X86_OP_BTC, 0xf0, 0xbb },
};

static uint64_t state = 1;
static uint32_t rnd(void)
{
	state = state * 6364136223846793005 + 1442695040888963407;
	return (uint32_t)(state >> 32);
}

static bool one(struct vm *vm, uint8_t prefix, uint8_t opcode, unsigned misaligned)
{
	const uint8_t loop[] = { 0x8b, 0x06,             /* 1: mov eax, [esi] */
				 prefix, 0x0f, opcode, 0x07, /* op [edi], eax */
				 0x0f, 0x92, 0x46, 0x04, /*    setc [esi+4] */
				 0x83, 0xc6, 0x08,       /*    add esi, 8 */
				 0x49, 0x75, 0xf0, 0xf4 }; /*  dec ecx; jnz 1b; hlt */
	struct vcpu *vcpu = vm->vcpu[0];
	uint8_t *at = vm->memory.host + BITS + misaligned;
	static uint8_t want[2 * REACH / 8 + 8];
	static bool carry[COUNT];

	loop_prepare(vm, CODE, loop, sizeof(loop));
	memcpy(want, at - REACH / 8, sizeof(want));
	for (unsigned n = 0; n < COUNT; n++) {
		int32_t number = (int32_t)(rnd() % (2 * REACH)) - REACH;
		uint8_t *byte = &want[(number + REACH) / 8], bit = (uint8_t)(1 << (number & 7));
		uint32_t pair[2] = { (uint32_t)number, 0 };
		guest_write(vm, NUMBERS + 8 * n, pair, sizeof(pair));
		carry[n] = *byte & bit;
		*byte = opcode == 0xab ? *byte | bit : opcode == 0xb3 ? *byte & ~bit : opcode == 0xbb ? *byte ^ bit : *byte;
	}
	vcpu->core.cpu.gpr[RSI] = NUMBERS;
	vcpu->core.cpu.gpr[RDI] = BITS + misaligned;
	vcpu->core.cpu.gpr[RCX] = COUNT;
	vcpu->core.cpu.gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vcpu, X86_ALL_GROUPS);
	loop_run(vcpu);
	for (unsigned n = 0; n < COUNT; n++)
		if (*(vm->memory.host + NUMBERS + 8 * n + 4) != carry[n])
			return false;
	return vcpu->core.cpu.gpr[RCX] == 0 && !memcmp(want, at - REACH / 8, sizeof(want));
}

int main(void)
{
	struct vm_config config = { .name = "test", .engine = "bt", .memory = 16 * MiB, .cpus = 1, .model = x86_model_find("max") };
	struct vm *vm;

	if (!loop_possible("bt"))
		return done();
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++)
		for (unsigned misaligned = 0; misaligned < 4; misaligned += 3) {
			if (vm_create(&vm, &config))
				return 1;
			ok(one(vm, rows[n].prefix, rows[n].opcode, misaligned), "%s%s", rows[n].name, misaligned ? ", misaligned" : "");
			ok(!misaligned == !bt_of(vm->vcpu[0])->stat.exec[rows[n].op], "%s: an exec function only where words cross pages", rows[n].name);
			vm_destroy(vm);
		}
	return done();
}
