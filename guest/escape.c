/* SPDX-License-Identifier: MIT */
/* Attempts to get out: accesses whose address is wrong in its upper bits, wraps around, or crosses the end of something, by each kind of
 * instruction, from ring 0 and ring 3, each right behind a good access of the page that the wrong address could be taken for. What must come
 * of it is computed from the page tables (SDM volume 1, 3.3.7.1; volume 3A, 4.7). A translator that finds host memory by parts of an
 * address would read or write its own here. */
#include "lib/guest.h"

#define LOW 0x123456789000ULL         /* two pages for all, a third that is not there behind them */
#define HIGH 0xffff923456789000ULL
#define LAST_LOW 0x7ffffffff000ULL    /* the last page of the lower half, the first of the upper, the very last */
#define FIRST_HIGH 0xffff800000000000ULL
#define TOP 0xfffffffffffff000ULL
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101

struct access {                       /* what a probe gets in RDI */
	uint64_t address, value;
	uint64_t rsp;                 /* its own, while RSP is the address */
};

/* A probe: RSI is the address. Nothing but the access may fault. */
#define PROBE(name, code)                                                                                              \
	static NAKED void name(void *access)                                                                           \
	{                                                                                                              \
		asm volatile("mov (%rdi), %rsi; mov 8(%rdi), %rax; mov %rsp, 16(%rdi); mov $0x1111, %edx; mov $1, %ecx\n\t" code       \
			     "\n\tcld; mov 16(%rdi), %rsp; ret");                                                      \
	}
#define RESULT "; mov %rax, 8(%rdi)"
PROBE(load1, "movzbl (%rsi), %eax" RESULT)
PROBE(load2, "movzwl (%rsi), %eax" RESULT)
PROBE(load4, "mov (%rsi), %eax" RESULT)
PROBE(load8, "mov (%rsi), %rax" RESULT)
PROBE(load8_disp, "sub $0x7ffffff0, %rsi; mov 0x7ffffff0(%rsi), %rax" RESULT)
PROBE(load8_disp_low, "sub $-0x80000000, %rsi; mov -0x80000000(%rsi), %rax" RESULT)
PROBE(load8_index, "mov $0x1234567890abcdef, %rax; lea (,%rax,8), %rdx; sub %rdx, %rsi; mov (%rsi,%rax,8), %rax" RESULT)
PROBE(load8_r11, "mov %rsi, %r11; mov (%r11), %r15; mov %r15, %rax" RESULT)
PROBE(load16, "movups (%rsi), %xmm0; movq %xmm0, %rax" RESULT)
PROBE(load_x87, "fninit; fildll (%rsi); fistpll 8(%rdi)")
PROBE(compare, "cmp %rax, (%rsi); mov (%rsi), %rax" RESULT)
PROBE(load_lods, "lodsq" RESULT)
PROBE(load_lods_back, "std; lodsq" RESULT)
PROBE(load_pop, "mov %rsi, %rsp; pop %rax" RESULT)
PROBE(load_leave, "mov %rbp, %rdx; mov %rsi, %rbp; leave; xchg %rbp, %rdx; mov %rdx, %rax" RESULT)
PROBE(load_fs, "mov %fs:0, %rax" RESULT)
PROBE(load_gs, "mov $0x4000, %edx; mov %gs:-0x4000(%rdx), %rax" RESULT)
PROBE(store1, "mov %al, (%rsi)")
PROBE(store4, "mov %eax, (%rsi)")
PROBE(store8, "mov %rax, (%rsi)")
PROBE(store8_constant, "movq $0x77, (%rsi); mov %rax, (%rsi)")
PROBE(store16, "movq %rax, %xmm0; movups %xmm0, (%rsi)")
PROBE(store_stos, "xchg %rsi, %rdi; rep stosq; mov %rsi, %rdi")
PROBE(store_push, "lea 8(%rsi), %rsp; push %rax")
PROBE(store_call, "lea 8(%rsi), %rsp; call 1f; 1: mov %rax, (%rsi)")
PROBE(store_enter, "mov %rbp, %rdx; mov %rax, %rbp; lea 8(%rsi), %rsp; enter $0, $0; mov %rdx, %rbp")
PROBE(add8, "subq $0, (%rsi); mov %rax, (%rsi)")
PROBE(exchange, "xchg %rax, (%rsi); xchg %rax, (%rsi); mov %rax, (%rsi)")

enum { PLAIN = 0, WRITES = 1, STACK = 2, SEGMENT = 4, RING3 = 8 };
static const struct probe {
	void (*run)(void *);
	unsigned size, flags;
	const char *name;
} probes[] = {
	{ load1, 1, PLAIN, "MOV of 1 byte" }, { load2, 2, PLAIN, "MOV of 2 bytes" }, { load4, 4, PLAIN, "MOV of 4 bytes" }, { load8, 8, PLAIN, "MOV of 8 bytes" },
	{ load8_disp, 8, PLAIN, "MOV with a displacement" }, { load8_disp_low, 8, PLAIN, "MOV with a negative displacement" },
	{ load8_index, 8, PLAIN, "MOV with an index that overflows" }, { load8_r11, 8, PLAIN, "MOV by R11 to R15" },
	{ load16, 16, PLAIN, "MOVUPS" }, { load_x87, 8, PLAIN, "FILD" }, { compare, 8, PLAIN, "CMP" },
	{ load_lods, 8, PLAIN, "LODS" }, { load_lods_back, 8, PLAIN, "LODS backwards" }, { load_pop, 8, STACK | RING3, "POP" },
	{ load_leave, 8, STACK | RING3, "LEAVE" }, { load_fs, 8, SEGMENT, "MOV by FS" }, { load_gs, 8, SEGMENT, "MOV by GS" },
	{ store1, 1, WRITES, "MOV of 1 byte to memory" }, { store4, 4, WRITES, "MOV of 4 bytes to memory" },
	{ store8, 8, WRITES, "MOV of 8 bytes to memory" }, { store8_constant, 8, WRITES, "MOV of a constant to memory" },
	{ store16, 16, WRITES, "MOVUPS to memory" }, { store_stos, 8, WRITES, "REP STOS" }, { store_push, 8, WRITES | STACK | RING3, "PUSH" },
	{ store_call, 8, WRITES | STACK | RING3, "CALL" }, { store_enter, 8, WRITES | STACK | RING3, "ENTER" },
	{ add8, 8, WRITES, "SUB to memory" }, { exchange, 8, WRITES, "XCHG" },
};

static struct access shared_access; /* below 4 GiB, so that ring 3 sees it at USER() */
static unsigned done, failures;

static void fail(const struct probe *p, bool ring3, uint64_t address, const char *what, uint64_t got, uint64_t want)
{
	if (failures++ < 10)
		print("not ok %s in ring %d at %lx - %s: got %lx, want %lx\n", p->name, ring3 ? 3 : 0, address, what, got, want);
}

static void attack(const struct probe *p, uint64_t address, bool ring3)
{
	struct access *a = &shared_access;
	uint8_t *bytes[16], before[16];
	uint64_t value = 0x8877665544332200ULL + ++done % 251, want_cr2 = 0;
	bool write = p->flags & WRITES;
	int want = NONE, got;
	unsigned error = 0;

	for (unsigned n = 0; n < p->size; n++)
		if (!canonical(address + n))
			want = p->flags & STACK ? SS : GP;
	for (unsigned n = 0; n < p->size && (want == NONE); n++) {
		if (!byte_at(address + n, write, ring3, &error, &bytes[n]))
			want = PF, want_cr2 = address + n;
	}
	for (unsigned n = 0; n < p->size && want == NONE; n++)
		before[n] = *bytes[n];
	a->address = address;
	a->value = value;
	if (p->flags & SEGMENT) {
		if (!canonical(address))
			return; /* no such base */
		wrmsr(p->run == load_fs ? MSR_FS_BASE : MSR_GS_BASE, address);
	}
	got = ring3 ? user(p->run, USER(a)) : attempt(p->run, a);
	if (got != want) {
		fail(p, ring3, address, "vector", (uint64_t)got, (uint64_t)want);
		return;
	}
	if (want == PF && (caught.cr2 != want_cr2 || caught.frame.error != error)) {
		fail(p, ring3, address, "CR2 and error code", caught.cr2 + caught.frame.error, want_cr2 + error);
		return;
	}
	if (want != NONE)
		return;
	if (write)
		for (unsigned n = 0; n < p->size; n++) {
			uint8_t right = n < 8 ? (uint8_t)(value >> 8 * n) : 0;
			if (*bytes[n] != right)
				fail(p, ring3, address + n, "byte written", *bytes[n], right);
			*bytes[n] = before[n];
		}
	else
		for (unsigned n = 0; n < p->size && n < 8; n++)
			if ((uint8_t)(a->value >> 8 * n) != before[n])
				fail(p, ring3, address + n, "byte read", (uint8_t)(a->value >> 8 * n), before[n]);
}

/* The good access first, so that whatever remembers translations has this one. */
static void attack_beside(uint64_t good, uint64_t address)
{
	for (unsigned n = 0; n < ARRAY_SIZE(probes); n++)
		for (unsigned ring3 = 0; ring3 < 2; ring3++) {
			if (!ring3 && (probes[n].flags & RING3))
				continue;
			attack(&probes[n], good, ring3);
			attack(&probes[n], address, ring3);
		}
}

static void report(const char *name)
{
	check_count(!failures);
	print(failures ? "not ok %s - %d failed\n" : "ok %s\n", name, (int)failures);
	failures = 0;
}

static void *page_with(unsigned seed)
{
	uint8_t *page = page_alloc();

	for (unsigned n = 0; n < PAGE; n++)
		page[n] = (uint8_t)(n * 7 + seed);
	return page;
}

static void test_aliases(void)
{
	static const unsigned offsets[] = { 0x100, 0x7f8, 0xff8, 0xffc, 0xfff };
	const uint64_t pages[] = { LOW, HIGH };

	for (unsigned p = 0; p < 2; p++)
		for (unsigned o = 0; o < ARRAY_SIZE(offsets); o++)
			for (unsigned k = 1; k <= 16; k++) { /* one bit of 63 to 48, and all of them */
				uint64_t good = pages[p] + offsets[o], wrong = good ^ (k < 16 ? BIT(47 + k) : 0xffff000000000000ULL);
				attack_beside(good, wrong);
			}
	report("addresses that differ from a good one in bits 63 to 48");
	for (unsigned p = 0; p < 2; p++)
		for (unsigned bit = 12; bit < 48; bit++) {
			attack_beside(pages[p] + 0x100, pages[p] + 0x100 + BIT(bit));
			attack_beside(pages[p] + 0x108, (pages[p] + 0x108) ^ BIT(bit));
		}
	attack_beside(LOW + 0x100, LOW + 0x100 + BIT(47));
	attack_beside(LOW + 0x100, (LOW + 0x100) | 0xffff800000000000ULL);
	attack_beside(HIGH + 0x100, HIGH + 0x100 - BIT(47));
	attack_beside(HIGH + 0x100, HIGH & (BIT(47) - 1));
	report("addresses that differ from a good one in one of bits 47 to 12");
}

static void test_boundaries(void)
{
	static const uint64_t edges[] = { LAST_LOW + PAGE, FIRST_HIGH, TOP + PAGE, BIT(63), BIT(62), BIT(48), LOW + PAGE, LOW + 2 * PAGE, HIGH + 2 * PAGE, LAST_LOW, TOP };
	const uint64_t good[] = { LAST_LOW + 0x10, FIRST_HIGH + 0x10, TOP + 0x10 };

	for (unsigned e = 0; e < ARRAY_SIZE(edges); e++)
		for (unsigned back = 0; back <= 17; back++)
			attack_beside(good[e % 3], edges[e] - back);
	report("each byte before each edge of the address space and of what is mapped");
}

int main(void)
{
	map(LOW, (uint64_t)page_with(1), PTE_P | PTE_W | PTE_U, 1);
	map(LOW + PAGE, (uint64_t)page_with(2), PTE_P | PTE_W | PTE_U, 1);
	map(HIGH, (uint64_t)page_with(3), PTE_P | PTE_W | PTE_U, 1);
	map(HIGH + PAGE, (uint64_t)page_with(4), PTE_P | PTE_W, 1); /* for the supervisor */
	map(LAST_LOW, (uint64_t)page_with(5), PTE_P | PTE_W | PTE_U, 1);
	map(FIRST_HIGH, (uint64_t)page_with(6), PTE_P | PTE_W | PTE_U, 1);
	map(TOP, (uint64_t)page_with(7), PTE_P | PTE_W | PTE_U, 1);
	test_aliases();
	test_boundaries();
	guest_end();
}
