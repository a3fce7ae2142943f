/* SPDX-License-Identifier: MIT */
/* Memory accesses of translated code: address, index, delta, access. See table.c for what the tables promise. */
#include <assert.h>
#include "engine/bt/translate.h"

unsigned guest_host(unsigned guest)
{
	static const uint8_t host[16] = {
		RAX, HOST_GUEST_RCX, RDX, RBX, HOST_GUEST_RSP, RBP, RSI, RDI, R8, R9, HOST_NONE, HOST_NONE, R12, R13, R14, HOST_NONE,
	};
	return host[guest];
}

struct operand guest_slot(unsigned guest)
{
	return state_at(BT_SPILL + 8 * (guest == R10 ? 0 : guest == R11 ? 1 : 2));
}

/* In a host register: its own, or `scratch`. */
static unsigned fetch(struct translation *t, unsigned guest, unsigned scratch)
{
	unsigned host = guest_host(guest);

	if (host != HOST_NONE)
		return host;
	emit_load(&t->e, scratch, guest_slot(guest));
	return scratch;
}

/* FS or GS in 32-bit code: mostly it has a base, and no limit that could be exceeded. That is looked at when it runs. */
static bool is_plain(const struct translation *t, const struct insn *i)
{
	return t->width == 4 && i->asize == 4 && (i->seg == SEG_FS || i->seg == SEG_GS);
}

bool memory_address(struct translation *t, const struct insn *i, struct ea *ea)
{
	bool base = i->base < 16 * 8, index = i->scaled < 16 * 8, plain = is_plain(t, i), truncated = (i->flags & INSN_ADDRESS32) || plain;
	unsigned b = HOST_NONE, x = HOST_NONE;

	if (((i->flags & INSN_ADDRESS) && !plain) || !fits32(i->disp) || (i->seg != SEG_FLAT && i->seg != SEG_FS && i->seg != SEG_GS))
		return false;
	if (plain) {
		emit_load(&t->e, HOST_X, state_at(i->seg == SEG_FS ? BT_FS_PLAIN : BT_GS_PLAIN));
		memory_exec_if_zero(t);
	}
	if (i->base == X86_GPR_RIP * 8 && t->block->anywhere) {
		int64_t disp = (int64_t)(t->block->gpa & ~X86_PAGE_MASK) + i->disp;
		if (!fits32(disp) || i->seg != SEG_FLAT)
			return false;
		emit_load(&t->e, HOST_T, state_at(BT_PAGE));
		emit_op(&t->e, !truncated, 0x8d, HOST_T, operand_at(HOST_T, (int32_t)disp));
		*ea = (struct ea){ .kind = EA_T, .in_page = true, .constant = (uint64_t)disp };
		return true;
	}
	if (!base && !index) {
		uint64_t at = (i->base == X86_GPR_RIP * 8 ? t->block->rip : 0) + (uint64_t)i->disp;
		if (truncated)
			at = (uint32_t)at;
		*ea = (struct ea){ .kind = EA_CONST, .constant = at };
		if (i->seg == SEG_FLAT)
			return true;
		emit_load(&t->e, HOST_T, state_at(i->seg == SEG_FS ? BT_FS_BASE : BT_GS_BASE));
		if (t->width == 4) {
			emit_lea32(&t->e, HOST_T, operand_at(HOST_T, (int32_t)at));
		} else if (fits32((int64_t)at)) {
			emit_lea(&t->e, HOST_T, operand_at(HOST_T, (int32_t)at));
		} else {
			emit_constant(&t->e, HOST_X, at);
			emit_lea(&t->e, HOST_T, operand_sum(HOST_T, HOST_X, 0, 0));
		}
		*ea = (struct ea){ .kind = EA_T };
		return true;
	}
	if (base && !index && i->seg == SEG_FLAT && !truncated && guest_host(i->base / 8) != HOST_NONE) {
		*ea = (struct ea){ .kind = EA_BASE, .base = (uint8_t)guest_host(i->base / 8), .disp = (int32_t)i->disp };
		return true;
	}
	if (base)
		b = fetch(t, i->base / 8, HOST_T);
	if (index)
		x = fetch(t, i->scaled / 8, b == HOST_T ? HOST_X : HOST_T);
	struct operand sum = operand_sum(b, x, i->scale, (int32_t)i->disp);
	if (truncated && !index && !i->disp)
		emit_op(&t->e, false, 0x8b, HOST_T, operand_reg(b));
	else if (truncated)
		emit_lea32(&t->e, HOST_T, sum);
	else
		emit_lea(&t->e, HOST_T, sum);
	if (i->seg != SEG_FLAT) {
		emit_load(&t->e, HOST_X, state_at(i->seg == SEG_FS ? BT_FS_BASE : BT_GS_BASE));
		emit_op(&t->e, t->width == 8, 0x8d, HOST_T, operand_sum(HOST_T, HOST_X, 0, 0));
	}
	*ea = (struct ea){ .kind = EA_T };
	return true;
}

bool memory_aligned(const struct translation *t, const struct insn *i, const struct ea *ea, unsigned size)
{
	if (size == 1)
		return true;
	if (ea->kind == EA_CONST || ea->in_page)
		return !(ea->constant & (size - 1));
	/* RSP is kept aligned to the width: see bt_fits. */
	return size <= t->width && i->base == RSP * 8 && i->scaled >= 16 * 8 && i->seg == SEG_FLAT && !(i->disp & (size - 1));
}

static unsigned log_of(unsigned size)
{
	return (unsigned)__builtin_ctz(size);
}

unsigned stub_add(struct translation *t, struct stub stub)
{
	assert(t->stubs < STUBS_MAX);
	stub.insn = t->id;
	t->stub[t->stubs] = stub;
	return t->stubs++;
}

void memory_island(struct translation *t, bool around)
{
	uint32_t skip = 0;

	if (!t->shorts)
		return;
	if (around)
		skip = emit_short(&t->e, 0xeb);
	for (unsigned n = 0; n < t->shorts; n++) {
		t->too_far |= t->e.at > t->pending[n].where + 1 + 127;
		if (!t->too_far)
			emit_patch_short(&t->e, t->pending[n].where, t->e.at);
		t->stub[t->pending[n].stub].fix = emit_jump(&t->e, -1);
	}
	t->shorts = 0;
	if (around)
		emit_patch_short(&t->e, skip, t->e.at);
}

bool memory_reachable(const struct translation *t)
{
	/* 2 bytes to get around it, 5 for each long jump; and the end of a block, a far jump, may come before it */
	for (unsigned n = 0; n < t->shorts; n++)
		if (t->e.at + 2 + 5 * n + 44 > t->pending[n].where + 1 + 127)
			return false;
	return true;
}

void memory_room_for(struct translation *t, unsigned bytes)
{
	if (t->shorts > SHORTS_MAX - 5 || (t->shorts && t->e.at + bytes - t->pending[0].where > (t->tight ? 60u : 100u)))
		memory_island(t, true);
}

/* An instruction that is longer is written again behind an island: translate_insn. */
void memory_room(struct translation *t)
{
	memory_room_for(t, 16);
}

void memory_jump_if_zero(struct translation *t, struct stub stub)
{
	uint32_t where = emit_short(&t->e, 0xe3);

	assert(t->shorts < SHORTS_MAX);
	stub.back = t->e.at;
	t->pending[t->shorts].where = where;
	t->pending[t->shorts++].stub = stub_add(t, stub);
}

void memory_exec(struct translation *t)
{
	unsigned stub = stub_add(t, (struct stub){ .kind = STUB_EXEC });

	t->stub[stub].fix = emit_jump(&t->e, -1);
}

void memory_exec_if_zero(struct translation *t)
{
	memory_jump_if_zero(t, (struct stub){ .kind = STUB_EXEC });
}

void memory_want_fpu(struct translation *t)
{
	emit_load(&t->e, HOST_X, state_at(BT_FPU_LIVE));
	memory_jump_if_zero(t, (struct stub){ .kind = STUB_FPU });
}

static void note(struct translation *t, bool write)
{
	t->rec->access = write ? BT_WRITE : BT_READ;
}

void memory_index(struct translation *t, unsigned from, unsigned low, bool constant)
{
	struct emit *e = &t->e;

	if (t->narrow && (low == 0 || low == 2)) {
		if (low)
			emit_rorx32(e, HOST_X, from, low);
		emit_shrx32(e, HOST_X, low ? HOST_X : from, low ? HOST_SHIFT_10 : HOST_SHIFT_12);
		return;
	}
	if (constant) { /* a Zen 4 is slow with a mask in memory where all else loads too */
		emit_constant(e, HOST_X, BIT(48) - X86_PAGE_SIZE);
		emit_pext(e, HOST_X, from, operand_reg(HOST_X));
		return;
	}
	if (low)
		emit_rorx(e, HOST_X, from, low);
	emit_pext(e, HOST_X, low ? HOST_X : from, state_at(low == 4 ? BT_PAGE_MASK16 : BT_PAGE_MASK + 8 * (int)low));
}

struct operand memory_access(struct translation *t, const struct ea *ea, unsigned size, bool write, enum alignment alignment)
{
	struct emit *e = &t->e;
	unsigned from = HOST_T, checked = alignment == ALIGNED ? 0 : log_of(size);
	struct stub stub = { .kind = STUB_MISS, .log_size = (uint8_t)log_of(size), .alignment = (uint8_t)alignment, .write = write, .ea = *ea };

	note(t, write);
	e->wrote = true; /* out of line, if not here */
	if (ea->kind == EA_CONST) {
		if ((ea->constant & ~X86_PAGE_MASK) + size > X86_PAGE_SIZE)
			memory_exec(t); /* always over the end of the page; what follows is not reached */
		emit_constant(e, HOST_T, ea->constant);
		emit_constant(e, HOST_X, (ea->constant >> X86_PAGE_SHIFT & (BIT(36) - 1)) * 8);
		emit_table(e, HOST_X, HOST_X, false);
	} else {
		if (ea->kind == EA_BASE)
			from = ea->base;
		if (ea->kind == EA_BASE && ea->disp) {
			emit_lea(e, HOST_X, operand_at(ea->base, ea->disp));
			from = HOST_X;
		}
		memory_index(t, from, checked, ea->constant_mask);
		emit_table(e, HOST_X, HOST_X, true);
	}
	memory_jump_if_zero(t, stub);
	return ea->kind == EA_BASE ? operand_sum(ea->base, HOST_X, 0, ea->disp) : operand_sum(HOST_T, HOST_X, 0, 0);
}

void memory_within(struct translation *t, unsigned size)
{
	struct emit *e = &t->e;
	int last = 15 - (int)(X86_PAGE_SIZE - 255 - size) / 256; /* into the last bytes of the page, in units of 256? */

	emit_mov(e, HOST_X, HOST_T);
	emit8(e, 0x0f); /* MOVZX ECX, CH */
	emit8(e, 0xb6);
	emit8(e, 0xcd);
	emit_op0f(e, false, 0xb6, HOST_X, operand_sum(HOST_STATE, HOST_X, 0, BT_NEAR + 256 * last));
	memory_jump_if_zero(t, (struct stub){ .kind = STUB_RANGE, .range = (uint16_t)size });
}

struct operand memory_access_wide(struct translation *t, const struct ea *from, unsigned size, bool write)
{
	struct emit *e = &t->e;
	struct ea ea = { .kind = EA_T, .constant_mask = true };

	/* There is room in the index for four low bits only if one of the upper bits is left out: see docs/bt.md. */
	if (size == 16 && (t->block->mode & MODE_USER) && from->kind != EA_CONST)
		return memory_access(t, from, size, write, CHECKED);
	if (from->kind == EA_BASE)
		emit_lea(e, HOST_T, operand_at(from->base, from->disp));
	else if (from->kind == EA_CONST)
		emit_constant(e, HOST_T, from->constant);
	memory_within(t, size);
	/* now within the page: its alignment does not matter */
	return memory_access(t, &ea, 1, write, ALIGNED);
}

struct operand memory_stack(struct translation *t, int32_t disp, unsigned size, bool write, enum alignment alignment)
{
	struct ea ea = { .kind = EA_BASE, .base = HOST_GUEST_RSP, .disp = disp };
	struct operand top;

	if (group_operand(t, NULL, ACCESS_STACK, disp, HOST_T, &top))
		return top;
	if (t->width == 4) {
		emit_lea32(&t->e, HOST_T, operand_at(HOST_GUEST_RSP, disp));
		ea.kind = EA_T;
	}
	return memory_access(t, &ea, size, write, alignment);
}

void memory_free(struct translation *t, struct operand *rm)
{
	if (rm->base != HOST_T)
		return;
	emit_lea(&t->e, HOST_X, *rm);
	*rm = operand_at(HOST_X, 0);
}

static void argument(struct emit *e, uint32_t value)
{
	emit8(e, 0xb8 | HOST_X);
	emit32(e, value);
}

/* Out of line. HOST_T becomes the linear address, which bt_c_miss and the helpers for misaligned accesses want. */
static void miss_emit(struct translation *t, const struct stub *s)
{
	struct emit *e = &t->e;
	uint32_t what = s->insn << 8 | (unsigned)s->log_size << 2 | (unsigned)(s->alignment == STRICT) << 1 | s->write;

	if (s->ea.kind == EA_BASE)
		emit_lea(e, HOST_T, operand_at(s->ea.base, s->ea.disp));
	if (s->alignment == CHECKED && s->log_size) {
		emit_call_through(e, state_at(s->log_size == 4 ? BT_UNALIGNED16 : BT_UNALIGNED + 8 * (s->log_size - 1)));
		uint32_t miss = emit_short(e, 0xe3);
		emit_patch(e, emit_jump(e, -1), s->back);
		emit_patch_short(e, miss, e->at);
	}
	argument(e, what);
	emit_jump_through(e, state_at(BT_MISS));
}

/* HOST_T: where the group begins. */
static void range_emit(struct translation *t, const struct stub *s)
{
	struct emit *e = &t->e;

	emit_pext(e, HOST_X, HOST_T, state_at(BT_OFFSET_MASK));
	emit_lea32(e, HOST_X, operand_at(HOST_X, s->range - 1));
	emit_pext(e, HOST_X, HOST_X, state_at(BT_CROSS_MASK));
	uint32_t within = emit_short(e, 0xe3);
	if (t->plan) {
		emit_patch(e, emit_jump(e, -1), t->bt->insn[s->insn].code);
	} else {
		argument(e, s->insn);
		emit_jump_through(e, state_at(BT_EXEC));
	}
	emit_patch_short(e, within, e->at);
	emit_patch(e, emit_jump(e, -1), s->back);
}

void stubs_emit(struct translation *t)
{
	struct emit *e = &t->e;

	memory_island(t, false);
	assert(!t->too_far); /* a jump that leads nowhere would go on with an entry that is empty, or over the end of a page */
	for (unsigned n = 0; n < t->stubs; n++) {
		const struct stub *s = &t->stub[n];
		if (s->fix)
			emit_patch(e, s->fix, s->kind == STUB_PLAIN ? t->bt->insn[s->insn].code : e->at);
		switch (s->kind) {
		case STUB_PLAIN:
			break;
		case STUB_RANGE:
			range_emit(t, s);
			break;
		case STUB_POLL:
			argument(e, s->exit);
			emit_jump_through(e, state_at(BT_POLL));
			break;
		case STUB_MISS:
			miss_emit(t, s);
			break;
		case STUB_LEAVE:
		case STUB_ELSEWHERE:
			hot_leave(t, s);
			break;
		case STUB_EXEC:
			argument(e, s->insn);
			emit_jump_through(e, state_at(BT_EXEC));
			break;
		case STUB_FPU:
			argument(e, s->insn);
			emit_jump_through(e, state_at(BT_FPU));
			break;
		case STUB_LINK:
			t->bt->exit[s->exit].stub = e->at;
			emit_patch(e, t->bt->exit[s->exit].patch, e->at);
			argument(e, s->exit);
			emit_jump_through(e, state_at(BT_LINK));
			break;
		default:
			flow_far(t, s->rip);
			break;
		}
	}
}
