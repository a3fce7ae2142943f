/* SPDX-License-Identifier: MIT */
/* Delivery of interrupts and exceptions: vector table, 16-, 32- and 64-bit IDT, stack switches, task gates, double
 * and triple fault. SDM 3A 6.8 to 6.15, 20.1.4 (real mode), 20.2 and 20.3 (virtual-8086 mode); volume 2A INT n.
 *
 * A delivery first reads and checks everything, then pushes the frame, and changes registers last: when a fault
 * comes in between, the interrupted state is still there. Events from outside of an instruction (interrupts, and
 * exceptions themselves) catch such a fault here and deliver it instead, or #DF, or shut down. INT n and its kind
 * let it go to the engine, as any fault of an instruction. */
#include "x86/debug.h"
#include "x86/exec_system.h"
#include "x86/features.h"
#include "x86/segment.h"
#include "util/log.h"

#define EXT 1u                     /* error code: the event was external to the program */
#define IDT_ERROR(vector) ((uint32_t)(vector) << 3 | 2)

struct event {
	const struct insn *i;      /* NULL: not out of an instruction */
	uint8_t vector;
	uint8_t type;              /* enum x86_event_type */
	bool has_error;
	uint32_t error;
	bool is_fault;             /* its frame has RF set: the instruction will run again */
	uint32_t ext;              /* EXT, or 0 for INT n, INT3, INTO */
	uint64_t back;             /* RIP to return to */
	uint64_t flags;            /* RFLAGS to save */
};

static bool is_software(const struct event *e)
{
	return e->type == EVENT_SOFT_INT || e->type == EVENT_SOFT_EXCEPTION;
}

static _Noreturn void fault(struct x86_core *core, const struct event *e, enum x86_vector vector, uint32_t error)
{
	x86_raise_error(core, e->i, vector, error | e->ext);
}

static void enter_flags(struct x86_core *core, uint64_t clear)
{
	x86_flags_set(core, x86_flags_get(core) & ~clear);
}

/* Real mode: the IDT is a table of far pointers. */
static void enter_real(struct x86_core *core, const struct event *e)
{
	struct x86_cpu *cpu = &core->cpu;
	uint32_t at = e->vector * 4u;

	if (at + 3 > cpu->idtr.limit)
		fault(core, e, VECTOR_GP, IDT_ERROR(e->vector));
	uint32_t target = (uint32_t)x86_load_system(core, e->i, cpu->idtr.base + at, 4);
	struct x86_frame f = x86_frame_current(core, e->i, e->ext);
	x86_frame_push(core, &f, 2, e->flags);
	x86_frame_push(core, &f, 2, cpu->seg[SEG_CS].selector);
	x86_frame_push(core, &f, 2, e->back);
	x86_frame_commit(core, &f);
	cpu->gpr[X86_GPR_RIP] = target & 0xffff;
	x86_segment_set(core, SEG_CS, x86_segment_real(&cpu->seg[SEG_CS], (uint16_t)(target >> 16), false));
	enter_flags(core, FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
}

static void enter_task(struct x86_core *core, const struct event *e, uint16_t selector)
{
	x86_task_switch(core, e->i, selector, TASK_GATE, e->ext, e->back);
	if (e->has_error) {
		unsigned size = (core->cpu.tr.attr & SEGA_TYPE) >= SYS_TSS ? 4 : 2;
		struct x86_frame f = x86_frame_current(core, NULL, e->ext);
		x86_frame_push(core, &f, size, e->error);
		x86_frame_commit(core, &f);
	}
}

/* The gate of a vector, with the checks that all modes share. */
static uint64_t read_gate(struct x86_core *core, const struct event *e, uint64_t *high)
{
	bool wide = core->mode & MODE_LONG;
	uint32_t size = wide ? 16 : 8, at = e->vector * size, error = IDT_ERROR(e->vector);

	if (at + size - 1 > core->cpu.idtr.limit)
		fault(core, e, VECTOR_GP, error);
	uint64_t raw = x86_load_system(core, e->i, core->cpu.idtr.base + at, 8);
	*high = wide ? x86_load_system(core, e->i, core->cpu.idtr.base + at + 8, 8) : 0;
	unsigned type = x86_descriptor_system(raw);
	bool known = type == SYS_INT || type == SYS_TRAP;
	if (!wide)
		known |= type == SYS_INT16 || type == SYS_TRAP16 || type == SYS_TASK_GATE;
	if (!known || (is_software(e) && x86_descriptor_dpl(raw) < core->cpl))
		fault(core, e, VECTOR_GP, error);
	if (!(x86_descriptor_attr(raw) & SEGA_P))
		fault(core, e, VECTOR_NP, error);
	return raw;
}

/* The handler's code segment. Returns the privilege it runs with. */
static unsigned read_code(struct x86_core *core, const struct event *e, uint16_t selector, struct x86_descriptor *cs)
{
	uint32_t attr;

	if (x86_selector_null(selector))
		fault(core, e, VECTOR_GP, 0);
	if (!x86_descriptor_read(core, e->i, selector, cs))
		fault(core, e, VECTOR_GP, x86_selector_error(selector));
	attr = x86_descriptor_attr(cs->raw);
	if (!x86_attr_is_code(attr) || x86_descriptor_dpl(cs->raw) > core->cpl)
		fault(core, e, VECTOR_GP, x86_selector_error(selector));
	if (!(attr & SEGA_P))
		fault(core, e, VECTOR_NP, x86_selector_error(selector));
	if ((core->mode & MODE_LONG) && (attr & (SEGA_L | SEGA_DB)) != SEGA_L)
		fault(core, e, VECTOR_GP, x86_selector_error(selector));
	unsigned cpl = attr & SEGA_CONFORMING ? core->cpl : x86_descriptor_dpl(cs->raw);
	if ((core->mode & MODE_V86) && cpl)
		fault(core, e, VECTOR_GP, x86_selector_error(selector));
	return cpl;
}

static void push_frame(struct x86_core *core, const struct event *e, struct x86_frame *f, unsigned size, bool stack)
{
	const struct x86_cpu *cpu = &core->cpu;
	static const uint8_t v86_data[] = { SEG_GS, SEG_FS, SEG_DS, SEG_ES };

	if (core->mode & MODE_V86)
		for (unsigned n = 0; n < ARRAY_SIZE(v86_data); n++)
			x86_frame_push(core, f, size, cpu->seg[v86_data[n]].selector);
	if (stack) {
		x86_frame_push(core, f, size, cpu->seg[SEG_SS].selector);
		x86_frame_push(core, f, size, cpu->gpr[RSP]);
	}
	x86_frame_push(core, f, size, e->flags);
	x86_frame_push(core, f, size, cpu->seg[SEG_CS].selector);
	x86_frame_push(core, f, size, e->back);
	if (e->has_error)
		x86_frame_push(core, f, size, e->error);
}

static void enter_protected(struct x86_core *core, const struct event *e)
{
	static const uint8_t data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	struct x86_cpu *cpu = &core->cpu;
	struct x86_descriptor cs;
	struct x86_frame f;
	uint64_t high, sp, gate = read_gate(core, e, &high);
	unsigned type = x86_descriptor_system(gate), ist = core->mode & MODE_LONG ? (unsigned)(gate >> 32) & 7 : 0;
	uint16_t selector = x86_gate_selector(gate);
	bool v86 = core->mode & MODE_V86, wide = core->mode & MODE_LONG;

	if (type == SYS_TASK_GATE) {
		enter_task(core, e, selector);
		return;
	}
	unsigned size = wide ? 8 : type & 8 ? 4 : 2, cpl = read_code(core, e, selector, &cs);
	uint64_t target = x86_gate_offset(gate) | high << 32;
	if (size == 2)
		target &= 0xffff;
	bool inner = cpl != core->cpl;
	struct x86_segment ss = cpu->seg[SEG_SS];
	if (inner || ist) {
		struct x86_segment new_ss = x86_tss_stack(core, e->i, cpl, ist, e->ext, &sp);
		if (inner)
			ss = new_ss;
		f = x86_frame_new(core, e->i, new_ss, sp, cpl,
				  x86_selector_error(inner && !wide ? ss.selector : 0) | e->ext);
	} else {
		f = x86_frame_current(core, e->i, e->ext);
	}
	if (!x86_code_offset_ok(core, cs.raw, target))
		fault(core, e, VECTOR_GP, 0);
	x86_descriptor_touch(core, e->i, &cs);
	if (wide) {
		f.mask = ~0ULL; /* also out of compatibility mode */
		f.sp &= ~15ULL;
	}
	push_frame(core, e, &f, size, inner || wide);

	/* Nothing can fault from here on. */
	if (v86)
		for (unsigned n = 0; n < ARRAY_SIZE(data); n++)
			cpu->seg[data[n]] = x86_segment_null(0, 0);
	cpu->gpr[X86_GPR_RIP] = target;
	cpu->seg[SEG_SS] = ss;
	x86_frame_commit(core, &f);
	enter_flags(core, FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (type & 1 ? 0 : FLAG_IF));
	x86_segment_set_code(core, &cs, selector, cpl);
}

static void enter(struct x86_core *core, const struct event *e)
{
	if (!(core->cpu.cr0 & CR0_PE))
		enter_real(core, e);
	else
		enter_protected(core, e);
}

/* SDM 3A table 6-4: which exceptions contribute to a double fault. */
enum severity { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum severity severity_of(uint8_t type, uint8_t vector)
{
	if (type != EVENT_EXCEPTION)
		return BENIGN;
	switch (vector) {
	case VECTOR_DF: return DOUBLE_FAULT;
	case VECTOR_PF: return PAGE_FAULT;
	case VECTOR_DE: case VECTOR_TS: case VECTOR_NP: case VECTOR_SS: case VECTOR_GP: return CONTRIBUTORY;
	default: return BENIGN;
	}
}

/* The others are traps or aborts. A #DB that an instruction raises is the general detect fault. */
static bool is_fault_class(uint8_t vector)
{
	return vector != VECTOR_BP && vector != VECTOR_OF && vector != VECTOR_DF && vector != VECTOR_MC;
}

/* A kernel for a later processor ends here, often without a word. Told once: what is it that the model lacks? */
static void tell_lack(struct x86_core *core, const struct event *e)
{
	uint64_t base = (core->mode & MODE_CODE) == MODE_CODE64 ? 0 : core->cpu.seg[SEG_CS].base;
	uint8_t bytes[15];
	unsigned got = 0;

	while (got < sizeof(bytes) && x86_peek(core, x86_linear_wrap(core, base + e->back + got), &bytes[got], 1))
		got++;
	unsigned lacks = x86_decode_lacks(bytes, got, core->mode, core->model);
	if (lacks == FEATURE_NONE)
		return;
	core->lack_told = true;
	log_info("the guest's kernel has an instruction that needs %s, which this processor (--cpu %s) lacks: #UD at %#llx",
		 x86_feature_name(lacks), core->model->name, (unsigned long long)e->back);
}

static void count(struct x86_core *core, const struct event *e)
{
	if (e->type == EVENT_EXCEPTION && e->vector == VECTOR_UD && !core->cpl && !core->lack_told)
		tell_lack(core, e);
	if (e->type == EVENT_EXCEPTION || e->type == EVENT_SOFT_EXCEPTION || e->type == EVENT_ICEBP) {
		core->stat.exception[e->vector & 31]++;
		trace(exception, "#%u error %#x at %#x:%#llx cr2 %#llx cpl %u", e->vector, e->error,
		      core->cpu.seg[SEG_CS].selector, (unsigned long long)e->back, (unsigned long long)core->cpu.cr2,
		      core->cpl);
	} else {
		core->stat.interrupt++;
		trace(irq, "vector %#x at %#x:%#llx cpl %u", e->vector, core->cpu.seg[SEG_CS].selector,
		      (unsigned long long)e->back, core->cpl);
	}
}

/* The fault that came while *e was being delivered takes its place. False: nothing is left but shutdown. */
static bool replace(struct event *e, const struct x86_fault *f)
{
	enum severity first = severity_of(e->type, e->vector), second = severity_of(EVENT_EXCEPTION, f->vector);

	if (first == DOUBLE_FAULT && second != BENIGN)
		return false;
	if ((first == CONTRIBUTORY && second == CONTRIBUTORY) || (first == PAGE_FAULT && second != BENIGN))
		*e = (struct event){ .vector = VECTOR_DF, .has_error = true };
	else
		*e = (struct event){ .vector = f->vector, .has_error = f->has_error, .error = f->error };
	e->type = EVENT_EXCEPTION;
	e->is_fault = is_fault_class(e->vector);
	e->ext = EXT;
	return true;
}

/* Delivers an event from outside of an instruction. */
static void deliver(struct x86_core *core, struct event first)
{
	struct x86_cpu *cpu = &core->cpu;
	jmp_buf *outer = core->unwind, here;
	struct event e = first; /* changes only while no setjmp is under way */

	cpu->interrupt_shadow = 0;
	core->unwind = &here;
	for (;;) {
		e.back = cpu->gpr[X86_GPR_RIP];
		e.flags = x86_flags_get(core) | (e.is_fault ? FLAG_RF : 0);
		count(core, &e);
		if (!setjmp(here)) {
			enter(core, &e);
			break;
		}
		if (!replace(&e, &core->fault)) {
			trace(exception, "triple fault at %#x:%#llx", cpu->seg[SEG_CS].selector,
			      (unsigned long long)e.back);
			cpu->activity = X86_SHUTDOWN;
			break;
		}
	}
	core->unwind = outer;
}

/* One #DB tells of all that is pending: what MOV SS held back does not come again on the handler's first instruction. */
static void report_pending(struct x86_cpu *cpu)
{
	if (cpu->pending_debug)
		cpu->dr[6] = (cpu->dr[6] & ~0xfULL) | cpu->pending_debug | DR6_FIXED;
	cpu->pending_debug = 0;
}

void x86_deliver_fault(struct x86_core *core)
{
	const struct x86_fault *f = &core->fault;

	if (f->vector == VECTOR_DB) { /* the general detect fault; SDM 3B 17.3.1.3 */
		core->cpu.dr[7] &= ~DR7_GD;
		report_pending(&core->cpu);
	}
	deliver(core, (struct event){ .type = EVENT_EXCEPTION,
				       .vector = f->vector,
				       .has_error = f->has_error,
				       .error = f->error,
				       .is_fault = is_fault_class(f->vector),
				       .ext = EXT });
}

void x86_deliver_interrupt(struct x86_core *core, uint8_t vector)
{
	if (core->cpu.activity == X86_HALTED)
		core->cpu.activity = X86_RUNNING;
	deliver(core, (struct event){ .type = EVENT_INTERRUPT, .vector = vector, .ext = EXT });
}

void x86_deliver_nmi(struct x86_core *core)
{
	if (core->cpu.activity == X86_HALTED)
		core->cpu.activity = X86_RUNNING;
	core->cpu.nmi_blocked = 1;
	deliver(core, (struct event){ .type = EVENT_NMI, .vector = VECTOR_NMI, .ext = EXT });
}

bool x86_deliver_pending(struct x86_core *core)
{
	struct x86_cpu *cpu = &core->cpu;

	if (!cpu->event_pending)
		return false;
	cpu->event_pending = 0;
	/* RIP is still that of the instruction: it runs again. */
	if (cpu->event_type == EVENT_SOFT_INT || cpu->event_type == EVENT_SOFT_EXCEPTION ||
	    cpu->event_type == EVENT_ICEBP)
		return false;
	deliver(core,
		(struct event){ .type = cpu->event_type,
				 .vector = cpu->event_vector,
				 .has_error = cpu->event_has_error,
				 .error = cpu->event_error,
				 .ext = EXT,
				 .is_fault = cpu->event_type == EVENT_EXCEPTION && is_fault_class(cpu->event_vector) });
	return true;
}

static void deliver_db(struct x86_core *core, uint64_t dr6)
{
	struct x86_cpu *cpu = &core->cpu;

	/* Breakpoints report afresh; BD, BS and BT stay until software clears them. */
	cpu->dr[6] = (cpu->dr[6] & ~0xfULL) | dr6 | DR6_FIXED;
	cpu->dr[7] &= ~DR7_GD;
	if (cpu->activity == X86_HALTED)
		cpu->activity = X86_RUNNING;
	deliver(core, (struct event){ .type = EVENT_EXCEPTION, .vector = VECTOR_DB, .ext = EXT });
}

bool x86_deliver_debug(struct x86_core *core)
{
	struct x86_cpu *cpu = &core->cpu;
	uint64_t due = cpu->pending_debug;

	if (!due)
		return false;
	if (cpu->interrupt_shadow == X86_SHADOW_MOV_SS) { /* held back one instruction; the single step is lost */
		cpu->pending_debug &= ~DR6_BS;
		return false;
	}
	cpu->pending_debug = 0;
	deliver_db(core, due);
	return true;
}

bool x86_deliver_breakpoint(struct x86_core *core)
{
	const struct x86_cpu *cpu = &core->cpu;
	uint64_t base = (core->mode & MODE_CODE) == MODE_CODE64 ? 0 : cpu->seg[SEG_CS].base;

	if (!x86_debug_armed(core) || (cpu->rflags & FLAG_RF) || cpu->interrupt_shadow == X86_SHADOW_MOV_SS)
		return false;
	unsigned met = x86_debug_code(core, x86_linear_wrap(core, base + cpu->gpr[X86_GPR_RIP]));
	if (met)
		deliver_db(core, met);
	return met;
}

/* With CR4.VME the TSS has a bit for each INT n of virtual-8086 code, in the 32 bytes before the I/O permission map: clear, it goes to the
 * 8086 program's own handler. SDM 3A 20.3.3, table 20-2. */
static bool redirected(struct x86_core *core, const struct insn *i, uint8_t vector)
{
	const struct x86_segment *tr = &core->cpu.tr;

	if (!(core->mode & MODE_V86) || !(core->cpu.cr4 & CR4_VME))
		return false;
	if ((tr->attr & SEGA_TYPE) < SYS_TSS || TSS_IO_MAP_BASE + 1 > tr->limit)
		x86_raise_error(core, i, VECTOR_GP, 0);
	uint32_t at = (uint32_t)x86_load_system(core, i, tr->base + TSS_IO_MAP_BASE, 2) - 32 + vector / 8;
	if (at > tr->limit)
		x86_raise_error(core, i, VECTOR_GP, 0);
	return !(x86_load_system(core, i, tr->base + at, 1) >> (vector & 7) & 1);
}

/* As in real mode, through the table at linear address 0, on the program's own stack. */
static void enter_v86(struct x86_core *core, const struct event *e)
{
	struct x86_cpu *cpu = &core->cpu;
	bool vif = (cpu->rflags & FLAG_IOPL) != FLAG_IOPL;
	uint32_t target = (uint32_t)x86_load_system(core, e->i, e->vector * 4u, 4);
	struct x86_frame f = x86_frame_current(core, e->i, 0);

	x86_frame_push(core, &f, 2, vif ? x86_flags_virtual(e->flags) : e->flags);
	x86_frame_push(core, &f, 2, cpu->seg[SEG_CS].selector);
	x86_frame_push(core, &f, 2, e->back);
	x86_frame_commit(core, &f);
	cpu->gpr[X86_GPR_RIP] = target & 0xffff;
	x86_segment_set(core, SEG_CS, x86_segment_real(&cpu->seg[SEG_CS], (uint16_t)(target >> 16), true));
	enter_flags(core, FLAG_TF | FLAG_RF | (vif ? FLAG_VIF : FLAG_IF));
}

void x86_soft_interrupt(struct x86_core *core, const struct insn *i, uint8_t vector, enum x86_event_type type)
{
	struct event e = {
		.i = i,
		.vector = vector,
		.type = (uint8_t)type,
		.ext = type == EVENT_ICEBP ? EXT : 0,
		.back = x86_next_rip(core, i),
		.flags = x86_flags_get(core) & ~FLAG_RF,
	};

	if ((core->mode & MODE_CODE) != MODE_CODE64)
		e.back = (uint32_t)e.back;
	bool to_v86 = type == EVENT_SOFT_INT && redirected(core, i, vector);
	/* Sensitive to the I/O privilege level in virtual-8086 mode, so that a monitor sees it. SDM 3A 20.3.3 */
	if (!to_v86 && type == EVENT_SOFT_INT && (core->mode & MODE_V86) && (core->cpu.rflags & FLAG_IOPL) != FLAG_IOPL)
		x86_raise_error(core, i, VECTOR_GP, 0);
	count(core, &e);
	uint64_t retired = core->icount + i->index + 1u;
	if (to_v86)
		enter_v86(core, &e);
	else
		enter(core, &e);
	if (type == EVENT_ICEBP)
		report_pending(&core->cpu);
	core->icount = retired;
	x86_step_decided(core, false);
}
