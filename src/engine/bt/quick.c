/* SPDX-License-Identifier: MIT */
/* What a system call takes: SYSCALL, SYSENTER, INT n and their returns, loads of segment registers, and the RDTSC by which Linux moves its stack. SDM
 * volume 2.
 *
 * An exec function may use vector registers, so all of the guest's are saved before, and loaded again behind it. This file is
 * compiled without them, calls nothing that is not, and so need not. It does the common cases, as the exec functions do them; for the others it
 * changes nothing and says so.
 *
 * Memory (descriptors, the TSS, stacks of the kernel) is reached through the interpreter's TLB: where that has no entry, the exec function, which then runs,
 * makes one. */
#include "engine/bt/fpu.h"
#include "x86/paging.h"
#include "x86/segment.h"
#include "x86/syscall.h"
#include "util/log.h"

#define DESCRIPTOR_ACCESSED BIT(40)

/* The jump tables are good for what the processor is now, and would be in this mode: see keys_check in run.c. */
static bool keys_hold(const struct bt *bt, unsigned which, uint32_t mode)
{
	const struct x86_core *core = &bt->vcpu->core;

	return bt->generation[0] == core->mapping_generation && bt->generation[1] == core->supervisor_generation && bt->mode[which] == mode;
}

/* The block at this address, where that is known: its page was fetched from. */
static struct bt_block *find(const struct bt *bt, uint64_t rip, uint32_t mode)
{
	const struct x86_core *core = &bt->vcpu->core;
	const struct fetch_entry *e = &core->fetch[(rip >> X86_PAGE_SHIFT) & (FETCH_ENTRIES - 1)];
	gpa_t gpa = e->page + (rip & ~X86_PAGE_MASK);

	if (e->tag != ((rip & X86_PAGE_MASK) | (mode & MODE_USER ? 1 : 0)))
		return NULL;
	for (uint32_t at = bt->hash[bt_bucket(gpa)]; at; at = bt->block[at - 1].same_hash) {
		struct bt_block *b = &bt->block[at - 1];
		if (b->gpa == gpa && b->mode == mode && b->second == ~0ULL && !b->dead && (b->anywhere ? bt_may_float(rip, mode) : b->rip == rip))
			return b;
	}
	return NULL;
}

void *bt_quick_dispatch(struct bt_state *s)
{
	struct bt *bt = bt_of(vcpu_of(s->core));
	uint32_t mode = s->core->mode, code;
	unsigned which = mode & MODE_USER ? 0 : 1;
	struct bt_block *b;
	bool second;

	if (bt->holder.has_changes || !keys_hold(bt, which, mode))
		return NULL;
	b = find(bt, s->address, mode);
	if (!b)
		return NULL;
	second = bt_jump_taken(bt, which, s->address);
	code = second || b->anywhere ? bt_door_get(bt, b, s->address, second) : b->jump_entry;
	if (!code)
		return NULL;
	bt_jump_put(bt, b, s->address, code, second);
	bt->stat.quick_dispatches++;
	return bt->code + code;
}

static uint64_t arithmetic(const struct bt_state *s)
{
	return (s->aflags >> 8 & (FLAGS_ARITH & 0xff)) | (s->aflags & 1 ? FLAG_OF : 0);
}

/* RFLAGS as it is in translated code, but for RF, which is clear there. */
static uint64_t flags_of(const struct bt_state *s)
{
	return (s->core->cpu.rflags & ~(FLAGS_ARITH | FLAG_IF | FLAG_AC | FLAG_RF)) | FLAG_FIXED | s->if_flag | s->ac_flag | arithmetic(s);
}

/* With these flags, of which AC, TF and RF are clear, at this privilege: CS and SS are loaded, and else the mode stays as it is. Returns where what is
 * at s->address begins. */
static void *arrive(struct bt *bt, unsigned cpl, uint64_t flags)
{
	enum tlb_kind kind = cpl ? TLB_USER : TLB_SUPERVISOR;
	struct x86_core *core = &bt->vcpu->core;
	struct bt_state *s = bt->state = bt->view[kind];

	core->cpu.rflags = flags | FLAG_FIXED;
	s->aflags = core->aflags = (uint16_t)((flags & FLAGS_ARITH & 0xff) << 8 | (flags & FLAG_OF ? 1 : 0));
	s->if_flag = flags & FLAG_IF;
	s->ac_flag = 0;
	s->rflags = (flags & ~(FLAGS_ARITH | FLAG_IF)) | FLAG_FIXED;
	core->cpl = (uint8_t)cpl;
	core->mode = cpl ? core->mode | MODE_USER : core->mode & ~(uint32_t)MODE_USER;
	core->tlb = &core->tlbs[kind];
	x86_code_key_update(core);
	s->rsp = s + 1;
	s->supervisor = !cpl;
	bt->stat.quick++;
	return s->jumps[cpl ? 0 : 1][bt_jump_slot(s->address)];
}

static bool event_waits(const struct bt *bt)
{
	return bt->vcpu->intr_pending || bt->vcpu->core.cpu.nmi_pending;
}

/* --- fast system calls --- */

static void *syscall_(struct bt *bt, const struct bt_insn *rec)
{
	struct x86_cpu *cpu = &bt->vcpu->core.cpu;
	struct bt_state *s = bt->state;
	uint32_t mode = bt->vcpu->core.mode & ~(uint32_t)MODE_USER;
	uint64_t flags = flags_of(s);
	uint16_t selector = (uint16_t)(cpu->star >> 32 & 0xfffc);

	if ((mode & MODE_CODE) != MODE_CODE64 || !(cpu->efer & EFER_SCE) || !(bt->vcpu->core.mode & MODE_USER) || !keys_hold(bt, 1, mode) ||
	    (flags & ~cpu->sfmask & FLAG_AC))
		return NULL;
	cpu->gpr[RCX] = bt_block_rip(bt, &bt->block[rec->block]) + rec[1].offset;
	cpu->gpr[R11] = flags;
	s->address = cpu->lstar;
	x86_load_flat(cpu, selector, (uint16_t)(selector + 8), 0, true);
	return arrive(bt, 0, flags & ~cpu->sfmask);
}

static void *sysret(struct bt *bt, const struct bt_insn *rec)
{
	struct x86_cpu *cpu = &bt->vcpu->core.cpu;
	uint64_t flags = (cpu->gpr[R11] & SYSRET_FLAGS) | FLAG_FIXED;
	uint32_t mode = bt->vcpu->core.mode | MODE_USER;
	uint16_t selector = (uint16_t)(cpu->star >> 48);

	if ((mode & MODE_CODE) != MODE_CODE64 || !(cpu->efer & EFER_SCE) || (bt->vcpu->core.mode & MODE_USER) ||
	    !(bt_insn_kept(bt, rec)->flags & INSN_REX_W) || !x86_canonical(cpu->gpr[RCX]) || !keys_hold(bt, 0, mode) || (flags & (FLAG_AC | FLAG_TF)) ||
	    ((flags & FLAG_IF) && event_waits(bt)))
		return NULL;
	bt->state->address = cpu->gpr[RCX];
	x86_load_flat(cpu, (uint16_t)((selector + 16) | 3), (uint16_t)((selector + 8) | 3), 3, true);
	return arrive(bt, 3, flags);
}

/* Between 32-bit code: bt's is flat, and stays so. */
static bool is_32bit(const struct bt *bt)
{
	return (bt->vcpu->core.mode & (MODE_CODE | MODE_LONG)) == MODE_CODE32;
}

static void *sysenter(struct bt *bt)
{
	struct x86_cpu *cpu = &bt->vcpu->core.cpu;
	uint16_t selector = (uint16_t)(cpu->sysenter_cs & 0xfffc);
	uint64_t flags = flags_of(bt->state) & ~FLAG_IF;

	if (!is_32bit(bt) || !selector || !(bt->vcpu->core.mode & MODE_USER) || !keys_hold(bt, 1, bt->vcpu->core.mode & ~(uint32_t)MODE_USER) ||
	    (flags & FLAG_AC) || (cpu->sysenter_esp & 3))
		return NULL;
	cpu->gpr[RSP] = (uint32_t)cpu->sysenter_esp;
	bt->state->address = (uint32_t)cpu->sysenter_eip;
	x86_load_flat(cpu, selector, (uint16_t)(selector + 8), 0, false);
	return arrive(bt, 0, flags);
}

static void *sysexit(struct bt *bt)
{
	struct x86_cpu *cpu = &bt->vcpu->core.cpu;
	uint16_t selector = (uint16_t)(cpu->sysenter_cs & 0xfffc);
	uint64_t flags = flags_of(bt->state);

	if (!is_32bit(bt) || !selector || (bt->vcpu->core.mode & MODE_USER) || !keys_hold(bt, 0, bt->vcpu->core.mode | MODE_USER) ||
	    (flags & (FLAG_AC | FLAG_TF)) || (cpu->gpr[RCX] & 3) || ((flags & FLAG_IF) && event_waits(bt)))
		return NULL;
	cpu->gpr[RSP] = (uint32_t)cpu->gpr[RCX];
	bt->state->address = (uint32_t)cpu->gpr[RDX];
	x86_load_flat(cpu, (uint16_t)((selector + 16) | 3), (uint16_t)((selector + 24) | 3), 3, false);
	return arrive(bt, 3, flags);
}

/* --- segments --- */

static bool load(struct x86_core *core, gva_t at, unsigned size, uint64_t *value)
{
	void *p = tlb_hit(core->tlbs[TLB_SUPERVISOR].read, at, size);

	if (p)
		*value = size == 8 ? *(volatile any64 *)p : *(volatile any32 *)p;
	return p;
}

/* From the GDT, if it needs no change there. */
static bool descriptor(struct x86_core *core, uint16_t selector, struct x86_descriptor *d)
{
	uint32_t offset = selector & 0xfff8u;

	d->high = 0;
	return !x86_selector_null(selector) && !(selector & 4) && offset + 7 <= core->cpu.gdtr.limit &&
	       load(core, core->cpu.gdtr.base + offset, 8, &d->raw) && (d->raw & DESCRIPTOR_ACCESSED);
}

static bool flat_data(const struct x86_segment *s)
{
	return bt_segment_plain(s) && !s->base;
}

/* A code segment for this privilege, with which 32-bit code is flat, or 64-bit code is 64-bit code. */
static bool code_segment(const struct bt *bt, uint16_t selector, unsigned cpl, struct x86_segment *cs)
{
	struct x86_core *core = &bt->vcpu->core;
	const uint32_t kind = SEGA_S | SEGA_CODE | SEGA_CONFORMING | SEGA_P;
	struct x86_descriptor d;

	if (!descriptor(core, selector, &d) || x86_descriptor_dpl(d.raw) != cpl)
		return false;
	*cs = x86_segment_of(&d, (uint16_t)((selector & ~3u) | cpl));
	if ((cs->attr & kind) != (SEGA_S | SEGA_CODE | SEGA_P))
		return false;
	if (!is_32bit(bt))
		return (cs->attr & (SEGA_L | SEGA_DB)) == SEGA_L;
	return !cs->base && cs->limit == 0xffffffff && (cs->attr & SEGA_READABLE) && (cs->attr & SEGA_DB);
}

/* The same for a stack. */
static bool stack_segment(const struct bt *bt, uint16_t selector, unsigned cpl, struct x86_segment *ss)
{
	struct x86_descriptor d;

	if (!is_32bit(bt) && cpl == 0 && selector == 0) {
		*ss = x86_segment_null(0, 0);
		return true;
	}
	if (!descriptor(&bt->vcpu->core, selector, &d) || x86_check_stack(d.raw, selector, cpl))
		return false;
	*ss = x86_segment_of(&d, selector);
	return !is_32bit(bt) || (flat_data(ss) && (ss->attr & SEGA_DB));
}

/* The selector is in s->address. */
static void *load_segment(struct bt *bt, const struct bt_insn *rec)
{
	struct x86_core *core = &bt->vcpu->core;
	struct bt_state *s = bt->state;
	uint16_t selector = (uint16_t)s->address;
	unsigned seg = bt_insn_kept(bt, rec)->dst;
	struct x86_segment value;
	struct x86_descriptor d;

	if (x86_selector_null(selector)) {
		value = x86_segment_null(selector, 0);
	} else {
		if (!descriptor(core, selector, &d) || x86_check_data(d.raw, selector, core->cpl))
			return NULL;
		value = x86_segment_of(&d, selector);
	}
	if (is_32bit(bt) ? seg <= SEG_DS && !flat_data(&value) : (core->mode & MODE_CODE) != MODE_CODE64)
		return NULL;
	core->cpu.seg[seg] = value;
	s->fs_base = core->cpu.seg[SEG_FS].base;
	s->gs_base = core->cpu.seg[SEG_GS].base;
	s->fs_plain = bt_segment_plain(&core->cpu.seg[SEG_FS]);
	s->gs_plain = bt_segment_plain(&core->cpu.seg[SEG_GS]);
	if (bt_insn_kept(bt, rec)->op == X86_OP_POP_SREG)
		core->cpu.gpr[RSP] = (uint32_t)(core->cpu.gpr[RSP] + 4);
	bt->stat.quick++;
	return bt->code + rec[1].code;
}

/* --- interrupts --- */

struct frame { /* as the processor pushes it */
	uint64_t rip, cs, flags, rsp, ss;
};

static bool read_frame(struct x86_core *core, unsigned size, struct frame *f)
{
	const void *p = tlb_hit(core->tlbs[TLB_SUPERVISOR].read, core->cpu.gpr[RSP], 5 * size);
	const volatile any64 *wide = p;
	const volatile any32 *narrow = p;

	if (!p)
		return false;
	*f = size == 8 ? (struct frame){ wide[0], wide[1], wide[2], wide[3], wide[4] } :
			 (struct frame){ narrow[0], narrow[1], narrow[2], narrow[3], narrow[4] };
	return true;
}

/* A return to an outer privilege takes these from whom must not use them: then the exec function does it. */
static bool segments_stay(const struct x86_cpu *cpu)
{
	static const uint8_t data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };

	for (unsigned n = 0; n < ARRAY_SIZE(data); n++) {
		const struct x86_segment *s = &cpu->seg[data[n]];
		if (s->attr & SEGA_UNUSABLE ? s->selector : (s->attr & SEGA_DPL) != SEGA_DPL)
			return false;
	}
	return true;
}

/* The instruction that the handler of a fault returns to runs at once: see bt_start. It must not be that nobody ever looks whether the processor
 * is wanted. */
static struct bt_block *block_at_once(struct bt *bt, uint64_t rip, uint32_t mode)
{
	const struct bt_state *s = bt->state;

	return *(const volatile uint64_t *)&s->run_mask && (int64_t)s->count < 0 ? find(bt, rip, mode) : NULL;
}

static void *at_once(struct bt *bt, const struct bt_block *b)
{
	bt->state->page = bt->state->address & X86_PAGE_MASK;
	if (bt->counting)
		bt->state->count += b->count;
	return bt->code + b->body;
}

static void *iret(struct bt *bt, const struct bt_insn *rec)
{
	const uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_RF | FLAG_AC | FLAG_ID | FLAG_IF | FLAG_IOPL | FLAG_VIF | FLAG_VIP;
	struct x86_core *core = &bt->vcpu->core;
	struct x86_cpu *cpu = &core->cpu;
	unsigned size = is_32bit(bt) ? 4 : 8;
	struct x86_segment cs, ss;
	struct frame f;

	if ((core->mode & MODE_USER) || bt_insn_kept(bt, rec)->osize != size || (size == 8 && (core->mode & MODE_CODE) != MODE_CODE64) || cpu->nmi_blocked ||
	    (cpu->rflags & FLAG_NT) || !read_frame(core, size, &f))
		return NULL;
	unsigned cpl = f.cs & 3;
	uint32_t mode = cpl ? core->mode | MODE_USER : core->mode;
	struct bt_block *b = NULL;
	if ((cpl && cpl != 3) || !code_segment(bt, (uint16_t)f.cs, cpl, &cs) || (f.flags & (FLAG_TF | FLAG_AC | FLAG_NT | FLAG_VM)) ||
	    ((f.flags & FLAG_IF) && event_waits(bt)) || (size == 8 && !x86_canonical(f.rip)) || !keys_hold(bt, cpl ? 0 : 1, mode))
		return NULL;
	if ((f.flags & FLAG_RF) && !(b = block_at_once(bt, f.rip, mode)))
		return NULL;
	if (cpl || size == 8) {
		if ((f.rsp & (size - 1)) || !stack_segment(bt, (uint16_t)f.ss, cpl, &ss) || (cpl && !segments_stay(cpu)))
			return NULL;
		cpu->seg[SEG_SS] = ss;
		cpu->gpr[RSP] = f.rsp;
	} else {
		cpu->gpr[RSP] = (uint32_t)(cpu->gpr[RSP] + 3 * size);
	}
	cpu->seg[SEG_CS] = cs;
	bt->state->address = f.rip;
	void *to = arrive(bt, cpl, (flags_of(bt->state) & ~mask) | (f.flags & mask & ~FLAG_RF));
	return b ? at_once(bt, b) : to;
}

/* Of the task's privilege 0, if that is a TSS of 32 bits. */
static bool kernel_stack(const struct bt *bt, struct x86_segment *ss, uint32_t *sp)
{
	struct x86_core *core = &bt->vcpu->core;
	const struct x86_segment *tr = &core->cpu.tr;
	uint64_t both;

	if ((tr->attr & SEGA_TYPE) < SYS_TSS || tr->limit < 4 + 5 || !load(core, tr->base + 4, 8, &both))
		return false;
	*sp = (uint32_t)both;
	return !(*sp & 3) && stack_segment(bt, (uint16_t)(both >> 32), 0, ss);
}

/* INT n of a 32-bit program to its kernel, through an interrupt or trap gate. */
static void *int_n(struct bt *bt, const struct bt_insn *rec)
{
	struct x86_core *core = &bt->vcpu->core;
	struct x86_cpu *cpu = &core->cpu;
	uint32_t at = (uint32_t)(bt_insn_kept(bt, rec)->imm & 0xff) * 8, sp;
	uint64_t gate, flags = flags_of(bt->state);
	struct x86_segment cs, ss;
	volatile any32 *top;

	if (!is_32bit(bt) || !(core->mode & MODE_USER) || at + 7 > cpu->idtr.limit || (flags & FLAG_AC) || trace_on(irq) ||
	    !load(core, cpu->idtr.base + at, 8, &gate))
		return NULL;
	unsigned type = x86_descriptor_system(gate);
	if ((type != SYS_INT && type != SYS_TRAP) || x86_descriptor_dpl(gate) != 3 || !(x86_descriptor_attr(gate) & SEGA_P) ||
	    !code_segment(bt, x86_gate_selector(gate), 0, &cs) || !kernel_stack(bt, &ss, &sp) ||
	    !keys_hold(bt, 1, core->mode & ~(uint32_t)MODE_USER) || !(top = tlb_hit(core->tlbs[TLB_SUPERVISOR].write, sp - 20, 20)))
		return NULL;
	top[0] = (uint32_t)(bt_block_rip(bt, &bt->block[rec->block]) + rec[1].offset);
	top[1] = cpu->seg[SEG_CS].selector;
	top[2] = (uint32_t)flags;
	top[3] = (uint32_t)cpu->gpr[RSP];
	top[4] = cpu->seg[SEG_SS].selector;
	cpu->gpr[RSP] = sp - 20;
	cpu->seg[SEG_CS] = cs;
	cpu->seg[SEG_SS] = ss;
	bt->state->address = x86_gate_offset(gate);
	core->stat.interrupt++;
	return arrive(bt, 0, flags & ~(FLAG_TF | FLAG_NT | (type == SYS_INT ? FLAG_IF : 0)));
}

/* --- strings --- */

/* Forward, within pages, as many as there are but for large ones: the host's own REP, as in exec_string.c. */
#define STRING_MAX 4096u

static void move(unsigned size, void *to, void *from, uint64_t n)
{
	switch (size) {
	case 1: asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(n) : : "memory"); break;
	case 2: asm volatile("rep movsw" : "+S"(from), "+D"(to), "+c"(n) : : "memory"); break;
	case 4: asm volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(n) : : "memory"); break;
	default: asm volatile("rep movsq" : "+S"(from), "+D"(to), "+c"(n) : : "memory"); break;
	}
}

static void fill(unsigned size, void *to, uint64_t value, uint64_t n)
{
	switch (size) {
	case 1: asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory"); break;
	case 2: asm volatile("rep stosw" : "+D"(to), "+c"(n) : "a"(value) : "memory"); break;
	case 4: asm volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(value) : "memory"); break;
	default: asm volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(value) : "memory"); break;
	}
}

static uint64_t left_in_page(gva_t gva, unsigned size)
{
	return (X86_PAGE_SIZE - (gva & ~X86_PAGE_MASK)) / size;
}

/* What was done of it stays done: the exec function goes on there. */
static void *string(struct bt *bt, const struct bt_insn *rec, const struct bt_state *s)
{
	struct x86_core *core = &bt->vcpu->core;
	const struct insn *i = bt_insn_kept(bt, rec);
	enum tlb_kind kind = s == bt->view[TLB_USER] ? TLB_USER : s == bt->view[TLB_SUPERVISOR] ? TLB_SUPERVISOR : TLB_SUPERVISOR_AC;
	struct tlb_set *tlb = &core->tlbs[kind]; /* core->tlb does not know of STAC */
	bool moves = bt_is_move(i), repeats = i->flags & (INSN_REP | INSN_REPNE);
	uint64_t *gpr = core->cpu.gpr, mask = size_mask(i->asize), left = repeats ? gpr[RCX] & mask : 1;
	unsigned size = i->size, width = (core->mode & MODE_CODE) == MODE_CODE64 ? 8 : 4;

	if ((i->flags & INSN_ADDRESS) || (moves && i->seg != SEG_FLAT) || i->asize != width || (core->cpu.rflags & FLAG_DF) || !rec->resumes ||
	    left * size > STRING_MAX || left > STRING_MAX)
		return NULL;
	while (left) {
		gva_t from = gpr[RSI] & mask, to = gpr[RDI] & mask;
		void *source = moves ? tlb_hit(tlb->read, from, size) : NULL, *d = tlb_hit(tlb->write, to, size);
		uint64_t n = MIN(left, left_in_page(to, size));
		if (moves)
			n = MIN(n, left_in_page(from, size));
		if (!d || (moves && !source) || !n)
			return NULL;
		if (moves)
			move(size, d, source, n);
		else
			fill(size, d, gpr[RAX], n);
		gpr[RSI] = moves ? (from + n * size) & mask : gpr[RSI];
		gpr[RDI] = (to + n * size) & mask;
		gpr[RCX] = repeats ? (gpr[RCX] - n) & mask : gpr[RCX];
		left -= n;
	}
	bt->stat.quick++;
	return bt->code + rec[1].code;
}

static void *rdtsc(struct bt *bt, const struct bt_insn *rec)
{
	struct x86_cpu *cpu = &bt->vcpu->core.cpu;
	const struct clock *clock = &bt->vcpu->vm->clock;

	if (((bt->vcpu->core.mode & MODE_USER) && (cpu->cr4 & CR4_TSD)) || clock->mode != CLOCK_HOST || !clock->tsc_direct || clock->frozen || !rec->resumes)
		return NULL;
	uint64_t value = __builtin_ia32_rdtsc() - atomic_load_explicit(&clock->origin, memory_order_relaxed) + cpu->tsc_offset;
	cpu->gpr[RAX] = (uint32_t)value;
	cpu->gpr[RDX] = value >> 32;
	bt->stat.quick++;
	return bt->code + rec[1].code;
}

void *bt_quick(struct bt_state *s, uint32_t insn)
{
	struct bt *bt = bt_of(vcpu_of(s->core));
	const struct bt_insn *rec = &bt->insn[insn];
	const struct insn *i = bt_insn_kept(bt, rec);

	if (bt_is_move(i) || bt_is_store(i))
		return string(bt, rec, s);
	bt_fpu_settle(bt, s);
	switch (i->op) {
	case X86_OP_SYSCALL: return syscall_(bt, rec);
	case X86_OP_SYSRET: return sysret(bt, rec);
	case X86_OP_SYSENTER: return sysenter(bt);
	case X86_OP_SYSEXIT: return sysexit(bt);
	case X86_OP_INT: return int_n(bt, rec);
	case X86_OP_IRETD:
	case X86_OP_IRETQ: return iret(bt, rec);
	case X86_OP_MOV_TO_SREG:
	case X86_OP_POP_SREG: return load_segment(bt, rec);
	case X86_OP_RDTSC: return rdtsc(bt, rec);
	default: return NULL;
	}
}
