/* SPDX-License-Identifier: MIT */
/* A processor without a machine: see flat.h. */
#include "flat.h"
#include <assert.h>

uint8_t flat_ram[FLAT_RAM] __attribute__((aligned(4096)));
jmp_buf flat_unwind;
static struct flat flat;

static struct flat *flat_of(struct x86_core *core)
{
	return (struct flat *)core;
}

static void note(struct flat *f, struct flat_access a)
{
	if (f->logged < FLAT_LOG)
		f->log[f->logged++] = a;
}

static uint8_t *page(struct x86_core *core, gpa_t gpa, enum x86_access access, bool *traced)
{
	*traced = access == ACCESS_WRITE && gpa == flat_of(core)->traced_page;
	if (gpa >= FLAT_RAM || (access == ACCESS_WRITE && gpa >= FLAT_ROM))
		return NULL;
	return flat_ram + gpa;
}

static void written(struct x86_core *core, gpa_t gpa, unsigned size)
{
	note(flat_of(core), (struct flat_access){ FLAT_TRACED, SPACE_MEMORY, gpa, 0, size });
}

static uint64_t io_read(struct x86_core *core, enum x86_space space, uint64_t address, unsigned size)
{
	struct flat *f = flat_of(core);
	uint64_t value = f->device_value & size_mask(size);

	note(f, (struct flat_access){ FLAT_READ, space, address, value, size });
	return value;
}

static void io_write(struct x86_core *core, enum x86_space space, uint64_t address, unsigned size, uint64_t value)
{
	note(flat_of(core), (struct flat_access){ FLAT_WRITE, space, address, value & size_mask(size), size });
}

static uint64_t tsc(struct x86_core *core)
{
	return flat_of(core)->tsc;
}

static uint64_t random_number(struct x86_core *core)
{
	return 0x0123456789abcdefULL;
}

static void tlb_flush(struct x86_core *core, enum x86_flush what, unsigned pcid, gva_t gva)
{
	struct flat *f = flat_of(core);

	f->flushes++;
	f->last_flush = what;
}

static const struct x86_env env = {
	.page = page, .written = written, .io_read = io_read, .io_write = io_write, .tsc = tsc, .random = random_number,
	.tlb_flush = tlb_flush,
};

struct flat *flat_new(const char *model)
{
	memset(flat_ram, 0, sizeof(flat_ram));
	memset(&flat, 0, sizeof(flat));
	flat.traced_page = 1;
	flat.core.tsc_khz = 2000000;
	flat.core.cpus = 1;
	flat.core.chain_limit = UINT64_MAX;
	x86_core_init(&flat.core, &env, x86_model_find(model), 0);
	flat.flushes = 0;
	return &flat;
}

uint64_t flat_descriptor(uint32_t base, uint32_t limit, uint32_t attr)
{
	return (limit & 0xffffULL) | (base & 0xffffffULL) << 16 | (uint64_t)(attr & 0xf0ff) << 40 |
	       (limit >> 16 & 15ULL) << 48 | (uint64_t)(base >> 24) << 56;
}

uint64_t flat_gate(uint16_t selector, uint32_t offset, unsigned type, unsigned dpl)
{
	return (offset & 0xffffULL) | (uint64_t)selector << 16 | (uint64_t)(SEGA_P | dpl << 5 | type) << 40 |
	       (uint64_t)(offset >> 16) << 48;
}

void flat_set_gate(struct flat *f, uint8_t vector, uint16_t selector, uint64_t offset, unsigned type, unsigned dpl,
		   unsigned ist)
{
	uint64_t raw = flat_gate(selector, (uint32_t)offset, type, dpl) | (uint64_t)ist << 32;

	if (f->core.mode & MODE_LONG) {
		flat_put(FLAT_IDT + 16u * vector, 8, raw);
		flat_put(FLAT_IDT + 16u * vector + 8, 8, offset >> 32);
	} else {
		flat_put(FLAT_IDT + 8u * vector, 8, raw);
	}
}

static void set_gdt(bool small, bool lma)
{
	uint32_t code = SEGA_P | SEGA_S | SEGA_CODE | SEGA_READABLE | SEGA_ACCESSED,
		 data = SEGA_P | SEGA_S | SEGA_WRITABLE | SEGA_ACCESSED;
	uint32_t size = small ? 0 : SEGA_G | SEGA_DB, limit = small ? 0xffff : 0xfffff, user = 3 << SEGA_DPL_SHIFT;

	flat_put(FLAT_GDT + FLAT_CODE0, 8, flat_descriptor(0, limit, code | size));
	flat_put(FLAT_GDT + FLAT_DATA0, 8, flat_descriptor(0, limit, data | size));
	flat_put(FLAT_GDT + FLAT_CODE3, 8, flat_descriptor(0, limit, code | size | user));
	flat_put(FLAT_GDT + FLAT_DATA3, 8, flat_descriptor(0, limit, data | size | user));
	flat_put(FLAT_GDT + FLAT_TR, 8, flat_descriptor(FLAT_TSS, 0x1ff, SEGA_P | SYS_TSS_BUSY));
	flat_put(FLAT_GDT + FLAT_TR + 8, 8, 0);
	if (lma) {
		flat_put(FLAT_GDT + FLAT_CODE64, 8, flat_descriptor(0, 0xfffff, code | SEGA_G | SEGA_L));
		flat_put(FLAT_GDT + FLAT_CODE64_3, 8, flat_descriptor(0, 0xfffff, code | SEGA_G | SEGA_L | user));
	}
}

static struct x86_segment load(uint16_t selector)
{
	uint64_t raw = flat_get(FLAT_GDT + (selector & ~7u), 8);
	uint32_t attr = (uint32_t)(raw >> 40) & 0xf0ff, limit = (uint32_t)((raw & 0xffff) | (raw >> 32 & 0xf0000));

	return (struct x86_segment){
		.base = (raw >> 16 & 0xffffff) | (raw >> 56) << 24,
		.limit = attr & SEGA_G ? limit << 12 | 0xfff : limit,
		.attr = attr,
		.selector = selector,
	};
}

static void identity_map(struct flat *f)
{
	flat_put(FLAT_PML4, 8, (FLAT_PML4 + 0x1000) | PTE_P | PTE_W | PTE_U);
	flat_put(FLAT_PML4 + 0x1000, 8, (FLAT_PML4 + 0x2000) | PTE_P | PTE_W | PTE_U);
	for (unsigned n = 0; n < FLAT_RAM / (2 * MiB); n++)
		flat_put(FLAT_PML4 + 0x2000 + 8 * n, 8, n * 2 * MiB | PTE_P | PTE_W | PTE_U | PTE_PS);
	f->core.cpu.cr3 = FLAT_PML4;
	f->core.cpu.cr4 |= CR4_PAE;
	f->core.cpu.efer |= EFER_LME | EFER_LMA;
	f->core.cpu.cr0 |= CR0_PG | CR0_WP;
}

void flat_mode(struct flat *f, enum flat_mode mode, unsigned cpl)
{
	struct x86_cpu *cpu = &f->core.cpu;
	bool lma = mode == FLAT_COMPAT32 || mode == FLAT_LONG;

	x86_cpu_reset(cpu, false);
	if (mode == FLAT_REAL) {
		cpu->seg[SEG_CS] = (struct x86_segment){ .limit = 0xffff, .attr = cpu->seg[SEG_CS].attr };
	} else {
		set_gdt(mode == FLAT_PROTECTED16, lma);
		cpu->cr0 |= CR0_PE;
		cpu->gdtr = (struct x86_table){ .base = FLAT_GDT, .limit = FLAT_GDT_SIZE - 1 };
		cpu->idtr = (struct x86_table){ .base = FLAT_IDT, .limit = 0xfff };
		if (lma)
			identity_map(f);
		uint16_t code = mode == FLAT_LONG ? (cpl ? FLAT_CODE64_3 : FLAT_CODE64) : cpl ? FLAT_CODE3 : FLAT_CODE0;
		uint16_t data = cpl ? FLAT_DATA3 : FLAT_DATA0;
		cpu->seg[SEG_CS] = load((uint16_t)(code | cpl));
		for (unsigned s = 0; s < SEG_COUNT; s++)
			if (s != SEG_CS)
				cpu->seg[s] = load((uint16_t)(data | cpl));
		cpu->tr = load(FLAT_TR);
	}
	cpu->gpr[RSP] = 0x8000;
	x86_core_loaded(&f->core);
}

int flat_run(struct flat *f, uint64_t at, const void *bytes, unsigned length)
{
	struct insn i = { 0 };
	volatile int result = -1;

	f->core.cpu.gpr[X86_GPR_RIP] = at;
	assert(length <= 15);
	x86_decode(&i, bytes, length, f->core.mode, f->core.model);
	if (flat_catch(f) == 0)
		x86_exec_one(&f->core, &i);
	else
		result = f->core.fault.vector;
	return result;
}
