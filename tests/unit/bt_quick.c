/* SPDX-License-Identifier: MIT */
/* What bt does without its exec functions (quick.c): fast system calls, INT n, IRET, loads of segment registers, MOVS and STOS, jumps that the table has nothing
 * for. Random programs of these, with page ends, pages that are missing or must not be written, limits, overlaps, DF, addresses of all sizes and descriptors that fault, come to
 * what they come to under interp. So they do when they are stopped at any instruction, and single steps, breakpoints, NMIs, RF and the shadow of STI begin there;
 * and, run freely, while somebody kicks the processor. SDM volume 2; volume 3, 6.8 and 17. */
#include <pthread.h>
#include <unistd.h>
#include "engine/bt/bt.h"
#include "rings.h"
#include "bt_loop.h"

#define SEEDS 80
#define PIECES 24
#define ROUNDS 25
#define ROUNDS_FREE (BT_HEAT + 200)
#define MOMENTS_MAX 600 /* of a program, in which something is begun; then it just runs */
#define KICK_US 50
#define MOST 90000000   /* instructions of a program that goes on for ever: a mistake of this test */

/* Below 64 KiB there is what addresses of 16 bits reach: page 0, and the data. */
#define STACK0 0xa000u
#define DATA 0xb000u
#define DATA_PAGES 5u    /* to 64 KiB */
#define PD 0x14000u      /* of code that is not in long mode */
#define PT 0x15000u      /* for the first 2 MiB */
#define TEMPLATE 0x16000u /* entries for the data pages, which the kernel puts back */
#define VARIABLES 0x17000u
#define CODE 0x20000u
#define KERNEL 0x28000u
#define CALLED 0x30000u  /* functions, each in a page of its own */
#define CALLED_COUNT 8u
#define LOG 0x100000u
enum { LOG_AT = VARIABLES, NEXT = VARIABLES + 8, STEPS = VARIABLES + 16, FIX = VARIABLES + 24, CALLS = VARIABLES + 32, COUNT = VARIABLES + 40 };
enum { /* selectors */
	BASE = FLAT_FREE, LIMIT = FLAT_FREE + 8, MORE = FLAT_FREE + 16, MORE_CODE = FLAT_FREE + 24, ABSENT = FLAT_FREE + 32, FRESH = FLAT_FREE + 40,
	INNER = FLAT_FREE + 48, SYSCALL_CODE = FLAT_FREE + 56, SYSCALL_DATA = FLAT_FREE + 64,
};
enum { VECTOR_CALL = 0x80, VECTOR_END = 0x81, VECTOR_RESTORE = 0x83 };

/* --- the kernel --- */

/* One entry a vector, 8 bytes each, in this order; then sysenter's, or syscall's. All but that log what happened and how far it was. #PF: the page is given all rights, until the next
 * VECTOR_RESTORE; other faults go on at NEXT. A single step counts STEPS down. VECTOR_CALL sets RF in the flags that it returns with where bit 16 of EAX is set. */
static const uint8_t vectors[] = { VECTOR_DB, VECTOR_NMI, VECTOR_NP, VECTOR_SS, VECTOR_GP, VECTOR_PF, VECTOR_CALL, VECTOR_RESTORE, VECTOR_END };
enum { ENTRY = 8 };

#define ENTRIES \
	"push $0; push $1; jmp 1f; .balign 8, 0x90;" \
	"push $0; push $2; jmp 1f; .balign 8, 0x90;" \
	"push $11; jmp 1f; .balign 8, 0x90;" \
	"push $12; jmp 1f; .balign 8, 0x90;" \
	"push $13; jmp 1f; .balign 8, 0x90;" \
	"push $14; jmp 1f; .balign 8, 0x90;" \
	"push $0; push $0x40; jmp 1f; .balign 8, 0x90;" \
	"push $0; push $0x43; jmp 1f; .balign 8, 0x90;" \
	"hlt; .balign 8, 0x90;"
extern const uint8_t kernel32[], kernel32_end[], fast32[], kernel64[], kernel64_end[], fast64[];
asm(".pushsection .rodata\n.set LOG_AT, 0x17000\n.set NEXT, 0x17008\n.set STEPS, 0x17010\n.set FIX, 0x17018\n.set CALLS, 0x17020\n.set PT, 0x15000\n.set TEMPLATE, 0x16000\n"
    ".code32\n"
    ".balign 8; kernel32: " ENTRIES
    "fast32: incl CALLS; sysexit\n"
    "1: cld; push %eax; push %ecx; push %edx; push %esi; push %edi\n" /* [esp + 20]: vector, error, EIP, CS, EFLAGS */
    "mov LOG_AT, %edi\n"
    "mov 20(%esp), %eax; stosl; mov 24(%esp), %eax; stosl; mov 28(%esp), %eax; stosl; mov 36(%esp), %eax; stosl\n"
    "mov %cr2, %eax; stosl; mov %dr6, %eax; stosl; mov %ecx, %eax; stosl; mov %esi, %eax; stosl; mov (%esp), %eax; stosl\n"
    "and $0x17ffff, %edi; mov %edi, LOG_AT\n"
    "mov 20(%esp), %eax; cmp $14, %eax; je 4f; cmp $1, %eax; je 5f; cmp $2, %eax; je 9f; cmp $0x40, %eax; je 6f; cmp $0x43, %eax; je 7f\n"
    "mov NEXT, %eax; mov %eax, 28(%esp); jmp 9f\n"
    "4: mov %cr2, %eax; mov %eax, %edx; shr $12, %eax; and $-4096, %edx; or FIX, %edx; mov %edx, PT(,%eax,4); mov %cr2, %eax; invlpg (%eax); jmp 9f\n"
    "5: mov $0xffff0ff0, %eax; mov %eax, %dr6; testl $0x100, 36(%esp); jz 9f; decl STEPS; jg 9f; andl $~0x100, 36(%esp); jmp 9f\n"
    "6: mov 16(%esp), %eax; and $0x10000, %eax; or %eax, 36(%esp); jmp 9f\n"
    "7: mov $0x10, %ecx; 8: mov TEMPLATE-4(,%ecx,4), %eax; mov %eax, PT-4(,%ecx,4); loop 8b; mov %cr3, %eax; mov %eax, %cr3\n"
    "9: pop %edi; pop %esi; pop %edx; pop %ecx; pop %eax; add $8, %esp; iret\n"
    "kernel32_end:\n"
    ".code64\n"
    ".balign 8; kernel64: " ENTRIES
    "fast64: incl CALLS; sysretq\n"
    "1: cld; push %rax; push %rcx; push %rdx; push %rsi; push %rdi\n" /* [rsp + 40] */
    "mov LOG_AT, %edi\n"
    "mov 40(%rsp), %eax; stosl; mov 48(%rsp), %eax; stosl; mov 56(%rsp), %eax; stosl; mov 72(%rsp), %eax; stosl\n"
    "mov %cr2, %rax; stosl; mov %dr6, %rax; stosl; mov %ecx, %eax; stosl; mov %esi, %eax; stosl; mov (%rsp), %eax; stosl\n"
    "and $0x17ffff, %edi; mov %edi, LOG_AT\n"
    "mov 40(%rsp), %eax; cmp $14, %eax; je 4f; cmp $1, %eax; je 5f; cmp $2, %eax; je 9f; cmp $0x40, %eax; je 6f; cmp $0x43, %eax; je 7f\n"
    "mov NEXT, %eax; mov %rax, 56(%rsp); jmp 9f\n"
    "4: mov %cr2, %rax; mov %eax, %edx; shr $12, %eax; and $-4096, %edx; or FIX, %edx; mov %rdx, PT(,%rax,8); mov %cr2, %rax; invlpg (%rax); jmp 9f\n"
    "5: mov $0xffff0ff0, %eax; mov %rax, %dr6; testl $0x100, 72(%rsp); jz 9f; decl STEPS; jg 9f; andl $~0x100, 72(%rsp); jmp 9f\n"
    "6: mov 32(%rsp), %eax; and $0x10000, %eax; or %rax, 72(%rsp); jmp 9f\n"
    "7: mov $0x10, %ecx; 8: mov TEMPLATE-8(,%rcx,8), %rax; mov %rax, PT-8(,%rcx,8); loop 8b; mov %cr3, %rax; mov %rax, %cr3\n"
    "9: pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax; add $16, %rsp; iretq\n"
    "kernel64_end:\n.popsection");

static void kernel(struct flat *f, enum kind kind)
{
	bool wide = is_long(kind);
	const uint8_t *code = wide ? kernel64 : kernel32;
	struct x86_cpu *cpu = &f->core.cpu;

	memcpy(flat_ram + KERNEL, code, (size_t)(wide ? kernel64_end - kernel64 : kernel32_end - kernel32));
	for (unsigned n = 0; n < sizeof(vectors); n++)
		flat_set_gate(f, vectors[n], wide ? FLAT_CODE64 : FLAT_CODE0, KERNEL + n * ENTRY, any(2) && vectors[n] == VECTOR_CALL ? SYS_TRAP : SYS_INT,
			      vectors[n] >= VECTOR_CALL ? 3 : 0, 0);
	cpu->sysenter_cs = FLAT_CODE0;
	cpu->sysenter_eip = KERNEL + (uint32_t)(fast32 - kernel32);
	cpu->sysenter_esp = STACK0;
	cpu->lstar = KERNEL + (uint64_t)(fast64 - kernel64);
	cpu->star = (uint64_t)SYSCALL_CODE << 32 | (uint64_t)(MORE_CODE - 16) << 48;
	cpu->sfmask = any(2) ? FLAG_IF | FLAG_DF : 0;
	cpu->efer |= wide ? EFER_SCE : 0;
}

/* --- the machine --- */

static void descriptor(unsigned selector, uint32_t base, uint32_t limit, unsigned attr)
{
	flat_put(FLAT_GDT + selector, 8, flat_descriptor(base, limit, SEGA_S | SEGA_DB | attr));
}

static void entry(enum kind kind, uint32_t table, unsigned n, uint64_t value)
{
	flat_put(table + n * (is_long(kind) ? 8 : 4), is_long(kind) ? 8 : 4, value);
}

/* Pages of 4 KiB for the first 2 MiB; those of the data are one thing or another, and more so in the template. */
static void pages(struct flat *f, enum kind kind)
{
	static const unsigned sorts[] = { PTE_P | PTE_W | PTE_U, PTE_P | PTE_U, PTE_P | PTE_W, 0 };
	uint64_t rights = PTE_P | PTE_W | (cpl_of(kind) ? PTE_U : 0);

	for (unsigned n = 0; n < 512; n++)
		entry(kind, PT, n, n * X86_PAGE_SIZE | rights);
	for (unsigned n = 0; n < 16; n++) {
		bool data = n >= DATA / X86_PAGE_SIZE || !n;
		entry(kind, TEMPLATE, n, n * X86_PAGE_SIZE | (data ? any(3) ? rights : sorts[any(4)] : rights));
	}
	flat_put(FIX, 4, rights);
	if (is_long(kind)) {
		flat_put(FLAT_PML4 + 0x2000, 8, PT | PTE_P | PTE_W | PTE_U);
		return;
	}
	flat_put(PD, 4, PT | PTE_P | PTE_W | PTE_U);
	f->core.cpu.cr3 = PD;
	f->core.cpu.cr0 |= CR0_PG | CR0_WP;
}

static void tables(enum kind kind)
{
	const unsigned data = SEGA_P | SEGA_WRITABLE | SEGA_ACCESSED | SEGA_DPL;

	descriptor(BASE, 0x40, 0xfffff, data | SEGA_G);
	descriptor(LIMIT, DATA, 0x17ff, data);
	descriptor(MORE, 0, 0xfffff, data | SEGA_G);
	flat_put(FLAT_GDT + MORE_CODE, 8, flat_descriptor(0, 0xfffff, SEGA_P | SEGA_S | SEGA_CODE | SEGA_READABLE | SEGA_ACCESSED | SEGA_G |
							  (is_64(kind) ? SEGA_L : SEGA_DB) | (cpl_of(kind) ? SEGA_DPL : 0)));
	descriptor(ABSENT, 0, 0xfffff, data & ~(unsigned)SEGA_P);
	descriptor(FRESH, 0, 0xfffff, (data | SEGA_G) & ~(unsigned)SEGA_ACCESSED);
	descriptor(INNER, 0, 0xfffff, data & ~(unsigned)SEGA_DPL);
	flat_put(FLAT_GDT + SYSCALL_CODE, 8, flat_get(FLAT_GDT + FLAT_CODE64, 8));
	flat_put(FLAT_GDT + SYSCALL_DATA, 8, flat_get(FLAT_GDT + FLAT_DATA0, 8));
	flat_put(FLAT_TSS + 4, 8, STACK0);
	if (kind == USER32)
		flat_put(FLAT_TSS + 8, 2, FLAT_DATA0);
}

/* --- the program --- */

static uint32_t starts[PIECES * 12], start_count; /* of instructions, for breakpoints */

static void begins(void)
{
	if (start_count < ARRAY_SIZE(starts))
		starts[start_count++] = here();
}

static void load_register(unsigned reg, uint32_t value)
{
	begins();
	*at++ = (uint8_t)(0xb8 | reg), put32(value);
}

/* Where a fault goes on is known when the piece ends. */
static uint8_t *next_begin(void)
{
	begins();
	PUT("\xc7\x04\x25"), put32(NEXT), put32(0);
	return at - 4;
}

static void next_end(uint8_t *where)
{
	uint32_t now = here();

	memcpy(where, &now, 4);
}

/* Within the data, or, in addresses of 16 bits, round the end; mostly near the end of a page. */
static uint32_t address(void)
{
	return DATA + any(DATA_PAGES) * (uint32_t)X86_PAGE_SIZE + (any(2) ? any((unsigned)X86_PAGE_SIZE) : (unsigned)X86_PAGE_SIZE - 1 - any(40));
}

static void string(enum kind kind)
{
	bool moves = any(3), backward = any(4) == 0, small = any(4) == 0 && !is_64(kind), ac = kind == KERNEL64 && any(2);
	unsigned log = any(is_64(kind) ? 4 : 3), size = 1u << log, count = any(3) ? any(40) : any(2) ? any(4200 >> log) : 0;
	uint32_t from = address(), to = any(3) ? address() : from + any(40) - 20;
	uint8_t *next = next_begin();

	to = to < DATA ? DATA : to > 0xfff8 ? 0xfff8 : to;
	if (small && is_long(kind))
		to &= ~(size - 1); /* none reaches beyond 64 KiB, where page tables are */
	from = MIN(from, 0xfff8);
	if (backward)
		count = MIN(count, (MIN(from, to) - DATA) / size + 1);
	else /* page tables are behind the data, and descriptors behind page 0 */
		count = MIN(count, ((small ? 0x10ff0 : 0x10000) - MAX(from, to)) / size);
	load_register(RCX, count | (small ? any(4) << 20 : 0)), load_register(RSI, from), load_register(RDI, to), load_register(RAX, any(1u << 30));
	if (ac)
		begins(), PUT("\x0f\x01\xcb");             /* stac */
	if (backward)
		begins(), PUT("\xfd");                     /* std */
	begins();
	if (moves && any(4) == 0)
		*at++ = any(2) ? 0x64 : 0x65;             /* fs or gs */
	if (small || (is_64(kind) && any(3) == 0))
		*at++ = 0x67;
	if (any(8))
		*at++ = any(4) ? 0xf3 : 0xf2;
	if (size == 2)
		*at++ = 0x66;
	if (size == 8)
		*at++ = 0x48;
	*at++ = (uint8_t)((moves ? 0xa4 : 0xaa) | (size > 1));
	next_end(next);
	if (backward)
		begins(), PUT("\xfc");                     /* cld */
	if (ac)
		begins(), PUT("\x0f\x01\xca");             /* clac */
}

static void load_segment(enum kind kind)
{
	static const uint8_t registers[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS, SEG_FS, SEG_GS };
	static const uint16_t flat[] = { FLAT_DATA3 | 3, MORE | 3, MORE | 3, FRESH | 3 }, others[] = { 0, 3, BASE | 3, LIMIT | 3, ABSENT | 3, INNER, 0x3f8, 0x7ff };
	unsigned seg = registers[any(sizeof(registers))];
	uint16_t selector = seg >= SEG_FS && any(3) ? others[any(ARRAY_SIZE(others))] : flat[any(ARRAY_SIZE(flat))];
	uint8_t *next = next_begin();

	if (any(2) || (is_64(kind) && seg < SEG_FS)) {
		load_register(RAX, selector);
		begins();
		*at++ = 0x8e, *at++ = (uint8_t)(0xc0 | seg << 3);
		next_end(next);
		return;
	}
	begins();
	*at++ = 0x68, put32(selector);
	begins();
	seg >= SEG_FS ? *at++ = 0x0f : 0;
	*at++ = (uint8_t[]){ 0x07, 0, 0, 0x1f, 0xa1, 0xa9 }[seg];
	PUT("\xeb\x04");                                  /* the selector is on the stack still if that faulted */
	next_end(next);
	is_64(kind) ? PUT("\x48\x83\xc4\x08") : PUT("\x83\xc4\x04\x90");
}

/* To the next instruction, or out and back. */
static void transfer(enum kind kind)
{
	unsigned what = any(6);

	if (what == 0) { /* int 80h, which returns with RF, or not */
		load_register(RAX, any(2) << 16);
		begins(), PUT("\xcd\x80");
	} else if (what == 1) {
		begins(), PUT("\xcd\x83");                 /* int 83h */
	} else if (what == 2) { /* a function of another page */
		load_register(RDX, CALLED + any(CALLED_COUNT) * 0x1000 + any(4) * 4);
		begins(), PUT("\xff\xd2");
	} else if (kind == USER32) {
		begins(), PUT("\x89\xe1");                 /* mov ecx, esp */
		load_register(RDX, here() + 7);
		begins(), PUT("\x0f\x34");
	} else if (kind == USER64) {
		begins(), PUT("\x0f\x05");
	} else if (kind == KERNEL32) {
		begins(), PUT("\x9c");                     /* pushf */
		if (any(2))
			PUT("\x81\x0c\x24"), put32(any(2) ? FLAG_RF : FLAG_IF); /* or dword [esp] */
		PUT("\x0e\x68"), put32(here() + 6);        /* push cs; push next */
		begins(), PUT("\xcf\x90");
	} else if (kind == KERNEL64) {
		PUT("\x48\x89\xe2");                       /* mov rdx, rsp */
		PUT("\x6a\x00\x52\x9c");                   /* push 0; push rdx; pushf */
		if (any(2))
			PUT("\x81\x0c\x24"), put32(any(2) ? FLAG_RF : FLAG_IF);
		PUT("\x6a\x38\x68"), put32(here() + 6);    /* push cs; push next */
		begins(), PUT("\x48\xcf");
	}
}

/* Arithmetic, so that there are flags, and memory. */
static void compute(void)
{
	begins(), PUT("\x01\xd8");                         /* add eax, ebx */
	begins(), PUT("\x11\x04\x25"), put32(VARIABLES + 0x100 + 4 * any(16)); /* adc [variable], eax */
	begins(), PUT("\xd1\xcb");                         /* ror ebx, 1 */
	uint8_t *next = next_begin();
	begins(), *at++ = any(2) ? 0x64 : 0x65;
	any(2) ? PUT("\x01\x1c\x25") : PUT("\x03\x1c\x25"); /* add fs:[n], ebx, or the other way; in page 0, the data, or beyond the limit */
	put32(any(3) ? any(0xff0) : at[-3] == 0x03 ? any(0x1900) : 0x800);
	next_end(next);
}

static void program(enum kind kind, unsigned rounds)
{
	start_count = 0;
	for (unsigned n = 0; n < CALLED_COUNT; n++)
		for (unsigned k = 0; k < 4; k++)
			memcpy(flat_ram + CALLED + n * 0x1000 + k * 4, "\xff\xc3\xc3", 4); /* inc ebx; ret */
	at = flat_ram + CODE;
	for (unsigned n = 0; n < PIECES; n++)
		switch (any(6)) {
		case 0: compute(); break;
		case 1: load_segment(kind); break;
		case 2: case 3: transfer(kind); break;
		default: string(kind);
		}
	begins(), PUT("\xff\x0c\x25"), put32(COUNT);       /* dec dword */
	PUT("\x0f\x85"), put32(CODE - (here() + 4));       /* jnz */
	cpl_of(kind) ? PUT("\xcd\x81") : PUT("\xf4");
	flat_put(COUNT, 4, rounds);
	flat_put(LOG_AT, 4, LOG);
}

static void machine(struct flat *f, enum kind kind, unsigned rounds)
{
	struct x86_cpu *cpu = &f->core.cpu;

	memset(flat_ram, 0, RINGS_MEMORY);
	flat_mode(f, kind_modes[kind], cpl_of(kind));
	for (unsigned n = 0; n < 0x10000 - DATA; n += 4)
		flat_put(DATA + n, 4, any(1u << 30));
	tables(kind);
	pages(f, kind);
	kernel(f, kind);
	program(kind, rounds);
	cpu->cr0 |= CR0_NE | CR0_MP;
	cpu->cr4 |= CR4_OSFXSR | (kind == KERNEL64 ? CR4_SMAP : 0);
	cpu->rflags |= FLAG_IF;
	cpu->gpr[RBX] = any(1u << 30);
	cpu->gpr[X86_GPR_RIP] = CODE;
	cpu->xsave.legacy.fcw = 0x37f;
	cpu->xsave.legacy.mxcsr = 0x1f80;
}

/* --- moments --- */

/* Something begins at the instruction at hand, in one machine as in the other. */
static void begin(struct vm *vm, unsigned what, unsigned number, uint32_t where)
{
	static const unsigned lengths[] = { 0, 3 }; /* 1 byte, 4 bytes */
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;
	uint32_t steps = number % 40;

	vcpu_state(vcpu, X86_ALL_GROUPS);
	switch (what) {
	case 0:
		guest_write(vm, STEPS, &steps, sizeof(steps));
		cpu->rflags |= FLAG_TF;
		break;
	case 1: /* a breakpoint */
		cpu->dr[number % 4] = where;
		cpu->dr[7] = DR7_FIXED | 2ULL << 2 * (number % 4);
		break;
	case 2: /* a watchpoint */
		cpu->dr[number % 4] = where & ~3u;
		cpu->dr[7] = DR7_FIXED | 2ULL << 2 * (number % 4) | (uint64_t)((number & 16 ? 1 : 3) | lengths[number >> 5 & 1] << 2) << (16 + 4 * (number % 4));
		break;
	case 3: cpu->dr[7] = DR7_FIXED; break;
	case 4: cpu->nmi_pending = !cpu->nmi_blocked; break;
	case 5: cpu->rflags |= FLAG_RF; break;
	case 6: cpu->interrupt_shadow = X86_SHADOW_STI; break;
	default: break;
	}
	vcpu_changed(vcpu, X86_ALL_GROUPS);
}

static bool in_pieces(struct vm *want, struct vm *got)
{
	for (unsigned moment = 0;; moment++) {
		unsigned n = any(4) ? 1 + any(60) : 1 + any(1500);
		rings_run(want, n);
		rings_run(got, n);
		if (!rings_same(want, got))
			return false;
		if (!rings_runs(want))
			return !rings_runs(got) && rings_same_memory(want, got);
		unsigned what = moment < MOMENTS_MAX ? any(10) : 3, number = any(1u << 16);
		uint32_t where = what == 2 ? any(2) ? address() : CALLS : starts[any(start_count)];
		begin(want, what, number, where);
		begin(got, what, number, where);
	}
}

static _Atomic bool over;

static void *kick(void *arg)
{
	while (!over) {
		usleep(KICK_US);
		vcpu_kick(arg);
	}
	return NULL;
}

static bool freely(struct vm *want, struct vm *got)
{
	static const struct run_limit no_limit = { .icount = UINT64_MAX };

	rings_run(want, MOST);
	if (rings_runs(want))
		return false;
	while (rings_runs(got) && vcpu_run_once(got->vcpu[0], &no_limit))
		;
	return rings_same(want, got) && rings_same_memory(want, got);
}

static void random_programs(bool pieces)
{
	struct vm *want = test_vm_engine("interp", CLOCK_HOST, RINGS_MEMORY, 1), *got = test_vm_engine("bt", CLOCK_HOST, RINGS_MEMORY, 1);
	struct flat *f = flat_new("max");
	pthread_t thread;

	over = pieces;
	vcpu_thread_begin(got->vcpu[0]);
	pthread_create(&thread, NULL, kick, got->vcpu[0]);
	for (enum kind kind = 0; kind < KINDS; kind++) {
		struct bt *bt = bt_of(got->vcpu[0]);
		uint64_t hot = bt->stat.hot, quick = bt->stat.quick, found = bt->stat.quick_dispatches;
		unsigned right = 0, ended = 0, seed;
		for (seed = 1; seed <= SEEDS; seed++) {
			random_state = seed * 0x9e3779b97f4a7c15ULL + kind;
			machine(f, kind, pieces ? ROUNDS : seed % 8 ? ROUNDS : ROUNDS_FREE);
			flat_give(want, f, RINGS_MEMORY);
			flat_give(got, f, RINGS_MEMORY);
			bool good = pieces ? in_pieces(want, got) : freely(want, got);
			if (!good && right + 1 == seed)
				printf("# %s: seed %u is the first that differs\n", kind_names[kind], seed);
			right += good;
			ended += !want->end && !*(uint32_t *)memory_host(want, COUNT, 4);
		}
		hot = bt->stat.hot - hot, quick = bt->stat.quick - quick, found = bt->stat.quick_dispatches - found;
		ok(right == SEEDS && ended == SEEDS && hot && quick && found, "%s, %s: %u of %u programs as under interp (%u to the end; %lu hot, %lu quick, %lu blocks found)",
		   kind_names[kind], pieces ? "stopped" : "kicked", right, SEEDS, ended, hot, quick, found);
	}
	over = true;
	pthread_join(thread, NULL);
	vm_destroy(want);
	vm_destroy(got);
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	random_programs(false);
	random_programs(true);
	return done();
}
