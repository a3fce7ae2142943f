/* SPDX-License-Identifier: MIT */
/* A block: guest code from an address on, up to what must end it, and the host code for it: how it is entered, its instructions (translate.c), what is out
 * of line. */
#include <assert.h>
#include "engine/bt/translate.h"
#include "util/log.h"

/* --- the guest's instructions --- */

/* Mostly the next instruction runs behind it in the same mode; if not, its exec function leaves. */
static bool goes_on(const struct insn *i)
{
	return i->op == X86_OP_POPFD || i->op == X86_OP_POPFQ || ((i->op == X86_OP_MOV_TO_SREG || i->op == X86_OP_POP_SREG) && i->dst != SEG_SS);
}

/* These and STI need not end a block. But where time is the count of instructions they do: devices see the time at which a block began, and the
 * interpreter shall come to the same. */
static bool ends_block(const struct bt *bt, const struct insn *i)
{
	const struct x86_op_info *op = &x86_ops[i->op];
	bool end = op->translate == XLATE_END && (bt->counting || !(goes_on(i) || i->op == X86_OP_STI));

	return (op->klass & CLASS_CONTROL) || end || i->op == X86_OP_INVALID;
}

static bool is_vector(const struct insn *i)
{
	return i->op >= X86_OP_FADD || (i->op >= X86_OP_FXSAVE && i->op <= X86_OP_XRSTOR64);
}

/* The bytes of each instruction are copied to where they are in the block, and only there looked at: another processor may be writing there, and what is
 * looked at twice would be one instruction at first, another then. */
static unsigned decode(struct translation *t, uint8_t bytes[BT_BLOCK_MAX * 15], const uint8_t *memory, unsigned available)
{
	struct bt *bt = t->bt;
	struct bt_block *b = t->block;
	unsigned max = b->second == ~0ULL ? BT_BLOCK_MAX : 1;
	bool ends = false;

	while (b->count < max && !ends && b->bytes < available) {
		struct bt_insn *rec = &bt->insn[b->insn + b->count];
		struct insn *i = &t->insns[b->count];
		*i = (struct insn){ .offset = b->bytes, .index = (uint8_t)b->count };
		unsigned n = x86_code_copy(bytes + b->bytes, memory + b->bytes, available - b->bytes);
		n = x86_memo_decode(bt->memo, i, &t->shapes[b->count], &t->shaped[b->count], bytes + b->bytes, n, b->mode);
		if (!n)
			break;
		ends = ends_block(bt, i);
		*rec = (struct bt_insn){ .block = (uint32_t)(b - bt->block), .offset = b->bytes, .vector = is_vector(i), .resumes = !ends || goes_on(i) };
		b->bytes += (uint16_t)n;
		b->count++;
	}
	code_holder_settle(&bt->holder);
	return b->count;
}

void bt_insn_get(struct bt *bt, const struct bt_insn *rec, struct insn *i)
{
	const struct bt_block *b = &bt->block[rec->block];
	struct x86_shape shape;
	bool shaped;

	if (rec->kept) {
		*i = *bt_insn_kept(bt, rec);
		return;
	}
	*i = (struct insn){ .offset = rec->offset, .index = (uint8_t)(rec - &bt->insn[b->insn]) };
	x86_memo_decode(bt->memo, i, &shape, &shaped, bt_block_bytes(bt, b) + rec->offset, b->bytes - rec->offset, b->mode);
}

void bt_insn_keep(struct bt *bt, struct bt_insn *rec, const struct insn *i)
{
	if (rec->kept)
		return;
	rec->kept = bt->insns;
	*bt_insn_kept(bt, rec) = *i;
	bt->insns += BT_INSN_KEPT;
}

/* --- how it is entered --- */

static void count(struct emit *e, const struct bt_block *b)
{
	emit_lea(e, HOST_T, operand_at(HOST_T, b->count));
	emit_store(e, state_at(BT_COUNT), HOST_T);
}

void translate_count(struct translation *t, const struct bt_block *next)
{
	struct emit *e = &t->e;

	emit_load(e, HOST_T, state_at(BT_COUNT));
	emit_pext(e, HOST_X, HOST_T, state_at(BT_RUN_MASK));
	memory_jump_if_zero(t, (struct stub){ .kind = STUB_POLL, .exit = next->insn });
	count(e, next);
}

/* The block's entry in bt->heat: MOV from or to HOST_X, RIP-relative. */
static void heat(struct translation *t, unsigned opcode)
{
	emit_rip(&t->e, false, opcode, HOST_X, BT_CODE_SIZE + (uint32_t)(t->block - t->bt->block) * (uint32_t)sizeof(*t->bt->heat));
}

static void leave_by(struct emit *e, uint32_t insn, int32_t entry)
{
	emit8(e, 0xb8 | HOST_X);
	emit32(e, insn);
	emit_jump_through(e, state_at(entry));
}

/* How it is entered: see flow.c for R15, and run.c for what is counted. */
void translate_prologue(struct translation *t)
{
	struct emit *e = &t->e;
	struct bt_block *b = t->block;
	bool heats = !t->plan && b->second == ~0ULL;
	uint32_t leave = e->at;

	leave_by(e, b->insn, heats ? BT_HOT : BT_POLL);
	if (!b->anywhere)
		b->jump_entry = bt_check_emit(e, b->rip, BT_DISPATCH);
	b->entry = e->at;
	if (t->bt->counting) {
		emit_load(e, HOST_T, state_at(BT_COUNT));
		emit_pext(e, HOST_X, HOST_T, state_at(BT_RUN_MASK));
		emit_patch_short(e, emit_short(e, 0xe3), leave);
		count(e, b);
	} else {
		emit_load(e, HOST_X, state_at(BT_RUN_MASK));
		emit_patch_short(e, emit_short(e, 0xe3), leave);
	}
	b->body = e->at;
	if (!heats)
		return;
	t->bt->heat[b - t->bt->block] = t->bt->counting ? BT_HEAT_COUNTING : BT_HEAT;
	t->bt->target[b - t->bt->block] = 0;
	heat(t, 0x8b);
	emit_lea32(e, HOST_X, operand_at(HOST_X, -1));
	heat(t, 0x89);
	emit_patch_short(e, emit_short(e, 0xe3), leave);
}

/* --- the block --- */

bool bt_translate(struct bt *bt, struct bt_block *b, const uint8_t *memory, unsigned available)
{
	struct translation t; /* some fields are large */
	uint8_t bytes[BT_BLOCK_MAX * 15];

	t.e = (struct emit){ .base = bt->code, .at = bt->code_used };
	t.bt = bt;
	t.block = b;
	t.stubs = t.shorts = 0;
	t.plan = NULL;
	t.held = t.second = GROUP_NONE;
	t.width = (b->mode & MODE_CODE) == MODE_CODE64 ? 8 : 4;
	t.narrow = bt_mode_narrow(b->mode);
	b->insn = bt->insns;
	if (!decode(&t, bytes, memory, available))
		return false;
	b->code = t.e.at;
	memcpy(bt_block_bytes(bt, b), bytes, b->bytes);
	bt->insns += b->count + 1u + (b->bytes + (uint32_t)sizeof(struct bt_insn) - 1) / (uint32_t)sizeof(struct bt_insn);
	translate_prologue(&t);
	for (unsigned n = 0; n < b->count; n++) {
		t.id = b->insn + n;
		t.rec = &bt->insn[t.id];
		t.insn = &t.insns[n];
		t.bytes = bytes + t.insn->offset;
		t.shape = t.shaped[n] ? &t.shapes[n] : NULL;
		bt->stat.native += translate_insn(&t);
	}
	t.id = b->insn + b->count;
	bt->insn[t.id] = (struct bt_insn){ .block = (uint32_t)(b - bt->block), .offset = b->bytes, .code = t.e.at };
	if (bt->insn[t.id - 1].resumes) {
		memory_room(&t);
		bt->insn[t.id].code = t.e.at;
		flow_exit(&t, -1, t.width == 8 ? b->rip + b->bytes : (uint32_t)(b->rip + b->bytes));
	}
	stubs_emit(&t);
	b->code_end = t.e.at;
	assert(b->code_end <= bt->end.code);
	bt->code_used = (uint32_t)align_up(t.e.at, 16);
	bt->stat.blocks++;
	bt->stat.insns += b->count;
	bt->stat.bytes += b->code_end - b->code;
	if (trace_on(bt))
		bt_trace_block(bt, b);
	return true;
}
