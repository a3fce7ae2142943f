/* SPDX-License-Identifier: MIT */
/* Running the host's own integer instructions for the guest: asm templates that leave the flags in core->aflags.
 *
 * An operation is a pair of small inline functions, or three: on a value in a register, and on host memory (which, for guest
 * RAM, makes a LOCKed one atomic). FLAGS_OUT reads the flags in the AX form. FLAGS_IN puts all of the guest's into the host's:
 * ADD overflows exactly if the guest's OF, kept in AL, is 1; SAHF sets the rest from AH. */
#pragma once
#include "x86/exec.h"

#define FLAGS_OUT "\n\tlahf\n\tseto %%al"
#define FLAGS_IN "addb $127, %%al\n\tsahf\n\t"
#define CARRY_IN "btl $8, %k[f]\n\t"

/* What a host operation is made of, by operand size: C type, asm suffix, register constraint. */
#define HOST_SIZES(X, ...)                                                                                             \
	X(1, uint8_t, "b", "q", __VA_ARGS__)                                                                           \
	X(2, any16, "w", "r", __VA_ARGS__)                                                                             \
	X(4, any32, "l", "r", __VA_ARGS__)                                                                             \
	X(8, any64, "q", "r", __VA_ARGS__)
#define HOST_WIDE(X, ...)                                                                                              \
	X(2, any16, "w", "r", __VA_ARGS__)                                                                             \
	X(4, any32, "l", "r", __VA_ARGS__)                                                                             \
	X(8, any64, "q", "r", __VA_ARGS__)

/* A pointer to a register operand, and the write that clears the upper half of a 32-bit one. */
#define REG_PTR(size, at) reg_ptr_##size(core, at)
static inline uint8_t *reg_ptr_1(struct x86_core *core, unsigned at) { return reg8(core, at); }
static inline any16 *reg_ptr_2(struct x86_core *core, unsigned at) { return reg16(core, at); }
static inline any32 *reg_ptr_4(struct x86_core *core, unsigned at) { return reg32(core, at); }
static inline any64 *reg_ptr_8(struct x86_core *core, unsigned at) { return reg64(core, at); }
#define REG_SET(size, at, value) reg_set_##size(core, at, value)
static inline void reg_set_1(struct x86_core *core, unsigned at, uint8_t v) { *reg8(core, at) = v; }
static inline void reg_set_2(struct x86_core *core, unsigned at, uint16_t v) { *reg16(core, at) = v; }
static inline void reg_set_4(struct x86_core *core, unsigned at, uint32_t v) { *reg64(core, at) = v; }
static inline void reg_set_8(struct x86_core *core, unsigned at, uint64_t v) { *reg64(core, at) = v; }

#define LOAD_1 x86_load8
#define LOAD_2 x86_load16
#define LOAD_4 x86_load32
#define LOAD_8 x86_load64
#define STORE_1 x86_store8
#define STORE_2 x86_store16
#define STORE_4 x86_store32
#define STORE_8 x86_store64

/* Read-modify-write of a memory operand. `op` works on host memory: in place when the operand is within a page of RAM, which is
 * atomic if op is; else on a copy, with the other processors stopped if the instruction is LOCKed. Out of line, for TLB misses. */
typedef void x86_rmw_fn(struct x86_core *, const struct insn *, void *operand, uint64_t src);
void x86_rmw_slow(struct x86_core *, const struct insn *, gva_t, unsigned size, x86_rmw_fn *op, uint64_t src);

#define RMW(size, gva, op, src)                                                                                        \
	do {                                                                                                           \
		void *host_ = tlb_hit(core->tlb->write, gva, size);                                                    \
		if (likely(host_))                                                                                     \
			op(core, i, host_, src);                                                                       \
		else                                                                                                   \
			x86_rmw_slow(core, i, gva, size, op, src);                                                     \
	} while (0)
