/* SPDX-License-Identifier: MIT */
/* Decoding with a memory. What stands before the displacement and the immediate (prefixes, opcode, ModRM, SIB) decides all that an instruction is,
 * but for the values of these two; and of the few thousand beginnings that a processor's code has, most have been seen before. So each
 * is decoded once (decode.c), kept by its bytes, and later instructions that begin alike are copies with other values. SDM volume 2, chapter 2. */
#pragma once
#include "x86/shape.h"

struct x86_memo;

/* For one thread at a time, and for one model (NULL: everything is there), which must outlive it. NULL: no memory. */
struct x86_memo *x86_memo_new(const struct x86_model *);
void x86_memo_free(struct x86_memo *);
/* As x86_decode and x86_decode_shape in one, with the same results; *has_shape: what the latter returns. */
unsigned x86_memo_decode(struct x86_memo *, struct insn *, struct x86_shape *, bool *has_shape, const uint8_t *bytes, unsigned available, uint32_t mode);
/* How many instructions were not found, for tests. */
uint64_t x86_memo_misses(const struct x86_memo *);
