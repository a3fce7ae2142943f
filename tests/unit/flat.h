/* SPDX-License-Identifier: MIT */
/* A processor without a machine, for unit tests of x86/: RAM from 0 up, and devices that remember what was done to
 * them. */
#pragma once
#include <string.h>
#include "x86/cpuid.h"
#include "x86/exec.h"

#define FLAT_RAM (16 * MiB)
#define FLAT_ROM 0x00ff0000ULL /* the last 64 KiB of RAM: reads and fetches only */
#define FLAT_LOG 32

struct flat_access { /* of a device, or of a traced page */
	enum { FLAT_READ, FLAT_WRITE, FLAT_TRACED } kind;
	enum x86_space space;
	uint64_t address, value;
	unsigned size;
};

struct flat {
	struct x86_core core;          /* first member */
	struct flat_access log[FLAT_LOG];
	unsigned logged;
	uint64_t device_value;         /* what reads of devices give */
	gpa_t traced_page;             /* writes there are reported; 1: none */
	uint64_t tsc;
	unsigned flushes;              /* calls of env->tlb_flush */
	enum x86_flush last_flush;
};

extern uint8_t flat_ram[FLAT_RAM];

/* A fresh machine: zeroed RAM, processor after reset, model by name. */
struct flat *flat_new(const char *model);
static inline uint64_t flat_get(gpa_t at, unsigned size)
{
	uint64_t value = 0;
	memcpy(&value, flat_ram + at, size);
	return value;
}
static inline void flat_put(gpa_t at, unsigned size, uint64_t value)
{
	memcpy(flat_ram + at, &value, size);
}

/* Puts the core into a mode: flat segments of privilege cpl (descriptors in a GDT at FLAT_GDT), interrupts off, no
 * paging unless it is long mode. */
#define FLAT_GDT 0x1000
#define FLAT_IDT 0x2000
#define FLAT_TSS 0x3000
#define FLAT_PML4 0x10000 /* long mode: identity, 2 MiB pages, for all of RAM, user and writable */
enum flat_mode { FLAT_REAL, FLAT_PROTECTED16, FLAT_PROTECTED32, FLAT_COMPAT32, FLAT_LONG };
enum { /* selectors in the GDT, without RPL */
	FLAT_CODE0 = 0x08, FLAT_DATA0 = 0x10, FLAT_CODE3 = 0x18, FLAT_DATA3 = 0x20,
	FLAT_TR = 0x28, /* 16 bytes in long mode */
	FLAT_CODE64 = 0x38, FLAT_CODE64_3 = 0x40, FLAT_FREE = 0x48, /* from here on: the test's */
	FLAT_GDT_SIZE = 0x400,
};
void flat_mode(struct flat *, enum flat_mode, unsigned cpl);
/* A segment descriptor; attr is SEGA_*, limit in bytes or pages as SEGA_G says. */
uint64_t flat_descriptor(uint32_t base, uint32_t limit, uint32_t attr);
uint64_t flat_gate(uint16_t selector, uint32_t offset, unsigned type, unsigned dpl);
/* Puts a gate into the IDT, in the size of the mode. */
void flat_set_gate(struct flat *, uint8_t vector, uint16_t selector, uint64_t offset, unsigned type, unsigned dpl,
		   unsigned ist);

/* Puts bytes at `at` and runs the one instruction there, after RIP was set to it; an exception is delivered to
 * nobody: returns its vector, or -1 when there was none. core.fault has the error code. */
int flat_run(struct flat *, uint64_t at, const void *bytes, unsigned length);
/* The same for whatever raises inside of a block: if (flat_catch(f) == 0) { ... } */
extern jmp_buf flat_unwind;
#define flat_catch(f) ((f)->core.unwind = &flat_unwind, setjmp(flat_unwind))
