/* SPDX-License-Identifier: MIT */
/* The paging modes of 32-bit code: two levels, 4 MiB pages (PSE), with 40-bit addresses (PSE-36), and PAE with its four registers; rights,
 * error codes, accessed and dirty bits, reserved bits, NX, WP, SMEP, SMAP, global pages. SDM 3A 4.3, 4.4, 4.6 to 4.10 */
#include "legacy/lib/legacy.h"

#define AREA 0x40000000u      /* where each test maps something */
#define PTE_P 1u
#define PTE_W 2u
#define PTE_U 4u
#define PTE_A 0x20u
#define PTE_D 0x40u
#define PTE_PS 0x80u
#define PTE_G 0x100u
#define PTE_NX (1ULL << 63)
#define ALL (PTE_P | PTE_W | PTE_U)
#define EFER_NXE 0x800

enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_I = 16 };

static NAKED void u_read(void)
{
	asm("mov (%eax), %al; ret");
}
static NAKED void u_write(void)
{
	asm("movb $0xc3, (%eax); ret");
}
static NAKED void fetch(void)
{
	asm("call *%eax; ret");
}

static void paging_on(const void *root, uint32_t cr4)
{
	WRITE_CR(4, cr4);
	WRITE_CR(3, root);
	WRITE_CR(0, READ_CR(0) | CR0_PG);
}

static void paging_off(void)
{
	WRITE_CR(0, READ_CR(0) & ~(CR0_PG | CR0_WP));
	WRITE_CR(4, 0);
}

static void invlpg(uint32_t at)
{
	asm volatile("invlpg (%0)" : : "r"(at) : "memory");
}

static int kernel_read(uint32_t at)
{
	uint8_t value;
	return TRY("mov (%1), %0", "=q"(value) : "r"(at));
}
static int kernel_write(uint32_t at)
{
	return TRY("movb $0xc3, (%0)", : "r"(at));
}

static void faults(int vector, uint32_t error, uint32_t at, const char *name)
{
	bool good = vector == NONE ? caught.vector == NONE : caught.vector == vector && caught.frame.error == error && caught.cr2 == at;
	check_count(good);
	if (good)
		print("ok %s\n", name);
	else
		print("not ok %s - vector %d, error %lx, CR2 %lx\n", name, caught.vector, (word_t)caught.frame.error, (word_t)caught.cr2);
}

/* A set of tables with identity pages of 4 KiB for ring 0 and 3 below 4 MiB, and for the pool of pages. One interface for both modes. */
static bool pae;
static uint32_t *root;

static void set(void *table, unsigned n, uint64_t value)
{
	if (pae)
		((uint64_t *)table)[n] = value;
	else
		((uint32_t *)table)[n] = (uint32_t)value;
}
static uint64_t get(const void *table, unsigned n)
{
	return pae ? ((const uint64_t *)table)[n] : ((const uint32_t *)table)[n];
}

/* The page directory that holds the entry of an address, and that entry's number. */
static void *directory(uint32_t at, unsigned *n)
{
	if (!pae) {
		*n = at >> 22;
		return root;
	}
	uint64_t *pdpt = (uint64_t *)root;
	*n = at >> 21 & 511;
	return (void *)((uint32_t)pdpt[at >> 30] & ~0xfffu);
}
static void *table_of(uint32_t at, unsigned *n)
{
	unsigned d;
	void *dir = directory(at, &d);
	if (!(get(dir, d) & PTE_P))
		set(dir, d, (uint32_t)page_alloc() | ALL);
	*n = pae ? at >> 12 & 511 : at >> 12 & 1023;
	return (void *)((uint32_t)get(dir, d) & ~0xfffu);
}
static void map(uint32_t at, uint64_t entry)
{
	unsigned n;
	void *table = table_of(at, &n);
	set(table, n, entry);
	if (READ_CR(0) & CR0_PG)
		invlpg(at);
}
static uint64_t entry(uint32_t at)
{
	unsigned n;
	void *table = table_of(at, &n);
	return get(table, n);
}

static void make_tables(bool with_pae)
{
	pae = with_pae;
	root = page_alloc();
	if (pae)
		for (unsigned n = 0; n < 4; n++)
			((uint64_t *)root)[n] = (uint32_t)page_alloc() | PTE_P;
	for (uint32_t at = 0; at < 4 * MIB; at += PAGE)
		map(at, at | ALL);
	/* By large tables' worth: the pool grows while this runs. */
	for (uint32_t at = 32 * MIB; at < 44 * MIB; at += PAGE)
		map(at, at | PTE_P | PTE_W);
}

static void test_rights(const char *mode)
{
	uint32_t *page = page_alloc();
	unsigned n;
	memset(page, 0xc3, PAGE);
	map(AREA, (uint32_t)page | PTE_P | PTE_W);
	kernel_write(AREA + 5);
	faults(NONE, 0, 0, join(mode, ": ring 0 writes a supervisor page"));
	check(((uint8_t *)page)[5] == 0xc3 && (entry(AREA) & (PTE_A | PTE_D)) == (PTE_A | PTE_D), join(mode, ": and sets A and D"));
	user(u_read, AREA + 7);
	faults(PF, E_P | E_U, AREA + 7, join(mode, ": #PF ring 3 reads a supervisor page"));
	map(AREA, (uint32_t)page | PTE_P | PTE_U);
	user(u_read, AREA);
	faults(NONE, 0, 0, join(mode, ": ring 3 reads a user page"));
	check((entry(AREA) & (PTE_A | PTE_D)) == PTE_A, join(mode, ": and sets A only"));
	user(u_write, AREA + 9);
	faults(PF, E_P | E_W | E_U, AREA + 9, join(mode, ": #PF ring 3 writes a read-only page"));
	kernel_write(AREA);
	faults(NONE, 0, 0, join(mode, ": ring 0 writes a read-only page without CR0.WP"));
	WRITE_CR(0, READ_CR(0) | CR0_WP);
	map(AREA, (uint32_t)page | PTE_P | PTE_U);
	kernel_write(AREA);
	faults(PF, E_P | E_W, AREA, join(mode, ": #PF with CR0.WP"));
	WRITE_CR(0, READ_CR(0) & ~CR0_WP);
	map(AREA, 0);
	kernel_read(AREA + 1);
	faults(PF, 0, AREA + 1, join(mode, ": #PF read of nothing"));
	kernel_write(AREA + 2);
	faults(PF, E_W, AREA + 2, join(mode, ": #PF write of nothing"));
	/* Rights combine over the levels. SDM 3A 4.6 */
	map(AREA, (uint32_t)page | ALL);
	void *dir = directory(AREA, &n);
	set(dir, n, get(dir, n) & ~(uint64_t)PTE_U);
	invlpg(AREA);
	user(u_read, AREA);
	faults(PF, E_P | E_U, AREA, join(mode, ": #PF the directory's U bit counts"));
	set(dir, n, (get(dir, n) | PTE_U) & ~(uint64_t)PTE_W);
	invlpg(AREA);
	user(u_write, AREA);
	faults(PF, E_P | E_W | E_U, AREA, join(mode, ": #PF the directory's W bit counts"));
	set(dir, n, get(dir, n) | PTE_W);
	check(get(dir, n) & PTE_A, join(mode, ": the directory entry is accessed"));
	/* An access across two pages. */
	map(AREA + PAGE, 0);
	invlpg(AREA);
	TRY("movl $0, (%0)", : "r"(AREA + PAGE - 2));
	faults(PF, E_W, AREA + PAGE, join(mode, ": #PF of the second page that a write crosses into"));
}

static void test_global(const char *mode, uint32_t cr4)
{
	if (!HAS_1_EDX(13)) {
		skip(mode, "no global pages");
		return;
	}
	uint32_t *one = page_alloc(), *two = page_alloc();
	*one = 1, *two = 2;
	WRITE_CR(4, cr4 | CR4_PGE);
	map(AREA, (uint32_t)one | ALL | PTE_G);
	check_equal(*(volatile uint32_t *)AREA, 1, join(mode, ": a global page"));
	unsigned n;
	void *table = table_of(AREA, &n);
	set(table, n, (uint32_t)two | ALL | PTE_G);
	WRITE_CR(4, cr4); /* changing PGE flushes all. SDM 3A 4.10.4.1 */
	check_equal(*(volatile uint32_t *)AREA, 2, join(mode, ": clearing CR4.PGE flushes it"));
}

static void test_supervisor(const char *mode, uint32_t cr4)
{
	uint32_t *page = page_alloc();
	memset(page, 0xc3, PAGE);
	map(AREA, (uint32_t)page | ALL);
	caught.vector = NONE;
	if (HAS_7_EBX(7)) {
		/* Our own code must be a supervisor's. */
		extern uint8_t image_start[], image_end[];
		for (uint32_t at = (uint32_t)image_start & ~(PAGE - 1); at < (uint32_t)image_end; at += PAGE)
			map(at, at | PTE_P | PTE_W);
		WRITE_CR(4, cr4 | CR4_SMEP);
		attempt(fetch, AREA);
		faults(PF, E_P | E_I, AREA, join(mode, ": #PF SMEP"));
		WRITE_CR(4, cr4);
		attempt(fetch, AREA);
		faults(NONE, 0, 0, join(mode, ": ring 0 runs a user page without SMEP"));
	} else {
		skip(join(mode, ": SMEP"), "the processor has none");
	}
	if (HAS_7_EBX(20)) {
		WRITE_CR(4, cr4 | CR4_SMAP);
		kernel_read(AREA + 3);
		faults(PF, E_P, AREA + 3, join(mode, ": #PF SMAP"));
		asm volatile("stac");
		kernel_read(AREA + 3);
		asm volatile("clac");
		faults(NONE, 0, 0, join(mode, ": EFLAGS.AC suspends SMAP"));
		WRITE_CR(4, cr4);
	} else {
		skip(join(mode, ": SMAP"), "the processor has none");
	}
	for (uint32_t at = 1 * MIB; at < 4 * MIB; at += PAGE)
		map(at, at | ALL);
}

static void test_large(const char *mode, uint32_t size)
{
	unsigned n;
	uint32_t at = AREA + 16 * MIB, physical = 40 * MIB;
	void *dir = directory(at, &n);
	*(uint32_t *)(physical + size - 4) = 0x1a26e;
	set(dir, n, physical | ALL | PTE_PS);
	invlpg(at);
	check_equal(*(volatile uint32_t *)(at + size - 4), 0x1a26e, join(mode, ": a large page"));
	check((get(dir, n) & (PTE_A | PTE_D)) == PTE_A, join(mode, ": A is in its directory entry"));
	kernel_write(at + 1);
	check(get(dir, n) & PTE_D, join(mode, ": and D"));
	set(dir, n, physical | PTE_P | PTE_PS);
	invlpg(at + size - 1);
	user(u_read, at + 77);
	faults(PF, E_P | E_U, at + 77, join(mode, ": #PF ring 3 in a large supervisor page; INVLPG took all of it"));
}

static void test_two_levels(void)
{
	make_tables(false);
	WRITE_CR(0, READ_CR(0) & ~CR0_WP);
	paging_on(root, 0);
	test_rights("32-bit paging");
	test_supervisor("32-bit paging", 0);
	/* Without CR4.PSE, PS in a directory entry does not count. SDM 3A 4.3 */
	unsigned n;
	uint32_t *page = page_alloc();
	*page = 0x5ca1e;
	map(AREA, (uint32_t)page | ALL);
	void *dir = directory(AREA, &n);
	set(dir, n, get(dir, n) | PTE_PS);
	invlpg(AREA);
	check_equal(*(volatile uint32_t *)AREA, 0x5ca1e, "32-bit paging: PS without CR4.PSE is ignored");
	set(dir, n, get(dir, n) & ~(uint64_t)PTE_PS);
	if (HAS_1_EDX(3)) {
		/* Our own 4 MiB must not be large by chance. */
		WRITE_CR(4, CR4_PSE);
		test_large("PSE", 4 * MIB);
		test_global("PSE", CR4_PSE);
		if (HAS_1_EDX(17)) { /* PSE-36: bit 21 is reserved, bits 20:13 are address bits 39:32 */
			uint32_t at = AREA + 32 * MIB;
			dir = directory(at, &n);
			set(dir, n, 40 * MIB | ALL | PTE_PS | 1 << 21);
			invlpg(at);
			kernel_read(at + 3);
			faults(PF, E_P | E_RSVD, at + 3, "PSE-36: #PF reserved bit 21");
			set(dir, n, 40 * MIB | ALL | PTE_PS | 1 << 13);
			invlpg(at);
			*(uint32_t *)(40 * MIB + 8) = 0x10;
			check(*(volatile uint32_t *)(at + 8) != 0x10, "PSE-36: bit 13 is address bit 32"); /* there is no memory at 4 GiB + 40 MiB */
			set(dir, n, 0);
		} else {
			skip("PSE-36", "the processor has none");
		}
	} else {
		skip("PSE", "the processor has none");
	}
	paging_off();
}

/* SDM 3A 4.4.1: the four PDPTEs are registers, loaded with CR3 */
static void test_pdptes(void)
{
	uint64_t *pdpt = (uint64_t *)root;
	uint32_t *page = page_alloc();
	*page = 0x9a9e;
	map(AREA, (uint32_t)page | ALL);
	uint64_t old = pdpt[AREA >> 30];
	pdpt[AREA >> 30] = 0;
	invlpg(AREA);
	check_equal(*(volatile uint32_t *)AREA, 0x9a9e, "PAE: a PDPTE counts as it was when CR3 was loaded");
	WRITE_CR(3, root);
	kernel_read(AREA);
	faults(PF, 0, AREA, "PAE: and is loaded with the next MOV to CR3");
	for (unsigned bit = 1; bit < 3; bit++) { /* W and U are reserved here */
		pdpt[3] |= 1u << bit;
		TRY("mov %0, %%cr3", : "r"(root));
		check_caught(GP, 0, try_at, "PAE: #GP a reserved bit in a PDPTE");
		pdpt[3] &= ~(uint64_t)(1u << bit);
	}
	pdpt[3] |= 1ULL << 52;
	TRY("mov %0, %%cr3", : "r"(root));
	check_caught(GP, 0, try_at, "PAE: #GP reserved bit 52 in a PDPTE");
	pdpt[3] &= ~(1ULL << 52);
	pdpt[AREA >> 30] = old;
	WRITE_CR(3, root);
	check_equal(*(volatile uint32_t *)AREA, 0x9a9e, "PAE: back");
	/* A PDPTE without P may hold anything. */
	pdpt[3] = 0xfffffffffffffffeULL;
	check_vector(TRY("mov %0, %%cr3", : "r"(root)), NONE, "PAE: a PDPTE that is not present has no reserved bits");
	kernel_read(0xc0000000);
	faults(PF, 0, 0xc0000000, "PAE: #PF through it");
}

static void test_pae(void)
{
	if (!HAS_1_EDX(6)) {
		skip("PAE", "the processor has none");
		return;
	}
	make_tables(true);
	paging_on(root, CR4_PAE);
	test_rights("PAE");
	test_supervisor("PAE", CR4_PAE);
	test_large("PAE", 2 * MIB);
	test_global("PAE", CR4_PAE);
	test_pdptes();
	uint32_t *page = page_alloc();
	memset(page, 0xc3, PAGE);
	map(AREA, (uint32_t)page | ALL | 1ULL << 62);
	kernel_read(AREA);
	faults(PF, E_P | E_RSVD, AREA, "PAE: #PF reserved bit 62");
	map(AREA, (uint32_t)page | ALL | PTE_NX);
	kernel_read(AREA);
	faults(PF, E_P | E_RSVD, AREA, "PAE: #PF bit 63 is reserved without EFER.NXE");
	if (HAS_81_EDX(20)) {
		wrmsr(0xc0000080, rdmsr(0xc0000080) | EFER_NXE);
		invlpg(AREA);
		kernel_read(AREA);
		faults(NONE, 0, 0, "NX: a page that may not run can be read");
		attempt(fetch, AREA);
		faults(PF, E_P | E_I, AREA, "NX: #PF fetch in ring 0");
		user(fetch, AREA);
		faults(PF, E_P | E_U | E_I, AREA, "NX: #PF fetch in ring 3");
		unsigned n;
		map(AREA, (uint32_t)page | ALL);
		void *dir = directory(AREA, &n);
		set(dir, n, get(dir, n) | PTE_NX);
		invlpg(AREA);
		attempt(fetch, AREA);
		faults(PF, E_P | E_I, AREA, "NX: the directory's bit counts");
		set(dir, n, get(dir, n) & ~PTE_NX);
		wrmsr(0xc0000080, rdmsr(0xc0000080) & ~(uint64_t)EFER_NXE);
	} else {
		skip("NX", "the processor has none");
	}
	map(AREA, (uint32_t)page | ALL);
	attempt(fetch, AREA);
	faults(NONE, 0, 0, "PAE: a page runs");
	paging_off();
}

int main(void)
{
	test_two_levels();
	test_pae();
	return 0;
}
