/* SPDX-License-Identifier: MIT */
/* Long loops, without an interrupt, of instructions whose work takes some memory of its own: who interprets them must give it back before what follows runs. */
#include "lib/guest.h"

#define ROUNDS "600000"
#define LOOP(name, code)                                                                                               \
	static NAKED void name(void *memory)                                                                           \
	{                                                                                                              \
		asm volatile("mov $" ROUNDS ", %esi; xor %r8d, %r8d; 1: " code "; dec %esi; jne 1b; ret"); \
	}
LOOP(pop16, "pushw $7; popw (%rdi)")
LOOP(pop64, "push $7; pop (%rdi)")
LOOP(exchange8, "cmpxchg %cl, %r8b")
LOOP(exchange16, "cmpxchg %cx, %r8w")
LOOP(exchange32, "cmpxchg %ecx, %r8d")
LOOP(exchange64, "cmpxchg %rcx, %r8")
LOOP(rights, "mov $8, %edx; lar %edx, %eax")
LOOP(limits, "mov $8, %edx; lsl %edx, %eax")
LOOP(saves, "fxsave (%rdi)")
LOOP(restores, "fxrstor (%rdi)")
LOOP(msrs, "mov $0xc0000080, %ecx; rdmsr")

static const struct {
	void (*loop)(void *);
	const char *name;
} loops[] = {
	{ pop16, "POP of 16 bits of memory" }, { pop64, "POP of memory" }, { exchange8, "CMPXCHG of registers, 8 bits" },
	{ exchange16, "CMPXCHG of registers, 16 bits" }, { exchange32, "CMPXCHG of registers, 32 bits" }, { exchange64, "CMPXCHG of registers, 64 bits" },
	{ rights, "LAR" }, { limits, "LSL" }, { saves, "FXSAVE" }, { restores, "FXRSTOR" }, { msrs, "RDMSR" },
};

int main(void)
{
	void *memory = page_alloc();

	asm volatile("fxsave (%0)" : : "r"(memory) : "memory");
	for (unsigned n = 0; n < ARRAY_SIZE(loops); n++)
		check_equal((uint64_t)(int64_t)attempt(loops[n].loop, memory), (uint64_t)NONE, loops[n].name);
	guest_end();
}
