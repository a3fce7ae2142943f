/* SPDX-License-Identifier: MIT */
/* Control flow of translated code.
 *
 * A direct jump within the page leads straight to the target's block once there is one: whatever linear page this page is mapped at, the
 * target is in it too. Everything else goes through the jump table, by a hash of the target, and the block that is
 * found there checks that it is the one that was meant (R15 holds the target). The table is emptied whenever what a
 * linear address means may have changed. Returns are an exception: the host's processor, and a table of their own, expect them where their calls were. */
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

/* polls: see struct bt_exit */
static void leave(struct translation *t, int cc, uint64_t target, bool polls)
{
	struct bt *bt = t->bt;

	if (flow_in_page(t, target) && bt->exits < bt->end.exit) {
		uint32_t index = bt->exits++;
		bt->exit[index] = (struct bt_exit){ .block = (uint32_t)(t->block - bt->block), .polls = polls, .rip = target };
		bt->exit[index].patch = emit_jump(&t->e, cc);
		stub_add(t, (struct stub){ .kind = STUB_LINK, .exit = index });
	} else if (cc >= 0) {
		unsigned stub = stub_add(t, (struct stub){ .kind = STUB_FAR, .rip = target });
		t->stub[stub].fix = emit_jump(&t->e, cc);
	} else {
		flow_far(t, target);
	}
}

void flow_exit(struct translation *t, int cc, uint64_t target)
{
	leave(t, cc, target, false);
}

/* Where the target may be no address, this is the instruction whose fault that is. */
static void note_site(struct translation *t)
{
	if (t->width == 8)
		emit_store_constant(&t->e, BT_SITE, t->id);
}

/* To the address in HOST_T. */
static void indirect(struct translation *t)
{
	note_site(t);
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

/* What a push will have overwritten, in case that its call leads nowhere: then it has not happened. */
static void save_overwritten(struct translation *t, struct operand top)
{
	unsigned scratch = top.base == HOST_T ? HOST_X : HOST_T;

	emit_load(&t->e, scratch, top);
	emit_store(&t->e, state_at(BT_OVERWRITTEN), scratch);
}

static void push_constant(struct translation *t, uint64_t value, bool saves)
{
	struct emit *e = &t->e;
	struct operand top = memory_stack(t, -(int)t->width, t->width, true, ALIGNED);

	if (saves && t->width == 8)
		save_overwritten(t, top);
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

/* --- calls and returns --- */

static struct operand return_slot(const struct translation *t)
{
	return operand_sum(HOST_STATE, HOST_X, 3, BT_RETURNS + (t->block->mode & MODE_USER ? 0 : (int)(BT_RETURN_COUNT * sizeof(void *))));
}

/* HOST_X becomes the index of what goes with the guest's return address at `by` from RSP on. */
static void return_index(struct translation *t, int32_t by)
{
	if (by)
		emit_lea(&t->e, HOST_X, operand_at(HOST_GUEST_RSP, by));
	emit_pext(&t->e, HOST_X, by ? HOST_X : HOST_GUEST_RSP, state_at(BT_RETURN_MASKS + (t->width == 4 ? 8 : 0)));
}

/* HOST_X becomes zero if HOST_T holds this address in code. */
static void compare_address(struct translation *t, uint64_t address)
{
	struct emit *e = &t->e;

	if (t->block->anywhere) {
		emit_load(e, HOST_X, state_at(BT_PAGE));
		emit_op(e, true, 0xf7, 2, operand_reg(HOST_X)); /* NOT */
		emit_lea(e, HOST_X, operand_sum(HOST_X, HOST_T, 0, 1 - (int32_t)(address - (t->block->rip & X86_PAGE_MASK))));
	} else if (fits32(-(int64_t)address)) {
		emit_lea(e, HOST_X, operand_at(HOST_T, (int32_t)-(int64_t)address));
	} else {
		emit_constant(e, HOST_X, -address);
		emit_lea(e, HOST_X, operand_sum(HOST_X, HOST_T, 0, 0));
	}
}

/* Where a return to `next` comes, from anywhere, with its index in HOST_X and its target in HOST_T; and any other that looked at the same place. */
static void site(struct translation *t, uint64_t next)
{
	struct emit *e = &t->e;
	uint32_t right;

	if (t->block->anywhere) {
		emit_load(e, HOST_X, operand_sum(HOST_STATE, HOST_X, 3, BT_RETURN_RIPS));
		emit_op(e, true, 0xf7, 2, operand_reg(HOST_X));
		emit_lea(e, HOST_X, operand_sum(HOST_X, HOST_T, 0, 1));
	} else {
		compare_address(t, next);
	}
	right = emit_short(e, 0xe3);
	emit_jump_through(e, state_at(BT_ASTRAY));
	emit_patch_short(e, right, e->at);
	if (t->block->anywhere) {
		emit_lea(e, HOST_X, operand_at(HOST_T, -(int32_t)(next - (t->block->rip & X86_PAGE_MASK))));
		emit_store(e, state_at(BT_PAGE), HOST_X);
	}
	leave(t, -1, next, true);
}

/* The return address, which stands at `by` from RSP on, is `next`, and in HOST_T if the block is for any address. A host CALL makes the host's processor expect a
 * return behind it; that the return comes there, it finds in a table. */
static void expect_return(struct translation *t, uint64_t next, int32_t by)
{
	struct emit *e = &t->e;
	uint32_t over;

	if (t->width == 8 && !x86_canonical(next)) /* behind the last page: a return to it is that return's fault */
		return;
	return_index(t, by);
	if (t->block->anywhere)
		emit_store(e, operand_sum(HOST_STATE, HOST_X, 3, BT_RETURN_RIPS), HOST_T);
	over = emit_call(e);
	site(t, next);
	memory_island(t, false);
	emit_patch(e, over, e->at);
	emit_pop(e, return_slot(t));
}

void flow_expect_return(struct translation *t, uint64_t next, int32_t by)
{
	if (t->block->anywhere)
		load_address(t, next);
	expect_return(t, next, by);
}

/* The return address is pushed. */
static void push_next(struct translation *t, uint64_t next, bool saves)
{
	push_constant(t, next, saves);
	if (!flow_in_page(t, next)) /* then what follows is too long to reach beyond */
		memory_island(t, true);
	expect_return(t, next, 0);
}

/* The target, in HOST_T, is wanted behind what needs that. */
void flow_save_target(struct translation *t)
{
	if (t->narrow)
		emit_mov(&t->e, HOST_SAVED, HOST_T);
	else
		emit_store(&t->e, state_at(BT_SAVED), HOST_T);
}

static void restore_target(struct translation *t)
{
	if (t->narrow)
		emit_mov(&t->e, HOST_T, HOST_SAVED);
	else
		emit_load(&t->e, HOST_T, state_at(BT_SAVED));
}

static void load_register(struct translation *t, unsigned guest)
{
	unsigned host = guest_host(guest);

	if (host == HOST_NONE)
		emit_load(&t->e, HOST_T, guest_slot(guest));
	else
		emit_op(&t->e, t->width == 8, 0x8b, HOST_T, operand_reg(host));
}

/* A fast copy may go on there: path.c. */
static void note_target(struct translation *t)
{
	if (!t->plan)
		emit_rip(&t->e, true, 0x89, HOST_T, (uint32_t)((uint8_t *)&t->bt->target[t->block - t->bt->block] - t->bt->code));
}

/* Of an indirect call or jump: HOST_T becomes its target, of a call's only if that is in memory; then it is saved, too. */
static bool fetch_target(struct translation *t, const struct insn *i)
{
	struct ea ea;

	if (i->form != FORM_R) {
		if (!memory_address(t, i, &ea))
			return false;
		struct operand rm = memory_access(t, &ea, t->width, false, memory_aligned(t, i, &ea, t->width) ? ALIGNED : CHECKED);
		load(t, HOST_T, rm);
		if (i->op == X86_OP_CALL)
			flow_save_target(t);
	} else if (i->op == X86_OP_CALL) {
		return i->dst != RSP * 8;
	} else {
		load_register(t, i->dst / 8);
	}
	return true;
}

/* Behind the push of a call. */
static void reload_target(struct translation *t, const struct insn *i)
{
	if (i->form == FORM_R)
		load_register(t, i->dst / 8);
	else
		restore_target(t);
}

static bool call(struct translation *t, const struct insn *i)
{
	uint64_t next = flow_next(t, i), target = truncate(t, next + i->imm);

	if (i->form == FORM_I) {
		if (t->width == 8 && !x86_canonical(target))
			return false;
		push_next(t, next, false);
		flow_exit(t, -1, target);
		return true;
	}
	if (!fetch_target(t, i))
		return false;
	if (i->form != FORM_R) /* what follows is too long to reach beyond */
		memory_island(t, true);
	push_next(t, next, true);
	reload_target(t, i);
	note_target(t);
	indirect(t);
	return true;
}

static bool jump(struct translation *t, const struct insn *i)
{
	uint64_t target = truncate(t, flow_next(t, i) + i->imm);

	if (i->form == FORM_I) {
		if (t->width == 8 && !x86_canonical(target))
			return false;
		flow_exit(t, -1, target);
		return true;
	}
	if (!fetch_target(t, i))
		return false;
	note_target(t);
	indirect(t);
	return true;
}

unsigned flow_released(const struct translation *t, const struct insn *i)
{
	return t->width + (i->form == FORM_I ? i->imm & 0xffff : 0);
}

/* HOST_T becomes where it leads. */
static void load_return(struct translation *t)
{
	load(t, HOST_T, memory_stack(t, 0, t->width, false, ALIGNED));
}

static bool return_(struct translation *t, const struct insn *i)
{
	unsigned released = flow_released(t, i);

	if (released % t->width)
		return false;
	load_return(t);
	note_site(t);
	return_index(t, 0);
	emit_push(&t->e, return_slot(t));
	move_stack(t, (int32_t)released);
	emit8(&t->e, 0xc3);
	return true;
}

/* On if HOST_T holds this address. */
static void go_on_at(struct translation *t, uint64_t rip, struct stub otherwise)
{
	uint32_t right;

	memory_room_for(t, 60);
	compare_address(t, rip);
	right = emit_short(&t->e, 0xe3);
	unsigned stub = stub_add(t, otherwise);
	t->stub[stub].fix = emit_jump(&t->e, -1);
	emit_patch_short(&t->e, right, t->e.at);
}

void flow_go_on(struct translation *t, const struct insn *i, uint64_t rip, struct stub otherwise)
{
	if (i->op == X86_OP_RET) {
		load_return(t);
		move_stack(t, (int32_t)flow_released(t, i));
		go_on_at(t, rip, otherwise);
		return;
	}
	if (i->form != FORM_I) {
		fetch_target(t, i);
		memory_room_for(t, 80);
	}
	if (i->op == X86_OP_CALL)
		push_constant(t, flow_next(t, i), i->form != FORM_I);
	if (i->form == FORM_I)
		return;
	if (i->op == X86_OP_CALL)
		reload_target(t, i);
	go_on_at(t, rip, otherwise);
}

void flow_elsewhere(struct translation *t, bool saved)
{
	if (saved)
		restore_target(t);
	indirect(t);
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

bool flow_is_branch(const struct insn *i)
{
	return i->op >= X86_OP_JO && i->op <= X86_OP_JNLE;
}

bool flow_emit(struct translation *t, const struct insn *i)
{
	uint64_t next = flow_next(t, i), target = truncate(t, next + i->imm);

	if (i->osize != t->width)
		return false;
	switch (i->op) {
	case X86_OP_CALL: return call(t, i);
	case X86_OP_JMP: return jump(t, i);
	case X86_OP_RET: return return_(t, i);
	case X86_OP_JCXZ:
	case X86_OP_JECXZ:
	case X86_OP_JRCXZ: return branch_on_count(t, i, false);
	case X86_OP_LOOP: return branch_on_count(t, i, true);
	default: break;
	}
	if (!flow_is_branch(i) || (t->width == 8 && !x86_canonical(target)))
		return false;
	flow_exit(t, i->opcode & 15, target);
	flow_exit(t, -1, next);
	return true;
}
