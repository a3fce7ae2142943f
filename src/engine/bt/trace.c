/* SPDX-License-Identifier: MIT */
/* --trace bt: each block as it is translated, guest code beside the host code that was made of it. */
#include <stdio.h>
#include <stdlib.h>
#include "engine/bt/translate.h"
#include "util/log.h"

#define GUEST_COLUMN 50
#define HOST_COLUMN 44

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* processors take turns, so that the lines of a block stay together */

static const struct { unsigned offset, size; const char *name; } fields[] = {
#define FIELD(member) { offsetof(struct bt_state, member), sizeof(((struct bt_state *)0)->member), #member }
	FIELD(run_mask), FIELD(count), FIELD(page_mask), FIELD(spill), FIELD(fs_base), FIELD(gs_base), FIELD(exec), FIELD(miss),
	FIELD(dispatch), FIELD(group), FIELD(near), FIELD(hot), FIELD(poll), FIELD(link), FIELD(unaligned), FIELD(low_mask), FIELD(offset_mask), FIELD(cross_mask), FIELD(target),
	FIELD(argument), FIELD(address), FIELD(site), FIELD(saved), FIELD(rsp), FIELD(core), FIELD(if_flag), FIELD(ac_flag), FIELD(rflags),
	FIELD(arith_mask), FIELD(popf_mask), FIELD(no_event), FIELD(rsps), FIELD(fpu), FIELD(fpu_live), FIELD(fpu_last), FIELD(fpu_operand), FIELD(page_mask16),
	FIELD(low_mask16), FIELD(unaligned16), FIELD(fpu_last_memory), FIELD(page), FIELD(fpu_page), FIELD(quick), FIELD(fs_plain), FIELD(gs_plain), FIELD(jumps), FIELD(seconds), FIELD(returns), FIELD(return_rips), FIELD(return_masks), FIELD(astray), FIELD(overwritten), FIELD(passes), FIELD(rounds), FIELD(second_mask), FIELD(supervisor), FIELD(unknown),
#undef FIELD
};

static const char *const register_names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					      "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

/* What a host instruction that refers to struct bt_state refers to; else "". */
static const char *field_of(const char *text)
{
	const char *memory = strstr(text, "[rsp"), *end = memory ? strchr(memory, ']') : NULL, *minus = end;
	unsigned long offset;

	while (minus > memory && strncmp(minus, "-0x", 3))
		minus--;
	if (minus == memory)
		return "";
	offset = BT_STATE_SIZE - strtoul(minus + 1, NULL, 16);
	for (unsigned n = 0; n < ARRAY_SIZE(fields); n++)
		if (offset - fields[n].offset < fields[n].size)
			return fields[n].name;
	return "";
}

/* One line: what stands in the guest's column, and the host instruction at this offset of the cache. Returns its length. */
static unsigned line(const struct bt *bt, const char *guest, uint32_t at, uint32_t end, const char *remark)
{
	char text[128], comment[64];
	unsigned length = x86_disassemble(text, sizeof(text), bt->code + at, end - at, MODE_CODE64, at);
	const char *field = field_of(text);

	snprintf(comment, sizeof(comment), "%s%s%s", field, *field && *remark ? ", " : "", remark);
	trace_print(TRACE_bt, "  %-*s| %6x  %-*s%s%s", GUEST_COLUMN, guest, at, *comment ? HOST_COLUMN : 0, text, *comment ? "; " : "", comment);
	return length;
}

/* Host code from `at` to `end`; the guest's column has something in the first line only. */
static void lines(const struct bt *bt, const char *guest, uint32_t at, uint32_t end, const char *remark)
{
	for (unsigned length; at < end; at += length) {
		length = line(bt, guest, at, end, remark);
		if (!length)
			return;
		guest = remark = "";
	}
}

/* Once: how to read what follows. */
static void legend(void)
{
	char text[200] = "";
	static bool done;

	if (done)
		return;
	done = true;
	for (unsigned guest = 0; guest < 16; guest++) {
		unsigned host = guest_host(guest);
		size_t used = strlen(text);
		if (host == HOST_NONE)
			snprintf(text + used, sizeof(text) - used, ", guest %s is in spill", register_names[guest]);
		else if (host != guest)
			snprintf(text + used, sizeof(text) - used, ", guest %s in %s", register_names[guest], register_names[host]);
	}
	trace_print(TRACE_bt, "left the guest's code, right the host's, with offsets in the code cache; below rsp is struct bt_state (fields are named), at and "
			      "above it the delta table%s; %s and %s are scratch", text, register_names[HOST_X], register_names[HOST_T]);
}

static void header(const struct bt *bt, const struct bt_block *b)
{
	char calls[400] = "";
	unsigned count = 0;

	for (unsigned n = 0; n < b->count; n++) {
		const struct bt_insn *rec = &bt->insn[b->insn + n];
		size_t used = strlen(calls);
		if (!rec->calls_exec)
			continue;
		count++;
		snprintf(calls + used, sizeof(calls) - used, " %s", x86_ops[bt_insn_kept(bt, rec)->op].name);
	}
	trace_print(TRACE_bt, "block %u of cpu%u: RIP %#lx%s, at %#lx in memory, %s-bit, CPL %s; %u instructions, %u bytes become %u bytes; exec functions: %u%s%s",
		    (unsigned)(b - bt->block), bt->vcpu->index, b->rip, b->anywhere ? " or any" : "", b->gpa, (b->mode & MODE_CODE) == MODE_CODE64 ? "64" : "32",
		    b->mode & MODE_USER ? "3" : "0", b->count, b->bytes, b->code_end - b->code, count, count ? ":" : "", calls);
}

/* The guest's column. */
static void guest_of(const struct bt *bt, const struct bt_insn *rec, char *guest, size_t size)
{
	const struct bt_block *b = &bt->block[rec->block];
	char text[100];

	x86_disassemble(text, sizeof(text), bt_block_bytes(bt, b) + rec->offset, rec[1].offset - rec->offset, b->mode, b->rip + rec->offset);
	snprintf(guest, size, "%lx  %s", b->rip + rec->offset, text);
}

void bt_trace_fast(const struct bt *bt, const struct bt_fast *f)
{
	const struct bt_block *b = &bt->block[f->block];
	const struct bt_place *p = &bt->place[f->place];

	pthread_mutex_lock(&lock);
	trace_print(TRACE_bt, "block %u of cpu%u is hot: RIP %#lx; %u instructions become %u bytes", f->block, bt->vcpu->index, b->rip, f->places,
		    f->code_end - f->code);
	lines(bt, "(entry)", f->code, f->places ? p[0].code : f->code_end, "");
	for (unsigned n = 0; n < f->places; n++) {
		char guest[140];
		guest_of(bt, &bt->insn[p[n].insn], guest, sizeof(guest));
		lines(bt, guest, p[n].code, n + 1 < f->places ? p[n + 1].code : f->code_end, "");
	}
	pthread_mutex_unlock(&lock);
}

void bt_trace_block(const struct bt *bt, const struct bt_block *b)
{
	const struct bt_insn *first = &bt->insn[b->insn];

	pthread_mutex_lock(&lock);
	legend();
	header(bt, b);
	lines(bt, "(entry: is it this block? is it to be left?)", b->code, b->body, "");
	for (unsigned n = 0; n < b->count; n++) {
		char guest[140];
		guest_of(bt, &first[n], guest, sizeof(guest));
		lines(bt, guest, first[n].code, first[n + 1].code, first[n].calls_exec ? "to the exec function" : "");
	}
	lines(bt, "(end of the block, and what is out of line)", first[b->count].code, b->code_end, "");
	pthread_mutex_unlock(&lock);
}
