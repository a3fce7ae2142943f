/* SPDX-License-Identifier: MIT */
/* The cases of system_random.c, run by each engine: what an engine keeps of the processor's state (decoded traces, translated code, translations
 * of addresses, the state in the kernel) must give what the manual says, too. The instruction stands in a block between others, and where code goes
 * on it jumps to itself, so that an engine may run on without changing anything. What needs more than that is left to the other test:
 * a target elsewhere, a shutdown, page tables that do not map the code.
 *
 *   system_engines [CASES]                 SEED: where to begin
 *   system_engines -c SEED [-p PLAIN] [-e ENGINE] */
#include <stdlib.h>
#include <unistd.h>
#include "engine/bt/bt.h"
#include "engine/kvm/kvm.h"
#include "flat_vm.h"
#include "system_case.h"
#include "vm_test.h"
#include "x86/paging.h"

#define DEFAULT_CASES 20000u
#define STRETCH 200u /* instructions: more than an engine leaves to the interpreter because the limit is near */
#define STEPS 4u     /* of one that does not count: the two in front, the instruction, one behind */
#define SHOWN 3

static struct flat *f;
static const struct engine *engine;
static struct vm *vm;
static unsigned long quick_ran[SYSTEM_WHATS];

static struct vm *machine(void)
{
	struct vm_config config = { .name = "test", .engine = engine->name, .engine_options = engine == &kvm_engine ? "irqchip=user,modes=all" : NULL,
				    .memory = 16 * MiB, .cpus = 1, .model = x86_model_find("max") };
	struct vm *made = NULL;

	if (vm_create(&made, &config)) {
		ok(false, "a machine with engine %s", engine->name);
		exit(1);
	}
	return made;
}

/* Is what follows the instruction one that jumps to itself, and reachable? */
static bool goes_on(const struct system_case *c, const struct x86_cpu *from)
{
	uint64_t at = m.rip + (m.code64 ? 0 : m.seg[SEG_CS].base), paging = CR0_PG | CR0_PE;
	bool paged = m.cr0 & CR0_PG, pdptes = paged && m.cr4 & CR4_PAE && !m.lma;
	bool same_tables = !((m.cr3 ^ from->cr3) >> (pdptes ? 5 : 12)) && !((m.cr4 ^ from->cr4) & (CR4_PAE | CR4_PSE));

	if (m.shutdown || m.flags & FLAG_TF || (m.cr0 ^ from->cr0) & paging || (paged && (!same_tables || m.cr4 & (CR4_SMEP | CR4_SMAP))))
		return false;
	if (!m.code64 && m.rip + 1 > m.seg[SEG_CS].limit)
		return false;
	return at == CODE + c->length || (at >= CODE + 0x1000 && at < CODE + 0x1ffe && !(at & 1));
}

static struct bt *translator(void)
{
	return strcmp(engine->name, "bt") ? NULL : bt_of(vm->vcpu[0]);
}

/* So that they are in the TLB. A fault is as good. */
static void touch(struct x86_core *core)
{
	static const gva_t pages[] = { FLAT_GDT, FLAT_IDT, FLAT_TSS, STACK };
	jmp_buf here;

	core->unwind = &here;
	if (setjmp(here))
		return;
	for (unsigned n = 0; n < ARRAY_SIZE(pages); n++)
		x86_load_system(core, NULL, pages[n], 1);
	x86_store_system(core, NULL, STACK + 0xfff, 1, x86_load_system(core, NULL, STACK + 0xfff, 1));
}

/* The tables and stacks are in the TLB, and the jump tables are those for this state, as mostly they are: bt does what it finds so in another way
 * (quick.c). */
static void warm(struct vcpu *vcpu)
{
	struct run_limit nothing = { .icount = vcpu->core.icount };
	struct x86_core *core = &vcpu->core;
	struct bt *bt = translator();
	uint64_t cr2;

	vcpu_run_once(vcpu, &nothing);
	for (unsigned n = 0; bt && n < 2; n++) /* that it translates these pages takes away all rights to write */
		code_holder_add(&bt->holder, align_down(CODE - n, X86_PAGE_SIZE));
	cr2 = core->cpu.cr2;
	touch(core);
	core->cpu.cr2 = cr2;
	for (unsigned which = 0; bt && which < 2; which++) {
		bt_jumps_clear(bt, which);
		bt->mode[which] = which ? core->mode & ~(uint32_t)MODE_USER : core->mode | MODE_USER;
		bt->generation[which] = which ? core->supervisor_generation : core->mapping_generation;
	}
}

static uint64_t quick(void)
{
	return translator() ? translator()->stat.quick : 0;
}

static bool run_engine(void)
{
	struct vcpu *vcpu = vm->vcpu[0];
	bool counts = vm->engine != &kvm_engine;
	struct run_limit limit = { .icount = vcpu->core.icount + STRETCH, .step = !counts };

	for (unsigned n = 0; counts ? vcpu->core.icount < limit.icount : n < STEPS; n++)
		if (!vcpu_run_once(vcpu, &limit))
			return false;
	return !vcpu_state(vcpu, X86_ALL_GROUPS);
}

/* 1: as the manual says, 0: not, -1: not run. */
static int one(uint64_t seed, uint64_t plain, bool print, enum system_what *what)
{
	struct system_case c;
	struct system_want want;
	uint64_t before;
	bool good;

	system_build(f, &c, seed, plain);
	*what = c.what;
	if (!system_expect(f, &c, &want) || want.task_fault || !goes_on(&c, &f->core.cpu))
		return -1;
	if (vm->end) { /* the last case was its end */
		vm_destroy(vm);
		vm = machine();
	}
	struct vcpu *vcpu = vm->vcpu[0];
	flat_give(vm, f, SYSTEM_MEMORY);
	vcpu->core.cpu.gpr[X86_GPR_RIP] = CODE - 2;
	x86_mode_update(&vcpu->core);
	if (engine != &kvm_engine && seed & 1)
		warm(vcpu);
	for (unsigned r = R8; r < 16 && !(f->core.cpu.efer & EFER_LMA); r++) /* left from long mode: bt has a use for their hosts */
		vcpu->core.cpu.gpr[r] = m.gpr[r] = 0x1111111111111111ULL * r;
	m.flags &= ~FLAG_RF; /* what follows the instruction runs, too */
	before = quick();
	good = run_engine() && system_same(&c, &want, &vcpu->core, vm->memory.host);
	quick_ran[c.what] += quick() - before;
	if (print)
		system_show(&c, &want, &vcpu->core, vm->memory.host);
	return good;
}

static void shrink(uint64_t seed)
{
	enum system_what what;
	uint64_t plain = 0;

	for (unsigned bit = 0; bit < PLAIN_BITS; bit++)
		if (one(seed, plain | BIT(bit), false, &what) == 0)
			plain |= BIT(bit);
	one(seed, plain, true, &what);
}

static void run_cases(uint64_t seed, unsigned long cases)
{
	unsigned long ran = 0, bad = 0, by_kind[SYSTEM_WHATS] = { 0 };
	unsigned kinds = 0;

	memset(quick_ran, 0, sizeof(quick_ran));
	for (unsigned long n = 0; n < cases && bad < SHOWN; n++) {
		enum system_what what;
		int result = one(seed + n, 0, false, &what);
		ran += result >= 0;
		by_kind[what] += result >= 0;
		if (result == 0 && bad++ < SHOWN)
			shrink(seed + n);
	}
	for (unsigned w = 0; w < SYSTEM_WHATS; w++)
		kinds += by_kind[w] > 0;
	if (translator() && cases >= DEFAULT_CASES)
		ok(quick_ran[MOV_SREG] && quick_ran[IRETURN] && quick_ran[INT_N] && quick_ran[FAST],
		   "%s: without an exec function: %lu loads of segments, %lu IRETs, %lu INT n, %lu fast system calls", engine->name,
		   quick_ran[MOV_SREG], quick_ran[IRETURN], quick_ran[INT_N], quick_ran[FAST]);
	ok(!bad && kinds == SYSTEM_WHATS, "%s: %lu cases of %u kinds as the manual says", engine->name, ran, kinds);
}

int main(int argc, char **argv)
{
	const char *given = getenv("SEED"), *single = NULL, *only = NULL;
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1, plain = 0;
	struct engine_report report = { 0 };
	enum system_what what;

	for (int option; (option = getopt(argc, argv, "c:p:e:")) != -1;)
		switch (option) {
		case 'c': single = optarg; break;
		case 'p': plain = strtoull(optarg, NULL, 0); break;
		case 'e': only = optarg; break;
		default: return 2;
		}
	f = flat_new("max");
	while ((engine = engine_next(engine))) {
		bool stand_in = engine == &kvm_engine && !kvm_find_out()->hardware;
		if (!strcmp(engine->name, "null") || (only && strcmp(only, engine->name)))
			continue;
		if (engine->probe(&report) || !report.usable || (stand_in && !only)) {
			skip("%s - %s", engine->name, report.why);
			continue;
		}
		vm = machine();
		if (single)
			printf("# %s: %s\n", engine->name,
			       one(strtoull(single, NULL, 0), plain, true, &what) == 1 ? "the same" : "different, or not run");
		else
			run_cases(seed, optind < argc ? strtoul(argv[optind], NULL, 0) : DEFAULT_CASES);
		vm_destroy(vm);
	}
	return single ? 0 : done();
}
