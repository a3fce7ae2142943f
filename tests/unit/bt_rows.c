/* SPDX-License-Identifier: MIT */
/* Random instructions of all rows that a program may run, in hot code, under bt as under interp: with any registers, the ones that bt keeps elsewhere too, with
 * operands in memory at any alignment, and with faults, behind which the program goes on. The encodings by themselves are tests/unit/bt_reach.c's; here they
 * stand among others, in all ways that the translator has for them. */
#include "engine/bt/bt.h"
#include "flat_vm.h"
#include "vm_test.h"
#include "bt_loop.h"

#define SEEDS 1000
#define COUNT_MAX 40     /* instructions of a program */
#define ROUNDS 45        /* more than BT_HEAT_COUNTING */
#define RUN_MAX 1000000  /* instructions */
#define MEMORY (4 * MiB)
#define CODE 0x20000u
#define HANDLERS 0x28000u /* of exceptions, STUB bytes each */
#define STUB 64
#define STACK0 0xa000u
#define IMAGE 0x2a000u   /* what registers are loaded with */
#define RESUME 0x2b000u  /* where to go on behind a fault; then a count for each vector */
#define ROUND 0x2b400u
#define DATA 0x30000u    /* four pages */
#define DATA_SIZE 0x4000u

enum kind { USER32, COMPATIBLE, USER64, KINDS };
static const char *const names[KINDS] = { "32-bit code", "compatibility mode", "64-bit code" };
static const struct x86_model *model;
static uint64_t random_state;
static uint8_t *at; /* in flat_ram */
static bool wide;
static struct { uint32_t at, length; } made[COUNT_MAX]; /* the instructions of a program */
static unsigned made_count;

static uint32_t any(uint32_t below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(random_state >> 33) % below;
}

static void put(const void *bytes, unsigned size)
{
	memcpy(at, bytes, size);
	at += size;
}
#define PUT(code) put(code, sizeof(code) - 1)
static void put32(uint32_t value) { put(&value, 4); }
static uint32_t here(void) { return (uint32_t)(at - flat_ram); }

/* An address of data: anywhere, near the end of a page, or aligned. */
static uint32_t address(void)
{
	uint32_t page = DATA + any(3) * 0x1000;

	switch (any(3)) {
	case 0: return page + any(0x1000);
	case 1: return page + 0xfc0 + any(0x40);
	default: return page + any(64) * 32;
	}
}

/* mov register, [absolute] */
static void load(unsigned reg, uint32_t from)
{
	if (wide)
		*at++ = (uint8_t)(0x48 | (reg >> 3) << 2);
	*at++ = 0x8b, *at++ = (uint8_t)(4 | (reg & 7) << 3), *at++ = 0x25;
	put32(from);
}

static void reload(uint8_t operand)
{
	if (operand < 16 * 8)
		load(operand / 8, IMAGE + 8 * (operand / 8 == RSP ? RSP : any(64)));
}

/* --- an instruction --- */

struct bytes {
	uint8_t code[15 + 5]; /* and room for what is put beyond */
	unsigned disp; /* where 32 bits of one may stand */
};

static void random_bytes(struct bytes *b)
{
	static const uint8_t prefixes[] = { 0x66, 0xf2, 0xf3, 0x66, 0x66, 0xf3 }, rare[] = { 0x67, 0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e, 0xf0 };
	unsigned n = 0, map = any(7);

	for (unsigned k = 0; k < sizeof(b->code); k++)
		b->code[k] = (uint8_t)any(256);
	for (unsigned k = 0; k < 3 && !any(12); k++)
		b->code[n++] = rare[any(sizeof(rare))];
	if (map < 4 && wide && !any(12)) /* not before the opcode: ignored */
		b->code[n++] = (uint8_t)(0x40 | any(16));
	for (unsigned k = 0; k < 3 && map < 4 && !any(3); k++)
		b->code[n++] = prefixes[any(sizeof(prefixes))];
	if (map < 4 && wide && any(2))
		b->code[n++] = (uint8_t)(0x40 | any(16));
	if (map == 4) {
		b->code[n++] = 0xc5;
		b->code[n] = (uint8_t)(b->code[n] | (wide ? 0 : 0xc0)), n++;
	} else if (map > 4) {
		b->code[n++] = 0xc4;
		b->code[n] = (uint8_t)((b->code[n] & 0xe0) | (wide ? 0 : 0xc0) | (1 + any(3))), n++;
		b->code[n] = (uint8_t)(b->code[n] & (any(2) ? 0x7f : 0xff)), n++;
	} else if (map) {
		b->code[n++] = 0x0f;
		if (map > 1)
			b->code[n++] = map == 2 ? 0x38 : 0x3a;
	}
	uint8_t *modrm = &b->code[n + 1];
	if (!any(3))
		*modrm |= 0xc0;
	b->disp = n + 2;
	if (*modrm < 0xc0 && (*modrm & 7) == 4)
		b->disp++;
	if (*modrm >> 6 == 2 || (*modrm < 0xc0 && any(2))) { /* a short one; or an absolute one, where that is what it is */
		uint32_t value = *modrm >> 6 == 2 ? any(0x200) - 0x100 : address();
		memcpy(b->code + b->disp, &value, 4);
	}
}

static bool wanted(const struct insn *i)
{
	const struct x86_op_info *op = &x86_ops[i->op];

	if (i->op == X86_OP_INVALID || i->exec == x86_exec_ud)
		return !any(40);
	if (op->klass || op->translate == XLATE_END || op->translate == XLATE_BRANCH)
		return false;
	if (op->translate != XLATE_NATIVE && i->flags & (INSN_REP | INSN_REPNE)) /* strings of any length */
		return false;
	return i->op != X86_OP_RDRAND && i->op != X86_OP_RDSEED;
}

static void instruction(uint32_t mode)
{
	struct insn i;
	struct bytes b;
	unsigned length;

	do {
		random_bytes(&b);
		memset(&i, 0, sizeof(i));
		length = x86_decode(&i, b.code, 15, mode, model);
	} while (!length || !wanted(&i));
	if (any(8) && i.base < 16 * 8)
		reload(i.base);
	if (i.scaled < 16 * 8 && i.scaled != i.base && any(8)) { /* mov register, a small number */
		if (wide && i.scaled / 8 >= 8)
			*at++ = 0x41;
		*at++ = (uint8_t)(0xb8 | (i.scaled / 8 & 7)), put32(any(64));
	}
	PUT("\xc7\x04\x25"), put32(RESUME), put32(here() + 4 + length);
	if (i.base == X86_GPR_RIP * 8 && i.asize == 8) {
		uint32_t value = address() - (here() + length);
		memcpy(b.code + b.disp, &value, 4);
	}
	made[made_count].at = here();
	made[made_count++].length = length;
	put(b.code, length);
	load(RSP, IMAGE + 8 * RSP);
}

static void program(uint32_t mode)
{
	uint8_t *head;

	at = flat_ram + CODE;
	head = at;
	made_count = 0;
	for (unsigned r = 0; r < (wide ? 16 : 8); r++)
		load(r, IMAGE + 8 * (r == RSP || any(2) ? r : any(64)));
	if (any(2))
		PUT("\xdb\xe3");                          /* fninit */
	if (any(2))
		PUT("\x0f\xae\x14\x25"), put32(IMAGE + 0x200); /* ldmxcsr */
	for (unsigned n = 1 + any(COUNT_MAX); n--;)
		instruction(mode);
	PUT("\xff\x0c\x25"), put32(ROUND);                /* dec dword */
	PUT("\x0f\x85"), put32((uint32_t)(head - flat_ram) - (here() + 4));
	PUT("\xcd\x81");
}

/* --- the machine --- */

static bool has_error(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

/* Counts, and goes on at RESUME. */
static void handlers(struct flat *f)
{
	bool by8 = f->core.mode & MODE_LONG;
	uint16_t code = by8 ? FLAT_CODE64 : FLAT_CODE0;

	for (unsigned v = 0; v < 20; v++) {
		at = flat_ram + HANDLERS + v * STUB;
		flat_set_gate(f, (uint8_t)v, code, here(), SYS_INT, 3, 0);
		PUT("\xff\x04\x25"), put32(RESUME + 8 + 4 * v); /* inc dword */
		if (has_error(v))
			by8 ? PUT("\x48\x83\xc4\x08") : PUT("\x83\xc4\x04");
		PUT("\x50\x8b\x04\x25"), put32(RESUME);       /* push rax; mov eax, [RESUME] */
		by8 ? PUT("\x48\x89\x44\x24\x08\x58\x48\xcf") : PUT("\x89\x44\x24\x04\x58\xcf");
	}
	at = flat_ram + HANDLERS + 20 * STUB;
	flat_set_gate(f, 0x81, code, here(), SYS_INT, 3, 0);
	PUT("\xf4");
}

static void machine(struct flat *f, enum kind kind)
{
	static const enum flat_mode modes[KINDS] = { FLAT_PROTECTED32, FLAT_COMPAT32, FLAT_LONG };
	struct x86_cpu *cpu = &f->core.cpu;

	memset(flat_ram, 0, MEMORY);
	wide = kind == USER64;
	cpu->cr0 |= CR0_NE | CR0_MP;
	flat_mode(f, modes[kind], 3);
	cpu->cr0 |= CR0_NE | CR0_MP;
	cpu->cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	cpu->xcr0 = 7;
	x86_mode_update(&f->core);
	flat_put(FLAT_TSS + 4, 8, STACK0);
	if (kind == USER32)
		flat_put(FLAT_TSS + 8, 2, FLAT_DATA0);
	for (unsigned n = 0; n < DATA_SIZE; n += 4)
		flat_put(DATA + n, 4, any(4) ? any(1u << 31) * 2 : 0x3f800000);
	for (unsigned n = 0; n < 64; n++)
		flat_put(IMAGE + 8 * n, 8, n == RSP ? DATA + 0x1800 + 0x100 * any(8) : any(6) ? address() : any(256));
	flat_put(IMAGE + 0x200, 4, 0x1f80);
	flat_put(ROUND, 4, ROUNDS);
	for (unsigned n = 0; f->core.mode & MODE_LONG && n < 3 * X86_PAGE_SIZE; n += 8) /* accessed: that is told before or after other faults */
		if (flat_get(FLAT_PML4 + n, 1) & 1)
			flat_ram[FLAT_PML4 + n] |= 0x60;
	handlers(f);
	program(f->core.mode);
	for (unsigned n = 0; n < 16; n++)
		cpu->gpr[n] = 0;
	cpu->gpr[X86_GPR_RIP] = CODE;
	cpu->xsave.legacy = (struct x86_fxsave){ .fcw = 0x37f, .mxcsr = 0x1f80, .mxcsr_mask = cpu->xsave.legacy.mxcsr_mask };
	for (unsigned n = 0; n < 16; n++) /* 32-bit code leaves the latter half alone */
		for (unsigned k = 0; k < 16; k++)
			cpu->xsave.legacy.xmm[n][k] = (uint8_t)any(256), cpu->xsave.ymm_high[n][k] = (uint8_t)any(256);
}

static bool same(struct vm *a, struct vm *b)
{
	const struct x86_cpu *x = &a->vcpu[0]->core.cpu, *y = &b->vcpu[0]->core.cpu;

	vcpu_state(a->vcpu[0], X86_ALL_GROUPS);
	vcpu_state(b->vcpu[0], X86_ALL_GROUPS);
	return !memcmp(x->gpr, y->gpr, sizeof(x->gpr)) && x->rflags == y->rflags && !memcmp(&x->xsave, &y->xsave, sizeof(x->xsave)) &&
	       !memcmp(memory_host(a, 0, MEMORY), memory_host(b, 0, MEMORY), MEMORY);
}

/* For one who looks for the reason. */
static void tell(struct vm *a, struct vm *b)
{
	const struct x86_cpu *x = &a->vcpu[0]->core.cpu, *y = &b->vcpu[0]->core.cpu;
	const uint8_t *m = memory_host(a, 0, MEMORY), *n = memory_host(b, 0, MEMORY), *p = (const uint8_t *)&x->xsave, *q = (const uint8_t *)&y->xsave;
	unsigned told = 0;

	for (unsigned r = 0; r < 16; r++)
		if (x->gpr[r] != y->gpr[r])
			printf("# register %u: interp %#lx, bt %#lx\n", r, x->gpr[r], y->gpr[r]);
	for (unsigned k = 0; k < sizeof(x->xsave) && told < 20; k++)
		if (p[k] != q[k])
			told++, printf("# XSAVE area, byte %u: interp %02x, bt %02x\n", k, p[k], q[k]);
	for (unsigned k = 0; k < MEMORY && told < 40; k++)
		if (m[k] != n[k])
			told++, printf("# memory, byte %#x: interp %02x, bt %02x\n", k, m[k], n[k]);
}

/* Until it halts; or for as long as none takes that still has its code. */
static void run_one(struct vm *vm, const struct flat *f)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct run_limit limit = { .icount = vcpu->core.icount + RUN_MAX };

	flat_give(vm, f, MEMORY);
	while (vcpu->core.icount < limit.icount && vcpu->core.cpu.activity == X86_RUNNING && !vm->end && vcpu_run_once(vcpu, &limit))
		;
}

static bool run(struct vm *want, struct vm *got, const struct flat *f)
{
	run_one(want, f);
	run_one(got, f);
	return same(want, got);
}

/* Takes out each instruction without which they differ, too. */
static void shrink(struct vm *want, struct vm *got, struct flat *f)
{
	static uint8_t kept[MEMORY];

	for (unsigned n = 0; n < made_count; n++) {
		memcpy(kept, flat_ram, MEMORY);
		memset(flat_ram + made[n].at, 0x90, made[n].length);
		if (run(want, got, f))
			memcpy(flat_ram, kept, MEMORY);
		else
			made[n].length = 0;
	}
	for (unsigned n = 0; n < made_count; n++) {
		char text[128];
		if (made[n].length && x86_disassemble(text, sizeof(text), flat_ram + made[n].at, made[n].length, f->core.mode, made[n].at))
			printf("# %x: %s\n", made[n].at, text);
	}
	run(want, got, f);
}

static struct vm *new_machine(const char *engine)
{
	struct vm_config config = { .name = "test", .engine = engine, .memory = MEMORY, .cpus = 1, .clock = CLOCK_INSTRUCTIONS, .model = model };
	struct vm *vm = NULL;

	if (vm_create(&vm, &config)) {
		ok(false, "a machine with engine %s", engine);
		exit(1);
	}
	return vm;
}

static uint64_t rounds_left(struct vm *vm)
{
	return *(uint32_t *)memory_host(vm, ROUND, 4);
}

static void programs(enum kind kind, unsigned first, unsigned count)
{
	static struct vm *want, *got;
	struct flat *f = flat_new("max");
	unsigned right = 0, ended = 0;
	uint64_t hot = 0;

	model = f->core.model;
	for (unsigned seed = first; seed < first + count; seed++) {
		random_state = seed * 0x9e3779b97f4a7c15ULL + kind;
		if (!want)
			want = new_machine("interp"), got = new_machine("bt");
		machine(f, kind);
		hot -= bt_of(got->vcpu[0])->stat.hot;
		bool good = run(want, got, f);
		hot += bt_of(got->vcpu[0])->stat.hot;
		ended += !rounds_left(want);
		right += good;
		if (!good)
			printf("# %s: seed %u differs\n", names[kind], seed);
		if (!good && count == 1)
			shrink(want, got, f), tell(want, got);
		if (want->end || got->end || seed + 1 == first + count) /* it overwrote the IDT; or that was all */
			vm_destroy(want), vm_destroy(got), want = NULL;
	}
	ok(right == count && (hot || count == 1) && ended > count / 2, "%s: %u of %u programs as under interp; %u ended; %lu blocks became hot", names[kind],
	   right, count, ended, hot);
}

/* The arguments: the first seed, and how many. One alone that differs is made smaller, and shown. */
int main(int argc, char **argv)
{
	unsigned first = argc > 1 ? (unsigned)atoi(argv[1]) : 1, count = argc > 2 ? (unsigned)atoi(argv[2]) : SEEDS;

	for (enum kind kind = 0; kind < KINDS && (kind || loop_possible("bt")); kind++)
		programs(kind, first, count);
	return done();
}
