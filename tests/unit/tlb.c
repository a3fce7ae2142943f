/* SPDX-License-Identifier: MIT */
/* The software TLB and the slow halves: filling, each kind of flush, page-crossing, devices, traced pages,
 * alignment, breakpoints. SDM 3A 4.10. */
#include "flat.h"
#include "test.h"
#include "x86/mem.h"

#define PAGES 0x40000ULL /* table of 4 KiB pages that maps 4 MiB and up; built by map() */
#define VA 0x400000ULL

static struct flat *f;
static struct x86_core *core;
static const struct insn none = { .length = 1 };

/* Long mode with identity 2 MiB pages, but 4 KiB pages from VA on. */
static void start(unsigned cpl)
{
	f = flat_new("v2");
	core = &f->core;
	flat_mode(f, FLAT_LONG, cpl);
	flat_put(FLAT_PML4 + 0x2000 + 8 * 2, 8, PAGES | PTE_P | PTE_W | PTE_U);
	flat_put(FLAT_PML4 + 0x2000 + 8 * 3, 8, 0x600000 | PTE_P | PTE_W | PTE_PS); /* a large page next to them */
}

static void map(unsigned page, gpa_t to, uint64_t flags)
{
	flat_put(PAGES + 8 * page, 8, to | flags);
}

static int load(gva_t gva, unsigned size, uint64_t *value)
{
	if (flat_catch(f))
		return core->fault.vector;
	*value = x86_load(core, &none, gva, size);
	return -1;
}

static int store(gva_t gva, unsigned size, uint64_t value)
{
	if (flat_catch(f))
		return core->fault.vector;
	x86_store(core, &none, gva, size, value);
	return -1;
}

static bool hit(gva_t gva)
{
	return tlb_hit(core->tlb->read, gva, 1);
}

static void filling(void)
{
	uint64_t value = 0;

	start(0);
	map(0, 0x100000, PTE_P | PTE_W);
	flat_put(0x100008, 8, 0x1122334455667788);
	ok(load(VA + 8, 8, &value) == -1 && value == 0x1122334455667788, "a load through a miss");
	ok(hit(VA) && tlb_hit(core->tlb->write, VA, 1) == NULL, "a load fills read rights only");
	uint64_t misses = core->stat.tlb_miss;
	load(VA + 0x10, 4, &value);
	ok(core->stat.tlb_miss == misses, "the next load hits");
	ok(store(VA + 9, 2, 0xabcd) == -1 && flat_get(0x100009, 2) == 0xabcd, "a store");
	ok(tlb_hit(core->tlb->write, VA, 1), "a store fills write rights");
	ok(load(0x0000800000000000, 1, &value) == VECTOR_GP, "not canonical");
	ok(load(VA + 0x1000, 1, &value) == VECTOR_PF && core->cpu.cr2 == VA + 0x1000 && core->fault.error == 0,
	   "not present");
	ok(store(0xff8000, 4, 1) == -1 && flat_get(0xff8000, 4) == 0 && f->log[0].kind == FLAT_WRITE,
	   "a write to ROM goes to the bus");
	ok(load(0xff8000, 4, &value) == -1 && hit(0xff8000), "ROM can be read directly");
}

static void crossing(void)
{
	uint64_t value = 0;

	start(3);
	map(0, 0x100000, PTE_P | PTE_W | PTE_U);
	map(1, 0x200000, PTE_P | PTE_W | PTE_U);
	map(2, 0x300000, PTE_P | PTE_U);
	ok(store(VA + 0xffd, 8, 0x8877665544332211) == -1, "a store across pages");
	ok(flat_get(0x100ffd, 3) == 0x332211 && flat_get(0x200000, 5) == 0x8877665544,
	   "both halves are in their pages");
	ok(load(VA + 0xffd, 8, &value) == -1 && value == 0x8877665544332211, "a load across pages");
	ok(store(VA + 0x1ffe, 4, 0) == VECTOR_PF && core->cpu.cr2 == VA + 0x2000 &&
		   core->fault.error == (PF_PRESENT | PF_WRITE | PF_USER),
	   "the second page faults");
	ok(flat_get(0x200ffe, 2) == 0 && store(VA + 0x1ffe, 2, 0x5555) == -1 && store(VA + 0x1ffe, 4, 0) == VECTOR_PF &&
	   flat_get(0x200ffe, 2) == 0x5555, "then nothing is written to the first");
	uint8_t bytes[0x1800];
	memset(bytes, 0x5a, sizeof(bytes));
	if (flat_catch(f) == 0)
		x86_store_bytes(core, &none, VA + 0x800, bytes, sizeof(bytes));
	ok(flat_get(0x1007ff, 2) == 0x5a00 && flat_get(0x200fff, 1) == 0x5a, "a long store");
	if (flat_catch(f) == 0)
		x86_store_bytes(core, &none, VA + 0x1800, bytes, sizeof(bytes));
	ok(core->cpu.cr2 == VA + 0x2000, "a long store that faults");
	gpa_t traced;
	if (flat_catch(f) == 0)
		ok(!x86_rmw_begin(core, &none, VA + 0xffe, 4, &traced),
		   "a read-modify-write across pages is not in place");
	if (flat_catch(f) == 0) {
		uint32_t *at = x86_rmw_begin(core, &none, VA + 0xffc, 4, &traced);
		ok(at == (uint32_t *)(flat_ram + 0x100ffc) && !traced, "a read-modify-write in place");
	}
}

static void devices(void)
{
	uint64_t value = 0;

	start(0);
	map(0, 0xfe000000, PTE_P | PTE_W);
	map(1, 0xfe008000, PTE_P | PTE_W);
	f->device_value = 0x1122334455667788;
	ok(load(VA + 4, 4, &value) == -1 && value == 0x55667788 && f->logged == 1 && f->log[0].address == 0xfe000004 &&
		   f->log[0].size == 4,
	   "a device is read with one access");
	ok(!hit(VA), "a device is never in the TLB");
	store(VA + 0xffe, 8, 0x8877665544332211);
	ok(f->logged == 4 && f->log[1].address == 0xfe000ffe && f->log[1].size == 2 && f->log[1].value == 0x2211 &&
		   f->log[2].address == 0xfe008000 && f->log[2].size == 4 && f->log[2].value == 0x66554433 &&
		   f->log[3].address == 0xfe008004 && f->log[3].size == 2,
	   "an access across pages of devices is split");
}

static void traced(void)
{
	start(0);
	map(0, 0x100000, PTE_P | PTE_W);
	f->traced_page = 0x100000;
	store(VA + 0x10, 4, 0x12345678);
	store(VA + 0x14, 1, 1);
	ok(f->logged == 2 && f->log[0].kind == FLAT_TRACED && f->log[0].address == 0x100010 && f->log[0].size == 4,
	   "traced writes are reported");
	ok(flat_get(0x100010, 4) == 0x12345678 && !tlb_hit(core->tlb->write, VA, 1), "and stay out of the TLB");
	gpa_t t = 0;
	if (flat_catch(f) == 0) {
		uint8_t *at = x86_rmw_begin(core, &none, VA, 1, &t);
		*at = 7;
		x86_rmw_done(core, t, 1);
	}
	ok(t && f->logged == 3 && f->log[2].address == 0x100000, "a traced read-modify-write is reported");
	f->traced_page = FLAT_PML4;
	uint64_t value;
	x86_tlb_flush(core, FLUSH_ALL, 0, 0);
	flat_put(FLAT_PML4, 8, flat_get(FLAT_PML4, 8) & ~PTE_A);
	load(VA, 1, &value);
	ok(f->logged == 4 && f->log[3].address == FLAT_PML4, "an accessed bit in a traced page is reported");
}

static void flushes(void)
{
	uint64_t value = 0, generation;

	start(0);
	for (unsigned n = 0; n < 512; n++)
		map(n, 0x100000 + (n & 15) * 0x1000, PTE_P | PTE_W);
	load(VA, 1, &value);
	load(VA + 0x1000, 1, &value);
	store(VA + 0x2000, 1, 1);
	map(0, 0x180000, PTE_P | PTE_W);
	flat_put(0x180000, 1, 0x77);
	generation = core->mapping_generation;
	x86_tlb_flush(core, FLUSH_PAGE, 0, VA + 0x123);
	ok(!hit(VA) && hit(VA + 0x1000), "FLUSH_PAGE drops one page");
	ok(core->mapping_generation == generation, "and leaves code alone that was fetched elsewhere");
	load(VA, 1, &value);
	ok(value == 0x77, "the new translation is used");
	x86_tlb_flush_writes(core);
	ok(hit(VA) && !tlb_hit(core->tlb->write, VA + 0x2000, 1), "flush_writes keeps what is read");
	if (flat_catch(f) == 0)
		ok(x86_fetch_page(core, VA + 0x3010)->page == 0x103000, "a page to fetch from");
	x86_tlb_flush(core, FLUSH_PAGE, 0, VA + 0x3000);
	ok(core->mapping_generation != generation, "FLUSH_PAGE of a code page starts a generation");
	for (unsigned n = 0; n < 512; n++)
		load(VA + n * 0x1000, 1, &value);
	x86_tlb_flush(core, FLUSH_NONGLOBAL, 0, 0);
	unsigned left = 0;
	for (unsigned n = 0; n < 512; n++)
		left += hit(VA + n * 0x1000);
	ok(left == 0, "a flush of more than the log holds drops all");
	load(VA, 1, &value);
	x86_tlb_flush(core, FLUSH_ALL, 0, 0);
	ok(!hit(VA), "a flush by the log drops all");
	load(0x600000, 1, &value);
	load(0x601000, 1, &value);
	x86_tlb_flush(core, FLUSH_PAGE, 0, 0x700000);
	ok(!hit(0x600000) && !hit(0x601000), "FLUSH_PAGE of a large page drops all its parts");
	core->cpu.cr4 |= CR4_PCIDE;
	load(VA, 1, &value);
	x86_tlb_flush(core, FLUSH_PCID, 5, 0);
	ok(hit(VA), "FLUSH_PCID of another PCID keeps this one's");
	x86_tlb_flush(core, FLUSH_PCID, 0, 0);
	ok(!hit(VA), "FLUSH_PCID of this one");
}

static void globals(void)
{
	uint64_t value = 0;

	start(0);
	core->cpu.cr4 |= CR4_PGE;
	for (unsigned n = 0; n < 512; n++)
		map(n, 0x100000 + (n & 15) * 0x1000, PTE_P | PTE_W | (n & 1 ? PTE_G : 0));
	for (unsigned many = 0; many < 2; many++) {
		x86_tlb_flush(core, FLUSH_ALL, 0, 0);
		for (unsigned n = 0; n < (many ? 512 : 8); n++)
			load(VA + n * 0x1000, 1, &value);
		if (flat_catch(f) == 0) {
			x86_fetch_page(core, VA);
			x86_fetch_page(core, VA + 0x1000);
		}
		uint64_t generation = core->mapping_generation, walks = core->stat.walk;
		x86_tlb_flush(core, FLUSH_NONGLOBAL, 0, 0);
		unsigned local = 0, global = 0;
		for (unsigned n = 0; n < 512; n++)
			*(n & 1 ? &global : &local) += hit(VA + n * 0x1000);
		ok(!local && global == (many ? 256 : 4), "a change of address space keeps global pages alone");
		if (flat_catch(f) == 0)
			x86_fetch_page(core, VA + 0x1000);
		ok(core->stat.walk == walks && core->mapping_generation != generation,
		   "also those to fetch from, in a new generation");
		x86_tlb_flush(core, FLUSH_PAGE, 0, VA + 0x1000);
		ok(!hit(VA + 0x1000) && core->mapping_generation == generation + 2,
		   "INVLPG drops a global page, and code in it");
	}
	x86_tlb_flush(core, FLUSH_NONGLOBAL, 0, 0);
	x86_tlb_flush(core, FLUSH_ALL, 0, 0);
	unsigned left = 0;
	for (unsigned n = 0; n < 512; n++)
		left += hit(VA + n * 0x1000);
	ok(!left, "FLUSH_ALL drops global pages too");
}

/* INVLPG of a page of a program leaves the kernel's code alone. */
static void code_of_programs(void)
{
	uint64_t user, supervisor;

	start(3);
	map(0, 0x100000, PTE_P | PTE_U);
	if (flat_catch(f) == 0)
		x86_fetch_page(core, VA);
	user = core->mapping_generation;
	supervisor = core->supervisor_generation;
	x86_tlb_flush(core, FLUSH_PAGE, 0, VA);
	ok(core->mapping_generation != user, "INVLPG of a page of user code starts a generation of that");
	ok(core->supervisor_generation == supervisor, "but none of supervisor code");
}

static void privilege(void)
{
	uint64_t value = 0;

	start(3);
	map(0, 0x100000, PTE_P | PTE_W | PTE_U);
	map(1, 0x101000, PTE_P | PTE_W);
	ok(load(VA + 0x1000, 1, &value) == VECTOR_PF && core->fault.error == (PF_PRESENT | PF_USER),
	   "a user load of a supervisor page");
	if (flat_catch(f) == 0)
		value = x86_load_system(core, &none, VA + 0x1000, 1);
	ok(load(VA + 0x1000, 1, &value) == VECTOR_PF, "a system load in between gives the user no right");
	core->cpu.cr0 |= CR0_AM;
	x86_flags_set(core, FLAG_AC);
	ok(load(VA + 1, 4, &value) == VECTOR_AC && core->fault.error == 0, "an alignment check");
	ok(load(VA + 4, 4, &value) == -1 && load(VA + 4, 4, &value) == -1 && load(VA + 6, 4, &value) == VECTOR_AC,
	   "aligned accesses pass, and do not hide others");
	ok(store(VA + 7, 2, 1) == VECTOR_AC && store(VA + 7, 1, 1) == -1, "stores too");
	start(0);
	map(0, 0x100000, PTE_P | PTE_W | PTE_U);
	core->cpu.cr4 |= CR4_SMAP;
	x86_core_loaded(core);
	ok(load(VA, 1, &value) == VECTOR_PF, "SMAP");
	x86_flags_set(core, FLAG_AC);
	ok(load(VA, 1, &value) == -1, "SMAP, suspended");
	x86_flags_set(core, 0);
	ok(load(VA, 1, &value) == VECTOR_PF, "SMAP again, although it was filled");
}

static void breakpoints(void)
{
	uint64_t value = 0;

	start(0);
	map(0, 0x100000, PTE_P | PTE_W);
	core->cpu.dr[0] = VA + 0x10;
	core->cpu.dr[7] = DR7_FIXED | 1 | 1 << 16 | 3 << 18; /* writes, 4 bytes */
	load(VA + 0x10, 4, &value);
	store(VA + 0x14, 4, 0);
	ok(!core->cpu.pending_debug, "a write breakpoint is silent for reads and neighbours");
	store(VA + 0xf, 2, 0);
	ok(core->cpu.pending_debug == 1, "a write that overlaps meets it");
	core->cpu.pending_debug = 0;
	core->cpu.dr[7] = DR7_FIXED | 1 | 3 << 16 | 3 << 18;
	load(VA + 0x13, 1, &value);
	ok(core->cpu.pending_debug == 1, "an access breakpoint sees reads");
}

int main(void)
{
	filling();
	crossing();
	devices();
	traced();
	flushes();
	globals();
	code_of_programs();
	privilege();
	breakpoints();
	return done();
}
