/* SPDX-License-Identifier: MIT */
/* Names of the architectural bits: RFLAGS, control and debug registers, MSRs, exceptions, descriptors.
 * Follows the Intel SDM volume 3A chapters 2, 4, 6 and volume 4; the AMD APM where Intel has no name. */
#pragma once
#include "util/bits.h"

enum x86_gpr { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum x86_seg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_COUNT, SEG_FLAT = SEG_COUNT, SEG_SLOTS };

/* RFLAGS, SDM 3A 2.3 */
#define FLAG_CF BIT(0)
#define FLAG_FIXED BIT(1) /* reads as one */
#define FLAG_PF BIT(2)
#define FLAG_AF BIT(4)
#define FLAG_ZF BIT(6)
#define FLAG_SF BIT(7)
#define FLAG_TF BIT(8)
#define FLAG_IF BIT(9)
#define FLAG_DF BIT(10)
#define FLAG_OF BIT(11)
#define FLAG_IOPL (3ULL << 12)
#define FLAG_NT BIT(14)
#define FLAG_RF BIT(16)
#define FLAG_VM BIT(17)
#define FLAG_AC BIT(18)
#define FLAG_VIF BIT(19)
#define FLAG_VIP BIT(20)
#define FLAG_ID BIT(21)
#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* Control registers, SDM 3A 2.5 */
#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)
#define CR3_PCID 0xfffULL     /* with CR4.PCIDE */
#define CR3_NOFLUSH BIT(63)   /* in a MOV to CR3 with CR4.PCIDE: keep the entries of the new PCID */
#define CR4_VME BIT(0)
#define CR4_PVI BIT(1)
#define CR4_TSD BIT(2)
#define CR4_DE BIT(3)
#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_MCE BIT(6)
#define CR4_PGE BIT(7)
#define CR4_PCE BIT(8)
#define CR4_OSFXSR BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP BIT(11)
#define CR4_LA57 BIT(12)
#define CR4_VMXE BIT(13)
#define CR4_FSGSBASE BIT(16)
#define CR4_PCIDE BIT(17)
#define CR4_OSXSAVE BIT(18)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)

/* Debug registers, SDM 3B 17.2 */
#define DR6_FIXED 0xffff0ff0ULL
#define DR6_BD BIT(13)
#define DR6_BS BIT(14)
#define DR6_BT BIT(15)
#define DEBUGCTL_LBR BIT(0) /* stored; there is no record of branches */
#define DEBUGCTL_BTF BIT(1) /* single step traps on branches only */
#define DR7_FIXED BIT(10)
#define DR7_GD BIT(13)

/* XCR0 */
#define XCR0_X87 BIT(0)
#define XCR0_SSE BIT(1)
#define XCR0_AVX BIT(2)

/* MSRs, SDM volume 4 */
#define MSR_TSC 0x10
#define MSR_PLATFORM_ID 0x17
#define MSR_APIC_BASE 0x1b
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_TSC_ADJUST 0x3b
#define MSR_SPEC_CTRL 0x48
#define MSR_PRED_CMD 0x49
#define MSR_BIOS_SIGN_ID 0x8b
#define MSR_MTRRCAP 0xfe
#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_MCG_CAP 0x179
#define MSR_MCG_STATUS 0x17a
#define MSR_MISC_ENABLE 0x1a0
#define MSR_DEBUGCTL 0x1d9
#define MSR_MTRR_PHYSBASE0 0x200 /* BASE0, MASK0, BASE1, ... 8 pairs */
#define MSR_MTRR_FIX64K 0x250
#define MSR_MTRR_FIX16K_80000 0x258
#define MSR_MTRR_FIX16K_A0000 0x259
#define MSR_MTRR_FIX4K 0x268 /* 8 of them */
#define MSR_PAT 0x277
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_XSS 0xda0
#define MSR_X2APIC_FIRST 0x800
#define MSR_X2APIC_LAST 0x8ff
#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_SFMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX 0xc0000103

#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)
#define APIC_BASE_BSP BIT(8)
#define APIC_BASE_X2APIC BIT(10)
#define APIC_BASE_ENABLE BIT(11)

/* Exception vectors, SDM 3A 6.3.1 */
enum x86_vector {
	VECTOR_DE = 0, VECTOR_DB = 1, VECTOR_NMI = 2, VECTOR_BP = 3, VECTOR_OF = 4, VECTOR_BR = 5, VECTOR_UD = 6,
	VECTOR_NM = 7, VECTOR_DF = 8, VECTOR_TS = 10, VECTOR_NP = 11, VECTOR_SS = 12, VECTOR_GP = 13, VECTOR_PF = 14,
	VECTOR_MF = 16, VECTOR_AC = 17, VECTOR_MC = 18, VECTOR_XM = 19,
};

/* #PF error code, SDM 3A 4.7 */
#define PF_PRESENT BIT(0)
#define PF_WRITE BIT(1)
#define PF_USER BIT(2)
#define PF_RESERVED BIT(3)
#define PF_FETCH BIT(4)

/* Page table entries, SDM 3A 4.3 to 4.5 */
#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_PWT BIT(3)
#define PTE_PCD BIT(4)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_G BIT(8)
#define PTE_NX BIT(63)

#define X86_PAGE_SHIFT 12
#define X86_PAGE_SIZE 4096ULL
#define X86_PAGE_MASK (~0xfffULL)

/* Segment attributes in struct x86_segment.attr: bits 0 to 15 are bytes 5 and 6 of a descriptor (type, S, DPL, P;
 * bits 8 to 11 there hold limit 19:16 and are zero here; AVL, L, D/B, G). */
#define SEGA_TYPE 0x000fu
#define SEGA_ACCESSED 0x0001u
#define SEGA_WRITABLE 0x0002u    /* data */
#define SEGA_READABLE 0x0002u    /* code */
#define SEGA_EXPAND_DOWN 0x0004u /* data */
#define SEGA_CONFORMING 0x0004u  /* code */
#define SEGA_CODE 0x0008u
#define SEGA_S 0x0010u           /* code or data, not a system segment */
#define SEGA_DPL_SHIFT 5
#define SEGA_DPL 0x0060u
#define SEGA_P 0x0080u
#define SEGA_AVL 0x1000u
#define SEGA_L 0x2000u
#define SEGA_DB 0x4000u
#define SEGA_G 0x8000u
#define SEGA_UNUSABLE 0x10000u   /* holds a null selector */

#define TSS_IO_MAP_BASE 0x66 /* offset of that field in a 32- and 64-bit TSS */

/* System descriptor types, SDM 3A table 3-2 */
enum {
	SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL16 = 4, SYS_TASK_GATE = 5, SYS_INT16 = 6, SYS_TRAP16 = 7,
	SYS_TSS = 9, SYS_TSS_BUSY = 11, SYS_CALL = 12, SYS_INT = 14, SYS_TRAP = 15,
};
