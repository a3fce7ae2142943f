/* SPDX-License-Identifier: MIT */
/* Random programs of calls (call_program.h) under bt as under interp: with instructions counted and in parts that end anywhere, and freely, kicked all the time, with a
 * small code cache; in 32- and 64-bit code and both rings, in pages that are at two addresses each, or the last ones, while pages change, and in single steps. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#include "call_program.h"
#include "engine/bt/bt.h"
#include "flat_vm.h"
#include "vm_test.h"
#include "bt_loop.h"

#define SEEDS 24
#define RUN_MAX 1000000   /* instructions */
#define PATIENCE_S 60     /* for one program, on a busy host */
#define MEMORY (4 * MiB)
#define HANDLERS 0x28000u /* of exceptions and interrupts, STUB bytes each */
#define STUB 256u
#define STEPS (CALL_DATA + 0x18)
#define STEPS_MOST 17     /* single steps at a time */
#define MIX (CALL_DATA + 0x20)  /* of what exceptions told */
#define MAIN (CALL_DATA + 0x28) /* where the program begins */
#define SYSTEM 0xf8000u   /* from here on, it is not the program's */
#define KERNEL_STACK 0xfa000u
#define LOW_TABLE 0x100000u
#define TABLES 0x101000u  /* of pages */

enum kind { USER32, COMPATIBLE, USER64, KERNEL64, KINDS };
static const char *const names[KINDS] = { "32-bit code", "compatibility mode", "64-bit code", "64-bit code of a kernel" };
static const struct x86_model *model;
static struct call_program program;
static uint32_t entry[2][CALL_PAGES]; /* of the page tables */
static uint8_t *at; /* in flat_ram */
static bool by8;    /* handlers are 64-bit code */

static void put(const void *bytes, unsigned size)
{
	memcpy(at, bytes, size);
	at += size;
}
#define PUT(code) put(code, sizeof(code) - 1)
static void b(unsigned value) { *at++ = (uint8_t)value; }
static void d(uint32_t value) { put(&value, 4); }

static void w(void)
{
	if (by8)
		b(0x48);
}

/* --- the machine --- */

static bool has_error(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

/* There are so many; then none, until the program wants some again. */
static void step_handler(void)
{
	unsigned flags = by8 ? 16 : 8;

	PUT("\xff\x0c\x25"), d(STEPS);                            /* dec dword */
	PUT("\x75\x13\x81\x64\x24"), b(flags), d(~(uint32_t)FLAG_TF); /* jnz; and dword [rsp + flags], ... */
	PUT("\xc7\x04\x25"), d(STEPS), d(STEPS_MOST);             /* mov dword */
	w(), b(0xcf);
}

/* An exception is noted, and the program begins again. */
static void fault_handler(bool error)
{
	unsigned size = by8 ? 8 : 4;

	if (!error)
		PUT("\x6a\x00");
	b(0x50);                                                  /* push rax */
	for (unsigned n = 1; n < 6; n++) {                        /* error, RIP, CS, flags, RSP */
		w(), PUT("\x6b\x04\x25"), d(MIX), b(31);          /* imul rax, [MIX], 31 */
		w(), PUT("\x03\x44\x24"), b(size * n);            /* add rax, [rsp + ...] */
		w(), PUT("\x89\x04\x25"), d(MIX);
	}
	w(), PUT("\x8b\x04\x25"), d(MAIN);
	w(), PUT("\x89\x44\x24"), b(size * 2);
	PUT("\x81\x64\x24"), b(size * 4), d(~(uint32_t)FLAG_TF);
	b(0x58), w(), PUT("\x83\xc4"), b(size), w(), b(0xcf);     /* pop rax; add rsp, ...; iret */
}

/* A page becomes the other one, or that one again. */
static void remap_handler(unsigned which)
{
	unsigned page = call_any(CALL_PAGES), place = which == 2;
	uint64_t address = program.linear[place] + page * X86_PAGE_SIZE;

	if (program.wide) {
		PUT("\x50\x48\x81\x34\x25"), d(entry[place][page]), d(CALL_CODE ^ CALL_OTHERS); /* push rax; xor qword */
		if (which == 1)
			PUT("\x0f\x20\xd8\x0f\x22\xd8");          /* mov rax, cr3; mov cr3, rax */
		else
			PUT("\x48\xb8"), put(&address, 8), PUT("\x0f\x01\x38"); /* invlpg [rax] */
		b(0x58);
	}
	w(), b(0xcf);
}

static void handlers(struct flat *f)
{
	unsigned n = 0;

	by8 = f->core.mode & MODE_LONG;
	for (unsigned vector = 0; vector <= CALL_REMAP + 2; vector++) {
		if (vector >= 20 && vector < CALL_END)
			continue;
		at = flat_ram + HANDLERS + STUB * n++;
		flat_set_gate(f, (uint8_t)vector, by8 ? FLAT_CODE64 : FLAT_CODE0, (uint64_t)(at - flat_ram), SYS_INT, 3, by8);
		if (vector == 1)
			step_handler();
		else if (vector < 20)
			fault_handler(has_error(vector));
		else if (vector == CALL_END)
			PUT("\xf4\xeb\xfd");
		else
			remap_handler(vector - CALL_REMAP);
	}
}

/* The program cannot write to page tables: when such a write is noticed, without a flush, is up to an engine. */
static void map_system(void)
{
	flat_put(FLAT_PML4 + 0x2000, 8, LOW_TABLE | PTE_P | PTE_W | PTE_U);
	for (uint32_t page = 0; page < 2 * MiB; page += X86_PAGE_SIZE) {
		bool system = page < CALL_CODE || (page >= HANDLERS && page < CALL_DATA) || page >= SYSTEM;
		flat_put(LOW_TABLE + page / X86_PAGE_SIZE * 8, 8, page | PTE_P | PTE_W | PTE_A | PTE_D | (system ? 0 : PTE_U));
	}
}

static void map_code(void)
{
	static const uint64_t places[][2] = {
		{ BIT(46) + 0x543000, BIT(46) + 0x654000 }, { 0x7ffffff00000, 0x7fffffffd000 }, { 0x7fffffffd000, 0xffffffffffffd000 },
		{ 0xffffffff81000000, 0x123456000 },
	};
	const uint64_t rights = PTE_P | PTE_W | PTE_U | PTE_A | PTE_D, *place = places[call_any(4)];
	uint32_t used = TABLES;

	for (unsigned n = 0; n < 2 * CALL_PAGES; n++) {
		uint64_t page = place[n / CALL_PAGES] + n % CALL_PAGES * X86_PAGE_SIZE;
		uint32_t table = FLAT_PML4;
		for (unsigned level = 4; level > 1; level--) {
			uint32_t e = table + 8 * (uint32_t)(page >> (3 + 9 * level) & 511);
			if (!flat_get(e, 8))
				flat_put(e, 8, used | rights), used += X86_PAGE_SIZE;
			table = (uint32_t)(flat_get(e, 8) & X86_PAGE_MASK);
		}
		entry[n / CALL_PAGES][n % CALL_PAGES] = table + 8 * (uint32_t)(page >> 12 & 511);
		flat_put(table + 8 * (uint32_t)(page >> 12 & 511), 8, (CALL_CODE + n % CALL_PAGES * X86_PAGE_SIZE) | rights);
		program.linear[n / CALL_PAGES] = place[n / CALL_PAGES];
	}
}

static void machine(struct flat *f, enum kind kind, uint64_t seed)
{
	static const enum flat_mode modes[KINDS] = { FLAT_PROTECTED32, FLAT_COMPAT32, FLAT_LONG, FLAT_LONG };
	struct x86_cpu *cpu = &f->core.cpu;

	memset(flat_ram, 0, MEMORY);
	call_seed(seed * KINDS + kind);
	flat_mode(f, modes[kind], kind == KERNEL64 ? 0 : 3);
	program = (struct call_program){ .linear = { CALL_CODE, CALL_CODE }, .wide = kind >= USER64, .wild = !call_any(3) && kind != KERNEL64 };
	if (kind != USER32)
		map_system();
	if (program.wide)
		map_code();
	for (unsigned n = 0; f->core.mode & MODE_LONG && n < 3 * X86_PAGE_SIZE; n += 8) /* accessed: that is told before or after other faults */
		if (flat_get(FLAT_PML4 + n, 1) & 1)
			flat_ram[FLAT_PML4 + n] |= 0x60;
	flat_put(FLAT_TSS + 4, 8, KERNEL_STACK);
	if (kind == USER32)
		flat_put(FLAT_TSS + 8, 2, FLAT_DATA0);
	else
		flat_put(FLAT_TSS + 0x24, 8, KERNEL_STACK + X86_PAGE_SIZE);
	flat_put(FLAT_TSS + 0x66, 2, 0x200); /* no ports: of what is no code, a REP OUTS may take for ever */
	call_generate(&program);
	handlers(f);
	flat_put(CALL_ROUND, 4, call_any(4) ? 300 : 3000);
	flat_put(STEPS, 4, STEPS_MOST);
	flat_put(MAIN, 8, program.linear[0]);
	for (unsigned n = 0; n < 16; n++)
		cpu->gpr[n] = call_any(0x1000);
	cpu->gpr[RSP] = CALL_STACK;
	cpu->gpr[X86_GPR_RIP] = program.linear[call_any(2)];
}

static struct vm *new_machine(const char *engine, const char *options, enum clock_mode clock)
{
	struct vm_config config = { .name = "test", .engine = engine, .engine_options = options, .memory = MEMORY, .cpus = 1, .clock = clock, .model = model };
	struct vm *vm = NULL;

	if (vm_create(&vm, &config)) {
		ok(false, "a machine with engine %s", engine);
		exit(1);
	}
	return vm;
}

/* --- a comparison --- */

static bool same(struct vm *a, struct vm *b)
{
	const struct x86_cpu *x = &a->vcpu[0]->core.cpu, *y = &b->vcpu[0]->core.cpu;

	vcpu_state(a->vcpu[0], X86_ALL_GROUPS);
	vcpu_state(b->vcpu[0], X86_ALL_GROUPS);
	return !memcmp(x->gpr, y->gpr, sizeof(x->gpr)) && x->rflags == y->rflags && !memcmp(memory_host(a, 0, MEMORY), memory_host(b, 0, MEMORY), MEMORY);
}

static bool running(const struct vm *vm) { return vm->vcpu[0]->core.cpu.activity == X86_RUNNING && !vm->end; }

/* Until it halts, or for so many instructions, of which at most `part` at a time. */
static void run(struct vm *vm, const struct flat *f, uint64_t most, uint64_t part)
{
	struct vcpu *vcpu = vm->vcpu[0];
	uint64_t end = vcpu->core.icount + most;

	flat_give(vm, f, MEMORY);
	while (vcpu->core.icount < end && running(vm))
		vcpu_run_once(vcpu, &(struct run_limit){ .icount = MIN(end, vcpu->core.icount + part) });
}

static _Atomic bool kicks;

static void *kick(void *vcpu)
{
	while (kicks) {
		usleep(20);
		vcpu_kick(vcpu);
	}
	return NULL;
}

/* Until it halts; false: it does not. */
static bool run_kicked(struct vm *vm, const struct flat *f)
{
	static const struct run_limit no_limit = { .icount = UINT64_MAX };
	time_t end = time(NULL) + PATIENCE_S;
	pthread_t thread;

	flat_give(vm, f, MEMORY);
	kicks = true;
	pthread_create(&thread, NULL, kick, vm->vcpu[0]);
	while (running(vm) && time(NULL) < end)
		vcpu_run_once(vm->vcpu[0], &no_limit);
	kicks = false;
	pthread_join(thread, NULL);
	return !running(vm);
}

/* For one who looks for the reason: behind which instruction they differ first. */
static void tell(struct vm *want, struct vm *got, const struct flat *f)
{
	uint64_t low = 0, high = RUN_MAX;

	for (uint64_t middle; high - low > 1; same(want, got) ? (low = middle) : (high = middle)) {
		middle = low + (high - low) / 2;
		bt_cache_flush(bt_of(got->vcpu[0]), BT_FLUSH_CHANGES);
		run(want, f, middle, middle), run(got, f, middle, middle);
	}
	for (unsigned n = 0; n < 2; n++) {
		uint64_t most = n ? high : low;
		run(want, f, most, most), run(got, f, most, most), same(want, got);
		for (unsigned r = 0; r < 17; r++)
			printf("# after %lu: register %u: interp %#lx, bt %#lx\n", most, r, want->vcpu[0]->core.cpu.gpr[r], got->vcpu[0]->core.cpu.gpr[r]);
	}
}

static void programs(enum kind kind, unsigned first, unsigned count)
{
	struct vm *want = NULL, *got = NULL, *freely = NULL;
	struct flat *f = flat_new("max");
	unsigned right = 0, ended = 0;
	uint64_t hot = 0;

	model = f->core.model;
	for (unsigned seed = first; seed < first + count; seed++) {
		if (!want) {
			want = new_machine("interp", NULL, CLOCK_INSTRUCTIONS);
			got = new_machine("bt", NULL, CLOCK_INSTRUCTIONS);
			freely = new_machine("bt", "cache=2M", CLOCK_HOST);
			vcpu_thread_begin(freely->vcpu[0]);
		}
		machine(f, kind, seed);
		run(want, f, RUN_MAX, RUN_MAX);
		run(got, f, RUN_MAX, call_any(2) ? RUN_MAX : 100 + call_any(5000));
		bool good = same(want, got) && want->vcpu[0]->core.icount == got->vcpu[0]->core.icount;
		if (good && !running(want)) {
			good = run_kicked(freely, f) && same(want, freely);
			ended++;
		}
		right += good;
		if (!good)
			printf("# %s: seed %u differs\n", names[kind], seed);
		if (!good && count == 1)
			tell(want, got, f);
		if (want->end || !good || seed + 1 == first + count) { /* it overwrote the IDT; or that was all */
			hot += bt_of(got->vcpu[0])->stat.hot + bt_of(freely->vcpu[0])->stat.hot;
			vm_destroy(want), vm_destroy(got), vm_destroy(freely), want = NULL;
		}
	}
	ok(right == count && (hot || count == 1) && ended >= count / 3, "%s: %u of %u programs as under interp; %u ended; %lu blocks became hot", names[kind], right,
	   count, ended, hot);
}

/* The arguments: the first seed, and how many. Of one alone that differs it is told where. */
int main(int argc, char **argv)
{
	unsigned first = argc > 1 ? (unsigned)atoi(argv[1]) : 1, count = argc > 2 ? (unsigned)atoi(argv[2]) : SEEDS;

	for (enum kind kind = 0; kind < KINDS && (kind || loop_possible("bt")); kind++)
		programs(kind, first, count);
	return done();
}
