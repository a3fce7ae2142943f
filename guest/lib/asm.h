/* SPDX-License-Identifier: MIT */
/* Numbers that C and assembly share: selectors of our GDT, bits of control registers and page tables (SDM 3A 2.5, 4.5). */
#pragma once

#define KCS 0x08    /* ring 0, 64-bit */
#define KDS 0x10
#define UCS32 0x1b  /* ring 3; this order is what SYSRET and SYSEXIT demand */
#define UDS 0x23
#define UCS 0x2b    /* 64-bit */
#define UDS64 0x33  /* the same as UDS, where SYSEXIT expects it */
#define KCS32 0x38  /* ring 0, compatibility mode */
#define TSS_SEL 0x40
#define LDT_SEL 0x50
#define FREE_SEL 0x60 /* from here on: for tests */
#define GDT_ENTRIES 32

#define AP_STACK 0x4000   /* bytes of stack of each further processor */

#define IST_DF 1
#define IST_NMI 2
#define IST_TEST 3

#define USER_BASE 0x10000000000 /* physical 0 for ring 3: PML4 entry 2 */
#define VECTOR_RETURN 0x80      /* ring 3 returns to ring 0 */
#define NONE -1                 /* no exception */

#define CR0_PE 0x1
#define CR0_MP 0x2
#define CR0_EM 0x4
#define CR0_TS 0x8
#define CR0_ET 0x10
#define CR0_NE 0x20
#define CR0_WP 0x10000
#define CR0_AM 0x40000
#define CR0_NW 0x20000000
#define CR0_CD 0x40000000
#define CR0_PG 0x80000000
#define CR4_TSD 0x4
#define CR4_DE 0x8
#define CR4_PAE 0x20
#define CR4_PGE 0x80
#define CR4_PCE 0x100
#define CR4_OSFXSR 0x200
#define CR4_OSXMMEXCPT 0x400
#define CR4_UMIP 0x800
#define CR4_FSGSBASE 0x10000
#define CR4_PCIDE 0x20000
#define CR4_OSXSAVE 0x40000
#define CR4_SMEP 0x100000
#define CR4_SMAP 0x200000
#define MSR_EFER 0xc0000080
#define EFER_SCE 0x1
#define EFER_LME 0x100
#define EFER_LMA 0x400
#define EFER_NXE 0x800
#define PTE_P 0x1
#define PTE_W 0x2
#define PTE_U 0x4
#define PTE_A 0x20
#define PTE_D 0x40
#define PTE_PS 0x80
#define PTE_G 0x100
