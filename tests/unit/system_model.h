/* SPDX-License-Identifier: MIT */
/* A model of what a processor does with segments, gates, tasks, control registers and fast system calls, written from the manual's operation
 * sections alone: see system_random.c, which compares with it. It shares nothing with src/x86/ but names of bits. */
#pragma once
#include <setjmp.h>
#include "flat.h"

#define MEM 0x10000u
#define GDT_ENTRIES 40u
#define LDT 0x1800u
#define LDT_ENTRIES 16u
#define IDT_VECTORS 32u
#define TASKS 4u               /* more task state segments, a descriptor each at the end of the GDT; odd ones have 16 bits */
#define TASK_AT(n) (0x3400u + 0x100u * (n))
#define TASK_SELECTOR(n) ((GDT_ENTRIES - TASKS + (n)) * 8)
#define CODE 0x4000u
#define POINTER 0x6000u
#define STACK 0x8000u
enum { SKIP = 100 };

struct model {
	uint64_t gpr[16], rip, flags;
	struct x86_segment seg[6], ldtr, tr;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer, pdpte[4];
	uint64_t star, lstar, sfmask, sysenter_cs, sysenter_esp, sysenter_eip;
	unsigned cpl;
	bool lma, code64, shutdown;
	bool loose;       /* #SS may have written some of a frame */
	bool in_new_task; /* a fault from here on is that task's, and which of its segments are loaded then is not said */
	bool small_task;  /* its TSS has 16 bits: the upper halves of its registers, FS and GS are not said */
	uint8_t mem[MEM];
};
enum question { LAR, LSL, VERR, VERW };
enum task_cause { BY_JUMP, BY_CALL, BY_GATE, BY_RETURN };
enum fast_call { FAST_SYSCALL, FAST_SYSRET, FAST_SYSENTER, FAST_SYSEXIT, FAST_CALLS };
enum control { WRITE_CR, READ_CR, LMSW, SMSW, CLTS, CONTROLS };
struct model_fault { unsigned vector; uint32_t error; };

extern struct model m;
extern jmp_buf faulted; /* where raise_ leads, set by whoever runs an instruction */
extern struct model_fault fault;

/* system_model.c -- The instructions; see there. All may raise_. `next`: the RIP behind the instruction. */
void mov_sreg(unsigned n, uint16_t selector);
void ask(enum question q, uint16_t selector);
void lldt(uint16_t selector);
void ltr(uint16_t selector);
void far_transfer(bool call, uint16_t selector, uint64_t offset, unsigned size, uint64_t next);
void far_return(bool iret, unsigned size, unsigned release, uint64_t next);
_Noreturn void raise_(unsigned vector, uint32_t error);

/* system_model_event.c */
void interrupt(unsigned vector, bool has_error, uint32_t error, uint32_t ext, uint64_t return_ip, bool rf);
/* Delivers a fault, and those of its delivery, up to the shutdown. False: the case is to be skipped. */
bool deliver(unsigned vector, uint32_t error);

/* system_model_task.c -- A task switch; the error code of the event that caused one. */
void task_switch(uint16_t selector, enum task_cause, uint32_t ext, uint64_t next);
void task_error(uint32_t error, uint32_t ext);

/* system_model_control.c -- `has` tells whether CPUID offers a feature (FEATURE_*). `reg` is a general register, `value` what LMSW takes. */
void fast_call(enum fast_call, bool wide, uint64_t next);
void control(enum control, unsigned cr, unsigned reg, uint16_t value, bool (*has)(unsigned feature), uint64_t next);

/* --- what the parts of the model share; system_model.c --- */

#define GP(e) raise_(VECTOR_GP, (uint32_t)(e))
#define NP(e) raise_(VECTOR_NP, (uint32_t)(e))
#define TS(e) raise_(VECTOR_TS, (uint32_t)(e))
#define SS(e) (m.loose = true, raise_(VECTOR_SS, (uint32_t)(e)))
#define SEL(s) ((s) & 0xfffcu)

struct desc { /* a descriptor, SDM 3A 3.4.5 */
	uint64_t raw, at;
	unsigned type, dpl;
	bool s, p, l, d, code, conforming, readable, writable;
};
struct stack {
	struct x86_segment ss;
	uint64_t sp;
	bool wide;      /* 64-bit mode: no limit */
	uint32_t error; /* of #SS */
};
_Noreturn void model_skip(void); /* the manual leaves it open, or it goes outside of what is compared */
uint64_t model_get(uint64_t at, unsigned size);
void model_put(uint64_t at, unsigned size, uint64_t value);
bool model_find(uint16_t selector, struct desc *, unsigned bytes); /* false: the selector is beyond its table */
uint32_t model_limit(uint64_t raw);
struct x86_segment model_loaded(struct desc *, uint16_t selector); /* sets the accessed bit */
struct x86_segment model_null(uint16_t selector);
bool model_is_null(uint16_t selector);
bool model_canonical(uint64_t);
struct stack model_current(uint32_t error);
void model_push(struct stack *, unsigned size, uint64_t value);
struct desc model_parse(uint64_t raw, uint64_t at);
struct stack model_inner(unsigned cpl, unsigned ist, uint32_t ext); /* from the TSS */
void model_check_ip(const struct desc *cs, uint64_t ip, uint32_t error);
void model_set_cs(struct desc *, uint16_t selector, unsigned cpl);
