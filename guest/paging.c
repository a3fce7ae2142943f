/* SPDX-License-Identifier: MIT */
/* Paging: rights and error codes for pages of each size, accessed and dirty bits, reserved bits, invalidation, global pages and PCIDs,
 * accesses that cross pages. SDM 3A chapter 4 */
#include "lib/guest.h"

#define AREA 0x8000000000ULL          /* PML4 entry 1: free for tests; one GiB-aligned address per page size */
#define CROSS (AREA + 0x100000000ULL)
#define MMIO (AREA + 0x140000000ULL)

enum access { READ, WRITE, FETCH, ACCESSES };
enum { P_ERROR = 1, W_ERROR = 2, U_ERROR = 4, RSVD_ERROR = 8, I_ERROR = 16 };

/* Each page that is tested begins with a RET, so that it can be called. */
static NAKED void u_read(void *argument)
{
	asm("mov (%rdi), %al; ret");
}
static NAKED void u_write(void *argument)
{
	asm("movb $0xc3, (%rdi); ret");
}
static NAKED void u_fetch(void *argument)
{
	asm("call *%rdi; ret");
}

static void k_fetch(void *argument)
{
	asm volatile("call *%0" : : "r"(argument) : "memory");
}

/* Makes the access: NONE, or the vector. */
static int access_as(uint64_t linear, enum access access, bool in_ring3)
{
	static void (*const by_user[ACCESSES])(void *) = { u_read, u_write, u_fetch };
	uint8_t value;
	if (in_ring3)
		return user(by_user[access], linear);
	switch (access) {
	case READ:
		return TRY("mov (%1), %0", "=q"(value) : "r"(linear));
	case WRITE:
		return TRY("movb $0xc3, (%0)", : "r"(linear));
	default:
		caught.vector = NONE;
		return attempt(k_fetch, (void *)linear);
	}
}

/* What the manual says, SDM 3A 4.6.1: NONE, or the error code. */
static int expected(uint64_t pte, enum access access, bool in_ring3)
{
	uint64_t cr0 = READ_CR(0), cr4 = READ_CR(4);
	bool ac = flags_get() & FLAG_AC, fault = false;
	int error = (access == WRITE ? W_ERROR : 0) | (in_ring3 ? U_ERROR : 0) | (access == FETCH ? I_ERROR : 0);
	if (!(pte & PTE_P))
		return error;
	if (in_ring3) {
		fault = !(pte & PTE_U) || (access == WRITE && !(pte & PTE_W));
	} else {
		fault = access == WRITE && !(pte & PTE_W) && (cr0 & CR0_WP);
		if (pte & PTE_U && access == FETCH)
			fault |= !!(cr4 & CR4_SMEP);
		else if (pte & PTE_U)
			fault |= (cr4 & CR4_SMAP) && !ac;
	}
	fault |= access == FETCH && pte & PTE_NX;
	return fault ? error | P_ERROR : NONE;
}

static void set_flag_ac(bool on)
{
	if (on)
		asm volatile("pushfq; orl $0x40000, (%%rsp); popfq" : : : "memory", "cc");
	else
		asm volatile("pushfq; andl $~0x40000, (%%rsp); popfq" : : : "memory", "cc");
}

/* All combinations for one page size and one setting of the control bits: prints one line. */
static void test_rights(unsigned level, uint64_t linear, uint64_t physical, const char *setting)
{
	static const uint64_t bits[] = { PTE_P, PTE_W, PTE_U, PTE_NX };
	static const char *const sizes[] = { "", "4 KiB", "2 MiB", "1 GiB" }, *const accesses[] = { "read", "write", "fetch" };
	unsigned wrong = 0;
	map(linear, physical, PTE_P | PTE_W, level);
	for (unsigned set = 0; set < 16; set++) {
		uint64_t pte = 0;
		for (unsigned b = 0; b < 4; b++)
			pte |= set >> b & 1 ? bits[b] : 0;
		for (enum access access = READ; access < ACCESSES; access++) {
			for (unsigned ring3 = 0; ring3 < 2; ring3++) {
				uint64_t *entry = entry_of(linear, level);
				*entry = physical | pte | (level > 1 ? PTE_PS : 0);
				invlpg(linear);
				int want = expected(pte, access, ring3), vector = access_as(linear, access, ring3);
				int got = vector == PF && caught.cr2 == linear ? (int)caught.frame.error : vector == NONE ? NONE : -2;
				uint64_t ad = *entry & (PTE_A | PTE_D);
				uint64_t want_ad = want != NONE ? 0 : access == WRITE ? PTE_A | PTE_D : PTE_A;
				if (got == want && ad == want_ad)
					continue;
				if (!wrong++)
					print("# %s%s%s%s %s in ring %d: got %d, A/D %lx; want %d, A/D %lx (vector %d)\n", pte & PTE_P ? "P" : "-",
					      pte & PTE_W ? "W" : "-", pte & PTE_U ? "U" : "-", pte & PTE_NX ? "X" : "-", accesses[access],
					      ring3 ? 3 : 0, got, ad, want, want_ad, vector);
			}
		}
	}
	check(!wrong, join(join(sizes[level], " pages: rights, error codes, A and D "), setting));
}

static void test_matrix(void)
{
	uint64_t cr0 = READ_CR(0), cr4 = READ_CR(4);
	uint64_t page = (uint64_t)page_alloc(), large = 64 * MIB;
	*(uint8_t *)page = *(uint8_t *)large = 0xc3;
	*(uint8_t *)0x1000 = 0xc3;
	struct {
		unsigned level;
		uint64_t linear, physical;
	} sizes[] = { { 1, AREA, page }, { 2, AREA + 0x40000000, large }, { 3, AREA + 0x80000000 + 0x1000, 0 } };
	for (unsigned n = 0; n < 3; n++) {
		if (n == 2 && !HAS_PAGES_1G) {
			skip("1 GiB pages", "CPUID does not offer them");
			break;
		}
		unsigned l = sizes[n].level;
		uint64_t a = sizes[n].linear, p = sizes[n].physical;
		test_rights(l, a, p, "with WP");
		WRITE_CR(0, cr0 & ~(uint64_t)CR0_WP);
		test_rights(l, a, p, "without WP");
		WRITE_CR(0, cr0);
		if (HAS_SMEP) {
			WRITE_CR(4, cr4 | CR4_SMEP);
			test_rights(l, a, p, "with SMEP");
		}
		if (HAS_SMAP) {
			WRITE_CR(4, cr4 | CR4_SMAP);
			test_rights(l, a, p, "with SMAP");
			set_flag_ac(true);
			test_rights(l, a, p, "with SMAP and AC");
			WRITE_CR(0, cr0 & ~(uint64_t)CR0_WP);
			test_rights(l, a, p, "with SMAP and AC, without WP");
			WRITE_CR(0, cr0);
			set_flag_ac(false);
		}
		WRITE_CR(4, cr4);
	}
}

/* A table above that forbids, forbids; its A bit is set by any use of it, also one that the page then refuses. */
static void test_upper(void)
{
	const uint64_t linear = AREA + 0x10000;
	uint64_t *page = page_alloc();
	*(uint8_t *)page = 0xc3;
	map(linear, (uint64_t)page, PTE_P | PTE_W | PTE_U, 1);
	for (unsigned level = 2; level <= 4; level++) {
		uint64_t *entry = entry_of(linear, level), old = *entry;
		*entry = old & ~(uint64_t)(PTE_W | PTE_A);
		WRITE_CR(3, READ_CR(3));
		check_vector(access_as(linear, WRITE, false), PF, "a table entry without W forbids writing");
		*entry = old & ~(uint64_t)PTE_U;
		WRITE_CR(3, READ_CR(3));
		check_vector(access_as(linear, READ, true), PF, "a table entry without U forbids ring 3");
		*entry = old | PTE_NX;
		WRITE_CR(3, READ_CR(3));
		check_vector(access_as(linear, FETCH, false), PF, "a table entry with NX forbids fetching");
		*entry = old & ~(uint64_t)PTE_A;
		WRITE_CR(3, READ_CR(3));
		access_as(linear, READ, false);
		check(*entry & PTE_A, "a walk sets A in the table entry");
		check(!(*entry & PTE_D), "a walk leaves D of a table entry alone");
		*entry = old;
		WRITE_CR(3, READ_CR(3));
	}
}

static void test_dirty(void)
{
	const uint64_t linear = AREA + 0x20000;
	uint64_t *entry;
	map(linear, (uint64_t)page_alloc(), PTE_P | PTE_W, 1);
	entry = entry_of(linear, 1);
	access_as(linear, READ, false);
	check_equal(*entry & (PTE_A | PTE_D), PTE_A, "a read sets A only");
	access_as(linear, WRITE, false);
	check_equal(*entry & (PTE_A | PTE_D), PTE_A | PTE_D, "a write after a read through the same translation sets D");
	*entry &= ~(uint64_t)(PTE_A | PTE_D);
	invlpg(linear);
	uint32_t zero = 0;
	TRY("lock cmpxchg %%ecx, (%1)", "+a"(zero) : "r"(linear), "c"(5));
	check_equal(*entry & (PTE_A | PTE_D), PTE_A | PTE_D, "CMPXCHG sets D, also when it does not store");
	*entry &= ~(uint64_t)(PTE_A | PTE_D);
	invlpg(linear);
	TRY("prefetcht0 (%0)", : "r"(linear));
	check_caught(NONE, 0, 0, "PREFETCH raises nothing");
	TRY("prefetcht0 (%0)", : "r"(0x8000000000000000ULL));
	check_caught(NONE, 0, 0, "PREFETCH of a non-canonical address raises nothing");
	check(!(*entry & PTE_D), "PREFETCH leaves D alone");
	*entry &= ~(uint64_t)PTE_A;
	invlpg(linear);
	TRY("invlpg (%0)", : "r"(linear));
	check_equal(*entry & PTE_A, 0, "INVLPG does not access the page");
	TRY("invlpg (%0)", : "r"(0x8000000000000000ULL));
	check_caught(NONE, 0, 0, "INVLPG of a non-canonical address does nothing");
}

static void test_reserved(void)
{
	const uint64_t linear = AREA + 0x30000, bit = BIT(51);
	unsigned width = cpuid(0x80000000, 0).eax >= 0x80000008 ? cpuid(0x80000008, 0).eax & 0xff : 36;
	if (width > 51) {
		skip("reserved address bits", "all 52 are implemented");
		return;
	}
	map(linear, (uint64_t)page_alloc(), PTE_P | PTE_W | PTE_U, 1);
	for (unsigned level = 1; level <= 4; level++) {
		*entry_of(linear, level) |= bit;
		WRITE_CR(3, READ_CR(3));
		int vector = access_as(linear, READ, false);
		*entry_of(linear, level) &= ~bit;
		WRITE_CR(3, READ_CR(3));
		check(vector == PF && caught.frame.error == (P_ERROR | RSVD_ERROR), "reserved address bit: #PF with RSVD and P");
	}
	*entry_of(linear, 1) |= bit;
	*entry_of(linear, 1) &= ~(uint64_t)PTE_P;
	invlpg(linear);
	access_as(linear, READ, false);
	check_caught(PF, 0, try_at, "no reserved bit in an entry that is not present");
	map(AREA + 0x40000000, 64 * MIB, PTE_P | PTE_W, 2);
	*entry_of(AREA + 0x40000000, 2) |= BIT(13);
	invlpg(AREA + 0x40000000);
	access_as(AREA + 0x40000000, READ, true);
	check_equal(caught.frame.error, P_ERROR | RSVD_ERROR | U_ERROR, "low address bits of a 2 MiB page are reserved");
	*entry_of(linear, 4) |= PTE_PS;
	WRITE_CR(3, READ_CR(3));
	int vector = access_as(linear, READ, false);
	*entry_of(linear, 4) &= ~(uint64_t)PTE_PS;
	WRITE_CR(3, READ_CR(3));
	check(vector == PF && caught.frame.error == (P_ERROR | RSVD_ERROR), "PS in a PML4 entry is reserved");
	uint64_t efer = rdmsr(MSR_EFER);
	map(linear, (uint64_t)page_alloc(), PTE_P | PTE_W | PTE_NX, 1);
	wrmsr(MSR_EFER, efer & ~(uint64_t)EFER_NXE);
	vector = access_as(linear, READ, false);
	uint64_t error = caught.frame.error;
	map(linear, (uint64_t)page_alloc(), PTE_P | PTE_W, 1);
	wrmsr(MSR_EFER, efer);
	check(vector == PF && error == (P_ERROR | RSVD_ERROR), "NX is reserved without EFER.NXE");
	/* Without NXE and SMEP a fetch is reported as a read. */
	wrmsr(MSR_EFER, efer & ~(uint64_t)EFER_NXE);
	vector = access_as(AREA + 0x3f000, FETCH, false);
	wrmsr(MSR_EFER, efer);
	check(vector == PF && caught.frame.error == 0, "without NXE a fetch does not set I/D in the error code");
}

/* --- invalidation --- */

static uint64_t read_at(uint64_t linear)
{
	return *(volatile uint64_t *)linear;
}

static void test_invalidation(void)
{
	const uint64_t linear = AREA + 0x50000;
	uint64_t *a = page_alloc(), *b = page_alloc(), cr4 = READ_CR(4);
	*a = 0xa, *b = 0xb;
	map(linear, (uint64_t)a, PTE_P | PTE_W, 1);
	uint64_t *entry = entry_of(linear, 1);
	check_equal(read_at(linear), 0xa, "a mapping");
	*entry = (uint64_t)b | PTE_P | PTE_W;
	invlpg(linear + 0x123);
	check_equal(read_at(linear), 0xb, "INVLPG by any address in the page");
	*entry = (uint64_t)a | PTE_P | PTE_W;
	WRITE_CR(3, READ_CR(3));
	check_equal(read_at(linear), 0xa, "MOV to CR3 drops the translation");
	*entry = 0;
	invlpg(linear);
	check_vector(access_as(linear, READ, false), PF, "a page taken away");
	*entry = (uint64_t)b | PTE_P;
	check_equal(read_at(linear), 0xb, "a page that becomes present needs no invalidation");
	*entry |= PTE_W;
	check_vector(access_as(linear, WRITE, false), NONE, "more rights need no invalidation: the fault walks again");

	*b = 0xb;
	WRITE_CR(4, cr4 | CR4_PGE);
	*entry = (uint64_t)a | PTE_P | PTE_W | PTE_G;
	invlpg(linear);
	read_at(linear);
	*entry = (uint64_t)b | PTE_P | PTE_W | PTE_G;
	WRITE_CR(3, READ_CR(3));
	uint64_t kept = read_at(linear); /* either is legal: a translation may be dropped at any time */
	check(kept == 0xa || kept == 0xb, "a global page over a MOV to CR3");
	*entry = (uint64_t)b | PTE_P | PTE_W | PTE_G;
	invlpg(linear);
	check_equal(read_at(linear), 0xb, "INVLPG drops a global page");
	*entry = (uint64_t)a | PTE_P | PTE_W | PTE_G;
	WRITE_CR(4, cr4);
	check_equal(read_at(linear), 0xa, "a change of CR4.PGE drops global pages");
	WRITE_CR(4, cr4);

	*entry = (uint64_t)b | PTE_P | PTE_W;
	invlpg(linear);
	read_at(linear);
	*entry = (uint64_t)a | PTE_P | PTE_W;
	WRITE_CR(0, READ_CR(0) & ~(uint64_t)CR0_WP);
	WRITE_CR(0, READ_CR(0) | CR0_WP);
	invlpg(linear);
	check_equal(read_at(linear), 0xa, "after changes of CR0.WP");

	/* A 2 MiB page: one INVLPG drops all of it, however it was cached. */
	const uint64_t large = AREA + 0x40000000;
	map(large, 64 * MIB, PTE_P | PTE_W, 2);
	*(uint64_t *)(64 * MIB + 5 * PAGE) = 1, *(uint64_t *)(66 * MIB + 5 * PAGE) = 2;
	read_at(large), read_at(large + 5 * PAGE);
	*entry_of(large, 2) = 66 * MIB | PTE_P | PTE_W | PTE_PS;
	invlpg(large + 100 * PAGE);
	check_equal(read_at(large + 5 * PAGE), 2, "INVLPG drops the whole 2 MiB page");
}

static int invpcid(uint64_t type, uint64_t pcid, uint64_t address)
{
	uint64_t descriptor[2] = { pcid, address };
	return TRY("invpcid %1, %0", : "r"(type), "m"(descriptor));
}

/* Switches to PCID n of the same tables; `keep` is CR3 bit 63. */
static void use_pcid(unsigned n, bool keep)
{
	WRITE_CR(3, (READ_CR(3) & ~0xfffULL) | n | (keep ? BIT(63) : 0));
}

static void test_pcid(void)
{
	const uint64_t linear = AREA + 0x60000;
	uint64_t *a = page_alloc(), *b = page_alloc(), cr4 = READ_CR(4), cr3 = READ_CR(3);
	if (!HAS_PCID) {
		skip("PCID", "CPUID does not offer it");
		TRY("mov %0, %%cr4", : "r"(cr4 | CR4_PCIDE));
		check_caught(GP, 0, try_at, "#GP CR4.PCIDE without PCID");
		return;
	}
	*a = 0xa, *b = 0xb;
	map(linear, (uint64_t)a, PTE_P | PTE_W, 1);
	uint64_t *entry = entry_of(linear, 1), to_a = (uint64_t)a | PTE_P | PTE_W, to_b = (uint64_t)b | PTE_P | PTE_W;
	WRITE_CR(3, cr3 | 8);
	TRY("mov %0, %%cr4", : "r"(cr4 | CR4_PCIDE));
	check_caught(GP, 0, try_at, "#GP CR4.PCIDE while CR3 has low bits");
	WRITE_CR(3, cr3);
	WRITE_CR(4, cr4 | CR4_PCIDE);
	check_equal(READ_CR(4) & CR4_PCIDE, CR4_PCIDE, "CR4.PCIDE");
	use_pcid(1, false);
	check_equal(READ_CR(3), cr3 | 1, "CR3 holds the PCID");
	check_equal(read_at(linear), 0xa, "PCID 1");
	use_pcid(2, true);
	check_equal(READ_CR(3), cr3 | 2, "CR3 bit 63 is not kept");
	*entry = to_b;
	use_pcid(2, false);
	check_equal(read_at(linear), 0xb, "MOV to CR3 drops the PCID it switches to");
	use_pcid(1, false);
	check_equal(read_at(linear), 0xb, "coming back without bit 63 drops what was there");
	*entry = to_a;
	invlpg(linear);
	check_equal(read_at(linear), 0xa, "INVLPG in the current PCID");
	TRY("mov %0, %%cr0", : "r"(READ_CR(0) & ~(uint64_t)CR0_PG));
	check_caught(GP, 0, try_at, "#GP CR0.PG cleared with CR4.PCIDE");

	if (!HAS_INVPCID) {
		skip("INVPCID", "CPUID does not offer it");
		check_vector(invpcid(2, 0, 0), UD, "#UD INVPCID where there is none");
	} else {
		*entry = to_b;
		check_vector(invpcid(0, 1, linear), NONE, "INVPCID type 0");
		check_equal(read_at(linear), 0xb, "INVPCID type 0 drops the address in its PCID");
		*entry = to_a;
		invpcid(1, 1, 0);
		check_equal(read_at(linear), 0xa, "INVPCID type 1 drops the PCID");
		*entry = to_b;
		invpcid(2, 0, 0);
		check_equal(read_at(linear), 0xb, "INVPCID type 2 drops all");
		*entry = to_a;
		invpcid(3, 0, 0);
		check_equal(read_at(linear), 0xa, "INVPCID type 3 drops all but globals");
		use_pcid(2, true);
		*entry = to_b;
		invpcid(0, 1, linear);
		invpcid(0, 2, linear);
		use_pcid(1, true);
		check_equal(read_at(linear), 0xb, "INVPCID type 0 of another PCID");
		*entry = to_a;
		use_pcid(2, true);
		invpcid(1, 1, 0);
		use_pcid(1, true);
		check_equal(read_at(linear), 0xa, "INVPCID type 1 of another PCID");
		check_vector(invpcid(4, 0, 0), GP, "#GP INVPCID of an unknown type");
		check_vector(invpcid(0, 0x1000, 0), GP, "#GP INVPCID with reserved bits");
		check_vector(invpcid(0, 1, 0x8000000000000000ULL), GP, "#GP INVPCID type 0 of a non-canonical address");
	}
	use_pcid(0, false);
	WRITE_CR(4, cr4);
	check_equal(READ_CR(4) & CR4_PCIDE, 0, "CR4.PCIDE off again");
	if (HAS_INVPCID) {
		check_vector(invpcid(0, 0, linear), NONE, "INVPCID type 0 of PCID 0 without CR4.PCIDE");
		check_vector(invpcid(0, 1, linear), GP, "#GP INVPCID type 0 of another PCID without CR4.PCIDE");
	}
	TRY("mov %0, %%cr3", : "r"(cr3 | BIT(63)));
	check_caught(GP, 0, try_at, "#GP CR3 bit 63 without CR4.PCIDE");
}

/* --- crossing --- */

static void test_crossing(void)
{
	uint8_t *first = page_alloc();
	uint64_t end = CROSS + PAGE, value;
	map(CROSS, (uint64_t)first, PTE_P | PTE_W, 1);
	map(CROSS + PAGE, 0, 0, 1);
	*entry_of(CROSS + PAGE, 1) = 0;
	invlpg(end);
	memset(first, 0x11, PAGE);
	TRY("mov %%rax, (%0)", : "r"(end - 3), "a"(~0ULL));
	check_caught(PF, 2, try_at, "a write whose second page is missing");
	check_equal(caught.cr2, end, "CR2 is where the second page begins");
	check_equal(*(uint32_t *)(first + PAGE - 4), 0x11111111, "nothing was written");
	TRY("mov (%1), %0", "=r"(value) : "r"(end - 1));
	check_caught(PF, 0, try_at, "a read whose second page is missing");
	check_equal(caught.cr2, end, "CR2 of the read");
	TRY("lock addl $1, (%0)", : "r"(end - 2));
	check_caught(PF, 2, try_at, "a locked access whose second page is missing");
	check_equal(*(uint32_t *)(first + PAGE - 4), 0x11111111, "nothing was added");
	TRY("movups %%xmm0, (%0)", : "r"(end - 5));
	check_caught(PF, 2, try_at, "a 16-byte store whose second page is missing");
	check_equal(*(uint32_t *)(first + PAGE - 4), 0x11111111, "nothing of 16 bytes was written");
	TRY("fnsave (%0)", : "r"(end - 50));
	check_caught(PF, 2, try_at, "FNSAVE whose second page is missing");
	asm volatile("fninit");
	/* First page missing, second there. */
	map(CROSS + 2 * PAGE, (uint64_t)first, PTE_P | PTE_W, 1);
	TRY("mov %%rax, (%0)", : "r"(CROSS + 2 * PAGE - 3), "a"(~0ULL));
	check_caught(PF, 2, try_at, "a write whose first page is missing");
	check_equal(caught.cr2, CROSS + 2 * PAGE - 3, "CR2 is the address itself");
	/* Two pages that are not neighbours in physical memory. */
	uint8_t *second = page_alloc();
	page_alloc();
	map(CROSS, (uint64_t)second, PTE_P | PTE_W, 1);
	map(CROSS + PAGE, (uint64_t)first, PTE_P | PTE_W, 1);
	*(volatile uint64_t *)(end - 3) = 0x8877665544332211;
	check_equal(*(uint32_t *)(second + PAGE - 4) >> 8, 0x332211, "a crossing write: first part");
	check_equal(*(uint64_t *)first & 0xffffffffff, 0x8877665544, "a crossing write: second part");
	check_equal(read_at(end - 3), 0x8877665544332211, "a crossing read");
	asm volatile("lock addq $1, (%0)" : : "r"(end - 3) : "memory", "cc");
	check_equal(read_at(end - 3), 0x8877665544332212, "a crossing locked addition");
	/* An instruction across the pages: the second one missing. */
	memset(second + PAGE - 2, 0x90, 2);
	second[PAGE - 1] = 0xb8; /* mov eax, imm32 */
	*entry_of(end, 1) = 0;
	invlpg(end);
	attempt(k_fetch, (void *)(end - 1));
	check_caught(PF, 0x10, end - 1, "an instruction whose second page is missing faults at its start");
	check_equal(caught.cr2, end, "CR2 is where the missing page begins");
	map(end, (uint64_t)first, PTE_P | PTE_W, 1);
	first[4] = 0xc3;
	check_vector(attempt(k_fetch, (void *)(end - 1)), NONE, "an instruction across two pages");
}

/* RAM beside a device page: the parts of one access go to both. */
static void test_mmio(void)
{
	uint8_t *ram = page_alloc();
	uint64_t lapic = rdmsr(0x1b) & ~0xfffULL, value;
	map(MMIO, lapic, PTE_P | PTE_W, 1);
	map(MMIO + PAGE, (uint64_t)ram, PTE_P | PTE_W, 1);
	uint32_t version = *(volatile uint32_t *)(MMIO + 0x30);
	check((version >> 16 & 0xff) >= 3 && (version & 0xff) >= 0x10, "the LAPIC answers through a page");
	*entry_of(MMIO + PAGE, 1) = 0;
	invlpg(MMIO + PAGE);
	TRY("mov (%1), %0", "=r"(value) : "r"(MMIO + PAGE - 4));
	check_caught(PF, 0, try_at, "a read across the end of a device page into a missing page");
	map(MMIO + PAGE, (uint64_t)ram, PTE_P | PTE_W, 1);
	*(uint32_t *)ram = 0x12345678;
	TRY("mov (%1), %0", "=r"(value) : "r"(MMIO + PAGE - 4));
	check(caught.vector == NONE && value >> 32 == 0x12345678, "a read across the end of a device page into RAM");
}

int main(void)
{
	test_matrix();
	test_upper();
	test_dirty();
	test_reserved();
	test_invalidation();
	test_pcid();
	test_crossing();
	test_mmio();
	return 0;
}
