/* SPDX-License-Identifier: MIT */
/* Fuzzes the semantics: whatever a guest runs, in whatever mode, it must not crash, hang or corrupt the monitor.
 *
 * Input: mode, privilege, eight bytes that seed the registers, then code. Up to STEPS instructions run on the
 * flat machine of the unit tests; exceptions are delivered through an IDT whose gates lead back to the code. */
#include <stdlib.h>
#include "flat.h"

#define STEPS 64
#define CODE 0x8000ULL
#define CODE_MAX 512u
#define NOPS 0x100ULL /* before the code: where gates lead to */
#define DATA 0x40000ULL
#define PAGES (FLAT_RAM / X86_PAGE_SIZE)
#define MODES 5
#define SETUP (256 * KiB) /* tables and code lie below */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct flat *machine;
static struct x86_env env;
static const struct x86_env *flat_env;
static struct flat *pristine[MODES][2]; /* what a run starts from */
static uint8_t *pristine_ram[MODES][2];
static bool dirty[PAGES]; /* pages to put back */

static uint8_t *page(struct x86_core *core, gpa_t gpa, enum x86_access access, bool *traced)
{
	uint8_t *host = flat_env->page(core, gpa, access, traced);
	if (host && access == ACCESS_WRITE)
		dirty[gpa / X86_PAGE_SIZE] = true;
	return host;
}

static void prepare(unsigned mode, bool user)
{
	machine = flat_new("v2");
	flat_mode(machine, (enum flat_mode)mode, user ? 3 : 0);
	for (unsigned n = 0; n < 256 && mode != FLAT_REAL; n++)
		flat_set_gate(machine, (uint8_t)n, mode == FLAT_LONG ? FLAT_CODE64 : FLAT_CODE0, CODE - n % NOPS,
			      n & 1 ? SYS_INT : SYS_TRAP, 3, 0);
	for (unsigned n = 0; n < 256 && mode == FLAT_REAL; n++)
		flat_put(4 * n, 4, CODE - n % NOPS);
	memset(flat_ram + CODE - NOPS, 0x90, NOPS);
	flat_env = machine->core.env;
	env = *flat_env;
	env.page = page;
	machine->core.env = &env;
	pristine[mode][user] = malloc(sizeof(*machine));
	pristine_ram[mode][user] = malloc(SETUP);
	*pristine[mode][user] = *machine;
	memcpy(pristine_ram[mode][user], flat_ram, SETUP);
	memset(dirty, true, sizeof(dirty));
}

static void restore(unsigned mode, bool user)
{
	if (!pristine[mode][user])
		prepare(mode, user);
	*machine = *pristine[mode][user];
	for (unsigned n = 0; n < PAGES; n++)
		if (dirty[n])
			memset(flat_ram + n * X86_PAGE_SIZE, 0, X86_PAGE_SIZE);
	memset(dirty, false, sizeof(dirty));
	memcpy(flat_ram, pristine_ram[mode][user], SETUP);
}

static void set_registers(uint64_t seed)
{
	struct x86_cpu *cpu = &machine->core.cpu;
	for (unsigned r = 0; r < 16; r++) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		cpu->gpr[r] = seed >> 62 ? DATA + (seed >> 40 & 0x1fff) : seed >> (seed >> 33 & 63);
	}
	cpu->gpr[RSP] = DATA + 0x800;
	*x86_rip(cpu) = CODE;
	x86_flags_set(&machine->core, FLAG_FIXED | (seed & (FLAGS_ARITH | FLAG_DF | FLAG_IF)));
}

static void step(struct x86_core *core)
{
	uint8_t bytes[15];
	unsigned got = 0;
	struct insn i = { 0 };
	jmp_buf unwind;

	core->unwind = &unwind;
	if (setjmp(unwind) == UNWIND_FAULT) {
		x86_deliver_fault(core);
		return;
	}
	uint64_t at = core->cpu.seg[SEG_CS].base + *x86_rip(&core->cpu);
	if ((core->mode & MODE_CODE) != MODE_CODE64)
		at = (uint32_t)at;
	x86_fetch_page(core, at);
	while (got < sizeof(bytes) && x86_peek(core, at + got, bytes + got, 1))
		got++;
	if (!x86_decode(&i, bytes, got, core->mode, core->model))
		x86_fetch_page(core, at + got); /* raises, mostly */
	else
		x86_exec_one(core, &i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t seed;

	if (size < 11)
		return 0;
	restore(data[0] % MODES, data[1] & 1 && data[0] % MODES != FLAT_REAL);
	memcpy(&seed, data + 2, 8);
	set_registers(seed);
	memcpy(flat_ram + CODE, data + 10, MIN(size - 10, CODE_MAX));
	machine->core.chain_limit = 0; /* repeated instructions leave often */
	for (unsigned n = 0; n < STEPS && machine->core.cpu.activity == X86_RUNNING; n++) {
		step(&machine->core);
		x86_deliver_debug(&machine->core);
		if (machine->core.cpu.gpr[X86_GPR_ZERO])
			abort();
	}
	return 0;
}
