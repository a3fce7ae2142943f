/* SPDX-License-Identifier: MIT */
/* The speed of an engine, by a machine of 4 MiB without devices that runs a loop in 64-bit mode until HLT. */
#include "engine/measure.h"
#include <time.h>
#include "x86/cpuid.h"

#define ENOUGH 0.1      /* seconds of processor time */
#define TURNS_FIRST 4000
#define PER_TURN 12     /* instructions in a turn of the loop */
#define CODE 0x1000
#define TABLES 0x2000
#define DATA 0x10000
#define STACK 0x20000

static const uint8_t loop[] = {
	0x48, 0x8b, 0x07,             /* 1: mov rax, [rdi] */
	0x48, 0x01, 0xc8,             /*    add rax, rcx */
	0x48, 0x89, 0x07,             /*    mov [rdi], rax */
	0xe8, 0x08, 0x00, 0x00, 0x00, /*    call 2f */
	0x31, 0xc2,                   /*    xor edx, eax */
	0xff, 0xc9,                   /*    dec ecx */
	0x75, 0xec,                   /*    jnz 1b */
	0xf4,                         /*    hlt */
	0x90,
	0x48, 0x8d, 0x58, 0x01,       /* 2: lea rbx, [rax + 1] */
	0x48, 0x21, 0xd8,             /*    and rax, rbx */
	0x48, 0x85, 0xc0,             /*    test rax, rax */
	0x0f, 0x94, 0xc3,             /*    sete bl */
	0xc3,                         /*    ret */
};

static const uint64_t tables[3] = { TABLES + 0x1000 + (PTE_P | PTE_W), TABLES + 0x2000 + (PTE_P | PTE_W), PTE_P | PTE_W | PTE_PS };

static void prepare(struct vm *vm, uint32_t turns)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;
	const unsigned base = SEGA_P | SEGA_S | SEGA_ACCESSED | SEGA_G;

	vcpu_reset(vcpu, false);
	for (unsigned n = 0; n < ARRAY_SIZE(tables); n++)
		guest_write(vm, TABLES + n * 0x1000, &tables[n], sizeof(tables[n]));
	guest_write(vm, CODE, loop, sizeof(loop));
	for (unsigned s = 0; s < SEG_COUNT; s++)
		cpu->seg[s] = (struct x86_segment){ .limit = 0xffffffff, .selector = 0x10, .attr = base | SEGA_WRITABLE | SEGA_DB };
	cpu->seg[SEG_CS] = (struct x86_segment){ .limit = 0xffffffff, .selector = 0x08, .attr = base | SEGA_CODE | SEGA_READABLE | SEGA_L };
	cpu->cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET;
	cpu->cr3 = TABLES;
	cpu->cr4 = CR4_PAE;
	cpu->efer = EFER_LME | EFER_LMA;
	cpu->gpr[RCX] = turns;
	cpu->gpr[RDI] = DATA;
	cpu->gpr[RSP] = STACK;
	cpu->gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vcpu, X86_ALL_GROUPS);
}

static double processor_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Seconds, or 0 when the guest did not get to its end. */
static double run(struct vm *vm, uint32_t turns)
{
	static const struct run_limit no_limit = { .icount = UINT64_MAX };
	struct vcpu *vcpu = vm->vcpu[0];
	double began = processor_seconds();

	prepare(vm, turns);
	while (!vcpu->idle || vcpu->core.cpu.activity == X86_RUNNING)
		if (!vcpu_run_once(vcpu, &no_limit))
			return 0;
	return vcpu_state(vcpu, X86_GPRS) || (uint32_t)vcpu->core.cpu.gpr[RCX] ? 0 : processor_seconds() - began;
}

double engine_measure(const struct engine *engine, const char *options)
{
	struct vm_config config = { .name = "measure", .engine = engine->name, .engine_options = options, .memory = 4 * MiB, .cpus = 1 };
	struct vm *vm;
	uint32_t turns = TURNS_FIRST;
	double seconds;

	if (vm_create(&vm, &config))
		return 0;
	seconds = run(vm, turns);
	while (seconds > 0 && seconds < ENOUGH && turns < UINT32_MAX / 16) {
		double more = MIN(MAX(ENOUGH / seconds, 1.5), 16.0);
		turns = (uint32_t)(turns * more);
		seconds = run(vm, turns);
	}
	vm_destroy(vm);
	return seconds > 0 ? (double)turns * PER_TURN / seconds / 1e6 : 0;
}
