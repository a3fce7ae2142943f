/* SPDX-License-Identifier: MIT */
/* The architectural state of one x86 processor: what the manuals say a program can see or depend on, nothing else.
 *
 * This is the state that every engine runs from and stores to, that a snapshot holds, and that moves between engines.
 * Outside an engine's run() it is current on demand, by groups: see vcpu_state(). Inside run() an engine may keep a
 * faster form of its own. Follows the Intel SDM volume 3A, chapters 2, 3, 6, 8 and 10. */
#pragma once
#include "x86/regs.h"

/* A segment register with its hidden part. In real and virtual-8086 mode the hidden part is base = selector << 4,
 * limit 0xffff (unreal mode keeps what protected mode loaded). */
struct x86_segment {
	uint64_t base;     /* linear address */
	uint32_t limit;    /* in bytes, granularity applied; offset of the last byte */
	uint32_t attr;     /* SEGA_* */
	uint16_t selector; /* the visible part */
	uint16_t pad[3];
};

struct x86_table { /* GDTR, IDTR */
	uint64_t base;
	uint16_t limit;
	uint16_t pad[3];
};

/* The FXSAVE image, legacy region of an XSAVE area: SDM volume 1, 10.5.1, the 64-bit layout (FIP, FDP of 64 bits). */
struct x86_fxsave {
	uint16_t fcw, fsw;
	uint8_t ftw;        /* abridged tag word: bit i set = physical register i is not empty */
	uint8_t reserved;
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16];  /* ST0 to ST7 (relative to TOP), 10 bytes used of each */
	uint8_t xmm[16][16];
	uint8_t unused[96];
};

struct x86_xsave { /* standard (not compacted) format; the header's XSTATE_BV is kept by XSAVE/XRSTOR only */
	struct x86_fxsave legacy;  /* 0: x87, MXCSR, XMM */
	uint8_t header[64];        /* 512 */
	uint8_t ymm_high[16][16];  /* 576: component 2 */
	uint8_t rest[2688 - 832];  /* room for the components up to AVX-512 and PKRU */
} __attribute__((aligned(64)));

enum x86_activity { /* what the processor is doing between instructions, SDM 3B 24.4.2 */
	X86_RUNNING,
	X86_HALTED,       /* HLT: waits for an interrupt */
	X86_SHUTDOWN,     /* triple fault */
	X86_WAIT_SIPI,    /* after INIT, an application processor */
};

enum x86_shadow { /* what holds interrupts off before the next instruction, SDM 3A 6.8.3 */
	X86_SHADOW_MOV_SS = 1, /* MOV SS, POP SS: debug exceptions too */
	X86_SHADOW_STI = 2,
};

enum { X86_GPR_ZERO = 16, X86_GPR_RIP = 17, X86_GPR_SLOTS = 18 };

struct x86_cpu {
	/* The sixteen general registers; then two slots that let an effective address be one sum without a test:
	 * [X86_GPR_ZERO] is always 0 and stands for an absent base or index; [X86_GPR_RIP] is RIP (see core.h). */
	uint64_t gpr[X86_GPR_SLOTS];
	uint64_t rflags;
	struct x86_segment seg[SEG_SLOTS], ldtr, tr; /* seg[SEG_FLAT] is always base 0, no limit */
	struct x86_table gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8; /* cr8: task priority, bits 3:0, where no LAPIC holds it */
	uint64_t dr[8];                   /* 4 and 5 unused */
	uint64_t xcr0;

	uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, misc_enable, spec_ctrl, debugctl, feature_control;
	uint64_t tsc_offset, tsc_adjust, tsc_aux; /* guest TSC = clock's TSC + tsc_offset */
	uint64_t mtrr_def_type, mtrr_var[16], mtrr_fixed[11]; /* stored, without effect: all memory is write-back */
	uint64_t pdpte[4];                /* PAE paging: the four entries loaded with CR3, SDM 3A 4.4.1 */

	uint8_t activity;          /* enum x86_activity */
	uint8_t interrupt_shadow;  /* enum x86_shadow, 0: none. The engine clears it after the next instruction */
	uint8_t nmi_blocked;       /* between an NMI's delivery and the next IRET */
	uint8_t nmi_pending;
	uint8_t event_pending;     /* an exception or interrupt that was being delivered when the engine stopped */
	uint8_t event_vector;
	uint8_t event_type;        /* enum x86_event_type in fault.h */
	uint8_t event_has_error;
	uint32_t event_error;
	uint32_t apic_id;          /* set once, at creation */
	uint64_t pending_debug;    /* DR6 bits of a debug exception that is due after this instruction */
	struct x86_xsave xsave;
};

/* Register groups: the unit in which an engine stores, loads and marks state. */
enum x86_group {
	X86_GPRS = BIT(0),     /* general registers and RIP */
	X86_FLAGS = BIT(1),    /* RFLAGS */
	X86_SEGMENTS = BIT(2), /* segment registers, LDTR, TR, GDTR, IDTR */
	X86_CONTROL = BIT(3),  /* CR0-CR8, XCR0, EFER, PDPTEs */
	X86_DEBUG = BIT(4),    /* DR0-DR7 */
	X86_MSRS = BIT(5),     /* all other MSRs */
	X86_XSAVE = BIT(6),    /* x87, SSE, AVX */
	X86_EVENTS = BIT(7),   /* activity, shadow, NMI, pending event */
	X86_ALL_GROUPS = 0xff,
};

/* cpu.c -- Puts the processor into its state after RESET (init false) or INIT (init true), SDM 3A table 9-1.
 * Keeps apic_id; INIT keeps x87/SSE state, MTRRs and the TSC. */
void x86_cpu_reset(struct x86_cpu *, bool init);

static inline uint64_t *x86_rip(struct x86_cpu *cpu)
{
	return &cpu->gpr[X86_GPR_RIP];
}
