/* SPDX-License-Identifier: MIT */
/* Register groups, between struct x86_cpu and the kernel. Some groups share an ioctl (general registers and flags; segments and control
 * registers). Storing one then leaves the other alone in struct x86_cpu, where it may have been changed; loading one
 * first stores the other, where the kernel still holds it. */
#include <errno.h>
#include <string.h>
#include "engine/kvm/kvm.h"
#include "x86/cpuid.h"

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
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct kvm_regs regs = { .rip = cpu->gpr[X86_GPR_RIP], .rflags = cpu->rflags | FLAG_FIXED };

	for (unsigned r = 0; r < 16; r++)
		*(__u64 *)((char *)&regs + gpr_at[r]) = cpu->gpr[r];
	return kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_REGS, &regs);
}

static int store_regs(struct vcpu *vcpu, unsigned groups)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct kvm_regs regs = { 0 };
	int error = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_REGS, &regs);

	if (error < 0)
		return error;
	if (groups & X86_GPRS) {
		for (unsigned r = 0; r < 16; r++)
			cpu->gpr[r] = *(__u64 *)((char *)&regs + gpr_at[r]);
		cpu->gpr[X86_GPR_RIP] = regs.rip;
	}
	if (groups & X86_FLAGS)
		x86_flags_set(&vcpu->core, regs.rflags);
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

static struct x86_segment from_kvm(const struct kvm_segment *s)
{
	return (struct x86_segment){
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

static int load_sregs(struct vcpu *vcpu)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct kvm_sregs s = { 0 };
	uint64_t apic_base = 0;
	int error = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_SREGS, &s);

	if (error < 0)
		return error;
	for (unsigned seg = 0; seg < SEG_COUNT; seg++)
		*segment_of(&s, seg) = to_kvm(&cpu->seg[seg]);
	s.tr = to_kvm(&cpu->tr);
	s.ldt = to_kvm(&cpu->ldtr);
	s.gdt = (struct kvm_dtable){ .base = cpu->gdtr.base, .limit = cpu->gdtr.limit };
	s.idt = (struct kvm_dtable){ .base = cpu->idtr.base, .limit = cpu->idtr.limit };
	s.cr0 = cpu->cr0;
	s.cr2 = cpu->cr2;
	s.cr3 = cpu->cr3;
	s.cr4 = cpu->cr4;
	s.cr8 = vcpu_env.cr8_read(&vcpu->core);
	s.efer = cpu->efer;
	if (vcpu_env.rdmsr(&vcpu->core, MSR_APIC_BASE, &apic_base))
		s.apic_base = apic_base;
	memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
	return kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_SREGS, &s);
}

static int load_xcr0(struct vcpu *vcpu)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = vcpu->core.cpu.xcr0 } };

	return x86_has(&vcpu->core, (FEAT_1_ECX << 5) | 26) ? kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_XCRS, &xcrs) : 0;
}

static void store_segments(struct x86_cpu *cpu, struct kvm_sregs *s)
{
	for (unsigned seg = 0; seg < SEG_COUNT; seg++)
		cpu->seg[seg] = from_kvm(segment_of(s, seg));
	cpu->tr = from_kvm(&s->tr);
	cpu->ldtr = from_kvm(&s->ldt);
	cpu->gdtr = (struct x86_table){ .base = s->gdt.base, .limit = s->gdt.limit };
	cpu->idtr = (struct x86_table){ .base = s->idt.base, .limit = s->idt.limit };
}

static void store_control(struct vcpu *vcpu, const struct kvm_sregs *s)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct kvm_xcrs xcrs = { 0 };

	cpu->cr0 = s->cr0;
	cpu->cr2 = s->cr2;
	cpu->cr3 = s->cr3;
	cpu->cr4 = s->cr4;
	cpu->efer = s->efer;
	if ((cpu->cr4 & CR4_PAE) && (cpu->cr0 & CR0_PG) && !(cpu->efer & EFER_LMA))
		x86_load_pdptes(&vcpu->core, cpu->cr3);
	if (kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_XCRS, &xcrs) >= 0)
		for (unsigned n = 0; n < xcrs.nr_xcrs; n++)
			if (xcrs.xcrs[n].xcr == 0)
				cpu->xcr0 = xcrs.xcrs[n].value;
}

static int store_sregs(struct vcpu *vcpu, unsigned groups)
{
	struct kvm_sregs s = { 0 };
	int error = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_SREGS, &s);

	if (error < 0)
		return error;
	if (groups & X86_SEGMENTS)
		store_segments(&vcpu->core.cpu, &s);
	if (groups & X86_CONTROL)
		store_control(vcpu, &s);
	return 0;
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

/* --- MSRs: those that live in struct x86_cpu and that a kernel keeps for its guest --- */

static const struct { uint32_t index; uint32_t at; } msrs[] = {
	{ MSR_STAR, offsetof(struct x86_cpu, star) }, { MSR_LSTAR, offsetof(struct x86_cpu, lstar) },
	{ MSR_CSTAR, offsetof(struct x86_cpu, cstar) }, { MSR_SFMASK, offsetof(struct x86_cpu, sfmask) },
	{ MSR_KERNEL_GS_BASE, offsetof(struct x86_cpu, kernel_gs_base) },
	{ MSR_SYSENTER_CS, offsetof(struct x86_cpu, sysenter_cs) }, { MSR_SYSENTER_ESP, offsetof(struct x86_cpu, sysenter_esp) },
	{ MSR_SYSENTER_EIP, offsetof(struct x86_cpu, sysenter_eip) }, { MSR_PAT, offsetof(struct x86_cpu, pat) },
	{ MSR_MISC_ENABLE, offsetof(struct x86_cpu, misc_enable) }, { MSR_TSC_AUX, offsetof(struct x86_cpu, tsc_aux) },
	{ MSR_SPEC_CTRL, offsetof(struct x86_cpu, spec_ctrl) }, { MSR_MTRR_DEF_TYPE, offsetof(struct x86_cpu, mtrr_def_type) },
};

/* One at a time: what this kernel does not know is left where it is, in struct x86_cpu. */
static int move_msr(struct vcpu *vcpu, uint32_t index, uint64_t *value, unsigned long request)
{
	struct { struct kvm_msrs header; struct kvm_msr_entry entry; } one = {
		.header.nmsrs = 1, .entry = { .index = index, .data = *value },
	};
	int done = kvm_call(kvm_vcpu_of(vcpu)->fd, request, &one);

	if (done == 1)
		*value = one.entry.data;
	return done < 0 ? done : 0;
}

static int move_msrs(struct vcpu *vcpu, unsigned long request)
{
	int error = 0;

	for (unsigned n = 0; n < ARRAY_SIZE(msrs) && error >= 0; n++)
		error = move_msr(vcpu, msrs[n].index, (uint64_t *)((char *)&vcpu->core.cpu + msrs[n].at), request);
	for (unsigned n = 0; n < 16 && error >= 0; n++)
		error = move_msr(vcpu, MSR_MTRR_PHYSBASE0 + n, &vcpu->core.cpu.mtrr_var[n], request);
	return MIN(error, 0);
}

/* The guest's TSC is the clock's plus the processor's offset; the clock's is the host's minus its origin. */
static int load_tsc(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	struct x86_cpu *cpu = &vcpu->core.cpu;

	if (k->tsc_attribute && vcpu->vm->clock.tsc_direct) {
		uint64_t offset = cpu->tsc_offset - vcpu->vm->clock.origin;
		struct kvm_device_attr attr = {
			.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset,
		};
		return kvm_call(k->fd, KVM_SET_DEVICE_ATTR, &attr);
	}
	uint64_t now = clock_tsc(vcpu->vm) + cpu->tsc_offset;
	return move_msr(vcpu, MSR_TSC, &now, KVM_SET_MSRS);
}

/* A guest that wrote its TSC moved the offset. */
static int store_tsc(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	struct x86_cpu *cpu = &vcpu->core.cpu;
	uint64_t now = 0;

	if (k->tsc_attribute && vcpu->vm->clock.tsc_direct) {
		uint64_t offset = 0;
		struct kvm_device_attr attr = {
			.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset,
		};
		int error = kvm_call(k->fd, KVM_GET_DEVICE_ATTR, &attr);
		if (error >= 0)
			cpu->tsc_offset = offset + vcpu->vm->clock.origin;
		return MIN(error, 0);
	}
	int error = move_msr(vcpu, MSR_TSC, &now, KVM_GET_MSRS);
	if (error >= 0)
		cpu->tsc_offset = now - clock_tsc(vcpu->vm);
	return error;
}

/* --- x87, SSE, AVX --- */

#define XSTATE_AT 512 /* XSTATE_BV in the area */

static int load_xsave(struct vcpu *vcpu)
{
	struct x86_xsave *from = &vcpu->core.cpu.xsave;
	struct kvm_xsave area = { 0 };
	uint64_t components = vcpu->core.model->xcr0;

	memcpy(&area, from, sizeof(*from));
	memset((char *)&area + XSTATE_AT, 0, 64);
	memcpy((char *)&area + XSTATE_AT, &components, sizeof(components));
	/* The mask is the processor's, not the guest's. */
	((struct x86_fxsave *)&area)->mxcsr_mask = 0xffff;
	return kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_XSAVE, &area);
}

static int store_xsave(struct vcpu *vcpu, unsigned groups)
{
	struct x86_xsave *to = &vcpu->core.cpu.xsave;
	struct kvm_xsave area = { 0 };
	uint32_t mask = to->legacy.mxcsr_mask;
	uint8_t header[sizeof(to->header)];
	int error = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_XSAVE, &area);

	if (error < 0)
		return error;
	memcpy(header, to->header, sizeof(header));
	memcpy(to, &area, sizeof(*to));
	memcpy(to->header, header, sizeof(header));
	to->legacy.mxcsr_mask = mask;
	return 0;
}

/* --- events --- */

static int load_events(struct vcpu *vcpu)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct kvm_vcpu_events e = { 0 };
	int error = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_VCPU_EVENTS, &e);
	bool exception = cpu->event_pending && cpu->event_type != EVENT_INTERRUPT && cpu->event_type != EVENT_NMI &&
			 cpu->event_type != EVENT_SOFT_INT;

	if (error < 0)
		return error;
	memset(&e.exception, 0, sizeof(e.exception));
	memset(&e.interrupt, 0, sizeof(e.interrupt));
	e.exception.injected = exception;
	e.exception.nr = cpu->event_vector;
	e.exception.has_error_code = cpu->event_has_error;
	e.exception.error_code = cpu->event_error;
	e.interrupt.injected = cpu->event_pending && (cpu->event_type == EVENT_INTERRUPT || cpu->event_type == EVENT_SOFT_INT);
	e.interrupt.soft = cpu->event_type == EVENT_SOFT_INT;
	e.interrupt.nr = cpu->event_vector;
	e.interrupt.shadow = cpu->interrupt_shadow == X86_SHADOW_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS
			   : cpu->interrupt_shadow			 ? KVM_X86_SHADOW_INT_STI : 0;
	e.nmi.injected = cpu->event_pending && cpu->event_type == EVENT_NMI;
	e.nmi.pending = cpu->nmi_pending;
	e.nmi.masked = cpu->nmi_blocked;
	e.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	return kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_VCPU_EVENTS, &e);
}

static int store_events(struct vcpu *vcpu, unsigned groups)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct kvm_vcpu_events e = { 0 };
	int error = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_VCPU_EVENTS, &e);

	if (error < 0)
		return error;
	cpu->event_pending = e.exception.injected || e.interrupt.injected || e.nmi.injected;
	if (e.exception.injected) {
		cpu->event_type = EVENT_EXCEPTION;
		cpu->event_vector = e.exception.nr;
		cpu->event_has_error = e.exception.has_error_code;
		cpu->event_error = e.exception.error_code;
	} else if (e.interrupt.injected) {
		cpu->event_type = e.interrupt.soft ? EVENT_SOFT_INT : EVENT_INTERRUPT;
		cpu->event_vector = e.interrupt.nr;
		cpu->event_has_error = false;
	} else if (e.nmi.injected) {
		cpu->event_type = EVENT_NMI;
		cpu->event_vector = VECTOR_NMI;
		cpu->event_has_error = false;
	}
	cpu->interrupt_shadow = e.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? X86_SHADOW_MOV_SS
			      : e.interrupt.shadow			       ? X86_SHADOW_STI : 0;
	cpu->nmi_pending = e.nmi.pending;
	cpu->nmi_blocked = e.nmi.masked;
	return 0;
}

/* --- all together --- */

static const struct {
	unsigned groups;
	int (*load)(struct vcpu *), (*store)(struct vcpu *, unsigned groups);
} parts[] = { /* in the order in which they are loaded: XCR0 before the area it governs, control registers before MSRs */
	{ X86_SEGMENTS | X86_CONTROL, load_sregs, store_sregs },
	{ X86_CONTROL, load_xcr0, NULL },
	{ X86_GPRS | X86_FLAGS, load_regs, store_regs },
	{ X86_DEBUG, load_debug, store_debug },
	{ X86_XSAVE, load_xsave, store_xsave },
	{ X86_EVENTS, load_events, store_events },
};

int kvm_load_state(struct vcpu *vcpu, unsigned groups)
{
	int error = 0;

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
		error = move_msrs(vcpu, KVM_SET_MSRS);
	if (error >= 0 && (groups & X86_MSRS))
		error = load_tsc(vcpu);
	return MIN(error, 0);
}

int kvm_store_state(struct vcpu *vcpu, unsigned groups)
{
	int error = kvm_complete(vcpu);

	for (unsigned n = 0; n < ARRAY_SIZE(parts) && error >= 0; n++)
		if ((parts[n].groups & groups) && parts[n].store)
			error = parts[n].store(vcpu, parts[n].groups & groups);
	if (error >= 0 && (groups & X86_MSRS))
		error = move_msrs(vcpu, KVM_GET_MSRS);
	if (error >= 0 && (groups & X86_MSRS))
		error = store_tsc(vcpu);
	return MIN(error, 0);
}
