/* SPDX-License-Identifier: MIT */
/* System instructions: control registers, MSRs, CPUID, system calls, flags, ports, extended state. SDM volume 2; 3A
 * chapter 2. */
#include "flat.h"
#include "test.h"
#include "x86/features.h"

static struct flat *f;
static struct x86_core *core;
static struct x86_cpu *cpu;

static void start(enum flat_mode mode, unsigned cpl)
{
	f = flat_new("v2");
	core = &f->core;
	cpu = &core->cpu;
	flat_mode(f, mode, cpl);
}

/* Runs an instruction that is written as a string. */
#define RUN(bytes) flat_run(f, 0x4000, bytes, sizeof(bytes) - 1)

static int mov_cr(unsigned n, uint64_t value)
{
	uint8_t code[3] = { 0x0f, 0x22, (uint8_t)(0xc0 | n << 3) };

	cpu->gpr[RAX] = value;
	return flat_run(f, 0x4000, code, 3);
}

static void control(void)
{
	start(FLAT_PROTECTED32, 0);
	ok(mov_cr(0, CR0_PG) == VECTOR_GP, "PG without PE");
	ok(mov_cr(0, CR0_PE | CR0_NW) == VECTOR_GP, "NW without CD");
	uint32_t before = core->mode;
	ok(mov_cr(0, cpu->cr0 | CR0_TS | CR0_MP) == -1 && (core->mode & MODE_SSE_NM) && (core->mode & MODE_WAIT_NM) &&
		   core->mode != before,
	   "TS changes the mode");
	ok(RUN("\x0f\x06") == -1 && !(core->mode & MODE_SSE_NM), "CLTS");
	ok(mov_cr(4, BIT(12)) == VECTOR_GP && mov_cr(4, CR4_VMXE) == VECTOR_GP,
	   "CR4 bits that are not offered");
	ok(mov_cr(4, CR4_PCIDE) == VECTOR_GP, "PCIDE outside of long mode");
	cpu->gpr[RAX] = 0;
	ok(RUN("\x0f\x01\xf0") == -1 && (cpu->cr0 & CR0_PE), "LMSW cannot clear PE");
	ok(mov_cr(0, CR0_ET) == -1 && !(core->mode & MODE_PROTECTED) && core->cpl == 0, "back to real mode");
	ok(mov_cr(1, 0) == VECTOR_UD, "CR1");

	start(FLAT_PROTECTED32, 0);
	cpu->cr4 = CR4_PAE;
	cpu->cr3 = 0x6000;
	flat_put(0x6000, 8, 0x7000 | PTE_P | PTE_W);
	ok(mov_cr(0, cpu->cr0 | CR0_PG) == VECTOR_GP, "a bad PDPTE");
	flat_put(0x6000, 8, 0x7000 | PTE_P);
	flat_put(0x7000, 8, PTE_P | PTE_W | PTE_PS);
	ok(mov_cr(0, cpu->cr0 | CR0_PG) == -1 && cpu->pdpte[0] == (0x7000 | PTE_P), "PAE paging on");
	ok(mov_cr(4, CR4_PAE | CR4_PGE) == -1 && f->last_flush == FLUSH_ALL, "PGE flushes all");

	start(FLAT_LONG, 0);
	ok(mov_cr(0, cpu->cr0 & ~CR0_PG) == VECTOR_GP, "64-bit code cannot end paging");
	ok(mov_cr(4, 0) == VECTOR_GP, "long mode needs PAE");
	ok(mov_cr(3, FLAT_PML4 | BIT(50)) == VECTOR_GP, "CR3 beyond the physical address");
	ok(mov_cr(3, FLAT_PML4 | CR3_NOFLUSH) == VECTOR_GP, "CR3 bit 63 without PCIDE");
	ok(mov_cr(4, cpu->cr4 | CR4_PCIDE) == -1, "PCIDE");
	ok(mov_cr(3, FLAT_PML4 | 5 | CR3_NOFLUSH) == -1 && cpu->cr3 == (FLAT_PML4 | 5) && f->last_flush == FLUSH_SWITCH,
	   "CR3 without a flush");
	ok(mov_cr(3, FLAT_PML4 | 5) == -1 && f->last_flush == FLUSH_NONGLOBAL, "CR3 with a flush");
	ok(mov_cr(0, cpu->cr0 & ~(CR0_PG | CR0_WP)) == VECTOR_GP, "PG stays with PCIDE");
	ok(RUN("\x44\x0f\x22\xc0") == VECTOR_GP && (cpu->gpr[RAX] = 7, RUN("\x44\x0f\x22\xc0") == -1) && cpu->cr8 == 7,
	   "CR8");
	start(FLAT_PROTECTED32, 3);
	ok(mov_cr(0, 0) == VECTOR_GP && RUN("\x0f\x20\xc0") == VECTOR_GP && RUN("\xf4") == VECTOR_GP &&
		   RUN("\x0f\x06") == VECTOR_GP && RUN("\x0f\x01\x38") == VECTOR_GP && RUN("\x0f\x30") == VECTOR_GP &&
		   RUN("\x0f\x32") == VECTOR_GP && RUN("\x0f\x09") == VECTOR_GP && RUN("\x0f\x01\x10") == VECTOR_GP &&
		   RUN("\x0f\x23\xc0") == VECTOR_GP,
	   "privileged instructions at CPL 3");
}

/* The road every 64-bit kernel takes. */
static void into_long_mode(void)
{
	start(FLAT_PROTECTED32, 0);
	flat_put(FLAT_PML4, 8, (FLAT_PML4 + 0x1000) | PTE_P | PTE_W);
	flat_put(FLAT_PML4 + 0x1000, 8, (FLAT_PML4 + 0x2000) | PTE_P | PTE_W);
	flat_put(FLAT_PML4 + 0x2000, 8, PTE_P | PTE_W | PTE_PS);
	flat_put(FLAT_GDT + FLAT_CODE64, 8,
		 flat_descriptor(0, 0xfffff, SEGA_P | SEGA_S | SEGA_CODE | SEGA_READABLE | SEGA_L | SEGA_G));
	mov_cr(4, CR4_PAE);
	mov_cr(3, FLAT_PML4);
	cpu->gpr[RCX] = MSR_EFER;
	cpu->gpr[RDX] = 0;
	cpu->gpr[RAX] = EFER_LME | EFER_NXE;
	ok(RUN("\x0f\x30") == -1 && !(cpu->efer & EFER_LMA), "LME");
	ok(mov_cr(0, cpu->cr0 | CR0_PG) == -1 && (cpu->efer & EFER_LMA) && (core->mode & MODE_LONG) &&
		   (core->mode & MODE_CODE) == MODE_CODE32,
	   "PG makes it long mode, compatibility code");
	cpu->gpr[RAX] = EFER_NXE;
	ok(RUN("\x0f\x30") == VECTOR_GP, "LME cannot change under PG");
	ok(RUN("\xea\x00\x50\x00\x00\x38\x00") == -1 && (core->mode & MODE_CODE) == MODE_CODE64,
	   "a far JMP into 64-bit code");
	ok(RUN("\xea\x00\x50\x00\x00\x08\x00") == VECTOR_UD, "where that JMP does not exist");
	/* and out again */
	flat_put(0x8000, 8, 0x6000);
	flat_put(0x8008, 8, FLAT_CODE0);
	RUN("\x48\xcb");
	ok(mov_cr(0, cpu->cr0 & ~CR0_PG) == -1 && !(cpu->efer & EFER_LMA) && !(core->mode & MODE_LONG),
	   "compatibility code ends it");
}

static bool wrmsr(uint32_t index, uint64_t value)
{
	cpu->gpr[RCX] = index;
	cpu->gpr[RAX] = (uint32_t)value;
	cpu->gpr[RDX] = value >> 32;
	return RUN("\x0f\x30") == -1;
}

static bool rdmsr(uint32_t index, uint64_t *value)
{
	cpu->gpr[RCX] = index;
	if (RUN("\x0f\x32") != -1)
		return false;
	*value = cpu->gpr[RAX] | cpu->gpr[RDX] << 32;
	return true;
}

static void msrs(void)
{
	uint64_t v = 0;

	start(FLAT_LONG, 0);
	ok(wrmsr(MSR_LSTAR, 0xffffffff80001000) && rdmsr(MSR_LSTAR, &v) && v == 0xffffffff80001000, "LSTAR");
	ok(!wrmsr(MSR_LSTAR, BIT(50)) && !wrmsr(MSR_GS_BASE, BIT(47)) && wrmsr(MSR_FS_BASE, 0x1234) &&
		   cpu->seg[SEG_FS].base == 0x1234,
	   "canonical ones");
	ok(!wrmsr(MSR_EFER, cpu->efer | BIT(1)) && !wrmsr(MSR_PAT, 2) && wrmsr(MSR_PAT, 0x0007040600070406),
	   "reserved bits, PAT types");
	ok(!rdmsr(0x12345678, &v) && !wrmsr(MSR_ARCH_CAPABILITIES, 0) && rdmsr(MSR_ARCH_CAPABILITIES, &v) &&
		   (v & 3) == 3,
	   "unknown, read-only");
	f->tsc = 1000;
	ok(wrmsr(MSR_TSC, 5000) && rdmsr(MSR_TSC, &v) && v == 5000 && rdmsr(MSR_TSC_ADJUST, &v) && v == 4000,
	   "the TSC and its adjustment");
	ok(wrmsr(MSR_TSC_ADJUST, 0) && rdmsr(MSR_TSC, &v) && v == 1000, "the other way round");
	ok(wrmsr(MSR_MTRR_PHYSBASE0 + 5, 0xff00000800) && cpu->mtrr_var[5] == 0xff00000800 &&
		   !wrmsr(MSR_MTRR_PHYSBASE0 + 16, 0),
	   "variable MTRRs");
	cpu->tsc_aux = 9;
	ok(RUN("\x0f\x01\xf9") == -1 && cpu->gpr[RCX] == 9 && cpu->gpr[RAX] == 1000, "RDTSCP");
	cpu->kernel_gs_base = 0x9999;
	cpu->seg[SEG_GS].base = 0x1111;
	ok(RUN("\x0f\x01\xf8") == -1 && cpu->seg[SEG_GS].base == 0x9999 && cpu->kernel_gs_base == 0x1111, "SWAPGS");
	ok(RUN("\xf3\x48\x0f\xae\xc0") == VECTOR_UD, "RDFSBASE without CR4.FSGSBASE");
	cpu->cr4 |= CR4_FSGSBASE;
	ok(RUN("\xf3\x48\x0f\xae\xc0") == -1 && cpu->gpr[RAX] == 0x1234, "RDFSBASE");
	cpu->gpr[RAX] = 0xffff800000000000;
	ok(RUN("\xf3\x48\x0f\xae\xd8") == -1 && cpu->seg[SEG_GS].base == 0xffff800000000000, "WRGSBASE");
	ok(RUN("\x48\x0f\xc7\xf0") == -1 && cpu->gpr[RAX] == 0x0123456789abcdef && core->aflags == AF_CF, "RDRAND");
}

static struct x86_cpuid_leaf leaf(uint32_t eax, uint32_t ecx)
{
	return x86_cpuid(core, eax, ecx);
}

static void cpuid(void)
{
	struct x86_cpuid_leaf l;

	start(FLAT_LONG, 0);
	core->cpus = 3;
	cpu->apic_id = 2;
	cpu->gpr[RAX] = 0x80000002;
	ok(RUN("\x0f\xa2") == -1 && cpu->gpr[RAX] == 0x70706f64, "the brand string");
	l = leaf(0, 0);
	ok(l.eax == 0x16 && l.ebx == 0x756e6547 && l.edx == 0x49656e69 && l.ecx == 0x6c65746e, "leaf 0");
	ok(!(leaf(1, 0).ecx & BIT(27)), "OSXSAVE is clear");
	cpu->cr4 |= CR4_OSXSAVE;
	l = leaf(1, 0);
	ok((l.ecx & BIT(27)) && l.ebx >> 24 == 2 && (l.ebx >> 16 & 0xff) == 4 && (l.edx & BIT(28)),
	   "leaf 1 follows the state and the machine");
	ok(!(l.ecx & (BIT(12) | BIT(28) | BIT(22) | BIT(25) | BIT(1) | BIT(5) | BIT(3))),
	   "no FMA, AVX, MOVBE, AES, PCLMUL, VMX, MONITOR");
	ok(leaf(0xb, 0).eax == 0 && leaf(0xb, 1).eax == 2 && leaf(0xb, 1).ebx == 3 && leaf(0xb, 2).ebx == 0 &&
		   leaf(0xb, 1).edx == 2,
	   "topology");
	ok(leaf(0xd, 0).eax == 3 && leaf(0xd, 0).ebx == 576 && leaf(0xd, 1).eax == 1, "XSAVE");
	for (unsigned n = 0; n < 4; n++) {
		static const uint32_t khz[] = { 1000000, 2000000, 2095078, 3792901 };
		core->tsc_khz = khz[n];
		l = leaf(0x15, 0);
		/* as Linux computes, in 32 bits */
		ok(l.ecx / 1000 * l.ebx / l.eax == khz[n] && leaf(0x40000010, 0).eax == khz[n],
		   "a TSC of %u kHz from a crystal of %u Hz", khz[n], l.ecx);
	}
	l = leaf(0x12345678, 0);
	ok(l.ecx == 100, "a leaf that is none reads as the last one");
	l = leaf(0x40000000, 0);
	ok(l.eax == 0x40000010 && !memcmp(&l.ebx, "doppelVMdopp", 12), "the hypervisor leaf");
	core->model = x86_model_find("486");
	ok(leaf(0, 0).eax == 1 && leaf(1, 0).edx == 1 && leaf(0x80000000, 0).eax == leaf(1, 0).eax,
	   "a 486 has two leaves");
	ok(!x86_model_find("nonsense"), "a model that is none");
}

static void system_calls(void)
{
	start(FLAT_LONG, 3);
	cpu->star = (uint64_t)(FLAT_DATA3 - 8) << 48 | (uint64_t)FLAT_CODE0 << 32;
	cpu->lstar = 0xffffffff81000000;
	cpu->sfmask = FLAG_IF | FLAG_TF | FLAG_DF;
	ok(RUN("\x0f\x05") == VECTOR_UD, "SYSCALL without SCE");
	cpu->efer |= EFER_SCE;
	x86_flags_set(core, FLAG_IF | FLAG_DF | FLAG_CF);
	ok(RUN("\x0f\x05") == -1 && core->cpl == 0 && cpu->gpr[X86_GPR_RIP] == cpu->lstar && cpu->gpr[RCX] == 0x4002 &&
		   cpu->gpr[R11] == (FLAG_IF | FLAG_DF | FLAG_CF | FLAG_FIXED) &&
		   x86_flags_get(core) == (FLAG_CF | FLAG_FIXED),
	   "SYSCALL");
	ok(cpu->seg[SEG_CS].selector == FLAT_CODE0 && cpu->seg[SEG_SS].selector == FLAT_CODE0 + 8 &&
		   !(core->mode & MODE_USER) && core->icount == 1,
	   "its segments");
	ok(RUN("\x48\x0f\x07") == -1 && core->cpl == 3 && cpu->gpr[X86_GPR_RIP] == 0x4002 &&
		   x86_flags_get(core) == (FLAG_IF | FLAG_DF | FLAG_CF | FLAG_FIXED) && (core->mode & MODE_USER),
	   "SYSRET");
	ok(RUN("\x48\x0f\x07") == VECTOR_GP, "SYSRET at CPL 3");
	ok(RUN("\x0f\x34") == VECTOR_GP, "SYSENTER with a null selector");
	start(FLAT_PROTECTED32, 3);
	cpu->sysenter_cs = FLAT_CODE0;
	cpu->sysenter_eip = 0x5000;
	cpu->sysenter_esp = 0x9000;
	x86_flags_set(core, FLAG_IF);
	ok(RUN("\x0f\x34") == -1 && core->cpl == 0 && cpu->gpr[X86_GPR_RIP] == 0x5000 && cpu->gpr[RSP] == 0x9000 &&
		   !(cpu->rflags & FLAG_IF),
	   "SYSENTER");
	cpu->gpr[RDX] = 0x4444;
	cpu->gpr[RCX] = 0x7777;
	ok(RUN("\x0f\x35") == -1 && core->cpl == 3 && cpu->gpr[X86_GPR_RIP] == 0x4444 && cpu->gpr[RSP] == 0x7777,
	   "SYSEXIT");
}

static void flags(void)
{
	start(FLAT_PROTECTED32, 3);
	flat_put(0x8000, 4, FLAG_IF | FLAG_IOPL | FLAG_CF | FLAG_ID | FLAG_VM | FLAG_NT);
	ok(RUN("\x9d") == -1 && x86_flags_get(core) == (FLAG_CF | FLAG_ID | FLAG_NT | FLAG_FIXED),
	   "POPF at CPL 3 drops IF, IOPL, VM");
	ok(RUN("\xfb") == VECTOR_GP && RUN("\xfa") == VECTOR_GP, "STI and CLI too");
	start(FLAT_PROTECTED32, 0);
	ok(RUN("\xfb") == -1 && cpu->interrupt_shadow == X86_SHADOW_STI, "STI casts a shadow");
	cpu->interrupt_shadow = 0;
	ok(RUN("\xfb") == -1 && !cpu->interrupt_shadow, "but not when IF was set");
	ok(RUN("\xfa") == -1 && !(cpu->rflags & FLAG_IF), "CLI");
	ok(RUN("\xf4") == -1 && cpu->activity == X86_HALTED && cpu->gpr[X86_GPR_RIP] == 0x4001, "HLT");
	cpu->rflags |= FLAG_RF;
	ok(RUN("\x9c") == -1 && flat_get(cpu->gpr[RSP], 4) == FLAG_FIXED, "PUSHF without RF");
	ok(RUN("\x0f\x01\xcb") == -1 && (cpu->rflags & FLAG_AC) && RUN("\x0f\x01\xca") == -1 &&
		   !(cpu->rflags & FLAG_AC),
	   "STAC, CLAC");
}

static void ports(void)
{
	start(FLAT_PROTECTED32, 3);
	flat_put(FLAT_TSS + 0x66, 2, 0x80);
	flat_put(FLAT_TSS + 0x80 + 0x60 / 8, 2, 0xffef); /* 0x64 alone */
	f->device_value = 0x1234567890;
	ok(RUN("\xe4\x64") == -1 && (cpu->gpr[RAX] & 0xff) == 0x90, "IN through the permission bitmap");
	ok(RUN("\xe4\x63") == VECTOR_GP && RUN("\xe5\x64") == VECTOR_GP, "ports that it denies");
	cpu->gpr[RDX] = 0xffff;
	ok(RUN("\xec") == VECTOR_GP, "a port beyond the TSS");
	cpu->rflags |= FLAG_IOPL;
	ok(RUN("\xef") == -1 && f->log[f->logged - 1].kind == FLAT_WRITE && f->log[f->logged - 1].address == 0xffff &&
		   f->log[f->logged - 1].size == 4,
	   "OUT with IOPL 3");
	cpu->gpr[RDI] = 0x6000;
	cpu->gpr[RCX] = 3;
	f->logged = 0;
	ok(RUN("\xf3\x66\x6d") == -1 && cpu->gpr[RDI] == 0x6006 && !cpu->gpr[RCX] &&
		   flat_get(0x6000, 8) == 0x789078907890 && f->logged == 3,
	   "REP INSW");
	cpu->gpr[RSI] = 0x6006;
	cpu->gpr[RCX] = 3;
	cpu->rflags |= FLAG_DF;
	flat_put(0x6000, 8, 0x8877665544332211);
	f->logged = 0;
	ok(RUN("\xf3\x6e") == -1 && cpu->gpr[RSI] == 0x6003 && f->log[0].value == 0x77 && f->log[2].value == 0x55,
	   "REP OUTSB downwards");
	cpu->seg[SEG_ES].attr |= SEGA_UNUSABLE;
	x86_mode_update(core);
	f->logged = 0;
	ok(RUN("\x6c") == VECTOR_GP && !f->logged, "INS that cannot store reads no port");
}

static void extended_state(void)
{
	start(FLAT_LONG, 0);
	struct x86_fxsave *x = &cpu->xsave.legacy;
	cpu->gpr[RDI] = 0x6000;
	memset(flat_ram + 0x6000, 0xee, 1024);
	memset(x->xmm, 0x5a, sizeof(x->xmm));
	x->fip = 0x123456789;
	x->mxcsr = 0x1fa0;
	ok(RUN("\x48\x0f\xae\x07") == -1 && flat_get(0x6008, 8) == 0x123456789 &&
		   flat_get(0x6018, 8) == 0xffff00001fa0 && flat_get(0x6000 + 160 + 255, 2) == 0xee5a,
	   "FXSAVE64");
	ok(RUN("\x0f\xae\x07") == -1 && flat_get(0x6008, 8) == 0x23456789, "FXSAVE with 32-bit pointers");
	memset(x->xmm, 0, sizeof(x->xmm));
	ok(RUN("\x48\x0f\xae\x0f") == -1 && x->xmm[15][3] == 0x5a && x->mxcsr == 0x1fa0, "FXRSTOR64");
	flat_put(0x6018, 4, 0x10000);
	ok(RUN("\x48\x0f\xae\x0f") == VECTOR_GP, "a reserved bit of MXCSR");
	cpu->gpr[RDI] = 0x6008;
	ok(RUN("\x48\x0f\xae\x07") == VECTOR_GP, "FXSAVE must be aligned");
	cpu->gpr[RDI] = 0x6000;
	ok(RUN("\x48\x0f\xae\x27") == VECTOR_UD, "XSAVE without OSXSAVE");
	cpu->cr4 |= CR4_OSXSAVE;
	x86_mode_update(core);
	cpu->gpr[RCX] = cpu->gpr[RDX] = 0;
	cpu->gpr[RAX] = 7;
	ok(RUN("\x0f\x01\xd1") == VECTOR_GP, "XSETBV of AVX");
	cpu->gpr[RAX] = 3;
	ok(RUN("\x0f\x01\xd1") == -1 && cpu->xcr0 == 3 && RUN("\x0f\x01\xd0") == -1 && cpu->gpr[RAX] == 3,
	   "XSETBV, XGETBV");
	memset(flat_ram + 0x6000 + 512, 0, 64);
	x->fcw = 0x37f, x->fsw = 0, x->ftw = 0, x->fip = 0, x->fdp = 0, x->fop = 0;
	memset(x->st, 0, sizeof(x->st));
	cpu->gpr[RAX] = 3;
	ok(RUN("\x48\x0f\xae\x27") == -1 && flat_get(0x6200, 8) == 2, "XSAVE: x87 is in its initial state");
	memset(x->xmm, 0, sizeof(x->xmm));
	x->fcw = 0;
	ok(RUN("\x48\x0f\xae\x2f") == -1 && x->fcw == 0x37f && x->xmm[7][0] == 0x5a, "XRSTOR");
	memset(x->xmm, 0, sizeof(x->xmm));
	ok(RUN("\x48\x0f\xae\x37") == -1 && flat_get(0x6200, 8) == 0 && flat_get(0x60a0, 1) == 0x5a,
	   "XSAVEOPT writes no initial state");
	flat_put(0x6208, 8, BIT(63));
	ok(RUN("\x48\x0f\xae\x2f") == VECTOR_GP, "the compacted format");
	mov_cr(0, cpu->cr0 | CR0_TS);
	ok(RUN("\x48\x0f\xae\x27") == VECTOR_NM && RUN("\x48\x0f\xae\x07") == VECTOR_NM, "TS");
}

int main(void)
{
	control();
	into_long_mode();
	msrs();
	cpuid();
	system_calls();
	flags();
	ports();
	extended_state();
	return done();
}
