/* SPDX-License-Identifier: MIT */
/* AVX instructions whose elements reach memory one by one: masked moves and gathers. An element whose mask bit is clear is not
 * accessed, and cannot fault. SDM volume 2, VMASKMOV, VPMASKMOV, VGATHER, VPGATHER. */
#include "x86/avx.h"

union lanes { /* a register, as elements */
	v256 v;
	v128 half[2];
	uint32_t d[8];
	uint64_t q[4];
};

/* The address of one element: `offset` is the whole sum before it is cut to the address size. */
static gva_t element_address(struct x86_core *core, const struct insn *i, uint64_t offset, unsigned size,
			     enum x86_access access)
{
	if (!(i->flags & INSN_ADDRESS))
		return (i->flags & INSN_ADDRESS32 ? (uint32_t)offset : offset) + core->cpu.seg[i->seg].base;
	return x86_address_checked(core, i, offset, size, access);
}

static uint64_t offset_of(struct x86_core *core, const struct insn *i)
{
	return *x86_gpr_at(core, i->base) + (*x86_gpr_at(core, i->scaled) << i->scale) + (uint64_t)i->disp;
}

static bool selected(const union lanes *mask, unsigned k, unsigned size)
{
	return size == 4 ? mask->d[k] >> 31 : mask->q[k] >> 63;
}

/* --- masked moves: `width` bytes of elements of `size` --- */

static void __attribute__((noinline)) masked_load(struct x86_core *core, const struct insn *i, unsigned width, unsigned size)
{
	union lanes mask = { .v = get256(core, i->src) }, value = { .d = { 0 } };
	uint64_t at = offset_of(core, i);

	for (unsigned k = 0; k < width / size; k++) {
		if (!selected(&mask, k, size))
			continue;
		gva_t gva = element_address(core, i, at + k * size, size, ACCESS_READ);
		if (size == 4)
			value.d[k] = x86_load32(core, i, gva);
		else
			value.q[k] = x86_load64(core, i, gva);
	}
	*xmm(core, i->dst) = value.half[0];
	*ymm_high(core, i->dst) = value.half[1]; /* zero where the width is 16 */
}

/* All elements are checked before the first is stored. */
static void __attribute__((noinline)) masked_store(struct x86_core *core, const struct insn *i, unsigned width, unsigned size)
{
	union lanes mask = { .v = get256(core, i->src) }, value = { .v = get256(core, i->src2) };
	uint64_t at = offset_of(core, i);
	gva_t gva[8];

	for (unsigned k = 0; k < width / size; k++) {
		if (!selected(&mask, k, size))
			continue;
		gva[k] = element_address(core, i, at + k * size, size, ACCESS_WRITE);
		x86_check_write(core, i, gva[k], size);
	}
	for (unsigned k = 0; k < width / size; k++) {
		if (!selected(&mask, k, size))
			continue;
		if (size == 4)
			x86_store32(core, i, gva[k], value.d[k]);
		else
			x86_store64(core, i, gva[k], value.q[k]);
	}
}

#define MASKED_WIDTH(name, W, size)                                                                                    \
	EXEC(name##_load##W)                                                                                           \
	{                                                                                                              \
		masked_load(core, i, W / 8, size);                                                                     \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_store##W)                                                                                          \
	{                                                                                                              \
		masked_store(core, i, W / 8, size);                                                                    \
		X86_NEXT(core, i);                                                                                     \
	}
#define MASKED_OP(name, size)                                                                                          \
	MASKED_WIDTH(name, 128, size)                                                                                  \
	MASKED_WIDTH(name, 256, size)                                                                                  \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RRM] = { [BY_XMM] = name##_load128, [BY_YMM] = name##_load256 },                         \
			[FORM_MRR] = { [BY_XMM] = name##_store128, [BY_YMM] = name##_store256 } },                     \
	};
MASKED_OP(vmaskmov32, 4)
MASKED_OP(vmaskmov64, 8)

/* --- gathers: destination, mask and index are three registers (decoding sees to that). An element that is loaded has its mask bit
 * cleared at once, so that a fault of the next one lets the instruction be run again for the rest --- */

static void set_lanes(struct x86_core *core, unsigned at, const union lanes *value)
{
	*xmm(core, at) = value->half[0];
	*ymm_high(core, at) = value->half[1];
}

static int64_t index_lane(const union lanes *index, unsigned k, unsigned size)
{
	return size == 4 ? (int32_t)index->d[k] : (int64_t)index->q[k];
}

static void __attribute__((noinline))
gather(struct x86_core *core, const struct insn *i, unsigned width, unsigned size, unsigned index_size)
{
	unsigned count = width / MAX(size, index_size);
	union lanes mask = { .v = get256(core, i->src) }, value = { .v = get256(core, i->dst) },
		    index = { .v = get256(core, i->src2) };
	uint64_t at = *x86_gpr_at(core, i->base) + (uint64_t)i->disp;

	for (unsigned k = 0; k < count; k++) /* the mask that is seen when an element faults has whole elements */
		if (size == 4)
			mask.d[k] = selected(&mask, k, 4) ? ~0u : 0;
		else
			mask.q[k] = selected(&mask, k, 8) ? ~0ULL : 0;
	set_lanes(core, i->src, &mask);
	for (unsigned k = 0; k < count; k++) {
		if (!selected(&mask, k, size))
			continue;
		uint64_t offset = at + ((uint64_t)index_lane(&index, k, index_size) << i->scale);
		gva_t gva = element_address(core, i, offset, size, ACCESS_READ);
		if (size == 4) {
			value.d[k] = x86_load32(core, i, gva);
			mask.d[k] = 0;
		} else {
			value.q[k] = x86_load64(core, i, gva);
			mask.q[k] = 0;
		}
		set_lanes(core, i->dst, &value);
		set_lanes(core, i->src, &mask);
	}
	for (unsigned k = count * size / 8; k < 4; k++)
		value.q[k] = 0;
	set_lanes(core, i->dst, &value);
	set_lanes(core, i->src, &(union lanes){ .d = { 0 } });
}

#define GATHER_OP(name, size, index_size)                                                                              \
	EXEC(name##_128)                                                                                               \
	{                                                                                                              \
		gather(core, i, 16, size, index_size);                                                                 \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_256)                                                                                               \
	{                                                                                                              \
		gather(core, i, 32, size, index_size);                                                                 \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = { .by = { [FORM_RMR] = { [BY_XMM] = name##_128, [BY_YMM] = name##_256 } } };
GATHER_OP(gather_dd, 4, 4)
GATHER_OP(gather_qd, 4, 8)
GATHER_OP(gather_dq, 8, 4)
GATHER_OP(gather_qq, 8, 8)
