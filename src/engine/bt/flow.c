/* SPDX-License-Identifier: MIT */
/* Control flow of translated code.
 *
 * A direct jump within the page leads straight to the target's block once there is one: whatever linear page this page is mapped at, the
 * target is in it too. Everything else goes through the jump table, by a hash of the target, and the block that is
 * found there checks that it is the one that was meant (R15 holds the target). The table is emptied whenever what a
 * linear address means may have changed. */
#include "engine/bt/translate.h"
#include "x86/paging.h"

bool flow_in_page(const struct translation *t, uint64_t target)
{
	return t->block->second == ~0ULL && !((target ^ t->block->rip) & X86_PAGE_MASK);
}

static int jumps_of(const struct translation *t)
{
	return BT_JUMPS + (t->block->mode & MODE_USER ? 0 : (int)(BT_JUMP_COUNT * sizeof(void *)));
}

/* An address in code, as the block's rip makes it, in HOST_T. */
static void load_address(struct translation *t, uint64_t address)
{
	if (!t->block->anywhere) {
		emit_constant(&t->e, HOST_T, address);
		return;
	}
	emit_load(&t->e, HOST_T, state_at(BT_PAGE));
	emit_lea(&t->e, HOST_T, operand_at(HOST_T, (int32_t)(address - (t->block->rip & X86_PAGE_MASK))));
}

/* By the jump table, to the address in HOST_T. */
static void jump_by_table(struct translation *t)
{
	struct emit *e = &t->e;

	emit_constant(e, HOST_X, 0);
	emit_crc32(e, HOST_X, HOST_T);
	emit_op0f(e, false, 0xb7, HOST_X, operand_reg(HOST_X)); /* MOVZX ECX, CX */
	emit_jump_through(e, operand_sum(HOST_STATE, HOST_X, 3, jumps_of(t)));
}

void flow_far(struct translation *t, uint64_t target)
{
	if (t->width == 8 && !x86_canonical(target)) /* behind the last page: nothing has jumped there */
		emit_store_constant(&t->e, BT_SITE, BT_NO_SITE);
	load_address(t, target);
	if (t->block->anywhere)
		jump_by_table(t);
	else
		emit_jump_through(&t->e, state_at(jumps_of(t) + 8 * (int)bt_jump_slot(target)));
}

void flow_exit(struct translation *t, int cc, uint64_t target)
{
	struct bt *bt = t->bt;

	if (flow_in_page(t, target) && bt->exits < bt->end.exit) {
		uint32_t index = bt->exits++;
		bt->exit[index] = (struct bt_exit){ .block = (uint32_t)(t->block - bt->block), .rip = target };
		bt->exit[index].patch = emit_jump(&t->e, cc);
		stub_add(t, (struct stub){ .kind = STUB_LINK, .exit = index });
	} else if (cc >= 0) {
		unsigned stub = stub_add(t, (struct stub){ .kind = STUB_FAR, .rip = target });
		t->stub[stub].fix = emit_jump(&t->e, cc);
	} else {
		flow_far(t, target);
	}
}

/* To the address in HOST_T. */
static void indirect(struct translation *t)
{
	struct emit *e = &t->e;

	if (t->width == 8) { /* where the target may be no address */
		emit_op(e, false, 0xc7, 0, state_at(BT_SITE));
		emit32(e, t->id);
	}
	jump_by_table(t);
}

static uint64_t truncate(const struct translation *t, uint64_t rip)
{
	return t->width == 8 ? rip : (uint32_t)rip;
}

uint64_t flow_next(const struct translation *t, const struct insn *i)
{
	return truncate(t, t->block->rip + i->offset + i->length);
}

uint64_t flow_target(const struct translation *t, const struct insn *i)
{
	return truncate(t, flow_next(t, i) + i->imm);
}

/* Width-sized load and store. */
static void load(struct translation *t, unsigned to, struct operand from)
{
	emit_op(&t->e, t->width == 8, 0x8b, to, from);
}
static void store(struct translation *t, struct operand to, unsigned from)
{
	emit_op(&t->e, t->width == 8, 0x89, from, to);
}
static void move_stack(struct translation *t, int32_t by)
{
	emit_op(&t->e, t->width == 8, 0x8d, HOST_GUEST_RSP, operand_at(HOST_GUEST_RSP, by));
}

static void push_constant(struct translation *t, uint64_t value)
{
	struct emit *e = &t->e;
	struct operand top = memory_stack(t, -(int)t->width, t->width, true, ALIGNED);

	if (t->width == 4 || (fits32((int64_t)value) && !t->block->anywhere)) {
		emit_op(e, t->width == 8, 0xc7, 0, top);
		emit32(e, (uint32_t)value);
	} else {
		memory_free(t, &top);
		load_address(t, value);
		store(t, top, HOST_T);
	}
	move_stack(t, -(int)t->width);
}

void flow_push_next(struct translation *t, const struct insn *i)
{
	push_constant(t, flow_next(t, i));
}

static bool call(struct translation *t, const struct insn *i)
{
	uint64_t next = flow_next(t, i), target = truncate(t, next + i->imm);
	struct ea ea;

	if (i->form == FORM_I) {
		if (t->width == 8 && !x86_canonical(target))
			return false;
		push_constant(t, next);
		memory_room(t);
		flow_exit(t, -1, target);
		return true;
	}
	if (i->form == FORM_R) {
		unsigned guest = i->dst / 8, host = guest_host(guest);
		if (guest == RSP)
			return false;
		push_constant(t, next);
		if (host == HOST_NONE)
			emit_load(&t->e, HOST_T, guest_slot(guest));
		else
			emit_op(&t->e, t->width == 8, 0x8b, HOST_T, operand_reg(host));
	} else {
		if (!memory_address(t, i, &ea))
			return false;
		struct operand rm = memory_access(t, &ea, t->width, false, memory_aligned(t, i, &ea, t->width) ? ALIGNED : CHECKED);
		load(t, HOST_T, rm);
		if (t->narrow)
			emit_mov(&t->e, HOST_SAVED, HOST_T);
		else
			emit_store(&t->e, state_at(BT_SAVED), HOST_T);
		memory_island(t, true); /* what follows is too long to reach beyond */
		push_constant(t, next);
		if (t->narrow)
			emit_mov(&t->e, HOST_T, HOST_SAVED);
		else
			emit_load(&t->e, HOST_T, state_at(BT_SAVED));
	}
	indirect(t);
	return true;
}

static bool jump(struct translation *t, const struct insn *i)
{
	uint64_t target = truncate(t, flow_next(t, i) + i->imm);
	struct ea ea;

	if (i->form == FORM_I) {
		if (t->width == 8 && !x86_canonical(target))
			return false;
		flow_exit(t, -1, target);
		return true;
	}
	if (i->form == FORM_R) {
		unsigned host = guest_host(i->dst / 8);
		if (host == HOST_NONE)
			emit_load(&t->e, HOST_T, guest_slot(i->dst / 8));
		else
			emit_op(&t->e, t->width == 8, 0x8b, HOST_T, operand_reg(host));
	} else {
		if (!memory_address(t, i, &ea))
			return false;
		struct operand rm = memory_access(t, &ea, t->width, false, memory_aligned(t, i, &ea, t->width) ? ALIGNED : CHECKED);
		load(t, HOST_T, rm);
	}
	indirect(t);
	return true;
}

bool flow_return(struct translation *t, const struct insn *i)
{
	unsigned release = i->form == FORM_I ? i->imm & 0xffff : 0;

	if (release % t->width)
		return false;
	struct operand top = memory_stack(t, 0, t->width, false, ALIGNED);
	load(t, HOST_T, top);
	move_stack(t, (int32_t)(t->width + release));
	return true;
}

void flow_return_to(struct translation *t, const struct insn *i, uint64_t rip)
{
	struct emit *e = &t->e;
	uint32_t right;

	flow_return(t, i);
	memory_room_for(t, 60);
	if (t->block->anywhere) {
		emit_load(e, HOST_X, state_at(BT_PAGE));
		emit_op(e, true, 0xf7, 2, operand_reg(HOST_X)); /* NOT */
		emit_lea(e, HOST_X, operand_sum(HOST_X, HOST_T, 0, 1 - (int32_t)(rip & ~X86_PAGE_MASK)));
	} else if (fits32(-(int64_t)rip)) {
		emit_lea(e, HOST_X, operand_at(HOST_T, (int32_t)-(int64_t)rip));
	} else {
		emit_constant(e, HOST_X, -rip);
		emit_lea(e, HOST_X, operand_sum(HOST_X, HOST_T, 0, 0));
	}
	right = emit_short(e, 0xe3);
	indirect(t);
	emit_patch_short(e, right, e->at);
}

static bool branch_on_count(struct translation *t, const struct insn *i, bool decrement)
{
	struct emit *e = &t->e;
	uint64_t next = flow_next(t, i), target = truncate(t, next + i->imm);

	if (i->asize < 4 || (t->width == 8 && !x86_canonical(target)))
		return false;
	if (decrement)
		emit_op(e, i->asize == 8, 0x8d, HOST_GUEST_RCX, operand_at(HOST_GUEST_RCX, -1));
	emit_op(e, i->asize == 8, 0x8b, HOST_X, operand_reg(HOST_GUEST_RCX));
	uint32_t zero = emit_short(e, 0xe3);
	flow_exit(t, -1, decrement ? target : next);
	emit_patch_short(e, zero, e->at);
	flow_exit(t, -1, decrement ? next : target);
	return true;
}

bool flow_emit(struct translation *t, const struct insn *i)
{
	uint64_t next = flow_next(t, i), target = truncate(t, next + i->imm);

	if (i->osize != t->width)
		return false;
	switch (i->op) {
	case X86_OP_CALL: return call(t, i);
	case X86_OP_JMP: return jump(t, i);
	case X86_OP_RET:
		if (!flow_return(t, i))
			return false;
		indirect(t);
		return true;
	case X86_OP_JCXZ:
	case X86_OP_JECXZ:
	case X86_OP_JRCXZ: return branch_on_count(t, i, false);
	case X86_OP_LOOP: return branch_on_count(t, i, true);
	default: break;
	}
	if (i->op < X86_OP_JO || i->op > X86_OP_JNLE || (t->width == 8 && !x86_canonical(target)))
		return false;
	flow_exit(t, i->opcode & 15, target);
	flow_exit(t, -1, next);
	return true;
}
