/* SPDX-License-Identifier: MIT */
/* Page walks of all modes: addresses, rights, error codes, reserved bits, accessed and dirty bits. SDM 3A chapter 4. */
#include "flat.h"
#include "test.h"

#define TABLE 0x20000ULL /* four tables, one after another */
#define LEVEL(n) (TABLE + 0x1000 * (n))

static struct x86_walk w;

static void check(struct flat *f, const char *what, gva_t gva, enum x86_access access, bool user, int64_t want)
{
	bool found = x86_walk(&f->core, gva, access, user, true, &w);

	if (want >= 0)
		ok(found && w.gpa == (gpa_t)want, "%s: %#lx is at %#lx", what, gva, want);
	else
		ok(!found && w.error == (uint32_t)(-want - 1), "%s: %#lx faults with error %#lx (%s %#x)", what, gva,
		   -want - 1, found ? "mapped" : "error", w.error);
}
#define FAULT(error) (-(int64_t)(error) - 1)

static struct flat *paging(uint64_t cr4, uint64_t efer)
{
	struct flat *f = flat_new("v2");

	flat_mode(f, FLAT_PROTECTED32, 0);
	f->core.cpu.cr4 = cr4;
	f->core.cpu.efer = efer;
	f->core.cpu.cr3 = TABLE;
	f->core.cpu.cr0 |= CR0_PG | CR0_WP;
	x86_core_loaded(&f->core);
	return f;
}

static void none(void)
{
	struct flat *f = flat_new("v2");

	flat_mode(f, FLAT_PROTECTED32, 0);
	check(f, "no paging", 0x123456, ACCESS_WRITE, false, 0x123456);
	check(f, "no paging, user", 0xfffff000, ACCESS_FETCH, true, 0xfffff000);
}

static void legacy(void)
{
	struct flat *f = paging(0, 0);

	flat_put(LEVEL(0) + 4 * 1, 4, LEVEL(1) | PTE_P | PTE_W | PTE_U);
	flat_put(LEVEL(1) + 4 * 2, 4, 0x345000 | PTE_P | PTE_W | PTE_U);
	flat_put(LEVEL(1) + 4 * 3, 4, 0x346000 | PTE_P);
	check(f, "32-bit", 0x402abc, ACCESS_READ, true, 0x345abc);
	ok(flat_get(LEVEL(0) + 4, 4) & PTE_A, "32-bit: A set in the directory");
	ok((flat_get(LEVEL(1) + 8, 4) & (PTE_A | PTE_D)) == PTE_A, "32-bit: a read sets A and not D");
	check(f, "32-bit", 0x402abc, ACCESS_WRITE, true, 0x345abc);
	ok(flat_get(LEVEL(1) + 8, 4) & PTE_D && w.dirty, "32-bit: a write sets D");
	check(f, "32-bit supervisor page", 0x403000, ACCESS_READ, true, FAULT(PF_PRESENT | PF_USER));
	check(f, "32-bit supervisor page", 0x403000, ACCESS_READ, false, 0x346000);
	check(f, "32-bit read-only, WP", 0x403000, ACCESS_WRITE, false, FAULT(PF_PRESENT | PF_WRITE));
	ok(!(flat_get(LEVEL(1) + 12, 4) & PTE_D), "32-bit: a refused write sets no D");
	f->core.cpu.cr0 &= ~CR0_WP;
	check(f, "32-bit read-only, no WP", 0x403000, ACCESS_WRITE, false, 0x346000);
	check(f, "32-bit not present", 0x404000, ACCESS_WRITE, true, FAULT(PF_WRITE | PF_USER));
	check(f, "32-bit no table", 0x800000, ACCESS_FETCH, false, FAULT(0));
	flat_put(LEVEL(0) + 4 * 4, 4, 0x800000 | PTE_P | PTE_PS);
	check(f, "PS without CR4.PSE is a table", 0x1000000, ACCESS_READ, false, FAULT(0));

	f = paging(CR4_PSE | CR4_SMEP | CR4_PGE, 0);
	flat_put(LEVEL(0) + 4 * 4, 4, 0x800000 | PTE_P | PTE_PS | PTE_W | PTE_U | PTE_G);
	flat_put(LEVEL(0) + 4 * 5, 4, 0x800000 | 0x12 << 13 | PTE_P | PTE_PS);
	flat_put(LEVEL(0) + 4 * 6, 4, 0x800000 | BIT(21) | PTE_P | PTE_PS);
	check(f, "4 MiB page", 0x1234567, ACCESS_READ, true, 0xa34567);
	ok(w.global && w.page_size == 4 * MiB, "4 MiB page: global, size");
	check(f, "PSE-36", 0x1400010, ACCESS_READ, false, 0x1200800010);
	check(f, "bit 21 of a large page", 0x1800000, ACCESS_READ, false, FAULT(PF_PRESENT | PF_RESERVED));
	check(f, "SMEP", 0x1000000, ACCESS_FETCH, false, FAULT(PF_PRESENT | PF_FETCH));
	check(f, "SMEP lets user code fetch", 0x1000000, ACCESS_FETCH, true, 0x800000);
}

static void pae(void)
{
	struct flat *f = paging(CR4_PAE, EFER_NXE);

	flat_put(LEVEL(0) + 8, 8, LEVEL(1) | PTE_P);
	flat_put(LEVEL(1), 8, LEVEL(2) | PTE_P | PTE_W | PTE_U);
	flat_put(LEVEL(1) + 8, 8, 0x2400000000 | PTE_P | PTE_PS | PTE_W);
	flat_put(LEVEL(2), 8, 0x555000 | PTE_P | PTE_W | PTE_NX);
	flat_put(LEVEL(2) + 8, 8, 0x555000 | PTE_P | BIT(40));
	ok(x86_load_pdptes(&f->core, TABLE), "PDPTEs load");
	check(f, "PAE", 0x40000123, ACCESS_WRITE, false, 0x555123);
	check(f, "PAE no execute", 0x40000123, ACCESS_FETCH, false, FAULT(PF_PRESENT | PF_FETCH));
	check(f, "PAE 2 MiB above 4 GiB", 0x40212345, ACCESS_WRITE, false, 0x2400012345);
	check(f, "PAE reserved address bit", 0x40001000, ACCESS_READ, false, FAULT(PF_PRESENT | PF_RESERVED));
	check(f, "PAE PDPTE not present", 0x80000000, ACCESS_FETCH, true, FAULT(PF_USER | PF_FETCH));
	f->core.cpu.efer = 0;
	check(f, "PAE NX without NXE is reserved", 0x40000123, ACCESS_FETCH, false, FAULT(PF_PRESENT | PF_RESERVED));
	flat_put(LEVEL(0) + 16, 8, LEVEL(1) | PTE_P | PTE_W);
	ok(!x86_load_pdptes(&f->core, TABLE), "a PDPTE with bit 1 does not load");
}

static struct flat *long_paging(uint64_t cr4)
{
	struct flat *f = paging(CR4_PAE | cr4, EFER_NXE | EFER_LME | EFER_LMA);

	flat_put(LEVEL(0) + 8 * 511, 8, LEVEL(1) | PTE_P | PTE_W | PTE_U);
	flat_put(LEVEL(1), 8, LEVEL(2) | PTE_P | PTE_W | PTE_U);
	flat_put(LEVEL(1) + 8, 8, 0x40000000 | PTE_P | PTE_W | PTE_PS);
	flat_put(LEVEL(2), 8, LEVEL(3) | PTE_P | PTE_W | PTE_U);
	flat_put(LEVEL(2) + 8, 8, 0x600000 | PTE_P | PTE_W | PTE_U | PTE_PS);
	return f;
}

#define HIGH 0xffffff8000000000ULL

static void four_level(void)
{
	struct flat *f = long_paging(0);

	flat_put(LEVEL(3), 8, 0x777000 | PTE_P | PTE_W | PTE_U);
	check(f, "4-level", HIGH + 0x123, ACCESS_WRITE, true, 0x777123);
	ok((flat_get(LEVEL(0) + 8 * 511, 8) & PTE_A) && (flat_get(LEVEL(1), 8) & PTE_A) &&
		   (flat_get(LEVEL(2), 8) & PTE_A),
	   "4-level: A set on each level");
	check(f, "2 MiB", HIGH + 0x212345, ACCESS_READ, true, 0x612345);
	check(f, "1 GiB", HIGH + 0x40123456, ACCESS_WRITE, false, 0x40123456);
	ok(w.page_size == GiB && !w.user, "1 GiB: size, supervisor");
	flat_put(LEVEL(1) + 8, 8, 0x40002000 | PTE_P | PTE_PS);
	check(f, "1 GiB, reserved bit 13", HIGH + 0x40000000, ACCESS_READ, false, FAULT(PF_PRESENT | PF_RESERVED));
	flat_put(LEVEL(0) + 8 * 510, 8, LEVEL(1) | PTE_P | PTE_PS);
	check(f, "PS in the PML4", HIGH - BIT(39), ACCESS_READ, false, FAULT(PF_PRESENT | PF_RESERVED));
	f->core.model = x86_model_find("v1");
	check(f, "1 GiB where the model has none", HIGH + 0x40000000, ACCESS_READ, false,
	      FAULT(PF_PRESENT | PF_RESERVED));
}

/* Every combination of what a page allows and who asks; the expectation is written down anew. */
static void matrix(void)
{
	for (unsigned n = 0; n < 8 * 2 * 2 * 2 * 2; n++) {
		bool pw = n & 1, pu = n & 2, nx = n & 4, wp = n & 8, smep = n & 16, smap = n & 32, ac = n & 64;
		struct flat *f = long_paging((smep ? CR4_SMEP : 0) | (smap ? CR4_SMAP : 0));
		unsigned wrong = 0;

		flat_put(LEVEL(3), 8, 0x777000 | PTE_P | (pw ? PTE_W : 0) | (pu ? PTE_U : 0) | (nx ? PTE_NX : 0));
		if (!wp)
			f->core.cpu.cr0 &= ~CR0_WP;
		f->core.cpu.rflags = ac ? FLAG_AC : 0;
		for (unsigned user = 0; user < 2; user++)
			for (unsigned access = ACCESS_READ; access <= ACCESS_FETCH; access++) {
				bool want = user ? pu : true;
				if (access == ACCESS_WRITE && !pw && (user || wp))
					want = false;
				if (access == ACCESS_FETCH && (nx || (!user && pu && smep)))
					want = false;
				if (access != ACCESS_FETCH && !user && pu && smap && !ac)
					want = false;
				wrong += x86_walk(&f->core, HIGH, access, user, false, &w) != want;
			}
		if (wrong)
			ok(false, "rights: W %d U %d NX %d WP %d SMEP %d SMAP %d AC %d", pw, pu, nx, wp, smep, smap,
			   ac);
	}
	ok(true, "rights matrix");
	ok(!(flat_get(LEVEL(3), 8) & PTE_A), "a walk that does not commit sets nothing");
}

static void combined(void)
{
	struct flat *f = long_paging(0);

	flat_put(LEVEL(3), 8, 0x777000 | PTE_P | PTE_W | PTE_U);
	flat_put(LEVEL(2), 8, LEVEL(3) | PTE_P | PTE_U);
	check(f, "a read-only directory", HIGH, ACCESS_WRITE, true, FAULT(PF_PRESENT | PF_WRITE | PF_USER));
	flat_put(LEVEL(2), 8, LEVEL(3) | PTE_P | PTE_W);
	check(f, "a supervisor directory", HIGH, ACCESS_READ, true, FAULT(PF_PRESENT | PF_USER));
	flat_put(LEVEL(2), 8, LEVEL(3) | PTE_P | PTE_W | PTE_U | PTE_NX);
	check(f, "a no-execute directory", HIGH, ACCESS_FETCH, true, FAULT(PF_PRESENT | PF_USER | PF_FETCH));
}

int main(void)
{
	none();
	legacy();
	pae();
	four_level();
	matrix();
	combined();
	return done();
}
