/* SPDX-License-Identifier: MIT */
/* The processor as 32-bit boot protocols hand it over: flat protected mode without paging. The state is that of PVH (Xen's
 * docs/misc/pvh.pandoc), which also fits the Multiboot specification 0.6.96, 3.2. */
#include "boot/flat32.h"
#include <string.h>

static const struct x86_segment code = {
	.limit = UINT32_MAX, .attr = SEGA_P | SEGA_S | SEGA_CODE | SEGA_READABLE | SEGA_ACCESSED | SEGA_DB | SEGA_G, .selector = FLAT32_CS,
};
static const struct x86_segment data = {
	.limit = UINT32_MAX, .attr = SEGA_P | SEGA_S | SEGA_WRITABLE | SEGA_ACCESSED | SEGA_DB | SEGA_G, .selector = FLAT32_DS,
};

/* SDM 3A figures 3-8 and 7-3; bases up to 4 GiB. */
static uint64_t descriptor(const struct x86_segment *s)
{
	uint64_t limit = s->attr & SEGA_G ? s->limit >> 12 : s->limit;
	return (limit & 0xffff) | (s->base & 0xffffff) << 16 | (uint64_t)(s->attr & 0xf0ff) << 40 | (limit >> 16) << 48 |
	       (s->base >> 24) << 56;
}

static struct x86_segment task(gpa_t tables)
{
	return (struct x86_segment){ .base = tables + offsetof(struct flat32_tables, tss), .limit = 103, .attr = SEGA_P | SYS_TSS_BUSY,
				     .selector = FLAT32_TSS };
}

void flat32_tables(struct flat32_tables *t, gpa_t at)
{
	struct x86_segment tss = task(at);
	memset(t, 0, sizeof(*t));
	t->gdt[FLAT32_CS / 8] = descriptor(&code);
	t->gdt[FLAT32_DS / 8] = descriptor(&data);
	t->gdt[FLAT32_TSS / 8] = descriptor(&tss);
}

int flat32_enter(struct vm *vm, gpa_t tables, uint32_t entry, uint32_t eax, uint32_t ebx)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;
	int error = vcpu_state(vcpu, X86_ALL_GROUPS);
	if (error)
		return error;
	for (unsigned i = 0; i < 16; i++)
		cpu->gpr[i] = 0;
	cpu->gpr[RAX] = eax;
	cpu->gpr[RBX] = ebx;
	*x86_rip(cpu) = entry;
	cpu->rflags = FLAG_FIXED;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		cpu->seg[i] = i == SEG_CS ? code : data;
	cpu->tr = task(tables);
	cpu->gdtr = (struct x86_table){ .base = tables, .limit = sizeof(((struct flat32_tables *)0)->gdt) - 1 };
	cpu->idtr = (struct x86_table){ .base = 0, .limit = 0 };
	cpu->cr0 = CR0_PE | CR0_ET | CR0_NE;
	cpu->cr3 = cpu->cr4 = 0;
	cpu->efer = 0;
	cpu->activity = X86_RUNNING;
	x86_core_loaded(&vcpu->core);
	vcpu_changed(vcpu, X86_ALL_GROUPS);
	return 0;
}
