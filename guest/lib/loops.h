/* SPDX-License-Identifier: MIT */
/* Random loops, which become hot, for guests of 64 and of 32 bits: loads, stores and arithmetic of each operand size on the registers that addresses are
 * made of, by FS and GS too, pushes and pops, calls and branches, over pages of which some may not be written or are not there, or are a device. In one
 * of its rounds a page is mapped otherwise, an immediate of the code changes, a breakpoint is set, single steps begin, or a segment gets another base. */
#pragma once
#include "lib/console.h"

#define LOOP_PAGE 0x1000u
#define LOOP_VA 0x63450000u                     /* six pages, and one before them */
#define LOOP_SHARED (LOOP_VA + 8 * LOOP_PAGE)   /* registers before (16 words of 8 bytes) and after (17, flags behind them), and the words below */
#define LOOP_COUNT (LOOP_SHARED + 8 * 40)       /* of rounds, in 32-bit code; in 64-bit code it is in R13 */
#define LOOP_STACK (LOOP_SHARED + 8 * 41)
#define LOOP_CODE (LOOP_VA + 10 * LOOP_PAGE)    /* two pages, as ring 3 sees it */
#define LOOP_APIC (LOOP_VA + 12 * LOOP_PAGE)    /* the local APIC, of which TPR is accessed */
#define LOOP_ROUNDS 12000
#define LOOP_FRAMES 8
#define LOOP_LARGEST 0x1c00                     /* bytes of code that are begun */
#define LOOP_IOAPIC 0xfec00000u                 /* a page of a device, read-only */

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

struct loop {
	bool wide;                   /* 64-bit code */
	bool ring3;
	bool remaps;                 /* its events may change page tables, and map the device */
	bool bases;                  /* WRFSBASE and WRGSBASE are there */
	bool smap;                   /* AC matters, and is set and cleared */
	bool forms;                  /* loop_forms.c */
	bool avx;                    /* is there, and is on */
	uint16_t fs, gs;             /* selectors that 32-bit code loads */
	uint8_t *code;               /* two pages */
	uint32_t entry[6];           /* where the page-table entries of the six pages are, for ring 0 */
	uint32_t frame[LOOP_FRAMES]; /* what they may be mapped at */
};

void loop_seed(uint64_t);
/* Below n. */
uint32_t loop_pick(uint32_t n);
/* Writes the loop. */
void loop_generate(const struct loop *);
/* What a register may hold at its start. */
uint64_t loop_register(unsigned number);
