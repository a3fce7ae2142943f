/* SPDX-License-Identifier: MIT */
/* The two sides of a comparison with the host's processor: an instruction run natively, and the same one run by the
 * semantics on the same memory at the same addresses. SDM volume 1 chapter 3 is what both must follow.
 *
 * Memory below 4 GiB, so that 64-, 32- and 16-bit code all reach it:
 *   HOST_CODE   executable; filled with INT3 but for the instruction that runs
 *   HOST_DATA   HOST_DATA_PAGES readable and writable pages, then one read-only page; around them nothing is mapped
 * Everything is in static objects: one thread, one instruction at a time. */
#pragma once
#include "x86/core.h"

#define HOST_CODE 0x10000000ULL
#define HOST_CODE_SIZE 0x10000ULL
#define HOST_HOLE 0x20000000ULL /* reserved, no access: data lies in its middle */
#define HOST_HOLE_SIZE 0x200000ULL
#define HOST_DATA (HOST_HOLE + HOST_HOLE_SIZE / 2)
#define HOST_DATA_PAGES 3u
#define HOST_DATA_SIZE (HOST_DATA_PAGES * X86_PAGE_SIZE)
#define HOST_READONLY (HOST_DATA + HOST_DATA_SIZE) /* one page that both sides may only read */
#define HOST_SPAN (HOST_DATA_SIZE + X86_PAGE_SIZE) /* bytes from HOST_DATA that can be read */
#define HOST_GS_BASE (HOST_DATA + 0x123)           /* in 64-bit code; FS stays the host's: host_fs_base */

struct host_state {
	uint64_t gpr[16];      /* in the order of enum x86_gpr */
	uint64_t rflags;       /* what user mode can set without trapping: no TF */
	uint64_t rip;          /* of the instruction, in HOST_CODE; afterwards where the program went on */
	struct x86_fxsave fx __attribute__((aligned(64)));
	struct {               /* an XSAVE area of which only the AVX component counts */
		uint8_t legacy[512], header[64];
		uint8_t ymm_high[16][16];
	} avx __attribute__((aligned(64)));
};

/* How an instruction ended. */
struct host_end {
	int vector;       /* exception, or HOST_COMPLETED */
	uint32_t error;   /* error code, where the vector has one */
	uint64_t address; /* of a page fault */
};
enum { HOST_COMPLETED = -1 };

/* hostrun.c -- Maps the areas and takes over the signals. False, after a message, when this host does not let us. */
bool hostrun_init(void);
/* Sets up the segments that 16-bit code needs; false when this host has no LDT for us. */
bool hostrun_init16(void);
uint64_t host_fs_base(void);
/* This host has AVX, so that the upper halves of YMM registers go in and come out, too. */
extern bool host_has_avx;
/* Runs the bytes natively at state->rip, as code of `mode`: MODE_CODE64, MODE_CODE32, or MODE_CODE16 where CS
 * has base HOST_CODE, and DS, ES and SS (16 bits wide) have base HOST_DATA. State goes in and comes out. An
 * instruction that branches must branch to HOST_CODE, or where nothing is mapped. */
struct host_end hostrun(struct host_state *, const uint8_t *bytes, unsigned length, uint32_t mode);

/* A host that is itself a guest is not always steady: an interrupt between two iterations of CMPS leaves flags that a fault then keeps, and a
 * hypervisor may break in anywhere. So a case that differs runs HOST_TRIES times, and differs when it does so each time. */
#define HOST_TRIES 4u
/* Tells how many cases needed that; false when that is more than one in a thousand, and more than ten. */
bool hostrun_steady(unsigned long unsteady, unsigned long cases);

/* hosttwin.c -- The core whose page tables map the two areas at the addresses where they are; CPL 3, as the host's side. */
struct x86_core *hosttwin_init(void);
/* Decodes and runs one instruction from the state in the same way. Repeated string instructions run to their end. */
struct host_end hosttwin_run(struct host_state *, const uint8_t *bytes, unsigned length, uint32_t mode);
/* What the last hosttwin_run decoded. */
extern struct insn hosttwin_insn;
