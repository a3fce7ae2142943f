/* SPDX-License-Identifier: MIT */
/* Code that goes round for ever is left when somebody wants the processor, whatever way it goes: random blocks that branch to each other, call each other and return,
 * ahead and back, run until they are hot and are followed in each other's fast copies, in which only some ways back look for that. */
#include "engine/bt/bt.h"
#include "vm_test.h"
#include "bt_endless.h"
#include "bt_loop.h"

#define CODE 0x1000
#define PROGRAMS 300
#define STACK 0x8000
#define RUN_US 6000      /* until it is kicked: thousands of runs of each block */

static struct vm *vm;
static uint8_t code[2048];
static unsigned used;

static uint32_t next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*seed >> 33);
}

static void put(unsigned size, uint32_t value)
{
	memcpy(code + used, &value, size);
	used += size;
}

enum way { JMP, CALL, JMP_ECX, CALL_ECX, PUSH_RET, RET, WAYS };
enum { BLOCKS_MAX = 12, SIZE = 48 };

/* The return address of the last call, or what was pushed last, stands below STACK for ever; so a block that only returns may do that again and again. */
static void go(enum way way, unsigned block)
{
	uint32_t to = block * SIZE;

	switch (way) {
	case JMP: put(1, 0xe9), put(4, to - (used + 4)); break;
	case CALL: put(1, 0xe8), put(4, to - (used + 4)); break;
	case JMP_ECX: put(1, 0xb9), put(4, CODE + to), put(2, 0xe1ff); break;  /* mov ecx, imm; jmp ecx */
	case CALL_ECX: put(1, 0xb9), put(4, CODE + to), put(2, 0xd1ff); break; /* mov ecx, imm; call ecx */
	case PUSH_RET: put(1, 0x68), put(4, CODE + to), put(1, 0xc3); break;  /* push imm; ret */
	default: put(1, 0xbc), put(4, STACK - 4), put(1, 0xc3); break;        /* mov esp, STACK - 4; ret */
	}
}

/* Blocks: EAX becomes another number, and one bit of it says where to go on. The low bits have short periods. Every other program has jumps only. */
static void generate(uint64_t seed)
{
	unsigned blocks = 2 + next(&seed) % (BLOCKS_MAX - 1), ways = next(&seed) & 1 ? WAYS : 1;

	for (unsigned n = 0; n < blocks; n++) {
		used = n * SIZE;
		put(1, 0xbc), put(4, STACK);                    /* mov esp, STACK */
		put(2, 0xc069), put(4, 1664525);                /* imul eax, eax, 1664525 */
		put(1, 0x05), put(4, 1013904223);               /* add eax, 1013904223 */
		put(3, 0xe0ba0f), put(1, next(&seed) % 5);      /* bt eax, n */
		put(2, 0x820f), put(4, next(&seed) % blocks * SIZE - (used + 4)); /* jc */
		go(next(&seed) % ways, next(&seed) % blocks);
		go(JMP, next(&seed) % blocks);                  /* behind a call */
	}
}

/* Returns how many blocks became hot. */
static uint64_t run(uint64_t seed)
{
	struct vcpu *vcpu = vm->vcpu[0];
	uint64_t hot = bt_of(vcpu)->stat.hot;

	memset(code, 0, sizeof(code));
	generate(seed);
	loop_prepare(vm, CODE, code, sizeof(code));
	guest_write(vm, STACK - 4, &(uint32_t){ CODE }, 4);
	vcpu->core.cpu.gpr[RAX] = seed;
	vcpu->core.cpu.gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vcpu, X86_ALL_GROUPS);
	endless_run(vcpu, RUN_US);
	return bt_of(vcpu)->stat.hot - hot;
}

int main(void)
{
	unsigned hot = 0;

	if (!loop_possible("bt"))
		return done();
	vm = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	endless_begin(vm->vcpu[0]);
	for (unsigned n = 1; n <= PROGRAMS; n++)
		hot += run(n) > 0;
	ok(hot > PROGRAMS / 2, "%u of %u endless programs became hot, and each was left", hot, PROGRAMS);
	vm_destroy(vm);
	return done();
}
