/* SPDX-License-Identifier: MIT */
/* The KVM engine: every register group goes into the kernel and comes back bit for bit, in every kind of mode; guest memory as slots; a
 * device's answer that the kernel has not taken yet. Skipped where /dev/kvm cannot be used. */
#include "engine/kvm/kvm.h"
#include "vm_test.h"
#include "x86/cpuid.h"
#include "x86/features.h"

static uint64_t seed = 88172645463325252ULL;

static uint64_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	return seed ^= seed << 17;
}

static uint64_t canonical(void)
{
	return (uint64_t)((int64_t)(any() << 17) >> 17);
}

static struct x86_segment segment(unsigned attr, bool wide)
{
	struct x86_segment s = { .base = wide ? canonical() : (uint32_t)any() & ~0xfffU, .selector = (uint16_t)any(), .attr = attr };

	s.limit = attr & SEGA_G ? (uint32_t)any() | 0xfff : (uint16_t)any();
	s.selector = (uint16_t)((s.selector & ~3u) | (attr & SEGA_DPL) >> SEGA_DPL_SHIFT);
	return s;
}

static void common(struct x86_cpu *cpu)
{
	for (unsigned r = 0; r < 16; r++)
		cpu->gpr[r] = any();
	cpu->gpr[X86_GPR_RIP] = any() & 0xffff;
	cpu->rflags = FLAG_FIXED | (any() & (FLAGS_ARITH | FLAG_DF | FLAG_IF | FLAG_AC | FLAG_ID));
	cpu->cr2 = any();
	cpu->gdtr = (struct x86_table){ .base = canonical(), .limit = (uint16_t)any() };
	cpu->idtr = (struct x86_table){ .base = canonical(), .limit = (uint16_t)any() };
	for (unsigned n = 0; n < 4; n++)
		cpu->dr[n] = canonical();
	cpu->dr[6] = DR6_FIXED | (any() & 0xf);
	cpu->dr[7] = DR7_FIXED | (any() & 0xff);
	for (unsigned n = 0; n < sizeof(cpu->xsave.legacy.st); n++)
		((uint8_t *)cpu->xsave.legacy.st)[n] = n % 16 < 10 ? (uint8_t)any() : 0;
	for (unsigned n = 0; n < sizeof(cpu->xsave.legacy.xmm); n++)
		((uint8_t *)cpu->xsave.legacy.xmm)[n] = (uint8_t)any();
	cpu->xsave.legacy.fcw = 0x37f & ~(any() & 0x3f);
	cpu->xsave.legacy.fsw = any() & 0x7f7f & ~0x80;
	cpu->xsave.legacy.ftw = (uint8_t)any();
	cpu->xsave.legacy.fop = any() & 0x7ff;
	cpu->xsave.legacy.fip = (uint32_t)any();
	cpu->xsave.legacy.fdp = (uint32_t)any();
	cpu->xsave.legacy.mxcsr = 0x1f80 | (any() & 0x603f);
	cpu->star = any();
	cpu->lstar = canonical();
	cpu->cstar = canonical();
	cpu->sfmask = (uint32_t)any();
	cpu->kernel_gs_base = canonical();
	cpu->sysenter_cs = (uint16_t)any();
	cpu->sysenter_esp = canonical();
	cpu->sysenter_eip = canonical();
	cpu->pat = 0x0007040600070406ULL;
	if (kvm_find_out()->tsc_moves)
		cpu->tsc_offset += any() & 0xffffff;
	cpu->mtrr_def_type = 0xc06;
	for (unsigned n = 0; n < 16; n += 2) {
		cpu->mtrr_var[n] = (any() & 0xffffff000ULL) | 6;
		cpu->mtrr_var[n + 1] = (any() & 0xffffff000ULL) | 0x800;
	}
	for (unsigned n = 0; n < 11; n++)
		cpu->mtrr_fixed[n] = 0x0606060606060606ULL;
	cpu->interrupt_shadow = any() & 1 ? X86_SHADOW_STI : 0;
	cpu->nmi_blocked = any() & 1;
}

enum kind { REAL, PROTECTED, PAE, LONG, LONG_USER, COMPATIBLE, KINDS };
static const char *const names[KINDS] = { "real mode", "protected mode", "PAE paging", "64-bit mode", "64-bit user mode", "compatibility mode" };

static void segments(struct x86_cpu *cpu, enum kind kind)
{
	unsigned dpl = kind == LONG_USER || kind == COMPATIBLE ? SEGA_DPL : 0, base = SEGA_P | SEGA_S | SEGA_ACCESSED | dpl;
	bool is64 = kind == LONG || kind == LONG_USER;

	for (unsigned s = 0; s < SEG_COUNT; s++) {
		if (kind == REAL) {
			uint16_t selector = (uint16_t)any();
			cpu->seg[s] = (struct x86_segment){ .base = (uint32_t)selector << 4, .limit = 0xffff, .selector = selector,
							    .attr = SEGA_P | SEGA_S | SEGA_ACCESSED | SEGA_WRITABLE | (s == SEG_CS ? SEGA_CODE : 0) };
		} else if (s == SEG_CS) {
			cpu->seg[s] = segment(base | SEGA_CODE | SEGA_READABLE | SEGA_G | (is64 ? SEGA_L : SEGA_DB), false);
		} else {
			cpu->seg[s] = segment(base | SEGA_WRITABLE | SEGA_G | SEGA_DB, is64 && s >= SEG_FS);
		}
	}
	cpu->tr = segment(SYS_TSS_BUSY | SEGA_P, is64);
	cpu->tr.limit = 0x67;
	cpu->ldtr = segment(SYS_LDT | SEGA_P, is64);
}

static void control(struct x86_cpu *cpu, enum kind kind)
{
	cpu->cr0 = CR0_ET | CR0_NE;
	cpu->cr3 = cpu->cr4 = cpu->efer = 0;
	if (kind != REAL)
		cpu->cr0 |= CR0_PE | CR0_WP | (any() & CR0_MP);
	if (kind >= PAE) {
		cpu->cr0 |= CR0_PG;
		cpu->cr3 = 0x4000;
		cpu->cr4 = CR4_PAE | CR4_PGE;
	}
	if (kind >= LONG)
		cpu->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
}

/* What is in memory is not what was loaded with CR3. */
static void pdptes(struct vm *vm, struct x86_cpu *cpu)
{
	for (unsigned n = 0; n < 4; n++) {
		uint64_t entry = 0x10000 * (n + 1) | PTE_P;
		guest_write(vm, 0x4000 + 8 * n, &entry, sizeof(entry));
		cpu->pdpte[n] = entry + 0x1000;
	}
}

static void compare(const struct x86_cpu *got, const struct x86_cpu *want, const char *mode)
{
	unsigned wrong = 0;

	for (const struct field *f = x86_cpu_fields; f->type != FIELD_TYPE_END; f++) {
		const char *a = (const char *)got + f->offset, *b = (const char *)want + f->offset;
		for (uint32_t n = 0; n < f->count; n++)
			if (memcmp(a + n * f->size, b + n * f->size, f->size)) {
				uint64_t x = 0, y = 0;
				memcpy(&x, a + n * f->size, MIN(f->size, 8u));
				memcpy(&y, b + n * f->size, MIN(f->size, 8u));
				ok(false, "%s: %s[%u] comes back: got %lx, want %lx", mode, f->name, n, x, y);
				wrong++;
			}
	}
	ok(!wrong, "%s: every register comes back", mode);
}

static void round_trip(struct vm *vm, enum kind kind)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu, before;

	if (kind == PAE && kvm_find_out()->mips[KVM_PAGED] <= 0) {
		skip("%s - this /dev/kvm has no paging but in long mode", names[kind]);
		return;
	}
	vcpu_reset(vcpu, false);
	common(cpu);
	segments(cpu, kind);
	control(cpu, kind);
	if (kind == PAE)
		pdptes(vm, cpu);
	before = *cpu;
	ok(!kvm_engine.load_state(vcpu, X86_ALL_GROUPS), "%s: the kernel takes the state", names[kind]);
	kvm_vcpu_of(vcpu)->completion = true; /* an entry that runs nothing: what comes back is the kernel's */
	memset(cpu->gpr, 0x55, sizeof(cpu->gpr[0]) * 16);
	memset(cpu->seg, 0x55, sizeof(cpu->seg[0]) * SEG_COUNT);
	memset(&cpu->gdtr, 0x55, sizeof(cpu->gdtr.base));
	cpu->rflags = cpu->cr0 = cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->efer = cpu->star = cpu->lstar = 0;
	memset(cpu->dr, 0, sizeof(cpu->dr[0]) * 4);
	memset(&cpu->xsave.legacy, 0x55, offsetof(struct x86_fxsave, mxcsr_mask));
	memset(cpu->xsave.legacy.xmm, 0x55, sizeof(cpu->xsave.legacy.xmm));
	cpu->interrupt_shadow = 3;
	ok(!kvm_engine.store_state(vcpu, X86_ALL_GROUPS), "%s: the kernel gives it back", names[kind]);
	compare(cpu, &before, names[kind]);
}

/* --- events that were under way --- */

static void events(struct vm *vm)
{
	static const struct { enum x86_event_type type; uint8_t vector; bool error; const char *name; } cases[] = {
		{ EVENT_EXCEPTION, VECTOR_GP, true, "an exception" }, { EVENT_INTERRUPT, 0x41, false, "an interrupt" },
		{ EVENT_NMI, VECTOR_NMI, false, "an NMI" },
	};
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;

	for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
		vcpu_reset(vcpu, false);
		cpu->event_pending = 1;
		cpu->event_type = (uint8_t)cases[n].type;
		cpu->event_vector = cases[n].vector;
		cpu->event_has_error = cases[n].error;
		cpu->event_error = cases[n].error ? 0x18 : 0;
		kvm_engine.load_state(vcpu, X86_ALL_GROUPS);
		kvm_vcpu_of(vcpu)->completion = true;
		cpu->event_pending = cpu->event_vector = cpu->event_type = 0;
		kvm_engine.store_state(vcpu, X86_EVENTS);
		ok(cpu->event_pending && cpu->event_type == cases[n].type && cpu->event_vector == cases[n].vector &&
			   cpu->event_has_error == cases[n].error && cpu->event_error == (cases[n].error ? 0x18 : 0),
		   "%s that was being delivered comes back", cases[n].name);
	}
}

/* One group changed outside leaves those alone that share the kernel's structure with it. */
static void neighbours(struct vm *vm)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;

	vcpu_reset(vcpu, false);
	cpu->gpr[RBX] = 1;
	cpu->cr2 = 0x1234;
	kvm_engine.load_state(vcpu, X86_ALL_GROUPS);
	vcpu->held = X86_ALL_GROUPS;
	cpu->gpr[RBX] = cpu->cr2 = 0;
	vcpu->held &= ~(unsigned)(X86_FLAGS | X86_SEGMENTS);
	cpu->rflags = FLAG_FIXED | FLAG_CF;
	cpu->seg[SEG_ES].selector = 0x40;
	cpu->seg[SEG_ES].base = 0x400;
	kvm_engine.load_state(vcpu, X86_FLAGS | X86_SEGMENTS);
	kvm_vcpu_of(vcpu)->completion = true;
	kvm_engine.store_state(vcpu, X86_ALL_GROUPS);
	ok(cpu->gpr[RBX] == 1 && cpu->cr2 == 0x1234 && (cpu->rflags & FLAG_CF) && cpu->seg[SEG_ES].selector == 0x40,
	   "loading a group leaves its neighbour alone");
	vcpu->held = 0;
}

static void slots(struct vm *vm)
{
	static const uint8_t rom[0x2000];
	struct kvm_vm *k = kvm_of(vm);
	unsigned used = 0, readonly = 0;
	uint64_t log[64 * MiB / X86_PAGE_SIZE / 64] = { 0 };

	ok(!memory_add_rom(vm, 0xfffe0000, rom, sizeof(rom), "rom"), "a ROM is added");
	for (unsigned n = 0; n < KVM_REGIONS; n++) {
		used += k->slot[n].size != 0;
		readonly += k->slot[n].size && k->slot[n].readonly;
	}
	ok(used == vm->memory.map->count && readonly == 1, "a slot for each region; the ROM's is read only");
	ok(!kvm_engine.dirty_log(vm, &vm->memory.map->region[0], log) && log[0] == ~0ULL, "the first look at the dirty log says that all is dirty");
	ok(!kvm_engine.dirty_log(vm, &vm->memory.map->region[0], log) && !log[0], "the next one says that nothing was written since");
}

int main(void)
{
	struct vm_config config = { .name = "test", .engine = "kvm", .engine_options = "modes=all", .memory = 64 * MiB, .cpus = 1 };
	struct engine_report report = { 0 };
	struct vm *vm;

	kvm_engine.probe(&report);
	if (!report.usable) {
		skip("kvm - %s", report.why);
		return done();
	}
	config.model = x86_model_find("v2");
	if (vm_create(&vm, &config)) {
		ok(false, "a machine with engine kvm");
		return done();
	}
	for (enum kind kind = 0; kind < KINDS; kind++)
		round_trip(vm, kind);
	events(vm);
	neighbours(vm);
	slots(vm);
	vm_destroy(vm);
	return done();
}
