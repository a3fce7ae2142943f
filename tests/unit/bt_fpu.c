/* SPDX-License-Identifier: MIT */
/* What FNSTENV, FNSAVE and FXSAVE tell of the last x87 instruction, under bt as under interp: random programs of x87 instructions, of what loads segment registers
 * between them, and of ways into a kernel and back, until they are hot. Then the same in pieces of some instructions, between which the processor's state is
 * looked at, and another engine goes on. And what the host's processor tells. SDM volume 1, 8.1.8. */
#include "engine/bt/bt.h"
#include "hostrun.h"
#include "rings.h"
#include "bt_loop.h"
#include "x86/features.h"

#define SEEDS 150
#define PIECES 30
#define ROUNDS 40        /* more than BT_HEAT_COUNTING */
#define ROUNDS_FREE (BT_HEAT + 500)
#define CODE 0x20000u
#define KERNEL 0x28000u  /* handlers, STUB bytes each */
#define STUB 64
#define STACK0 0xa000u
#define DATA 0x30000u    /* operands, zeros and ones */
#define COUNT 0x31000u
#define OUT 0x100000u    /* where environments go; EDI */
#define OUT_SIZE 0x80000u

enum { WITH_BASE = FLAT_FREE, MORE_DATA = FLAT_FREE + 8, OTHER_DATA = FLAT_FREE + 16, MORE_CODE = FLAT_FREE + 24 }; /* selectors */
enum { VECTOR_CALL = 0x80, VECTOR_END = 0x81 };
/* --- the program --- */

static void prefix(void)
{
	static const uint8_t prefixes[] = { 0x26, 0x36, 0x3e, 0x64, 0x65 };

	if (any(2))
		*at++ = prefixes[any(sizeof(prefixes))];
}

static void x87(void)
{
	switch (any(10)) {
	case 0: PUT("\xd9\xe8\xdd\xd8"); break;           /* fld1; fstp st0 */
	case 9: PUT("\xd9\xe8\xd9\xe0\xd9\xe5\xdf\xf0"); break; /* fld1; fchs; fxam; fcomip st0: C1 is clear again */
	case 1: prefix(), PUT("\xd8\x04\x25"), put32(DATA + any(64) * 4); break;   /* fadd dword */
	case 2: prefix(), PUT("\xdd\x04\x25"), put32(DATA + any(64) * 4), PUT("\xdd\xd8"); break; /* fld qword */
	case 3: prefix(), PUT("\xdb\x3c\x25"), put32(DATA + 0x800 + any(64) * 4); break; /* fstp tword */
	case 4: prefix(), PUT("\xd8\x46"), *at++ = (uint8_t)any(128); break;       /* fadd dword [esi + n] */
	case 5: prefix(), PUT("\xda\x65"), *at++ = (uint8_t)any(128); break;       /* fisub dword [ebp + n] */
	case 6: PUT("\xd9\xd0"); break;                   /* fnop */
	case 7: PUT("\xd9\x2c\x25"), put32(DATA + 0x400), PUT("\xdf\xe0\x9b\xdb\xe1"); break; /* fldcw; fnstsw ax; fwait; fdisi: none of these counts */
	default: PUT("\x0f\x6f\xc1\x0f\x77"); break;      /* movq mm0, mm1; emms: nor these */
	}
}

static void store(bool wide)
{
	switch (any(4)) {
	case 0: PUT("\xdd\x37\x83\xc7\x70"); break;       /* fnsave [edi]; add edi, 112 */
	case 1: if (wide) *at++ = 0x48; PUT("\x0f\xae\x07\x81\xc7\x00\x02\x00\x00"); break; /* fxsave [edi]; add edi, 512 */
	default: PUT("\xd9\x37\x83\xc7\x20");             /* fnstenv [edi]; add edi, 32 */
	}
}

/* A segment register becomes another flat one, or, of FS and GS, one with a base. */
static void load_segment(enum kind kind)
{
	static const uint8_t registers[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	unsigned seg = registers[any(4)];
	uint32_t selector = (uint32_t[]){ FLAT_DATA3, MORE_DATA, OTHER_DATA, WITH_BASE }[any(seg < SEG_FS ? 3 : 4)] | 3;

	if (any(2)) {
		*at++ = 0xb8, put32(selector); /* mov eax, selector; mov segment, eax */
		*at++ = 0x8e, *at++ = (uint8_t)(0xc0 | seg << 3);
	} else if (seg >= SEG_FS || !is_64(kind)) {
		*at++ = 0x68, put32(selector); /* push selector; pop segment */
		seg >= SEG_FS ? *at++ = 0x0f : 0;
		*at++ = (uint8_t[]){ 0x07, 0, 0, 0x1f, 0xa1, 0xa9 }[seg];
	}
}

static void other(enum kind kind)
{
	switch (any(5)) {
	case 0: PUT("\xcd\x80"); return;                  /* int 80h */
	case 1: PUT("\x0f\x0b"); return;                  /* ud2 */
	default: break;
	}
	if (kind == COMPATIBLE && any(2)) {
		PUT("\xbb"), put32(here() + 11);          /* mov ebx, behind */
		PUT("\xb8"), put32(FLAT_RAM), PUT("\xff\xe0"); /* mov eax, where no page is; jmp eax */
		return;
	}
	if (kind == USER32 && any(2)) {
		PUT("\x89\xe1\xba"), put32(here() + 6), PUT("\x0f\x34"); /* mov ecx, esp; mov edx, behind; sysenter */
	} else if (!is_64(kind)) {
		uint32_t next = here() + 7;
		*at++ = 0xea, put32(next);                /* jmp far */
		uint16_t code = any(2) ? MORE_CODE : FLAT_CODE0;
		code = cpl_of(kind) ? (uint16_t)((any(2) ? FLAT_CODE3 : MORE_CODE) | 3) : code;
		memcpy(at, &code, 2), at += 2;
	} else if (kind == USER64) {
		any(2) ? PUT("\x0f\x05") : PUT("\xf3\x48\x0f\xae\xd1"); /* syscall; wrfsbase rcx */
	} else if (any(2)) {
		PUT("\x0f\x01\xf8");                      /* swapgs */
	} else {
		PUT("\xb9"), put32(0xc0000100 + any(2)), PUT("\xb8"), put32(any(2) * 16), PUT("\x31\xd2\x0f\x30"); /* wrmsr: FS or GS base */
	}
}

static void program(enum kind kind, unsigned rounds)
{
	at = flat_ram + CODE;
	for (unsigned n = 0; n < PIECES; n++)
		switch (any(7)) {
		case 0: store(is_64(kind)); break;
		case 1: case 2: load_segment(kind); break;
		case 3: other(kind); break;
		default: x87();
		}
	PUT("\x81\xe7"), put32(OUT | (OUT_SIZE - 1));     /* and edi: round about */
	PUT("\x89\xe9");                                  /* mov ecx, ebp: 16 or so for a base */
	PUT("\x83\xe1\x70");
	PUT("\xff\x0c\x25"), put32(COUNT);                /* dec dword */
	PUT("\x0f\x85"), put32(CODE - (here() + 4));      /* jnz */
	cpl_of(kind) ? PUT("\xcd\x81") : PUT("\xf4");
	flat_put(COUNT, 4, rounds);
}

/* --- the kernel --- */

static void handlers(struct flat *f, enum kind kind)
{
	bool wide = is_long(kind);
	uint16_t code = wide ? FLAT_CODE64 : FLAT_CODE0;

	at = flat_ram + KERNEL;                           /* int 80h */
	x87(), x87(), store(false);
	if (wide)
		*at++ = 0x48;
	PUT("\xcf");
	at = flat_ram + KERNEL + STUB;                    /* ud2: what it was before, then on behind it */
	store(false), x87();
	if (wide)
		PUT("\x48\x83\x04\x24\x02\x48\xcf");
	else
		PUT("\x83\x04\x24\x02\xcf");
	at = flat_ram + KERNEL + 2 * STUB;                /* int 81h */
	PUT("\xf4");
	at = flat_ram + KERNEL + 3 * STUB;                /* sysenter */
	store(false), x87(), PUT("\x0f\x35");
	at = flat_ram + KERNEL + 4 * STUB;                /* syscall */
	store(true), x87(), PUT("\x48\x0f\x07");
	at = flat_ram + KERNEL + 5 * STUB;                /* #PF of a fetch, in 64-bit code: on at RBX */
	store(false), x87(), PUT("\x48\x83\xc4\x08\x48\x89\x1c\x24\x48\xcf");
	flat_set_gate(f, VECTOR_PF, code, KERNEL + 5 * STUB, SYS_INT, 0, 0);
	flat_set_gate(f, VECTOR_CALL, code, KERNEL, SYS_INT, 3, 0);
	flat_set_gate(f, VECTOR_UD, code, KERNEL + STUB, SYS_INT, 0, 0);
	flat_set_gate(f, VECTOR_END, code, KERNEL + 2 * STUB, SYS_INT, 3, 0);
	f->core.cpu.sysenter_cs = FLAT_CODE0;
	f->core.cpu.sysenter_eip = KERNEL + 3 * STUB;
	f->core.cpu.sysenter_esp = STACK0;
	f->core.cpu.lstar = KERNEL + 4 * STUB;
	f->core.cpu.star = (uint64_t)FLAT_CODE64 << 32 | (uint64_t)(MORE_CODE - 16) << 48;
	f->core.cpu.efer |= wide ? EFER_SCE : 0;
}

static void machine(struct flat *f, enum kind kind, unsigned rounds)
{
	const uint32_t data = SEGA_P | SEGA_S | SEGA_WRITABLE | SEGA_ACCESSED | SEGA_G | SEGA_DB | SEGA_DPL;
	struct x86_cpu *cpu = &f->core.cpu;

	memset(flat_ram, 0, RINGS_MEMORY);
	flat_mode(f, kind_modes[kind], cpl_of(kind));
	flat_put(FLAT_GDT + MORE_DATA, 8, flat_descriptor(0, 0xfffff, data));
	flat_put(FLAT_GDT + OTHER_DATA, 8, flat_descriptor(0, 0xfffff, data));
	flat_put(FLAT_GDT + WITH_BASE, 8, flat_descriptor(0x10, 0xfffff, data));
	flat_put(FLAT_GDT + MORE_CODE, 8, flat_descriptor(0, 0xfffff, SEGA_P | SEGA_S | SEGA_CODE | SEGA_READABLE | SEGA_ACCESSED | SEGA_G |
							  (is_64(kind) ? SEGA_L : SEGA_DB) | (cpl_of(kind) ? SEGA_DPL : 0)));
	flat_put(FLAT_TSS + 4, 8, STACK0);
	if (kind == USER32)
		flat_put(FLAT_TSS + 8, 2, FLAT_DATA0);
	for (unsigned n = 0; n < 0x400; n += 4)
		flat_put(DATA + n, 4, any(2) ? 0x3f800000 : 0);
	flat_put(DATA + 0x400, 2, 0x37f);
	handlers(f, kind);
	program(kind, rounds);
	cpu->cr0 |= CR0_NE | CR0_MP;
	cpu->cr4 |= CR4_OSFXSR | (is_64(kind) ? CR4_FSGSBASE : 0);
	cpu->kernel_gs_base = 16;
	cpu->gpr[RSI] = DATA;
	cpu->gpr[RBP] = DATA + 0x100;
	cpu->gpr[RDI] = OUT;
	cpu->gpr[X86_GPR_RIP] = CODE;
	cpu->xsave.legacy.fcw = 0x37f;
	cpu->xsave.legacy.mxcsr = 0x1f80;
}

static bool ended(struct vm *want, struct vm *got)
{
	return rings_same_memory(want, got) && !*(uint32_t *)memory_host(want, COUNT, 4);
}

/* Until both halt, or differ. Now and then interp goes on where bt was. */
static bool in_pieces(struct vm *want, struct vm *got)
{
	uint64_t ns;

	for (;;) {
		unsigned n = 1 + any(400);
		rings_run(want, n);
		rings_run(got, n);
		if (!rings_same(want, got))
			return false;
		if (!rings_runs(want))
			return !rings_runs(got) && ended(want, got);
		if (any(4) == 0 && vm_engine_switch(got, strcmp(got->engine->name, "bt") ? engine_find("bt") : engine_find("interp"), &ns))
			return false;
	}
}

/* Every other program runs where FCS and FDS are saved, which models do that have no CPUID.7:EBX[13]. */
static void random_programs(bool pieces)
{
	const struct x86_model *plain = x86_model_find("max");
	static struct x86_model selectors;
	struct vm *want = test_vm_engine("interp", CLOCK_HOST, RINGS_MEMORY, 1), *got = test_vm_engine("bt", CLOCK_HOST, RINGS_MEMORY, 1);
	struct flat *f = flat_new("max");

	selectors = *plain;
	selectors.features[FEATURE_NO_FCS_FDS >> 5] &= ~BIT(FEATURE_NO_FCS_FDS & 31);
	for (enum kind kind = 0; kind < KINDS; kind++) {
		uint64_t hot = bt_of(got->vcpu[0])->stat.hot, quick = bt_of(got->vcpu[0])->stat.quick;
		unsigned right = 0, seed;
		for (seed = 1; seed <= SEEDS; seed++) {
			random_state = seed * 0x9e3779b97f4a7c15ULL + kind;
			machine(f, kind, pieces ? ROUNDS : ROUNDS_FREE / 4 * (1 + 3 * !(seed % 8)));
			want->vcpu[0]->core.model = got->vcpu[0]->core.model = seed % 2 ? &selectors : plain;
			flat_give(want, f, RINGS_MEMORY);
			flat_give(got, f, RINGS_MEMORY);
			if (!pieces)
				loop_run(want->vcpu[0]), loop_run(got->vcpu[0]);
			bool good = pieces ? in_pieces(want, got) : rings_same(want, got) && ended(want, got);
			if (!good && right + 1 == seed)
				printf("# %s: seed %u is the first that differs\n", kind_names[kind], seed);
			right += good;
		}
		hot = bt_of(got->vcpu[0])->stat.hot - hot, quick = bt_of(got->vcpu[0])->stat.quick - quick;
		ok(right == SEEDS && hot && (quick || kind == COMPATIBLE), "%s%s: %u of %u programs as under interp; %lu blocks became hot, %lu instructions were quick", kind_names[kind],
		   pieces ? ", in pieces" : "", right, SEEDS, hot, quick);
	}
	vm_destroy(want);
	vm_destroy(got);
}

/* With an exception, since AMD's processors store FDP with one only. */
static void on_the_host(void)
{
	static const uint8_t code[] = {
		0xb8, 0x2b, 0, 0, 0, 0x8e, 0xc0, /* mov eax, 2bh; mov es, eax: Linux's user data */
		0xdb, 0xe3,             /* fninit */
		0xd9, 0x2f,             /* fldcw [edi] */
		0xd9, 0xe8,             /* fld1 */
		0x26, 0xd8, 0x77, 0x04, /* fdiv dword [es:edi + 4]: by zero */
		0x8e, 0xc1,             /* mov es, ecx */
		0xd9, 0x77, 0x10,       /* fnstenv [edi + 16] */
	};
	struct host_state s = { .rip = HOST_CODE, .gpr = { [RDI] = HOST_DATA, [RSP] = HOST_DATA + 0x800 }, .rflags = FLAG_FIXED };
	uint16_t control = 0x37b;

	if (!hostrun_init())
		return;
	s.fx.fcw = 0x37f;
	s.fx.mxcsr = 0x1f80;
	memset((void *)HOST_DATA, 0, 64);
	memcpy((void *)HOST_DATA, &control, sizeof(control));
	struct host_end end = hostrun(&s, code, sizeof(code), MODE_CODE32);
	uint32_t *e = (uint32_t *)(HOST_DATA + 16);
	if (!(e[4] & 0xffff))
		skip("the host's processor keeps no FCS and FDS");
	else
		ok(end.vector == HOST_COMPLETED && e[3] == HOST_CODE + 13 && e[5] == HOST_DATA + 4 && (e[6] & 0xffff) == 0x2b,
		   "the host's FDS is what ES was when the x87 instruction ran");
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	random_programs(false);
	random_programs(true);
	on_the_host();
	return done();
}
