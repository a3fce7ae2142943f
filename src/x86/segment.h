/* SPDX-License-Identifier: MIT */
/* Segment descriptors: reading, checking, loading; and what far transfers, task switches and event delivery share. */
#pragma once
#include "x86/exec.h"
#include "x86/paging.h"

struct x86_descriptor {
	uint64_t raw;  /* its first eight bytes */
	uint64_t high; /* the second eight bytes of a 16-byte descriptor; 0 where there is none */
	gva_t at;
};

static inline bool x86_selector_null(uint16_t selector)
{
	return !(selector & ~3);
}
static inline uint32_t x86_selector_error(uint16_t selector)
{
	return selector & 0xfffc;
}
/* Bytes 5 and 6 without the limit: SEGA_* */
static inline uint32_t x86_descriptor_attr(uint64_t raw)
{
	return (uint32_t)(raw >> 40) & 0xf0ff;
}
static inline unsigned x86_descriptor_dpl(uint64_t raw)
{
	return (unsigned)(raw >> 45) & 3;
}
/* The type of a system descriptor; 0 (which is reserved) for code and data. */
static inline unsigned x86_descriptor_system(uint64_t raw)
{
	return raw & BIT(44) ? 0 : (unsigned)(raw >> 40) & 15;
}
static inline bool x86_attr_is_code(uint32_t attr)
{
	return (attr & (SEGA_S | SEGA_CODE)) == (SEGA_S | SEGA_CODE);
}
static inline bool x86_attr_is_stack(uint32_t attr) /* writable data */
{
	return (attr & (SEGA_S | SEGA_CODE | SEGA_WRITABLE)) == (SEGA_S | SEGA_WRITABLE);
}
static inline uint16_t x86_gate_selector(uint64_t raw)
{
	return (uint16_t)(raw >> 16);
}
static inline uint32_t x86_gate_offset(uint64_t raw)
{
	return (uint32_t)((raw & 0xffff) | (raw >> 48) << 16);
}

/* segment.c -- Reads the descriptor of a selector from the GDT or the LDT, with supervisor rights. False: the selector
 * points outside of it (or the LDT is null). Page faults are raised for i. */
bool x86_descriptor_read(struct x86_core *, const struct insn *i, uint16_t selector, struct x86_descriptor *);
/* Reads the upper half, which a system descriptor has in long mode. False: it is outside of the table, or no upper
 * half. */
bool x86_descriptor_read_high(struct x86_core *, const struct insn *i, uint16_t selector, struct x86_descriptor *);
/* Sets the accessed bit of a code or data descriptor in memory, and in *d. */
void x86_descriptor_touch(struct x86_core *, const struct insn *i, struct x86_descriptor *d);
/* Changes type bit 1 of a TSS descriptor (busy) in memory, and in *d. */
void x86_descriptor_busy(struct x86_core *, const struct insn *i, struct x86_descriptor *d, bool busy);
/* The register form of a descriptor. */
static inline struct x86_segment x86_segment_of(const struct x86_descriptor *d, uint16_t selector)
{
	uint32_t limit = (uint32_t)(d->raw & 0xffff) | (uint32_t)bits_get(d->raw, 48, 4) << 16;
	uint32_t attr = x86_descriptor_attr(d->raw);

	return (struct x86_segment){
		.base = bits_get(d->raw, 16, 24) | bits_get(d->raw, 56, 8) << 24 | (d->high & 0xffffffff) << 32,
		.limit = attr & SEGA_G ? limit << 12 | 0xfff : limit,
		.attr = attr,
		.selector = selector,
	};
}
/* What real (v86 false) and virtual-8086 mode make of a selector. In real mode limit and attributes stay those of
 * `old`. */
struct x86_segment x86_segment_real(const struct x86_segment *old, uint16_t selector, bool v86);
/* A register that holds a null selector. `dpl` is kept in SS, where it is the CPL. */
static inline struct x86_segment x86_segment_null(uint16_t selector, unsigned dpl)
{
	return (struct x86_segment){ .attr = SEGA_UNUSABLE | dpl << SEGA_DPL_SHIFT, .selector = selector };
}

/* Protected-mode checks of a load into SS / ES, DS, FS, GS. They return 0, or the exception that has the selector as
 * error code. */
static inline unsigned x86_check_stack(uint64_t raw, uint16_t selector, unsigned cpl)
{
	uint32_t attr = x86_descriptor_attr(raw);

	if ((selector & 3u) != cpl || !x86_attr_is_stack(attr) || x86_descriptor_dpl(raw) != cpl)
		return VECTOR_GP;
	return attr & SEGA_P ? 0 : VECTOR_SS;
}
static inline unsigned x86_check_data(uint64_t raw, uint16_t selector, unsigned cpl)
{
	uint32_t attr = x86_descriptor_attr(raw);
	bool code = x86_attr_is_code(attr);

	if (!(attr & SEGA_S) || (code && !(attr & SEGA_READABLE)))
		return VECTOR_GP;
	if (!(code && (attr & SEGA_CONFORMING)) && MAX(selector & 3u, cpl) > x86_descriptor_dpl(raw))
		return VECTOR_GP;
	return attr & SEGA_P ? 0 : VECTOR_NP;
}
/* Prepares the load of any segment register but CS by an instruction, with all checks (raises for i), without
 * changing the register; for real, virtual-8086 and protected mode. Then x86_segment_set. */
struct x86_segment x86_segment_prepare(struct x86_core *, const struct insn *i, unsigned seg, uint16_t selector);
void x86_segment_set(struct x86_core *, unsigned seg, struct x86_segment);
/* A code segment for a transfer to privilege cpl: RPL becomes cpl. Follows the load of SS (CPL is SS.DPL). */
void x86_segment_set_code(struct x86_core *, const struct x86_descriptor *, uint16_t selector, unsigned cpl);
/* After a return to an outer privilege: data segments that it must not use become null, SDM 2A IRET. */
void x86_segments_lower(struct x86_core *);
/* Is an offset into this code segment allowed for a transfer? limit, or canonical for 64-bit code. */
bool x86_code_offset_ok(const struct x86_core *, uint64_t raw, uint64_t offset);
/* Would the limit of a (not 64-bit) data segment allow the bytes at offset? */
bool x86_limit_ok(const struct x86_segment *, uint32_t offset, unsigned size);
/* Linear address of the memory operand without limit or type checks: INVLPG, LEA-like uses. */
gva_t x86_address_unchecked(struct x86_core *, const struct insn *i);

/* A stack under construction: frames are pushed with the rights of the privilege that will run on it, before any
 * register changes. Stack faults are #SS with the error code given. */
struct x86_frame {
	const struct insn *i;
	struct x86_segment ss; /* base and limit count outside of 64-bit stacks */
	uint64_t sp;
	uint64_t mask;         /* of the stack pointer: 16, 32 or 64 bits */
	enum tlb_kind kind;
	uint32_t error;        /* of #SS */
};
/* A frame on the current stack / on a new one for privilege cpl. */
struct x86_frame x86_frame_current(struct x86_core *, const struct insn *i, uint32_t error);
struct x86_frame x86_frame_new(struct x86_core *, const struct insn *i, struct x86_segment ss, uint64_t sp,
			       unsigned cpl, uint32_t error);
void x86_frame_push(struct x86_core *, struct x86_frame *, unsigned size, uint64_t value);
uint64_t x86_frame_pop(struct x86_core *, struct x86_frame *, unsigned size);
/* RSP as the frame left it: bits outside of the mask stay. */
void x86_frame_commit(struct x86_core *, const struct x86_frame *);

/* The stack for an inner privilege from the TSS, SDM 3A 5.8.5: SS with all checks (#TS, #SS, with ext in the error
 * code) and SP. In long mode: a null SS, and RSP from slot `cpl`, or from the interrupt stack table when ist is not
 * 0. */
struct x86_segment x86_tss_stack(struct x86_core *, const struct insn *i, unsigned cpl, unsigned ist, uint32_t ext,
				 uint64_t *sp);

/* fault.c -- counts i as retired, and leaves to the engine with RIP at rip (which is exact). For transfers that
 * change the mode. */
void x86_leave_at(struct x86_core *, const struct insn *i, uint64_t rip);

/* task.c -- A hardware task switch, SDM 3A 7.3. `back` is the RIP to save in the old task. Raises for i as long as
 * nothing has changed; after that with i == NULL, in the new task. Leaves RIP exact, and counts the instructions
 * before i, but not i itself. The caller then pushes an error code, if the event has one, and leaves. */
enum x86_task_switch { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_GATE };
void x86_task_switch(struct x86_core *, const struct insn *i, uint16_t selector, enum x86_task_switch, uint32_t ext,
		     uint64_t back);
