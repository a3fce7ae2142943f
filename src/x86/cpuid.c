/* SPDX-License-Identifier: MIT */
/* CPUID, and the models of processors that there are. SDM volume 2A, CPUID; docs/cpuid.md has the choices.
 *
 * A leaf is computed from three things: the model (which features), the machine (how many processors, how fast the
 * TSC), and the present state (OSXSAVE, the APIC's enable bit). */
#include <cpuid.h>
#include <string.h>
#include "x86/features.h"

#define F(name) (1u << (FEATURE_##name & 31))

#define V1_1_EDX                                                                                                       \
	(F(FPU) | F(VME) | F(DE) | F(PSE) | F(TSC) | F(MSR) | F(PAE) | F(MCE) | F(CX8) | F(APIC) | F(SEP) | F(MTRR) | F(PGE) |  \
	 F(MCA) | F(CMOV) | F(PAT) | F(PSE36) | F(CLFSH) | F(MMX) | F(FXSR) | F(SSE) | F(SSE2))
#define V2_1_ECX                                                                                                       \
	(F(SSE3) | F(SSSE3) | F(CX16) | F(PCID) | F(SSE41) | F(SSE42) | F(X2APIC) | F(POPCNT) | F(TSC_DEADLINE) |      \
	 F(XSAVE) | F(RDRAND) | F(HYPERVISOR))
#define V2_7_EBX                                                                                                       \
	(F(FSGSBASE) | F(TSC_ADJUST) | F(SMEP) | F(ERMS) | F(INVPCID) | F(NO_FCS_FDS) | F(RDSEED) | F(SMAP))
#define V2_7_EDX (F(FSRM) | F(SPEC_CTRL) | F(STIBP) | F(ARCH_CAPABILITIES) | F(SSBD))
#define V1_81_EDX (F(SYSCALL) | F(NX) | F(LM))
#define V2_81_EDX (V1_81_EDX | F(PDPE1GB) | F(RDTSCP))

#define V3_1_ECX (V2_1_ECX | F(MOVBE) | F(FMA) | F(AVX) | F(F16C))
#define V3_7_EBX (V2_7_EBX | F(BMI1) | F(AVX2) | F(BMI2))
#define V3_81_ECX (F(LAHF64) | F(PREFETCHW) | F(LZCNT))
#define V3_D1_EAX (F(XSAVEOPT) | F(XSAVEC) | F(XGETBV1) | F(XSAVES))
#define V3_XCR0 (XCR0_X87 | XCR0_SSE | XCR0_AVX)

/* Family 6, model 0xf0 is no processor that was ever sold, so that no kernel applies one's workarounds to it. */
const struct x86_model x86_models[] = {
	{
		.name = "v2", .summary = "x86-64-v2: SSE4.2, no AVX (default)",
		.vendor = "GenuineIntel", .brand = "doppel virtual x86-64-v2 processor",
		.family = 6, .model = 0xf0, .stepping = 1,
		.features = {
			[FEAT_1_EDX] = V1_1_EDX, [FEAT_1_ECX] = V2_1_ECX, [FEAT_7_EBX] = V2_7_EBX,
			[FEAT_7_ECX] = F(UMIP),
			[FEAT_7_EDX] = V2_7_EDX, [FEAT_80000001_EDX] = V2_81_EDX,
			[FEAT_80000001_ECX] = F(LAHF64) | F(PREFETCHW), [FEAT_D1_EAX] = F(XSAVEOPT),
		},
		.physical_bits = 40, .linear_bits = 48, .xcr0 = XCR0_X87 | XCR0_SSE,
	},
	{
		.name = "v3", .summary = "x86-64-v3: AVX2, FMA, BMI2 (the host must have them)",
		.vendor = "GenuineIntel", .brand = "doppel virtual x86-64-v3 processor",
		.family = 6, .model = 0xf0, .stepping = 1,
		.features = {
			[FEAT_1_EDX] = V1_1_EDX, [FEAT_1_ECX] = V3_1_ECX, [FEAT_7_EBX] = V3_7_EBX,
			[FEAT_7_ECX] = F(UMIP),
			[FEAT_7_EDX] = V2_7_EDX, [FEAT_80000001_EDX] = V2_81_EDX,
			[FEAT_80000001_ECX] = V3_81_ECX, [FEAT_D1_EAX] = V3_D1_EAX,
		},
		.physical_bits = 40, .linear_bits = 48, .xcr0 = V3_XCR0,
	},
	{
		.name = "max", .summary = "everything that the semantics execute and the host has",
		.vendor = "GenuineIntel", .brand = "doppel virtual x86-64 processor",
		.family = 6, .model = 0xf0, .stepping = 1,
		.features = {
			[FEAT_1_EDX] = V1_1_EDX, [FEAT_1_ECX] = V3_1_ECX | F(AES) | F(PCLMUL),
			[FEAT_7_EBX] = V3_7_EBX | F(ADX) | F(SHA) | F(CLFLUSHOPT) | F(CLWB),
			[FEAT_7_ECX] = F(UMIP) | F(RDPID) | F(GFNI) | F(VAES) | F(VPCLMULQDQ),
			[FEAT_7_EDX] = V2_7_EDX, [FEAT_80000001_EDX] = V2_81_EDX,
			[FEAT_80000001_ECX] = V3_81_ECX, [FEAT_D1_EAX] = V3_D1_EAX,
		},
		.physical_bits = 40, .linear_bits = 48, .xcr0 = V3_XCR0,
	},
	{
		.name = "v1", .summary = "x86-64-v1: the first 64-bit processors, SSE2",
		.vendor = "GenuineIntel", .brand = "doppel virtual x86-64-v1 processor",
		.family = 6, .model = 0xf0, .stepping = 0,
		.features = {
			[FEAT_1_EDX] = V1_1_EDX, [FEAT_1_ECX] = F(HYPERVISOR),
			[FEAT_7_EDX] = F(ARCH_CAPABILITIES), [FEAT_80000001_EDX] = V1_81_EDX,
		},
		.physical_bits = 40, .linear_bits = 48,
	},
	{
		.name = "pentium", .summary = "32 bits: TSC, CMPXCHG8B, 4 MiB pages",
		.vendor = "GenuineIntel", .brand = "doppel virtual Pentium",
		.family = 5, .model = 2, .stepping = 12,
		.features = { [FEAT_1_EDX] = F(FPU) | F(VME) | F(DE) | F(PSE) | F(TSC) | F(MSR) | F(MCE) | F(CX8) | F(APIC) },
		.physical_bits = 32, .linear_bits = 32,
	},
	{
		.name = "486", .summary = "32 bits: the 486 DX with CPUID",
		.vendor = "GenuineIntel", .brand = "doppel virtual 486",
		.family = 4, .model = 8, .stepping = 0,
		.features = { [FEAT_1_EDX] = F(FPU) },
		.physical_bits = 32, .linear_bits = 32,
	},
};
const unsigned x86_model_count = ARRAY_SIZE(x86_models);

#define APIC_KHZ 1000000u /* the frequency that the APIC's timer counts with */
#define HYPERVISOR_BASE 0x40000000u
#define HYPERVISOR_MAX 0x40000010u
#define EXTENDED_BASE 0x80000000u
#define EXTENDED_MAX 0x80000008u
#define BHI_CTRL BIT(4) /* CPUID.(7,2):EDX */
#define XSAVE_SIZE 576 /* legacy region and header */
#define XSAVE_AVX_SIZE 256 /* component 2, behind them in both formats */

/* Beyond v2 the semantics run the host's own instructions: what the host lacks, a model cannot offer. */
static uint32_t host_word(unsigned word)
{
	uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;

	switch (word) {
	case FEAT_1_ECX: __get_cpuid(1, &eax, &ebx, &ecx, &edx); return ecx;
	case FEAT_7_EBX: __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx); return ebx;
	case FEAT_7_ECX: __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx); return ecx;
	default: __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx); return ecx; /* FEAT_80000001_ECX */
	}
}

/* The host's kernel must keep the upper halves of its registers, too. */
static bool host_saves_avx(void)
{
	uint32_t eax, edx;

	if (!(host_word(FEAT_1_ECX) & F(OSXSAVE)))
		return false;
	asm volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return (eax & (XCR0_SSE | XCR0_AVX)) == (XCR0_SSE | XCR0_AVX);
}

static const struct { unsigned word; uint32_t bits, with_avx; } borrowed[] = {
	{ FEAT_1_ECX, F(MOVBE) | F(AES) | F(PCLMUL), F(AVX) | F(FMA) | F(F16C) },
	{ FEAT_7_EBX, F(BMI1) | F(BMI2) | F(ADX) | F(SHA), F(AVX2) },
	{ FEAT_7_ECX, F(GFNI), F(VAES) | F(VPCLMULQDQ) },
	{ FEAT_80000001_ECX, F(LZCNT), 0 },
};

static const struct x86_model *limit_to_host(unsigned n)
{
	static struct x86_model limited[ARRAY_SIZE(x86_models)];
	struct x86_model *m = &limited[n];
	bool avx = host_saves_avx() && (host_word(FEAT_1_ECX) & F(AVX));

	*m = x86_models[n];
	for (unsigned k = 0; k < ARRAY_SIZE(borrowed); k++) {
		uint32_t all = borrowed[k].bits | borrowed[k].with_avx;
		uint32_t have = host_word(borrowed[k].word) & (avx ? all : borrowed[k].bits);
		m->features[borrowed[k].word] &= have | ~all;
	}
	if (!avx)
		m->xcr0 &= ~XCR0_AVX;
	return m;
}

const struct x86_model *x86_model_find(const char *name)
{
	for (unsigned n = 0; n < x86_model_count; n++)
		if (!strcmp(x86_models[n].name, name))
			return limit_to_host(n);
	return NULL;
}

bool x86_model_limited(const struct x86_model *m)
{
	for (unsigned n = 0; n < x86_model_count; n++)
		if (!strcmp(x86_models[n].name, m->name))
			return memcmp(x86_models[n].features, m->features, sizeof(m->features)) != 0;
	return false;
}

static uint32_t text(const char *s, unsigned at)
{
	uint32_t word;
	memcpy(&word, s + at, 4);
	return word;
}

/* Bits of an APIC id that number the processors of this machine. */
static unsigned id_bits(const struct x86_core *core)
{
	unsigned bits = 0;
	while ((1u << bits) < core->cpus)
		bits++;
	return bits;
}

static uint32_t max_basic(const struct x86_model *m)
{
	return m->family < 6 ? 1 : 0x16;
}

static uint32_t signature(const struct x86_model *m)
{
	return m->stepping | (m->model & 15u) << 4 | (uint32_t)m->family << 8 | (m->model >> 4 & 15u) << 16;
}

static bool apic_enabled(struct x86_core *core)
{
	uint64_t base;
	return !core->env->rdmsr || !core->env->rdmsr(core, MSR_APIC_BASE, &base) || (base & APIC_BASE_ENABLE);
}

static struct x86_cpuid_leaf leaf_1(struct x86_core *core)
{
	const struct x86_model *m = core->model;
	uint32_t edx = m->features[FEAT_1_EDX], ecx = m->features[FEAT_1_ECX];

	if ((edx & F(APIC)) && !apic_enabled(core))
		edx &= ~F(APIC);
	if (core->cpus > 1 && m->family >= 6)
		edx |= F(HTT);
	if (core->cpu.cr4 & CR4_OSXSAVE)
		ecx |= F(OSXSAVE);
	return (struct x86_cpuid_leaf){
		.eax = signature(m),
		.ebx = (m->features[FEAT_1_EDX] & F(CLFSH) ? 8u << 8 : 0) |
		       (MIN(1u << id_bits(core), 255u) & 0xff) << 16 | (core->cpu.apic_id & 0xff) << 24,
		.ecx = ecx,
		.edx = edx,
	};
}

/* Caches: 32 KiB L1 each for data and code, 1 MiB L2, and 8 MiB L3 that all processors share. */
static struct x86_cpuid_leaf leaf_4(const struct x86_core *core, uint32_t subleaf)
{
	static const struct { uint8_t type, level, ways; uint16_t sets; bool shared; } caches[] = {
		{ 1, 1, 8, 64, false }, { 2, 1, 8, 64, false }, { 3, 2, 16, 1024, false }, { 3, 3, 16, 8192, true },
	};
	uint32_t cores = (1u << id_bits(core)) - 1;

	if (subleaf >= ARRAY_SIZE(caches))
		return (struct x86_cpuid_leaf){ 0 };
	return (struct x86_cpuid_leaf){
		.eax = caches[subleaf].type | (uint32_t)caches[subleaf].level << 5 | 1u << 8 |
		       (caches[subleaf].shared ? cores & 0xfff : 0) << 14 | (cores & 0x3f) << 26,
		.ebx = 63 | (caches[subleaf].ways - 1u) << 22,
		.ecx = caches[subleaf].sets - 1u,
	};
}

/* Subleaf 2 offers BHI_DIS_S. Linux does not trust BHI_NO, and without this switch clears a branch history that is
 * not there, by some hundred branches in each system call. */
static struct x86_cpuid_leaf leaf_7(const struct x86_core *core, uint32_t subleaf)
{
	const uint32_t *features = core->model->features;
	bool spec_ctrl = x86_has(core, FEATURE_SPEC_CTRL);

	if (subleaf == 2)
		return (struct x86_cpuid_leaf){ .edx = spec_ctrl ? BHI_CTRL : 0 };
	if (subleaf)
		return (struct x86_cpuid_leaf){ 0 };
	return (struct x86_cpuid_leaf){
		.eax = spec_ctrl ? 2 : 0,
		.ebx = features[FEAT_7_EBX],
		.ecx = features[FEAT_7_ECX],
		.edx = features[FEAT_7_EDX],
	};
}

/* Topology: one thread a core, all cores in one package. */
static struct x86_cpuid_leaf leaf_b(const struct x86_core *core, uint32_t subleaf)
{
	struct x86_cpuid_leaf l = { .ecx = subleaf & 0xff, .edx = core->cpu.apic_id };

	if (subleaf == 0) {
		l.ebx = 1;
		l.ecx |= 1 << 8;
	} else if (subleaf == 1) {
		l.eax = id_bits(core);
		l.ebx = core->cpus;
		l.ecx |= 2 << 8;
	}
	return l;
}

static struct x86_cpuid_leaf leaf_d(const struct x86_core *core, uint32_t subleaf)
{
	const struct x86_model *m = core->model;

	if (!x86_has(core, FEATURE_XSAVE))
		return (struct x86_cpuid_leaf){ 0 };
	uint32_t enabled = XSAVE_SIZE + (core->cpu.xcr0 & XCR0_AVX ? XSAVE_AVX_SIZE : 0);
	uint32_t all = XSAVE_SIZE + (m->xcr0 & XCR0_AVX ? XSAVE_AVX_SIZE : 0);
	if (subleaf == 0)
		return (struct x86_cpuid_leaf){
			.eax = (uint32_t)m->xcr0, .ebx = enabled, .ecx = all, .edx = (uint32_t)(m->xcr0 >> 32)
		};
	if (subleaf == 1)
		return (struct x86_cpuid_leaf){ .eax = m->features[FEAT_D1_EAX],
						 .ebx = x86_has(core, FEATURE_XSAVES) ? enabled : 0 };
	if (subleaf == 2 && (m->xcr0 & XCR0_AVX))
		return (struct x86_cpuid_leaf){ .eax = XSAVE_AVX_SIZE, .ebx = XSAVE_SIZE };
	return (struct x86_cpuid_leaf){ 0 };
}

/* TSC frequency = crystal * EBX / EAX. The crystal is what the APIC timer counts, so 1 GHz; but where Linux's 32-bit
 * crystal_khz * EBX would overflow, a crystal of 1 MHz, with which the product is the TSC's kHz. */
static struct x86_cpuid_leaf leaf_15(const struct x86_core *core)
{
	uint32_t a = core->tsc_khz, b = APIC_KHZ, crystal = APIC_KHZ;

	while (b) {
		uint32_t rest = a % b;
		a = b;
		b = rest;
	}
	if ((uint64_t)crystal * (core->tsc_khz / a) >> 32) {
		crystal = 1000;
		a = 1;
	}
	return (struct x86_cpuid_leaf){ .eax = crystal / a, .ebx = core->tsc_khz / a, .ecx = crystal * 1000 };
}

static struct x86_cpuid_leaf basic(struct x86_core *core, uint32_t leaf, uint32_t subleaf)
{
	const struct x86_model *m = core->model;

	switch (leaf) {
	case 0:
		return (struct x86_cpuid_leaf){ max_basic(m), text(m->vendor, 0), text(m->vendor, 8),
						 text(m->vendor, 4) };
	case 1: return leaf_1(core);
	case 2: return (struct x86_cpuid_leaf){ .eax = 0x00feff01 }; /* no TLB descriptors; caches: leaf 4 */
	case 4: return leaf_4(core, subleaf);
	case 6: return (struct x86_cpuid_leaf){ .eax = 1 << 2 }; /* ARAT: the APIC timer always runs */
	case 7: return leaf_7(core, subleaf);
	case 0xb: return x86_has(core, FEATURE_X2APIC) ? leaf_b(core, subleaf) : (struct x86_cpuid_leaf){ 0 };
	case 0xd: return leaf_d(core, subleaf);
	case 0x15: return leaf_15(core);
	case 0x16:
		return (struct x86_cpuid_leaf){ .eax = core->tsc_khz / 1000, .ebx = core->tsc_khz / 1000, .ecx = 100 };
	default: return (struct x86_cpuid_leaf){ 0 };
	}
}

static struct x86_cpuid_leaf hypervisor(const struct x86_core *core, uint32_t leaf)
{
	static const char name[13] = "doppelVMdopp";

	switch (leaf) {
	case HYPERVISOR_BASE:
		return (struct x86_cpuid_leaf){ HYPERVISOR_MAX, text(name, 0), text(name, 4), text(name, 8) };
	case HYPERVISOR_MAX: return (struct x86_cpuid_leaf){ .eax = core->tsc_khz, .ebx = APIC_KHZ };
	default: return (struct x86_cpuid_leaf){ 0 };
	}
}

static struct x86_cpuid_leaf extended(const struct x86_core *core, uint32_t leaf)
{
	const struct x86_model *m = core->model;
	unsigned at = (leaf - 0x80000002) * 16;

	switch (leaf) {
	case 0x80000000: return (struct x86_cpuid_leaf){ .eax = EXTENDED_MAX };
	case 0x80000001:
		return (struct x86_cpuid_leaf){ .ecx = m->features[FEAT_80000001_ECX],
						 .edx = m->features[FEAT_80000001_EDX] };
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
		return (struct x86_cpuid_leaf){ text(m->brand, at), text(m->brand, at + 4), text(m->brand, at + 8),
						 text(m->brand, at + 12) };
	case 0x80000006: /* L2: KiB, 16 ways, line */
		return (struct x86_cpuid_leaf){ .ecx = 1024u << 16 | 8u << 12 | 64 };
	case 0x80000007: /* invariant TSC */
		return (struct x86_cpuid_leaf){ .edx = 1 << 8 };
	case 0x80000008: return (struct x86_cpuid_leaf){ .eax = m->physical_bits | (uint32_t)m->linear_bits << 8 };
	default: return (struct x86_cpuid_leaf){ 0 };
	}
}

struct x86_cpuid_leaf x86_cpuid(struct x86_core *core, uint32_t leaf, uint32_t subleaf)
{
	const struct x86_model *m = core->model;

	if (leaf <= max_basic(m))
		return basic(core, leaf, subleaf);
	if (leaf >= HYPERVISOR_BASE && leaf <= HYPERVISOR_MAX && x86_has(core, FEATURE_HYPERVISOR))
		return hypervisor(core, leaf);
	if (leaf >= EXTENDED_BASE && leaf <= EXTENDED_MAX && m->family >= 6)
		return extended(core, leaf);
	return basic(core, max_basic(m), subleaf); /* beyond the last: as the highest basic leaf */
}
