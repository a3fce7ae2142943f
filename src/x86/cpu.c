/* SPDX-License-Identifier: MIT */
/* The processor after RESET and INIT. SDM 3A table 9-1. */
#include <string.h>
#include "x86/cpu.h"

#define ATTR_REAL_CODE (SEGA_P | SEGA_S | SEGA_CODE | SEGA_READABLE | SEGA_ACCESSED)
#define ATTR_REAL_DATA (SEGA_P | SEGA_S | SEGA_WRITABLE | SEGA_ACCESSED)
#define PAT_RESET 0x0007040600070406ULL
#define MISC_ENABLE_RESET 0x1801 /* fast strings; neither BTS nor PEBS */

static void reset_segments(struct x86_cpu *cpu)
{
	for (unsigned s = 0; s < SEG_COUNT; s++)
		cpu->seg[s] = (struct x86_segment){ .limit = 0xffff, .attr = ATTR_REAL_DATA };
	cpu->seg[SEG_CS] = (struct x86_segment){
		.base = 0xffff0000, .limit = 0xffff, .attr = ATTR_REAL_CODE, .selector = 0xf000
	};
	cpu->seg[SEG_FLAT] = (struct x86_segment){ .limit = 0xffffffff, .attr = ATTR_REAL_DATA | SEGA_G | SEGA_DB };
	cpu->ldtr = (struct x86_segment){ .limit = 0xffff, .attr = SEGA_P | SYS_LDT };
	cpu->tr = (struct x86_segment){ .limit = 0xffff, .attr = SEGA_P | SYS_TSS_BUSY };
	cpu->gdtr = cpu->idtr = (struct x86_table){ .limit = 0xffff };
}

/* What a RESET clears and an INIT keeps: MSRs, MTRRs, time, x87 and SSE. */
static void reset_cold(struct x86_cpu *cpu)
{
	uint32_t apic_id = cpu->apic_id;

	memset(cpu, 0, sizeof(*cpu));
	cpu->apic_id = apic_id;
	cpu->cr0 = CR0_CD | CR0_NW;
	cpu->xcr0 = XCR0_X87;
	cpu->pat = PAT_RESET;
	cpu->misc_enable = MISC_ENABLE_RESET;
	cpu->feature_control = 1; /* locked, as firmware leaves it */
	cpu->xsave.legacy.fcw = 0x40;
	cpu->xsave.legacy.ftw = 0xff; /* all registers hold +0.0 */
	cpu->xsave.legacy.mxcsr = 0x1f80;
	cpu->xsave.legacy.mxcsr_mask = 0xffff;
}

void x86_cpu_reset(struct x86_cpu *cpu, bool init)
{
	if (!init)
		reset_cold(cpu);
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[X86_GPR_RIP] = 0xfff0;
	cpu->gpr[RDX] = 0x600; /* family 6 */
	cpu->rflags = FLAG_FIXED;
	reset_segments(cpu);
	cpu->cr0 = (cpu->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
	cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->cr8 = 0;
	cpu->efer = 0;
	memset(cpu->pdpte, 0, sizeof(cpu->pdpte));
	memset(cpu->dr, 0, sizeof(cpu->dr));
	cpu->dr[6] = DR6_FIXED;
	cpu->dr[7] = DR7_FIXED;
	cpu->activity = X86_RUNNING; /* an application processor's owner makes it X86_WAIT_SIPI */
	cpu->interrupt_shadow = cpu->nmi_blocked = cpu->nmi_pending = 0;
	cpu->event_pending = cpu->event_vector = cpu->event_type = cpu->event_has_error = 0;
	cpu->event_error = 0;
	cpu->pending_debug = 0;
}
