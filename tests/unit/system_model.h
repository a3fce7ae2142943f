/* SPDX-License-Identifier: MIT */
/* A model of segments, gates and stacks, written from the manual's operation sections alone: see system_random.c, which compares with it. */
#pragma once
#include <setjmp.h>
#include "flat.h"

#define MEM 0x10000u
#define GDT_ENTRIES 40u
#define LDT 0x1800u
#define LDT_ENTRIES 16u
#define IDT_VECTORS 32u
#define CODE 0x4000u
#define STACK 0x8000u
#define POINTER 0x6000u
enum { SKIP = 100 };

struct model {
	uint64_t gpr[16], rip, flags;
	struct x86_segment seg[6], ldtr, tr;
	unsigned cpl;
	bool lma, code64, shutdown, loose; /* loose: #SS may have written some of a frame */
	uint8_t mem[MEM];
};
enum question { LAR, LSL, VERR, VERW };
struct model_fault { unsigned vector; uint32_t error; };

extern struct model m;
extern jmp_buf faulted; /* where raise_ leads, set by whoever runs an instruction */
extern struct model_fault fault;

/* system_model.c -- The instructions; see there. All may raise_. */
void mov_sreg(unsigned n, uint16_t selector);
void ask(enum question q, uint16_t selector);
void lldt(uint16_t selector);
void ltr(uint16_t selector);
void far_transfer(bool call, uint16_t selector, uint64_t offset, unsigned size, uint64_t next);
void far_return(bool iret, unsigned size, unsigned release);
void interrupt(unsigned vector, bool has_error, uint32_t error, uint32_t ext, uint64_t return_ip, bool rf);
/* Delivers a fault, and those of its delivery, up to the shutdown. False: the case is to be skipped. */
bool deliver(unsigned vector, uint32_t error);
_Noreturn void raise_(unsigned vector, uint32_t error);
