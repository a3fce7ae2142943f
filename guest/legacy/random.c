/* SPDX-License-Identifier: MIT */
/* Random loops (lib/loops.h) in 32-bit code: by turns in ring 0 and 3, with page tables of two levels and with PAE. GS may have a limit. As guest/random.c
 * does, it prints what came of each. The command line: the number of the first, how many. */
#include "legacy/lib/legacy.h"
#include "lib/loops.h"

#define PTE_P 1u
#define PTE_W 2u
#define PTE_U 4u
#define ALL (PTE_P | PTE_W | PTE_U)
#define APIC_BASE 0xfee00000u
#define APIC_TPR 0x80u
#define STEPS 30
#define HITS 5
#define DATA_RING3 0xf2

static uint64_t *shared;
static uint8_t *page[LOOP_FRAMES];
static struct loop loop;
static uint64_t hash;
static unsigned steps, hits;

static void mix(uint64_t v) { hash = (hash ^ v) * 0x9e3779b97f4a7c15ULL; hash ^= hash >> 29; }

/* --- two sets of tables, with the same pages in them --- */

static struct tables {
	bool pae;
	uint32_t *root;
	uint32_t entry[7]; /* of the page before the six, and of them */
} tables[2] = { { .pae = false }, { .pae = true } };

static void set(const struct tables *t, uint32_t table, unsigned n, uint32_t value)
{
	uint32_t *at = (uint32_t *)table + (t->pae ? 2 * n : n);
	at[0] = value;
	if (t->pae)
		at[1] = 0;
}

/* Where the entry of an address is; the table for it comes to be. */
static uint32_t entry_of(const struct tables *t, uint32_t linear)
{
	uint32_t directory = t->pae ? t->root[2 * (linear >> 30)] & ~0xfffu : (uint32_t)t->root;
	unsigned n = t->pae ? linear >> 21 & 511 : linear >> 22;
	uint32_t *at = (uint32_t *)directory + (t->pae ? 2 * n : n);

	if (!(*at & PTE_P))
		*at = (uint32_t)page_alloc() | ALL;
	return (*at & ~0xfffu) + (t->pae ? (linear >> 12 & 511) * 8 : (linear >> 12 & 1023) * 4);
}

static void map(const struct tables *t, uint32_t linear, uint32_t physical, uint32_t flags)
{
	set(t, entry_of(t, linear), 0, physical | flags);
}

static void make(struct tables *t)
{
	t->root = page_alloc();
	if (t->pae)
		for (unsigned n = 0; n < 4; n++)
			t->root[2 * n] = (uint32_t)page_alloc() | PTE_P;
	for (uint32_t at = 0; at < 4 * MIB; at += PAGE) /* ring 3 returns by code of ours */
		map(t, at, at, ALL);
	for (uint32_t at = 32 * MIB; at < 40 * MIB; at += PAGE)
		map(t, at, at, PTE_P | PTE_W);
	for (unsigned n = 0; n < 2; n++)
		map(t, LOOP_CODE + n * PAGE, (uint32_t)loop.code + n * PAGE, ALL);
	map(t, LOOP_SHARED, (uint32_t)shared, ALL);
	map(t, LOOP_APIC, APIC_BASE, ALL);
	map(t, LOOP_IOAPIC, LOOP_IOAPIC, ALL);
	for (unsigned n = 0; n < 7; n++)
		t->entry[n] = entry_of(t, LOOP_VA + (n - 1) * PAGE);
}

static void paging_on(const struct tables *t)
{
	WRITE_CR(4, (READ_CR(4) & ~CR4_PAE) | (t->pae ? CR4_PAE : 0));
	WRITE_CR(3, t->root);
	WRITE_CR(0, READ_CR(0) | CR0_PG | CR0_WP);
}

static void paging_off(void)
{
	WRITE_CR(0, READ_CR(0) & ~(CR0_PG | CR0_WP));
}

/* --- a loop --- */

static bool on_trap(struct frame *f)
{
	if (f->vector != DB)
		return false;
	mix(f->eip);
	mix(f->eflags);
	mix(caught.dr6);
	WRITE_DR(6, 0xffff0ff0);
	hits += (caught.dr6 & 15) != 0;
	if (hits >= HITS)
		WRITE_DR(7, 0x400);
	steps += caught.dr6 >> 14 & 1;
	if (steps % STEPS == 0)
		f->eflags &= ~FLAG_TF;
	return true;
}

static void set_up(const struct tables *t, uint32_t which)
{
	unsigned bad = loop_pick(4);

	loop.ring3 = which & 1;
	loop.forms = which % 8 >= 4;
	for (unsigned n = 0; n < 6; n++)
		loop.entry[n] = t->entry[n + 1];
	for (unsigned n = 0; n < 7; n++) {
		unsigned rights = ALL, k = loop_pick(LOOP_FRAMES);
		if (!bad && n > 1 && loop_pick(2)) {
			rights = loop_pick(2) ? PTE_P | PTE_U : 0;
			if (rights && !loop_pick(3))
				k = LOOP_FRAMES;
		}
		map(t, LOOP_VA + (n - 1) * PAGE, k < LOOP_FRAMES ? (uint32_t)page[k] : LOOP_IOAPIC, rights);
	}
	for (unsigned n = 0; n < LOOP_FRAMES; n++) {
		loop.frame[n] = (uint32_t)page[n];
		for (unsigned k = 0; k < PAGE / 4; k++)
			((uint32_t *)page[n])[k] = n * PAGE + k * which;
	}
	gdt[loop.fs / 8] = descriptor(loop_pick(0x1800), 0xfffff, DATA_RING3, 12);
	gdt[loop.gs / 8] = descriptor(loop_pick(0x1800), loop_pick(3) ? 0xfffff : (LOOP_VA >> 12) + loop_pick(5), DATA_RING3, 12);
	*(volatile uint32_t *)(APIC_BASE + APIC_TPR) = 0;
	*(volatile uint32_t *)LOOP_IOAPIC = 0;
	loop_generate(&loop);
	for (unsigned n = 0; n < 8; n++)
		shared[n] = loop_register(n), shared[16 + n] = 0;
	*(uint32_t *)((uint8_t *)shared + LOOP_COUNT - LOOP_SHARED) = LOOP_ROUNDS;
	steps = hits = 0;
	WRITE_DR(6, 0xffff0ff0);
	if (loop.ring3 && !loop_pick(8)) {
		WRITE_DR(0, LOOP_VA + 0x1000 * loop_pick(4) + 4 * loop_pick(1024));
		WRITE_DR(7, 0xd0401);
	}
}

static void run_one(uint32_t which)
{
	const struct tables *t = &tables[which >> 1 & 1];

	loop_seed(which);
	hash = which;
	set_up(t, which);
	paging_on(t);
	int v = loop.ring3 ? user_flags((void (*)(void))LOOP_CODE, 0, FLAG_IF) : attempt((void (*)(void))loop.code, 0);
	paging_off();
	WRITE_DR(7, 0x400);
	mix((uint32_t)v);
	if (v != NONE) {
		uint32_t *f = (uint32_t *)&caught.frame;
		for (unsigned n = 0; n < offsetof(struct frame, esp) / 4; n++)
			mix(n == 7 ? 0 : f[n]); /* what PUSHA stores of ESP */
		if (v == PF)
			mix(caught.cr2);
	} else {
		for (unsigned n = 16; n < 33; n++)
			mix(shared[n]);
	}
	mix(*(volatile uint32_t *)(APIC_BASE + APIC_TPR));
	for (unsigned n = 0; n < LOOP_FRAMES; n++)
		for (unsigned k = 0; k < PAGE / 4; k++)
			mix(((uint32_t *)page[n])[k]);
	uint32_t left = *(uint32_t *)((uint8_t *)shared + LOOP_COUNT - LOOP_SHARED);
	print("%lx %d left %lx rip %lx %lx%lx\n", (word_t)which, v, (word_t)left, v == NONE ? 0 : (word_t)caught.frame.eip, (word_t)(hash >> 32),
	      (word_t)hash);
}

int main(void)
{
	extern uint32_t boot_info;
	const char *line = *(const char **)(boot_info + 24);
	uint32_t first = take_number(&line), count = take_number(&line);

	loop.remaps = true;
	loop.code = page_alloc();
	page_alloc();
	shared = page_alloc();
	for (unsigned n = 0; n < LOOP_FRAMES; n++)
		page[n] = page_alloc();
	loop.fs = FREE_SEL | 3;
	loop.gs = (FREE_SEL + 8) | 3;
	make(&tables[0]);
	make(&tables[1]);
	WRITE_CR(4, READ_CR(4) | BIT(9) | BIT(10)); /* OSFXSR, OSXMMEXCPT */
	if (cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx >> 5 & 1) { /* AVX2 */
		WRITE_CR(4, READ_CR(4) | BIT(18));                /* OSXSAVE */
		asm volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
		loop.avx = true;
	}
	asm volatile("fninit");
	outb(0x21, 0xff); /* the 8259s' lines: interrupts are on */
	outb(0xa1, 0xff);
	trap_handler = on_trap;
	for (uint32_t n = first; n < first + count; n++)
		run_one(n);
	guest_end();
}
