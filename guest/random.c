/* SPDX-License-Identifier: MIT */
/* Random loops (lib/loops.h) in 64-bit code. What comes of each, as a checksum of registers, memory, what it was interrupted by, and the exception that
 * ended it, is compared between engines (tests/boot/random.sh). Every other one runs in ring 3.
 *
 * A second processor, where there is one, disturbs them in ways that must not change what comes of them: it writes to code and data what stands there,
 * takes pages and rights away and gives them back (the first processor tries again), and moves pages to other frames, after it has told the first
 * processor so and was answered; what is left behind is then overwritten.
 *
 * The command line: the number of the first, how many, and how many processors there are. */
#include "lib/loops.h"
#include "lib/smp.h"

#define VECTOR_SHOOT 0x41
#define STEPS 30      /* single steps at a time */
#define HITS 5        /* of a breakpoint */

static uint64_t *shared;
static uint8_t *page[LOOP_FRAMES], *spare;
static struct loop loop;
static uint64_t hash;
static unsigned steps, hits;

static void mix(uint64_t v) { hash = (hash ^ v) * 0x9e3779b97f4a7c15ULL; hash ^= hash >> 29; }

/* --- the pages; [0] is the one before the six --- */

static uint8_t flags[7], frame[7]; /* as they are to be; which of page[] */
static uint64_t *entry[7];

static uint64_t linear(unsigned n) { return LOOP_VA + (n - 1ULL) * PAGE; }

static void place(unsigned n, unsigned k, unsigned rights)
{
	flags[n] = (uint8_t)rights;
	frame[n] = (uint8_t)k;
	map(linear(n), k < LOOP_FRAMES ? (uint64_t)page[k] : LOOP_IOAPIC, rights, 1);
	entry[n] = entry_of(linear(n), 1);
}

/* --- the other processor --- */

static volatile uint32_t hold = 1, held, shoot, quit;
static bool helped;           /* there is one */
static volatile bool others;  /* it owns the page tables at present */
static volatile uint64_t disturbed, moved;

/* What the first processor answers with. */
static void answer(void)
{
	if (!shoot)
		return;
	for (unsigned n = 0; n < 7; n++)
		invlpg(linear(n));
	shoot = 0;
}

static uint32_t other_pick(uint32_t n)
{
	static uint64_t s = 88172645463325252ULL;
	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return (uint32_t)(s >> 20) % n;
}

static void clear(unsigned n, uint64_t bits) { __atomic_fetch_and(entry[n], ~bits, __ATOMIC_SEQ_CST); }
static void set(unsigned n, uint64_t bits) { __atomic_fetch_or(entry[n], bits, __ATOMIC_SEQ_CST); }
static void wait_a_little(void) { smp_delay(other_pick(8) ? other_pick(2000) : other_pick(100000)); }

static void move_frame(unsigned k)
{
	uint8_t *old = page[k];

	for (unsigned n = 0; n < 7; n++)
		if (frame[n] == k)
			clear(n, PTE_P);
	shoot = 1;
	smp_send(0, ICR_ASSERT | VECTOR_SHOOT);
	while (shoot)
		asm volatile("pause");
	memcpy(spare, old, PAGE);
	memset(old, 0xdb, PAGE);
	page[k] = spare;
	spare = old;
	for (unsigned n = 0; n < 7; n++)
		if (frame[n] == k)
			__atomic_store_n(entry[n], (uint64_t)page[k] | flags[n], __ATOMIC_SEQ_CST);
	moved++;
}

static void disturb_once(void)
{
	unsigned n = other_pick(7), k = other_pick(LOOP_FRAMES);

	switch (other_pick(others ? 12 : 6)) {
	case 0: case 1: case 2:
		__atomic_fetch_add((uint32_t *)(loop.code + 4 * other_pick(PAGE / 4)), 0, __ATOMIC_SEQ_CST);
		break;
	case 3: case 4:
		__atomic_fetch_add((uint64_t *)(page[k] + 8 * other_pick(PAGE / 8)), 0, __ATOMIC_SEQ_CST);
		break;
	case 5: clear(n, PTE_A | PTE_D); break;
	case 6: case 7:
		clear(n, PTE_P);
		wait_a_little();
		set(n, flags[n] & PTE_P);
		break;
	case 8: case 9:
		clear(n, PTE_W);
		wait_a_little();
		set(n, flags[n] & PTE_W);
		break;
	default: move_frame(k);
	}
	disturbed++;
}

static void disturb(unsigned cpu)
{
	while (!quit) {
		if (hold) {
			held = 1;
			while (hold && !quit)
				asm volatile("pause");
			held = 0;
		}
		disturb_once();
		wait_a_little();
	}
}

static void start_others(void)
{
	hold = 0;
	while (helped && held)
		asm volatile("pause");
}

static void stop_others(void)
{
	hold = 1;
	while (helped && !held) {
		answer();
		asm volatile("pause");
	}
}

/* --- what happens to a loop --- */

/* Is there more than the processor found? */
static bool try_again(const struct frame *f)
{
	unsigned n = (unsigned)((caught.cr2 - linear(0)) / PAGE);

	if (!others || caught.cr2 < linear(0) || n >= 7 || !(flags[n] & PTE_P) || ((f->error & 3) == 3 && !(flags[n] & PTE_W)))
		return false;
	answer();
	return true;
}

static bool on_trap(struct frame *f)
{
	switch (f->vector) {
	case VECTOR_SHOOT:
		answer();
		apic_write(APIC_EOI, 0);
		return true;
	case PF:
		return try_again(f);
	case DB:
		mix(f->rip);
		mix(f->rflags);
		mix(caught.dr6);
		WRITE_DR(6, 0xffff0ff0);
		hits += (caught.dr6 & 15) != 0;
		if (hits >= HITS)
			WRITE_DR(7, 0x400);
		steps += caught.dr6 >> 14 & 1;
		if (steps % STEPS == 0)
			f->rflags &= ~FLAG_TF;
		return true;
	default:
		return false;
	}
}

static void set_up(uint64_t which)
{
	bool alone = which % 4 < 2;
	unsigned bad = loop_pick(4);

	loop.ring3 = which & 1;
	loop.forms = which % 8 >= 4;
	loop.remaps = alone;
	loop.smap = alone && !loop.ring3 && HAS_SMAP && !loop_pick(3);
	unsigned user_bit = loop.smap ? 0 : PTE_U;
	for (unsigned n = 0; n < 7; n++) {
		unsigned rights = PTE_P | PTE_W | PTE_U, k = loop_pick(LOOP_FRAMES);
		if (!bad && n > 1 && loop_pick(2)) {
			rights = loop_pick(2) ? PTE_P | PTE_U : 0;
			if (alone && rights && !loop_pick(3))
				k = LOOP_FRAMES;
		}
		if (loop.smap && loop_pick(12)) /* until it is mapped otherwise */
			rights &= ~(unsigned)PTE_U;
		place(n, n ? k : 6, rights);
	}
	for (unsigned n = 0; n < LOOP_FRAMES; n++) {
		loop.frame[n] = (uint32_t)(uint64_t)page[n];
		for (unsigned k = 0; k < PAGE / 8; k++)
			((uint64_t *)page[n])[k] = n * PAGE + k * which;
	}
	map(LOOP_SHARED, (uint64_t)shared, PTE_P | PTE_W | user_bit, 1);
	map(LOOP_APIC, APIC_BASE, PTE_P | PTE_W | user_bit, 1);
	apic_write(APIC_TPR, 0);
	*(volatile uint32_t *)LOOP_IOAPIC = 0;
	wrmsr(0xc0000100, loop_pick(0x1800)); /* FS, GS, and the one for SWAPGS */
	wrmsr(0xc0000101, loop_pick(0x1800));
	wrmsr(0xc0000102, loop_pick(0x1800));
	if (loop.smap)
		WRITE_CR(4, READ_CR(4) | CR4_SMAP);
	loop_generate(&loop);
	for (unsigned n = 0; n < 16; n++)
		shared[n] = loop_register(n), shared[16 + n] = 0;
	shared[R13] = LOOP_ROUNDS;
	steps = hits = 0;
	WRITE_DR(6, 0xffff0ff0);
	if (loop.ring3 && !loop_pick(8)) {
		WRITE_DR(0, LOOP_VA + 0x1000 * loop_pick(4) + 4 * loop_pick(1024));
		WRITE_DR(7, 0xd0401);
	}
	others = !alone;
}

static void run_one(uint64_t which)
{
	loop_seed(which);
	hash = which;
	set_up(which);
	caught.vector = NONE;
	start_others();
	int v = loop.ring3 ? user_flags((void (*)(void *))(LOOP_CODE - USER_BASE), 0, FLAG_IF) : attempt((void (*)(void *))loop.code, NULL);
	stop_others();
	WRITE_DR(7, 0x400);
	WRITE_CR(4, READ_CR(4) & ~(uint64_t)CR4_SMAP);
	mix((uint64_t)v);
	if (v != NONE) {
		uint64_t *f = (uint64_t *)&caught.frame;
		for (unsigned n = 0; n < sizeof(caught.frame) / 8; n++)
			mix(f[n]);
		if (v == PF)
			mix(caught.cr2);
	} else {
		for (unsigned n = 16; n < 33; n++)
			mix(shared[n]);
	}
	mix(apic_read(APIC_TPR));
	for (unsigned n = 0; n < LOOP_FRAMES; n++)
		for (unsigned k = 0; k < PAGE / 8; k++)
			mix(((uint64_t *)page[n])[k]);
	print("%lx %d left %lx rip %lx %lx\n", which, v, v == NONE ? 0 : caught.frame.r13, v == NONE ? 0 : caught.frame.rip, hash);
}

static void prepare(void)
{
	for (unsigned l = 4; l > 1; l--) { /* it is in a large page, and not for ring 3 */
		uint64_t *e = entry_of(LOOP_VA, l);
		if (e)
			*e = l < 4 && (*e & PTE_PS) ? 0 : *e | PTE_U;
	}
	WRITE_CR(3, READ_CR(3));
	loop.wide = true;
	loop.code = page_alloc();
	page_alloc();
	for (unsigned n = 0; n < 2; n++)
		map(LOOP_CODE + n * PAGE, (uint64_t)loop.code + n * PAGE, PTE_P | PTE_W | PTE_U, 1);
	shared = page_alloc();
	spare = page_alloc();
	for (unsigned n = 0; n < LOOP_FRAMES; n++)
		page[n] = page_alloc();
	for (unsigned n = 0; n < 7; n++)
		place(n, 0, 0);
	for (unsigned n = 0; n < 6; n++)
		loop.entry[n] = (uint32_t)(uint64_t)entry[n + 1];
	WRITE_CR(4, READ_CR(4) | CR4_OSFXSR | CR4_OSXMMEXCPT);
	if (HAS_7_EBX(5)) { /* AVX2 */
		WRITE_CR(4, READ_CR(4) | CR4_OSXSAVE);
		asm volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
		loop.avx = true;
	}
	asm volatile("fninit");
	if (HAS_FSGSBASE) {
		WRITE_CR(4, READ_CR(4) | CR4_FSGSBASE);
		loop.bases = true;
	}
	idt_set(PF, trap_stub(PF), KCS, IST_TEST, GATE_INTERRUPT); /* the loops look at what is below RSP */
	idt_set(DB, trap_stub(DB), KCS, IST_TEST, GATE_INTERRUPT);
	idt_set(VECTOR_SHOOT, trap_stub(VECTOR_SHOOT), KCS, IST_TEST, GATE_INTERRUPT);
	outb(0x21, 0xff); /* the 8259s' lines: interrupts are on */
	outb(0xa1, 0xff);
	apic_enable();
	trap_handler = on_trap;
}

int main(void)
{
	extern uint64_t boot_info;
	const char *line = *(const char **)(boot_info + 24);
	uint64_t first = take_number(&line), count = take_number(&line);

	prepare();
	helped = take_number(&line) == 2 && smp_start(2, disturb) == 2;
	for (uint64_t n = first; n < first + count; n++)
		run_one(n);
	quit = 1;
	print("# disturbed %d times, pages moved %d times\n", (int)disturbed, (int)moved);
	guest_end();
}
