/* SPDX-License-Identifier: MIT */
/* Between C and translated code: how it is entered, and what it calls. loop.c decides when it runs. */
#include "engine/bt/fpu.h"
#include "x86/paging.h"

bool bt_fits(const struct x86_core *core)
{
	uint32_t mode = core->mode;

	if ((mode & (MODE_PROTECTED | MODE_V86)) != MODE_PROTECTED)
		return false;
	if (x86_tlb_kind(core) >= BT_KINDS)
		return false;
	if (core->cpl != 0 && core->cpl != 3)
		return false;
	return (mode & MODE_CODE) == MODE_CODE64 || (mode & (MODE_CODE | MODE_STACK | MODE_FLAT)) == (MODE_CODE32 | MODE_STACK32 | MODE_FLAT);
}

/* RSP is aligned while translated code runs, so that what goes by RSP never crosses a page. */
bool bt_stack_fits(const struct x86_core *core)
{
	return !(core->cpu.gpr[RSP] & ((core->mode & MODE_CODE) == MODE_CODE64 ? 7 : 3));
}

static void keys_check(struct bt *bt)
{
	struct x86_core *core = &bt->vcpu->core;
	unsigned which = core->mode & MODE_USER ? 0 : 1;
	uint32_t mode = core->mode;

	if (bt->generation[0] != core->mapping_generation || (which == 0 && bt->mode[0] != mode))
		bt_jumps_clear(bt, 0);
	if (bt->generation[1] != core->supervisor_generation || (which == 1 && bt->mode[1] != mode))
		bt_jumps_clear(bt, 1);
	bt->generation[0] = core->mapping_generation;
	bt->generation[1] = core->supervisor_generation;
	bt->mode[which] = mode;
}

/* Outside of long mode R8 to R14 are for translated code: what it shifts by is in two of them from the start. What it looks up there is only right as long as
 * there are no entries beyond 4 GiB. */
static void borrow(struct bt *bt)
{
	uint64_t *gpr = bt->vcpu->core.cpu.gpr;

	memcpy(bt->high, gpr + R8, sizeof(bt->high));
	gpr[R13] = 10;
	gpr[R14] = 12;
	bt->borrowed = true;
	if (bt->beyond_4g)
		bt_table_flush(bt, FLUSH_ALL, 0);
}

static void give_back(struct bt *bt)
{
	memcpy(bt->vcpu->core.cpu.gpr + R8, bt->high, sizeof(bt->high));
	bt->borrowed = false;
}

/* Makes everything ready for translated code; where it goes on is passed through. */
static void *resume(struct bt *bt, uint32_t code)
{
	struct x86_core *core = &bt->vcpu->core;
	struct bt_state *s = bt->state = bt->view[x86_tlb_kind(core)];

	keys_check(bt);
	s->rsp = s + 1;
	s->supervisor = !(core->mode & MODE_USER);
	s->fs_base = core->cpu.seg[SEG_FS].base;
	s->gs_base = core->cpu.seg[SEG_GS].base;
	if ((core->mode & MODE_CODE) == MODE_CODE32) {
		s->fs_plain = bt_segment_plain(&core->cpu.seg[SEG_FS]);
		s->gs_plain = bt_segment_plain(&core->cpu.seg[SEG_GS]);
	}
	s->aflags = core->aflags;
	s->mxcsr = core->cpu.xsave.legacy.mxcsr;
	s->avx = bt->avx && !(core->mode & MODE_AVX_UD);
	s->if_flag = core->cpu.rflags & FLAG_IF;
	s->ac_flag = core->cpu.rflags & FLAG_AC;
	s->rflags = (core->cpu.rflags & ~(FLAGS_ARITH | FLAG_IF | FLAG_AC | FLAG_VM | FLAG_RF)) | FLAG_FIXED;
	s->no_event = !(bt->vcpu->intr_pending || core->cpu.nmi_pending);
	s->rsps[0] = bt->view[TLB_SUPERVISOR] + 1;
	s->rsps[1] = bt->view[core->cpu.cr4 & CR4_SMAP ? TLB_SUPERVISOR_AC : TLB_SUPERVISOR] + 1;
	if (bt_mode_narrow(core->mode))
		borrow(bt);
	bt_phase_set(bt, BT_TRANSLATED);
	return bt->code + code;
}

/* To the start of a block; at_once: past where it would leave, whoever wants the processor. */
static void *begin(struct bt *bt, struct bt_block *b, bool at_once)
{
	uint64_t rip = bt->vcpu->core.cpu.gpr[X86_GPR_RIP];

	keys_check(bt);
	bt->state->page = rip & X86_PAGE_MASK;
	bt_jump_set(bt, b, rip);
	if (at_once && bt->counting)
		bt->state->count += b->count;
	return resume(bt, at_once ? b->body : b->entry);
}

/* The instruction behind STI or MOV SS runs before anything else happens: then at once. So does the one that the handler of a fault returns to, which
 * RFLAGS.RF is set for until it is done: without breakpoints that is seen by an interrupt before it only. */
void *bt_start(struct bt *bt, struct bt_block *b)
{
	struct x86_cpu *cpu = &bt->vcpu->core.cpu;
	bool at_once = cpu->interrupt_shadow || (cpu->rflags & FLAG_RF);

	cpu->interrupt_shadow = 0;
	cpu->rflags &= ~FLAG_RF;
	return begin(bt, b, at_once);
}

static struct bt *arrive(struct bt_state *s)
{
	struct x86_core *core = s->core;
	struct bt *bt = bt_of(vcpu_of(core));

	bt_phase_set(bt, BT_ENGINE);
	if (bt->borrowed)
		give_back(bt);
	core->aflags = s->aflags;
	core->cpu.rflags = (core->cpu.rflags & ~FLAG_IF) | s->if_flag;
	if (unlikely((core->cpu.rflags ^ s->ac_flag) & FLAG_AC)) {
		core->cpu.rflags ^= FLAG_AC;
		x86_mode_update(core);
	}
	if (bt->counting)
		core->icount = bt->limit + s->count;
	return bt;
}

/* Something has to be looked at before the next instruction. */
static bool needs_engine(const struct bt *bt)
{
	const struct vcpu *vcpu = bt->vcpu;
	const struct x86_core *core = &vcpu->core;
	const struct x86_cpu *cpu = &core->cpu;

	return !*(volatile uint64_t *)&bt->state->run_mask || (int64_t)bt->state->count >= 0 || cpu->activity != X86_RUNNING ||
	       (cpu->interrupt_shadow && (vcpu->intr_pending || cpu->nmi_pending)) || cpu->event_pending || cpu->pending_debug || (cpu->rflags & FLAG_TF) ||
	       (cpu->dr[7] & 0xff) || (cpu->nmi_pending && !cpu->nmi_blocked) || (vcpu->intr_pending && (cpu->rflags & FLAG_IF)) ||
	       bt->holder.has_changes || vcpu->kicked || vcpu->changed || core->want_exclusive || !bt_fits(core) || !bt_stack_fits(core);
}

/* RIP is exact, at a boundary between instructions. */
static void *onward(struct bt *bt)
{
	struct bt_block *b;

	bt->state->count = bt->vcpu->core.icount - bt->limit;
	if (needs_engine(bt))
		return NULL;
	keys_check(bt);
	b = bt_jump_find(bt, bt->vcpu->core.cpu.gpr[X86_GPR_RIP]);
	if (!b)
		b = bt_block_get(bt, NULL);
	if (!b) {
		bt->interpret = true;
		return NULL;
	}
	return bt_start(bt, b);
}

static struct bt *bt_in(struct x86_core *core)
{
	return bt_of(vcpu_of(core));
}

static void went_on(struct x86_core *core, const struct insn *i)
{
	core->cpu.gpr[X86_GPR_RIP] += i->offset;
	core->icount += i->index;
	bt_in(core)->went_on = true;
}

static void jumped(struct x86_core *core, const struct insn *i)
{
	core->icount += i->index;
	bt_in(core)->went_on = true;
}

/* The state is that before the instruction. */
static void *run_exec(struct bt *bt, struct bt_insn *rec)
{
	struct x86_core *core = &bt->vcpu->core;
	struct bt_block *b = &bt->block[rec->block];
	struct insn pair[2] = { 0 };

	bt_insn_get(bt, rec, &pair[0]);
	pair[1].exec = x86_ops[pair[0].op].klass & CLASS_CONTROL ? jumped : went_on;
	pair[1].offset = (uint16_t)(pair[0].offset + pair[0].length);
	pair[1].index = (uint8_t)(pair[0].index + 1);
	if (unlikely(rec->trouble & BT_SITE_GIVEN_UP) && ++rec->trouble == (BT_SITE_GIVEN_UP | BT_SITE_RUNS))
		bt_invalidate(bt, b->gpa, 1);
	if (rec->vector)
		bt_fp_leave(bt);
	else
		bt_fpu_settle(bt, bt->state);
	core->cpu.gpr[X86_GPR_RIP] = bt_block_rip(bt, b);
	if (bt->counting)
		core->icount -= b->count; /* all of the block is counted where it begins */
	bt->went_on = false;
	bt->stat.exec[pair[0].op]++;
	bt_phase_set(bt, BT_EXECUTING);
	pair[0].exec(core, pair);
	bt_phase_set(bt, BT_ENGINE);
	bt_reason_end(bt, false);
	if (bt->went_on && rec->resumes && !b->dead && core->mode == b->mode && bt_stack_fits(core))
		return resume(bt, rec[1].code);
	if ((core->mode & MODE_CODE) != MODE_CODE64)
		core->cpu.gpr[X86_GPR_RIP] = (uint32_t)core->cpu.gpr[X86_GPR_RIP];
	return onward(bt);
}

void *bt_c_exec(struct bt_state *s, uint32_t insn)
{
	struct bt *bt = arrive(s);

	return run_exec(bt, &bt->insn[insn]);
}

/* bt_table_fill, counted. False: the exec function does it, and that will tell why; so it does when a fault was not for want of an entry. */
static bool table_fill(struct bt *bt, enum bt_why why, gva_t gva, bool write, bool *upgraded)
{
	bool filled;

	bt_reason_begin(bt, why, BT_ELSE);
	bt_phase_set(bt, BT_FILLING);
	filled = bt_table_fill(bt, gva, write, upgraded);
	bt_phase_set(bt, BT_ENGINE);
	if (!filled || (why == BT_FAULTED && !*upgraded))
		return false;
	bt->stat.left[why][*upgraded ? BT_CLEAN_PAGE : BT_FILLED]++;
	bt->reason.why = BT_NO_REASON;
	return true;
}

void *bt_c_miss(struct bt_state *s, uint32_t what)
{
	struct bt *bt = arrive(s);
	struct bt_insn *rec = &bt->insn[what >> 8];
	unsigned size = 1u << (what >> 2 & 15);
	bool write = what & 1, strict = what & 2, upgraded;
	gva_t gva = s->address;

	bt->stat.misses++;
	if ((gva & ~X86_PAGE_MASK) + size > X86_PAGE_SIZE || (strict && (gva & (size - 1)))) {
		bt_reason_begin(bt, BT_MISSED, (gva & ~X86_PAGE_MASK) + size > X86_PAGE_SIZE ? BT_CROSSING : BT_MISALIGNED);
		return run_exec(bt, rec);
	}
	if (!table_fill(bt, BT_MISSED, gva, write, &upgraded))
		return run_exec(bt, rec);
	return resume(bt, rec->code);
}

/* Where the instruction writes. */
static gva_t written_at(struct x86_core *core, const struct insn *i)
{
	uint64_t sum = *x86_gpr_at(core, i->base) + (*x86_gpr_at(core, i->scaled) << i->scale) + (uint64_t)i->disp;
	bool push = i->op == X86_OP_PUSH || i->op == X86_OP_CALL || i->op == X86_OP_PUSHFD || i->op == X86_OP_PUSHFQ || i->op == X86_OP_PUSH_SREG;

	if (push)
		sum = core->cpu.gpr[RSP] - i->osize;
	else if (i->flags & INSN_ADDRESS32)
		sum = (uint32_t)sum;
	sum += push ? 0 : core->cpu.seg[i->seg].base;
	if (bt_is_bit_string(i)) /* of 4 or 8 bytes */
		sum += (uint64_t)(i->size == 8 ? (int64_t)*x86_gpr_at(core, i->src) >> 6 : (int32_t)*x86_gpr_at(core, i->src) >> 5) * i->size;
	return x86_linear_wrap(core, sum);
}

void *bt_c_segv(struct bt_state *s, uint32_t insn)
{
	struct bt *bt = arrive(s);
	struct bt_insn *rec = &bt->insn[insn];
	struct insn i;
	bool upgraded;

	bt->stat.faults++;
	bt_insn_get(bt, rec, &i);
	bt->vcpu->core.cpu.gpr[X86_GPR_RIP] = bt_block_rip(bt, &bt->block[rec->block]);
	if (rec->access == BT_WRITE && table_fill(bt, BT_FAULTED, written_at(&bt->vcpu->core, &i), true, &upgraded)) {
		bt->stat.upgrades++;
		return resume(bt, rec->code);
	}
	bt_reason_begin(bt, BT_FAULTED, BT_ELSE);
	if (rec->access == BT_WRITE && bt->indirect && ++rec->trouble == BT_SITE_FAULTS)
		bt_give_site_up(bt, rec);
	return run_exec(bt, rec);
}

/* A jump to an address that is none is the fault of the jump, whose work is taken back. */
static void *undo_jump(struct bt *bt, struct bt_insn *rec)
{
	uint64_t *rsp = &bt->vcpu->core.cpu.gpr[RSP];
	struct insn i;

	bt_insn_get(bt, rec, &i);
	if (i.op == X86_OP_CALL) {
		bt->vcpu->core.cpu.gpr[X86_GPR_RIP] = bt_block_rip(bt, &bt->block[rec->block]);
		*rsp += 8;
		x86_store64(&bt->vcpu->core, &i, *rsp - 8, bt->state->overwritten);
	} else if (i.op == X86_OP_RET)
		*rsp -= 8 + (i.form == FORM_I ? i.imm & 0xffff : 0);
	return run_exec(bt, rec);
}

void *bt_c_dispatch(struct bt_state *s)
{
	struct bt *bt = arrive(s);
	struct x86_core *core = &bt->vcpu->core;

	bt->stat.dispatches++;
	if (!x86_reachable(core, s->address) && s->site != BT_NO_SITE)
		return undo_jump(bt, &bt->insn[s->site]);
	core->cpu.gpr[X86_GPR_RIP] = s->address;
	return onward(bt);
}

void *bt_c_link(struct bt_state *s, uint32_t number)
{
	struct bt *bt = arrive(s);
	struct bt_exit *exit = &bt->exit[number];
	struct bt_block *from = &bt->block[exit->block], *b;
	uint64_t evictions = bt->evictions;

	bt->vcpu->core.cpu.gpr[X86_GPR_RIP] = from->anywhere ? s->page | (exit->rip & ~X86_PAGE_MASK) : exit->rip;
	bt->state->count = bt->vcpu->core.icount - bt->limit;
	if (needs_engine(bt))
		return NULL;
	b = bt_block_get(bt, from);
	if (!b) {
		bt->interpret = true;
		return NULL;
	}
	s->page = bt->vcpu->core.cpu.gpr[X86_GPR_RIP] & X86_PAGE_MASK;
	if (bt->evictions == evictions && !from->dead && b->second == ~0ULL && b->mode == from->mode && b->anywhere == from->anywhere &&
	    align_down(b->gpa, X86_PAGE_SIZE) == align_down(from->gpa, X86_PAGE_SIZE))
		bt_exit_link(bt, exit, b);
	return resume(bt, b->entry);
}

void *bt_c_poll(struct bt_state *s, uint32_t insn)
{
	struct bt *bt = arrive(s);

	bt->vcpu->core.cpu.gpr[X86_GPR_RIP] = bt_block_rip(bt, &bt->block[bt->insn[insn].block]);
	return NULL;
}

void *bt_c_fpu(struct bt_state *s, uint32_t insn)
{
	struct bt *bt = arrive(s);

	bt_fpu_enter(bt);
	return resume(bt, bt->insn[insn].code);
}

/* The block that is about to run is no more. The one that is found in its place begins at once, as this would have: it may be that of the instruction
 * behind STI, before which nothing happens. */
static void *again(struct bt *bt, uint64_t rip, unsigned count)
{
	struct x86_core *core = &bt->vcpu->core;
	struct bt_block *b;

	core->cpu.gpr[X86_GPR_RIP] = rip;
	if (bt->counting)
		core->icount -= count;
	bt->state->count = core->icount - bt->limit;
	b = bt_block_get(bt, NULL);
	if (b)
		return begin(bt, b, true);
	core->cpu.interrupt_shadow = X86_SHADOW_STI;
	bt->interpret = true;
	return NULL;
}

/* The block has run often; or it is not yet so, and somebody wants the processor. */
void *bt_c_hot(struct bt_state *s, uint32_t insn)
{
	struct bt *bt = arrive(s);
	struct bt_block *b = &bt->block[bt->insn[insn].block];

	if (bt->heat[b - bt->block]) {
		bt->vcpu->core.cpu.gpr[X86_GPR_RIP] = bt_block_rip(bt, b);
		return NULL;
	}
	if (!bt_heat_room(bt)) {
		uint64_t rip = bt_block_rip(bt, b);
		bt_parts_advance(bt);
		if (b->dead)
			return again(bt, rip, b->count);
	}
	return resume(bt, bt_heat_up(bt, b) ? b->body : bt->insn[insn].code);
}
