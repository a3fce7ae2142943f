/* SPDX-License-Identifier: MIT */
/* Moving the processor's state between struct x86_cpu and the kernel.
 *
 * General registers, segments, control registers and events travel in the page that is shared with the kernel (KVM_CAP_SYNC_REGS) where it
 * can do that: the next entry takes what was written there, and each exit leaves what there is, without a system call for each.
 *
 * Two groups share a structure of the kernel's twice over (general registers and flags; segments and control registers). Storing one then
 * leaves the other alone in struct x86_cpu, where it may have been changed; loading one first stores the other, where the kernel still
 * holds it. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include "engine/kvm/kvm.h"
#include "x86/cpuid.h"
#include "x86/features.h"

/* --- the shared page, or system calls --- */

static bool shared(const struct vcpu *vcpu)
{
	return kvm_of(vcpu->vm)->sync_regs;
}

/* The kernel's structure, as it is now: `valid` is its KVM_SYNC_X86_* bit. What was loaded and not taken yet counts. */
static int get(struct vcpu *vcpu, unsigned valid, unsigned long request, void *to)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);

	if (shared(vcpu) && (k->current || (k->run->kvm_dirty_regs & valid)))
		return 0;
	return kvm_call(k->fd, request, to);
}

static int set(struct vcpu *vcpu, unsigned valid, unsigned long request, const void *from)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);

	if (!shared(vcpu)) {
		k->current = false;
		return kvm_call(k->fd, request, from);
	}
	k->run->kvm_dirty_regs |= valid;
	return 0;
}

/* --- general registers and flags --- */

static const uint8_t gpr_at[16] = { /* offset in struct kvm_regs, by register number */
	[RAX] = offsetof(struct kvm_regs, rax), [RCX] = offsetof(struct kvm_regs, rcx), [RDX] = offsetof(struct kvm_regs, rdx),
	[RBX] = offsetof(struct kvm_regs, rbx), [RSP] = offsetof(struct kvm_regs, rsp), [RBP] = offsetof(struct kvm_regs, rbp),
	[RSI] = offsetof(struct kvm_regs, rsi), [RDI] = offsetof(struct kvm_regs, rdi), [R8] = offsetof(struct kvm_regs, r8),
	[R9] = offsetof(struct kvm_regs, r9), [R10] = offsetof(struct kvm_regs, r10), [R11] = offsetof(struct kvm_regs, r11),
	[R12] = offsetof(struct kvm_regs, r12), [R13] = offsetof(struct kvm_regs, r13), [R14] = offsetof(struct kvm_regs, r14),
	[R15] = offsetof(struct kvm_regs, r15),
};

static int load_regs(struct vcpu *vcpu)
{
	struct kvm_regs *regs = &kvm_vcpu_of(vcpu)->run->s.regs.regs;
	struct x86_cpu *cpu = &vcpu->core.cpu;

	for (unsigned r = 0; r < 16; r++)
		*(__u64 *)((char *)regs + gpr_at[r]) = cpu->gpr[r];
	regs->rip = cpu->gpr[X86_GPR_RIP];
	regs->rflags = cpu->rflags | FLAG_FIXED;
	return set(vcpu, KVM_SYNC_X86_REGS, KVM_SET_REGS, regs);
}

static int store_regs(struct vcpu *vcpu, unsigned groups)
{
	struct kvm_regs *regs = &kvm_vcpu_of(vcpu)->run->s.regs.regs;
	struct x86_cpu *cpu = &vcpu->core.cpu;
	int error = get(vcpu, KVM_SYNC_X86_REGS, KVM_GET_REGS, regs);

	if (error < 0)
		return error;
	if (groups & X86_GPRS) {
		for (unsigned r = 0; r < 16; r++)
			cpu->gpr[r] = *(__u64 *)((char *)regs + gpr_at[r]);
		cpu->gpr[X86_GPR_RIP] = regs->rip;
	}
	if (groups & X86_FLAGS) {
		cpu->rflags = regs->rflags;
		x86_flags_set(&vcpu->core, regs->rflags);
	}
	return 0;
}

/* --- segments and control registers --- */

static struct kvm_segment to_kvm(const struct x86_segment *s)
{
	return (struct kvm_segment){
		.base = s->base, .limit = s->limit, .selector = s->selector, .type = s->attr & SEGA_TYPE,
		.s = !!(s->attr & SEGA_S), .dpl = (s->attr & SEGA_DPL) >> SEGA_DPL_SHIFT, .present = !!(s->attr & SEGA_P),
		.avl = !!(s->attr & SEGA_AVL), .l = !!(s->attr & SEGA_L), .db = !!(s->attr & SEGA_DB), .g = !!(s->attr & SEGA_G),
		.unusable = !!(s->attr & SEGA_UNUSABLE),
	};
}

static void from_kvm(struct x86_segment *to, const struct kvm_segment *s)
{
	*to = (struct x86_segment){
		.base = s->base, .limit = s->limit, .selector = s->selector,
		.attr = s->type | (s->s ? SEGA_S : 0) | (unsigned)s->dpl << SEGA_DPL_SHIFT | (s->present ? SEGA_P : 0) |
			(s->avl ? SEGA_AVL : 0) | (s->l ? SEGA_L : 0) | (s->db ? SEGA_DB : 0) | (s->g ? SEGA_G : 0) |
			(s->unusable ? SEGA_UNUSABLE : 0),
	};
}

static struct kvm_segment *segment_of(struct kvm_sregs *s, unsigned seg)
{
	switch (seg) {
	case SEG_ES: return &s->es;
	case SEG_CS: return &s->cs;
	case SEG_SS: return &s->ss;
	case SEG_DS: return &s->ds;
	case SEG_FS: return &s->fs;
	default: return &s->gs;
	}
}

static bool has_pdptes(const struct x86_cpu *cpu)
{
	return (cpu->cr4 & CR4_PAE) && (cpu->cr0 & CR0_PG) && !(cpu->efer & EFER_LMA);
}

/* Loading CR3 reads the PDPTEs anew, from memory that may have changed since: struct kvm_sregs2 has them. */
static int load_pdptes(struct vcpu *vcpu, const struct kvm_sregs *s)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	struct kvm_sregs2 s2 = { .flags = KVM_SREGS2_FLAGS_PDPTRS_VALID };
	int error = kvm_call(k->fd, KVM_SET_SREGS, s);

	if (error < 0 || !kvm_of(vcpu->vm)->sregs2)
		return error;
	memcpy(&s2, s, offsetof(struct kvm_sregs, interrupt_bitmap));
	s2.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	memcpy(s2.pdptrs, vcpu->core.cpu.pdpte, sizeof(s2.pdptrs));
	return kvm_call(k->fd, KVM_SET_SREGS2, &s2);
}

void kvm_tlb_flush(struct vcpu *vcpu, enum x86_flush kind, unsigned pcid, gva_t gva)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);

	if (k)
		k->flush = true;
}

/* What the processor remembers of the page tables goes when CR3 becomes another one, and back. The interpreter begins with a flush of its own, so there
 * is one to make up for whenever it ran. */
static int flush(struct vcpu *vcpu, struct kvm_sregs *s)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	int error;

	if (!k->flush || !(s->cr0 & CR0_PG) || !(kvm_of(vcpu->vm)->found->native || kvm_of(vcpu->vm)->found->keeps_tables))
		return 0;
	s->cr3 ^= PTE_PWT;
	error = kvm_call(k->fd, KVM_SET_SREGS, s);
	s->cr3 ^= PTE_PWT;
	if (error >= 0 && kvm_of(vcpu->vm)->found->keeps_tables)
		error = kvm_forget_tables(vcpu->vm);
	k->flush = false;
	return error;
}

static int load_sregs(struct vcpu *vcpu)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	struct kvm_sregs *s = &k->run->s.regs.sregs;
	bool inside = kvm_of(vcpu->vm)->chips_inside;
	uint64_t apic_base = 0;

	if (inside && get(vcpu, KVM_SYNC_X86_SREGS, KVM_GET_SREGS, s) < 0)
		return -EIO;
	memset(s->interrupt_bitmap, 0, sizeof(s->interrupt_bitmap));
	for (unsigned seg = 0; seg < SEG_COUNT; seg++)
		*segment_of(s, seg) = to_kvm(&cpu->seg[seg]);
	s->tr = to_kvm(&cpu->tr);
	s->ldt = to_kvm(&cpu->ldtr);
	s->gdt = (struct kvm_dtable){ .base = cpu->gdtr.base, .limit = cpu->gdtr.limit };
	s->idt = (struct kvm_dtable){ .base = cpu->idtr.base, .limit = cpu->idtr.limit };
	s->cr0 = cpu->cr0;
	s->cr2 = cpu->cr2;
	s->cr3 = cpu->cr3;
	s->cr4 = cpu->cr4;
	s->efer = cpu->efer;
	if (!inside)
		s->cr8 = vcpu_env.cr8_read(&vcpu->core);
	if (!inside && vcpu_env.rdmsr(&vcpu->core, MSR_APIC_BASE, &apic_base))
		s->apic_base = apic_base;
	int error = flush(vcpu, s);
	if (error < 0)
		return error;
	if (!has_pdptes(cpu))
		return set(vcpu, KVM_SYNC_X86_SREGS, KVM_SET_SREGS, s);
	k->run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_SREGS;
	return load_pdptes(vcpu, s);
}

static int load_xcr0(struct vcpu *vcpu)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = vcpu->core.cpu.xcr0 } };

	return x86_has(&vcpu->core, FEATURE_XSAVE) ? kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_XCRS, &xcrs) : 0;
}

static void store_segments(struct x86_cpu *cpu, struct kvm_sregs *s)
{
	for (unsigned seg = 0; seg < SEG_COUNT; seg++)
		from_kvm(&cpu->seg[seg], segment_of(s, seg));
	from_kvm(&cpu->tr, &s->tr);
	from_kvm(&cpu->ldtr, &s->ldt);
	cpu->gdtr = (struct x86_table){ .base = s->gdt.base, .limit = s->gdt.limit };
	cpu->idtr = (struct x86_table){ .base = s->idt.base, .limit = s->idt.limit };
}

static int store_pdptes(struct vcpu *vcpu)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct kvm_sregs2 s2 = { 0 };
	int error = kvm_of(vcpu->vm)->sregs2 ? kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_SREGS2, &s2) : -ENOTSUP;

	if (error >= 0 && (s2.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID))
		memcpy(cpu->pdpte, s2.pdptrs, sizeof(cpu->pdpte));
	else
		x86_load_pdptes(&vcpu->core, cpu->cr3);
	return error == -ENOTSUP ? 0 : error;
}

static int store_control(struct vcpu *vcpu, const struct kvm_sregs *s)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct kvm_xcrs xcrs = { 0 };
	int error = 0;

	cpu->cr0 = s->cr0;
	cpu->cr2 = s->cr2;
	cpu->cr3 = s->cr3;
	cpu->cr4 = s->cr4;
	cpu->efer = s->efer;
	if (has_pdptes(cpu))
		error = store_pdptes(vcpu);
	if (error >= 0 && x86_has(&vcpu->core, FEATURE_XSAVE))
		error = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_XCRS, &xcrs);
	for (unsigned n = 0; n < xcrs.nr_xcrs && error >= 0; n++)
		if (xcrs.xcrs[n].xcr == 0)
			cpu->xcr0 = xcrs.xcrs[n].value;
	return error;
}

static int store_sregs(struct vcpu *vcpu, unsigned groups)
{
	struct kvm_sregs *s = &kvm_vcpu_of(vcpu)->run->s.regs.sregs;
	int error = get(vcpu, KVM_SYNC_X86_SREGS, KVM_GET_SREGS, s);

	if (error < 0)
		return error;
	if (groups & X86_SEGMENTS)
		store_segments(&vcpu->core.cpu, s);
	return groups & X86_CONTROL ? store_control(vcpu, s) : 0;
}

/* --- debug registers --- */

static int load_debug(struct vcpu *vcpu)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct kvm_debugregs d = { .db = { cpu->dr[0], cpu->dr[1], cpu->dr[2], cpu->dr[3] }, .dr6 = cpu->dr[6], .dr7 = cpu->dr[7] };

	return kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_DEBUGREGS, &d);
}

static int store_debug(struct vcpu *vcpu, unsigned groups)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct kvm_debugregs d = { 0 };
	int error = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_DEBUGREGS, &d);

	if (error < 0)
		return error;
	memcpy(cpu->dr, d.db, sizeof(d.db));
	cpu->dr[6] = d.dr6;
	cpu->dr[7] = d.dr7;
	return 0;
}

/* --- x87, SSE, AVX --- */

#define XSTATE_AT 512     /* XSTATE_BV in the area */
#define HEADER_SIZE 64
#define XSAVE_ROOM 16384  /* more than any kernel asks for, but for AMX, which no model has */

union xsave_room {
	struct kvm_xsave kernel;
	uint8_t bytes[XSAVE_ROOM];
};

static uint64_t components(const struct vcpu *vcpu)
{
	return vcpu->core.model->xcr0 | XCR0_X87 | XCR0_SSE;
}

static int load_xsave(struct vcpu *vcpu)
{
	struct x86_xsave *from = &vcpu->core.cpu.xsave;
	union xsave_room area = { 0 };
	uint64_t bits = components(vcpu);

	memcpy(&area, from, sizeof(*from));
	memset(area.bytes + XSTATE_AT, 0, HEADER_SIZE);
	memcpy(area.bytes + XSTATE_AT, &bits, sizeof(bits));
	return kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_XSAVE, &area);
}

/* The header is the guest's own, and so is the mask. What the model lacks is not looked at. */
static int store_xsave(struct vcpu *vcpu, unsigned groups)
{
	struct x86_xsave *to = &vcpu->core.cpu.xsave;
	const struct kvm_vm *vm = kvm_of(vcpu->vm);
	union xsave_room area = { 0 };
	bool large = vm->xsave_size > sizeof(area.kernel) && vm->xsave_size <= sizeof(area);
	uint32_t mask = to->legacy.mxcsr_mask;
	int error = kvm_call(kvm_vcpu_of(vcpu)->fd, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, &area);

	if (error < 0)
		return error;
	memcpy(&to->legacy, &area, offsetof(struct x86_fxsave, unused));
	to->legacy.mxcsr_mask = mask;
	to->legacy.mxcsr &= mask; /* a guest of AMD's hardware may have set MM, which would make bt's aligned operands any */
	if (components(vcpu) & XCR0_AVX)
		memcpy(to->ymm_high, area.bytes + offsetof(struct x86_xsave, ymm_high), sizeof(to->ymm_high));
	return 0;
}

/* --- events --- */

static void events_to_kvm(const struct x86_cpu *cpu, struct kvm_vcpu_events *e)
{
	bool pending = cpu->event_pending, interrupt = cpu->event_type == EVENT_INTERRUPT || cpu->event_type == EVENT_SOFT_INT;

	e->exception.injected = pending && !interrupt && cpu->event_type != EVENT_NMI;
	if (e->exception.injected) {
		e->exception.nr = cpu->event_vector;
		e->exception.has_error_code = cpu->event_has_error;
		e->exception.error_code = cpu->event_error;
	}
	e->interrupt.injected = pending && interrupt;
	e->interrupt.soft = cpu->event_type == EVENT_SOFT_INT;
	e->interrupt.nr = cpu->event_vector;
	e->interrupt.shadow = cpu->interrupt_shadow == X86_SHADOW_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS
			    : cpu->interrupt_shadow			  ? KVM_X86_SHADOW_INT_STI : 0;
	e->nmi.injected = pending && cpu->event_type == EVENT_NMI;
	e->nmi.pending = cpu->nmi_pending;
	e->nmi.masked = cpu->nmi_blocked;
	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
}

/* What the processor is doing between instructions is the kernel's business where the interrupt chips are. */
static int load_activity(struct vcpu *vcpu)
{
	static const uint32_t states[] = {
		[X86_RUNNING] = KVM_MP_STATE_RUNNABLE, [X86_HALTED] = KVM_MP_STATE_HALTED, [X86_SHUTDOWN] = KVM_MP_STATE_RUNNABLE,
		[X86_WAIT_SIPI] = KVM_MP_STATE_UNINITIALIZED,
	};
	struct kvm_mp_state state = { .mp_state = states[vcpu->core.cpu.activity & 3] };

	return kvm_of(vcpu->vm)->chips_inside ? kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_MP_STATE, &state) : 0;
}

static int store_activity(struct vcpu *vcpu)
{
	struct kvm_mp_state state;
	struct x86_cpu *cpu = &vcpu->core.cpu;
	int error = kvm_of(vcpu->vm)->chips_inside ? kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_MP_STATE, &state) : -ENOTSUP;

	if (error < 0)
		return error == -ENOTSUP ? 0 : error;
	cpu->activity = state.mp_state == KVM_MP_STATE_HALTED ? X86_HALTED
		      : state.mp_state == KVM_MP_STATE_UNINITIALIZED || state.mp_state == KVM_MP_STATE_INIT_RECEIVED ? X86_WAIT_SIPI
														      : X86_RUNNING;
	return 0;
}

static int load_events(struct vcpu *vcpu)
{
	struct kvm_vcpu_events *e = &kvm_vcpu_of(vcpu)->run->s.regs.events;
	int error = load_activity(vcpu);

	if (error < 0)
		return error;
	memset(e, 0, sizeof(*e));
	events_to_kvm(&vcpu->core.cpu, e);
	return set(vcpu, KVM_SYNC_X86_EVENTS, KVM_SET_VCPU_EVENTS, e);
}

static void event(struct x86_cpu *cpu, enum x86_event_type type, uint8_t vector)
{
	cpu->event_pending = 1;
	cpu->event_type = (uint8_t)type;
	cpu->event_vector = vector;
	cpu->event_has_error = 0;
	cpu->event_error = 0;
}

static int store_events(struct vcpu *vcpu, unsigned groups)
{
	struct kvm_vcpu_events *e = &kvm_vcpu_of(vcpu)->run->s.regs.events;
	struct x86_cpu *cpu = &vcpu->core.cpu;
	int error = get(vcpu, KVM_SYNC_X86_EVENTS, KVM_GET_VCPU_EVENTS, e);

	if (error < 0)
		return error;
	cpu->event_pending = 0;
	if (e->exception.injected) {
		event(cpu, EVENT_EXCEPTION, e->exception.nr);
		cpu->event_has_error = e->exception.has_error_code;
		cpu->event_error = e->exception.has_error_code ? e->exception.error_code : 0;
	} else if (e->interrupt.injected) {
		event(cpu, e->interrupt.soft ? EVENT_SOFT_INT : EVENT_INTERRUPT, e->interrupt.nr);
	} else if (e->nmi.injected) {
		event(cpu, EVENT_NMI, VECTOR_NMI);
	}
	/* SVM has one shadow, which the kernel reports as both: the usual reason is STI. */
	cpu->interrupt_shadow = e->interrupt.shadow & KVM_X86_SHADOW_INT_STI ? X86_SHADOW_STI
			      : e->interrupt.shadow			      ? X86_SHADOW_MOV_SS : 0;
	cpu->nmi_pending = e->nmi.pending;
	cpu->nmi_blocked = e->nmi.masked;
	return store_activity(vcpu);
}

/* --- all together --- */

static const struct {
	unsigned groups;
	int (*load)(struct vcpu *), (*store)(struct vcpu *, unsigned groups);
} parts[] = { /* in the order in which they are loaded: XCR0 before the area that it governs */
	{ X86_SEGMENTS | X86_CONTROL, load_sregs, store_sregs },
	{ X86_CONTROL, load_xcr0, NULL },
	{ X86_GPRS | X86_FLAGS, load_regs, store_regs },
	{ X86_DEBUG, load_debug, store_debug },
	{ X86_XSAVE, load_xsave, store_xsave },
	{ X86_EVENTS, load_events, store_events },
};

int kvm_load_state(struct vcpu *vcpu, unsigned groups)
{
	int error = kvm_complete(vcpu);

	kvm_vcpu_of(vcpu)->refused &= ~groups;
	for (unsigned n = 0; n < ARRAY_SIZE(parts) && error >= 0; n++) {
		unsigned rest = parts[n].groups & ~groups & vcpu->held;
		if (!(parts[n].groups & groups))
			continue;
		if (rest && parts[n].store)
			error = parts[n].store(vcpu, rest);
		if (error >= 0)
			error = parts[n].load(vcpu);
	}
	if (error >= 0 && (groups & X86_MSRS))
		error = kvm_load_msrs(vcpu);
	if (error != -EINVAL)
		return MIN(error, 0);
	kvm_vcpu_of(vcpu)->refused |= groups; /* the interpreter's: see kvm_run_vcpu */
	return 0;
}

int kvm_store_state(struct vcpu *vcpu, unsigned groups)
{
	int error = kvm_complete(vcpu);

	for (unsigned n = 0; n < ARRAY_SIZE(parts) && error >= 0; n++)
		if ((parts[n].groups & groups) && parts[n].store)
			error = parts[n].store(vcpu, parts[n].groups & groups);
	if (error >= 0 && (groups & X86_MSRS))
		error = kvm_store_msrs(vcpu);
	return MIN(error, 0);
}
