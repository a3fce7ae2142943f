/* SPDX-License-Identifier: MIT */
/* Code that has run thousands of times, and then meets something else: pages that end, are not there, or may not be written, addresses with wrong
 * upper bits, page tables and code that change, branches and returns that go another way. A translator that makes more of hot code, and checks less in it, must stop at the very
 * access, with the very state, that a processor would. What that is, is computed from the page tables. */
#include "lib/guest.h"

#define VA 0x23456780000ULL /* pages 0, 1: writable; 2: read-only; 3: not there; 4: writable; 5: not there */
#define HOT 6000

/* What a probe gets in RDI. RDX counts the accesses that were made: LEA, so that flags stay. */
struct work {
	uint64_t from, to, count, stack;
};

#define STEP "\n\tlea 1(%rdx), %rdx\n\t"
static NAKED void fields(void *work)
{
	asm volatile("mov (%rdi), %rsi; xor %edx, %edx; cmp %rdi, %rdi\n\t" /* ZF, which nothing below changes */
		     "mov 16(%rsi), %rax" STEP "movzbl (%rsi), %ecx" STEP "mov 3(%rsi), %r8d" STEP "mov 24(%rsi), %r15" STEP "movups 32(%rsi), %xmm0" STEP
		     "mov %eax, 40(%rsi)" STEP "mov %r15, 8(%rsi)" STEP "movzwl 7(%rsi), %r10d" STEP "mov %r10b, 47(%rsi)" STEP "mov %ecx, (%rsi)" STEP "ret");
}
static const struct { uint8_t at, size; bool write; } made[] = {
	{ 16, 8, 0 }, { 0, 1, 0 }, { 3, 4, 0 }, { 24, 8, 0 }, { 32, 16, 0 }, { 40, 4, 1 }, { 8, 8, 1 }, { 7, 2, 0 }, { 47, 1, 1 }, { 0, 4, 1 },
};

static NAKED void copy(void *work)
{
	asm volatile("mov (%rdi), %rsi; mov 8(%rdi), %r9; mov 16(%rdi), %r8; xor %eax, %eax\n\t"
		     "1: mov (%rsi,%rax,8), %rcx; mov %rcx, (%r9,%rax,8); add $1, %rax; cmp %r8, %rax; jne 1b; ret");
}

static NAKED void table(void *work) /* bytes of `from` by bytes of itself */
{
	asm volatile("mov (%rdi), %rsi; mov 16(%rdi), %r8; xor %eax, %eax\n\t"
		     "1: movzbl %al, %ecx; mov (%rsi,%rcx,4), %ecx; add %ecx, %eax; dec %r8; jne 1b; ret");
}

static NAKED void pushes(void *work)
{
	asm volatile("mov %rsp, 24(%rdi); mov (%rdi), %rsp; push %r11; push %rdi; push 8(%rsp); push $7; call 1f; 1: push 16(%rsp)\n\t"
		     "pop %rax; pop %rcx; pop %rax; pop %rcx; pop %rdi; pop %r11; mov 24(%rdi), %rsp; ret");
}

static NAKED void patch(void *work) /* stores into what RSI tells, which may be the addition behind it */
{
	asm volatile(".globl hot_patched\n\tmov (%rdi), %rsi; mov 16(%rdi), %rcx; mov 8(%rdi), %edx; xor %eax, %eax\n\t"
		     "1: mov %dl, (%rsi); mov %dl, %r8b; add $1, %rax; hot_patched: dec %rcx; jne 1b; ret");
}
static NAKED void patch_ahead(void *work) /* the same, with the addition in another block */
{
	asm volatile(".globl hot_patched_ahead\n\tmov (%rdi), %rsi; mov 16(%rdi), %rcx; mov 8(%rdi), %edx; xor %eax, %eax\n\t"
		     "1: mov %dl, (%rsi); test %rsi, %rsi; je 2f; add $1, %rax; hot_patched_ahead: dec %rcx; jne 1b; 2: ret");
}
extern uint8_t hot_patched[], hot_patched_ahead[];

static NAKED void returns(void *work) /* its calls return `to` bytes farther: 4 is past the addition */
{
	asm volatile("mov 16(%rdi), %rcx; mov 8(%rdi), %rdx; xor %eax, %eax\n\t"
		     "1: call 2f; add $1, %rax; dec %rcx; jne 1b; ret; 2: mov (%rsp), %r8; add %rdx, %r8; mov %r8, (%rsp); ret");
}

static NAKED void ways(void *work) /* goes one way or the other by the bits of `from` */
{
	asm volatile("mov 16(%rdi), %rcx; mov (%rdi), %rdx; xor %eax, %eax\n\t"
		     "1: test $1, %dl; je 2f; add $1, %rax; jmp 3f; 2: push %rdx; add $1000, %rax; pop %rsi; 3: ror $1, %rdx; dec %rcx; jne 1b; ret");
}

/* Sums words by an index of which only a part is made small. */
#define PARTLY(name, part)                                                                                             \
	static NAKED void name(void *work)                                                                             \
	{                                                                                                              \
		asm volatile("mov (%rdi), %rsi; mov 8(%rdi), %rdx; mov 16(%rdi), %r8; xor %eax, %eax; 1: mov %edx, %ecx; movzbl %dl, %r9d\n\t" part \
			     "\n\tadd (%rsi,%rcx), %eax; add 4(%rsi,%rcx), %eax; add 8(%rsi,%rcx), %eax; dec %r8; jne 1b; ret");       \
	}
PARTLY(part_and, "and $15, %cl")
PARTLY(part_and16, "and $15, %cx")
PARTLY(part_shr, "shr $13, %cx")
PARTLY(part_mov, "mov %r9b, %cl")
PARTLY(part_mov16, "mov %r9w, %cx")
PARTLY(part_movzx, "movzbw %dl, %cx")
#undef PARTLY

/* The first three accesses and the last two are made with AC set, where a page of ring 3's may be read. */
static NAKED void suspended(void *work)
{
	asm volatile("mov (%rdi), %rsi; xor %edx, %edx; stac\n\t"
		     "mov (%rsi), %rax" STEP "mov 8(%rsi), %rax" STEP "mov 16(%rsi), %rax" STEP "clac\n\t"
		     "mov 24(%rsi), %rax" STEP "mov 32(%rsi), %rax" STEP "stac\n\t"
		     "mov 40(%rsi), %rax" STEP "mov 48(%rsi), %rax" STEP "clac; ret");
}

static NAKED void swapped(void *work) /* sums three words by each base of GS */
{
	asm volatile("mov (%rdi), %rsi; mov 16(%rdi), %rcx; xor %eax, %eax\n\t"
		     "1: add %gs:(%rsi), %rax; add %gs:8(%rsi), %rax; add %gs:16(%rsi), %rax; swapgs\n\t"
		     "add %gs:(%rsi), %rax; add %gs:8(%rsi), %rax; add %gs:16(%rsi), %rax; swapgs; dec %rcx; jne 1b; ret");
}

static struct work work; /* below 4 GiB, so that ring 3 sees it at USER() */
static unsigned failures;

static void wrong(const char *what, uint64_t at, uint64_t got, uint64_t want)
{
	if (failures++ < 10)
		print("not ok %s at %lx - got %lx, want %lx\n", what, at, got, want);
}

static void report(const char *name)
{
	check_count(!failures);
	print(failures ? "not ok %s - %d failed\n" : "ok %s\n", name, (int)failures);
	failures = 0;
}

/* The first byte of the access that faults; 16: none does. */
static unsigned first_bad(uint64_t at, unsigned size, bool write, int *vector, unsigned *error)
{
	uint8_t *byte;

	for (unsigned n = 0; n < size; n++)
		if (!canonical(at + n)) {
			*vector = GP;
			*error = 0;
			return 0;
		}
	for (unsigned n = 0; n < size; n++)
		if (!byte_at(at + n, write, false, error, &byte)) {
			*vector = PF;
			return n;
		}
	*vector = NONE;
	return 16;
}

static void warm(void (*run)(void *))
{
	work = (struct work){ .from = VA + 0x200, .to = VA + 0x600, .count = 100 };
	for (unsigned n = 0; n < HOT; n++)
		attempt(run, &work);
}

static void check_end(const char *what, uint64_t at, int got, int want, unsigned error, uint64_t cr2)
{
	if (got != want)
		wrong(what, at, (uint64_t)got, (uint64_t)want);
	else if (want == PF && (caught.cr2 != cr2 || caught.frame.error != error))
		wrong("CR2 and error code", at, caught.cr2 + caught.frame.error, cr2 + error);
}

static void fields_at(uint64_t at)
{
	uint64_t cr2 = 0;
	unsigned error = 0, n, done;
	int want = NONE, got;

	for (done = 0; done < ARRAY_SIZE(made) && want == NONE; done++) {
		n = first_bad(at + made[done].at, made[done].size, made[done].write, &want, &error);
		cr2 = at + made[done].at + n;
	}
	done -= want != NONE;
	work.from = at;
	got = attempt(fields, &work);
	check_end("fields", at, got, want, error, cr2);
	if (want != NONE && got == want && (caught.frame.rdx != done || caught.frame.rsi != at || !(caught.frame.rflags & BIT(6))))
		wrong("accesses before the fault", at, caught.frame.rdx, done);
}

static void test_fields(void)
{
	warm(fields);
	for (unsigned page = 1; page <= 5; page++)
		for (unsigned back = 0; back <= 64; back++)
			fields_at(VA + page * PAGE - back);
	report("fields at the ends of pages");
	for (unsigned bit = 0; bit < 64; bit++) {
		fields_at(VA + 0x200);
		fields_at((VA + 0x200) ^ BIT(bit));
		fields_at((VA + 0xff0) ^ BIT(bit));
	}
	fields_at(0xffff800000000000ULL - 8);
	fields_at(0x800000000000ULL - 20);
	fields_at(0ULL - 20);
	report("fields at addresses with a wrong bit");
}

static void copy_at(uint64_t from, uint64_t to, unsigned count)
{
	uint64_t cr2 = 0, done;
	unsigned error = 0;
	int want = NONE, got;
	uint8_t *source, *target;

	for (done = 0; done < count && want == NONE; done++) {
		cr2 = from + 8 * done + first_bad(from + 8 * done, 8, false, &want, &error);
		if (want == NONE)
			cr2 = to + 8 * done + first_bad(to + 8 * done, 8, true, &want, &error);
	}
	done -= want != NONE;
	for (unsigned n = 0; n < 8 * done; n++)
		if (byte_at(to + n, true, false, &error, &target))
			*target = 0x5a;
	for (unsigned n = 0; n < 8 * done; n++) {
		if (byte_at(from + n, false, false, &error, &source))
			*source = (uint8_t)(n * 13 + from);
	}
	work.from = from;
	work.to = to;
	work.count = count;
	unsigned code = error;
	if (want == PF) /* byte_at has overwritten it */
		(void)byte_at(cr2, cr2 - from >= 8 * count, false, &code, &source);
	got = attempt(copy, &work);
	check_end("copy", from, got, want, code, cr2);
	if (want != NONE && got == want && caught.frame.rax != done)
		wrong("rounds before the fault", from, caught.frame.rax, done);
	for (unsigned n = 0; n < 8 * done; n++)
		if (byte_at(to + n, false, false, &error, &target) && *target != (uint8_t)(n * 13 + from))
			wrong("byte copied", to + n, *target, (uint8_t)(n * 13 + from));
}

static void test_copy(void)
{
	warm(copy);
	for (unsigned back = 0; back < 80; back += 3) {
		copy_at(VA + PAGE - back, VA + 0x100, 20);
		copy_at(VA + 0x100, VA + PAGE - back, 20);
		copy_at(VA + 2 * PAGE - back, VA + 0x108, 20);
		copy_at(VA + 0x100, VA + 2 * PAGE - back, 20);
		copy_at(VA + 3 * PAGE - back, VA + 0x808, 20);
		copy_at(VA + 0x100, VA + 5 * PAGE - back, 20);
		copy_at(VA + 5 * PAGE - back, VA + PAGE - 24, 20);
	}
	report("a loop over the ends of pages");
}

static uint64_t run(void (*code)(void *), uint64_t from, uint64_t to, uint64_t count)
{
	uint64_t sum;

	work = (struct work){ .from = from, .to = to, .count = count };
	asm volatile("call *%1" : "=a"(sum) : "r"(code), "D"(&work) : "rcx", "rdx", "rsi", "r8", "r9", "cc", "memory");
	return sum;
}

static void test_table(void)
{
	uint32_t *words = (uint32_t *)page_alloc();
	unsigned seen = 0;

	for (unsigned n = 0; n < 256; n++)
		words[n] = n * 77 + 5;
	for (unsigned shift = 0; shift < 2; shift++) { /* at the second time the table's end is in another page */
		uint64_t at = shift ? VA + PAGE - 512 : (uint64_t)words;
		uint32_t want = 0;
		if (shift)
			for (unsigned n = 0; n < 1024; n++) {
				uint8_t *byte;
				unsigned error;
				if (byte_at(at + n, true, false, &error, &byte))
					*byte = ((uint8_t *)words)[n];
			}
		for (unsigned n = 0; n < 20000; n++)
			want += words[want & 255];
		seen += run(table, at, 0, 20000) == want;
	}
	check_equal(seen, 2, "a table that is found by bytes, in one page and in two");
}

static uint32_t word_at(uint64_t at)
{
	uint32_t word = 0;
	uint8_t *byte;
	unsigned error;

	for (unsigned n = 0; n < 4; n++)
		if (byte_at(at + n, false, false, &error, &byte))
			word |= (uint32_t)*byte << 8 * n;
	return word;
}

static void test_parts(void)
{
	static void (*const probe[])(void *) = { part_and, part_and16, part_shr, part_mov, part_mov16, part_movzx };
	static const uint32_t kept[] = { 0xffffff0f, 0xffff000f, 0xffff0007, 0xffffffff, 0xffff00ff, 0xffff00ff };
	uint64_t seen = 0, at = VA + 0x200;

	for (unsigned n = 0; n < 2 * PAGE; n += 4) {
		uint8_t *byte;
		unsigned error;
		if (byte_at(VA + n, true, false, &error, &byte))
			*(uint32_t *)byte = n * 0x9e3779b9u;
	}
	for (unsigned n = 0; n < ARRAY_SIZE(probe); n++)
		for (unsigned k = 0; k < 2; k++) { /* then it is on the next page, or the page after that has 64 KiB before it */
			uint32_t index = k ? 0xf05 : 5, by = probe[n] == part_shr ? index & 0xffff0000 : index & kept[n];
			uint32_t want = (word_at(at + by) + word_at(at + by + 4) + word_at(at + by + 8)) * HOT;
			seen += run(probe[n], at, index, HOT) == want;
		}
	check_equal(seen, 2 * ARRAY_SIZE(probe), "an index of which a part is small");
}

static void test_pushes(void)
{
	work.from = USER(0) + (uint64_t)user_stack + 0x800;
	for (unsigned n = 0; n < HOT; n++)
		user(pushes, USER(&work));
	for (unsigned page = 1; page <= 6; page++)
		for (unsigned back = 0; back <= 64; back += 8) {
			uint64_t top = VA + page * PAGE - back + 24, rsp = top, cr2 = 0;
			unsigned error = 0;
			int want = NONE;
			for (unsigned n = 0; n < 6 && want == NONE; n++) { /* the sixth reads a word that was pushed */
				uint8_t *byte;
				if (!byte_at(rsp - 8, true, true, &error, &byte))
					want = PF, cr2 = rsp - 8;
				else
					rsp -= 8;
			}
			work.from = top;
			int got = user(pushes, USER(&work));
			check_end("pushes", top, got, want, error, cr2);
			if (want == PF && got == PF && caught.frame.rsp != rsp)
				wrong("RSP at the fault", top, caught.frame.rsp, rsp);
		}
	report("pushes at the ends of pages, in ring 3");
}

static void patched(void (*code)(void *), uint64_t operand)
{
	check_equal(run(code, VA + 0x300, 5, HOT), HOT, "a loop that stores");
	check_equal(run(code, operand, 5, 100), 500, "the same, into its own code");
	check_equal(run(code, VA + 0x300, 6, HOT), 5 * HOT, "and elsewhere again");
	check_equal(run(code, operand, 1, HOT), HOT, "and into its code");
}

static void test_flow(void)
{
	uint64_t bits = 0x123456789abcdef0ULL, want = 0;

	check_equal(run(returns, 0, 0, HOT), HOT, "calls that return");
	check_equal(run(returns, 0, 4, HOT), 0, "calls that return elsewhere");
	check_equal(run(returns, 0, 0, HOT), HOT, "calls that return again");
	check_equal(run(ways, ~0ULL, 0, HOT), HOT, "a branch that always goes one way");
	for (unsigned n = 0; n < HOT; n++)
		want += bits >> n % 64 & 1 ? 1 : 1000;
	check_equal(run(ways, bits, 0, HOT), want, "and then both");
}

static void test_remap(void)
{
	uint64_t *page = page_alloc(), *other = page_alloc(), first, last;

	for (unsigned n = 0; n < 8; n++)
		page[n] = 1, other[n] = 100;
	map(VA + 16 * PAGE, (uint64_t)page, PTE_P | PTE_W, 1);
	uint64_t *entry = entry_of(VA + 16 * PAGE, 1), sum = 0;
	for (unsigned n = 0; n < HOT; n++) {
		*entry = (uint64_t)(n & 1 ? other : page) | PTE_P | PTE_W;
		invlpg(VA + 16 * PAGE);
		uint64_t next = (uint64_t)(n & 1 ? page : other) | PTE_P | PTE_W;
		asm volatile("mov (%3), %0; add 8(%3), %0; add 16(%3), %0; add 24(%3), %0; mov %4, (%2); invlpg (%3)\n\t"
			     "mov (%3), %1; add 8(%3), %1; add 16(%3), %1; add 24(%3), %1"
			     : "=&r"(first), "=&r"(last) : "r"(entry), "r"(VA + 16 * PAGE), "r"(next) : "memory", "cc");
		sum += first == (n & 1 ? 400 : 4) && last == (n & 1 ? 4 : 400);
	}
	check_equal(sum, HOT, "an INVLPG between reads of one page");
}

/* Rights, and what an address means, change between accesses to the very same registers. */
static void test_epochs(void)
{
	uint64_t *page = page_alloc();

	for (unsigned n = 0; n < 8; n++)
		page[n] = n < 3 ? 1 : 100;
	wrmsr(0xc0000101, 0);
	wrmsr(0xc0000102, 24);
	check_equal(run(swapped, (uint64_t)page, 0, HOT), HOT * 303, "SWAPGS between accesses");
	wrmsr(0xc0000102, 0);
	if (!HAS_SMAP) {
		skip("CLAC between accesses", "this processor has none");
		return;
	}
	map(VA + 16 * PAGE, (uint64_t)page, PTE_P | PTE_W, 1);
	WRITE_CR(4, READ_CR(4) | CR4_SMAP);
	work.from = VA + 16 * PAGE;
	for (unsigned n = 0; n < HOT; n++)
		attempt(suspended, &work);
	map(VA + 16 * PAGE, (uint64_t)page, PTE_P | PTE_W | PTE_U, 1);
	unsigned right = 0;
	for (unsigned n = 0; n < 3; n++) /* the first time the entry of the table is not there */
		right += attempt(suspended, &work) == PF && caught.frame.error == 1 && caught.cr2 == VA + 16 * PAGE + 24 && caught.frame.rdx == 3;
	WRITE_CR(4, READ_CR(4) & ~(uint64_t)CR4_SMAP);
	check_equal(right, 3, "CLAC between accesses: the first one behind it faults");
}

int main(void)
{
	map(VA, (uint64_t)page_alloc(), PTE_P | PTE_W | PTE_U, 1);
	page_alloc(); /* what is beside it here is not beside it in memory */
	map(VA + 2 * PAGE, (uint64_t)page_alloc(), PTE_P | PTE_U, 1);
	map(VA + PAGE, (uint64_t)page_alloc(), PTE_P | PTE_W | PTE_U, 1);
	map(VA + 4 * PAGE, (uint64_t)page_alloc(), PTE_P | PTE_W | PTE_U, 1);
	WRITE_CR(0, READ_CR(0) | BIT(16)); /* WP */
	test_fields();
	test_copy();
	test_table();
	test_parts();
	test_pushes();
	patched(patch, (uint64_t)hot_patched - 1);
	patched(patch_ahead, (uint64_t)hot_patched_ahead - 1);
	test_flow();
	test_remap();
	test_epochs();
	guest_end();
}
