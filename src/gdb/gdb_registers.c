/* SPDX-License-Identifier: MIT */
/* The registers as GDB numbers them: GDB manual, G.5.7. The features of i386 that it knows, and one of our own for what concerns the system. */
#include <string.h>
#include "gdb/gdb.h"
#include "x86/cpuid.h"
#include "x86/features.h"

enum reg_flags { NARROW = BIT(0), WIDE = BIT(1), READONLY = BIT(2), TAGS = BIT(3), AVX = BIT(4) };

struct reg {
	const char *name, *type;
	uint16_t bits;
	uint16_t flags;
	uint32_t at, size; /* of the field in struct x86_cpu; shorter ones are extended with zeros */
};

#define IN(member) offsetof(struct x86_cpu, member), sizeof(((struct x86_cpu *)0)->member)
#define GPR(name, n) { name, "int64", 64, WIDE, IN(gpr[n]) }
#define GPR32(name, n) { name, "int32", 32, NARROW, offsetof(struct x86_cpu, gpr[n]), 4 }
#define SELECTOR(name, s) { name, "int32", 32, 0, IN(s.selector) }
#define ST(n) { "st" #n, "i387_ext", 80, 0, offsetof(struct x86_cpu, xsave.legacy.st[n]), 10 }
#define X87(name, member, flags) { name, "int", 32, flags, IN(xsave.legacy.member) }
#define ABSENT(name) { name, "int", 32, READONLY, 0, 0 }
#define XMM(n, flags) { "xmm" #n, "vec128", 128, flags, IN(xsave.legacy.xmm[n]) }
#define YMM(n) { "ymm" #n "h", "uint128", 128, WIDE | AVX, IN(xsave.ymm_high[n]) }
#define SYSTEM(name, member) { name, "uint64", 64, READONLY, IN(member) }

static const struct reg core[] = {
	GPR("rax", RAX), GPR("rbx", RBX), GPR("rcx", RCX), GPR("rdx", RDX), GPR("rsi", RSI), GPR("rdi", RDI), GPR("rbp", RBP), GPR("rsp", RSP),
	GPR("r8", R8), GPR("r9", R9), GPR("r10", R10), GPR("r11", R11), GPR("r12", R12), GPR("r13", R13), GPR("r14", R14), GPR("r15", R15),
	{ "rip", "code_ptr", 64, WIDE, IN(gpr[X86_GPR_RIP]) },
	GPR32("eax", RAX), GPR32("ecx", RCX), GPR32("edx", RDX), GPR32("ebx", RBX), GPR32("esp", RSP), GPR32("ebp", RBP), GPR32("esi", RSI),
	GPR32("edi", RDI), { "eip", "code_ptr", 32, NARROW, offsetof(struct x86_cpu, gpr[X86_GPR_RIP]), 4 },
	{ "eflags", "i386_eflags", 32, 0, offsetof(struct x86_cpu, rflags), 4 },
	SELECTOR("cs", seg[SEG_CS]), SELECTOR("ss", seg[SEG_SS]), SELECTOR("ds", seg[SEG_DS]), SELECTOR("es", seg[SEG_ES]),
	SELECTOR("fs", seg[SEG_FS]), SELECTOR("gs", seg[SEG_GS]),
	ST(0), ST(1), ST(2), ST(3), ST(4), ST(5), ST(6), ST(7),
	X87("fctrl", fcw, 0), X87("fstat", fsw, 0), X87("ftag", ftw, TAGS | READONLY), ABSENT("fiseg"),
	{ "fioff", "int", 32, 0, offsetof(struct x86_cpu, xsave.legacy.fip), 4 }, ABSENT("foseg"),
	{ "fooff", "int", 32, 0, offsetof(struct x86_cpu, xsave.legacy.fdp), 4 }, X87("fop", fop, 0),
};
static const struct reg sse[] = {
	XMM(0, 0), XMM(1, 0), XMM(2, 0), XMM(3, 0), XMM(4, 0), XMM(5, 0), XMM(6, 0), XMM(7, 0), XMM(8, WIDE), XMM(9, WIDE), XMM(10, WIDE),
	XMM(11, WIDE), XMM(12, WIDE), XMM(13, WIDE), XMM(14, WIDE), XMM(15, WIDE),
	{ "mxcsr", "i386_mxcsr", 32, 0, IN(xsave.legacy.mxcsr) },
};
static const struct reg avx[] = {
	YMM(0), YMM(1), YMM(2), YMM(3), YMM(4), YMM(5), YMM(6), YMM(7), YMM(8), YMM(9), YMM(10), YMM(11), YMM(12), YMM(13), YMM(14), YMM(15),
};
static const struct reg segments[] = {
	{ "fs_base", "int64", 64, WIDE, IN(seg[SEG_FS].base) }, { "gs_base", "int64", 64, WIDE, IN(seg[SEG_GS].base) },
};
static const struct reg system_registers[] = {
	SYSTEM("cr0", cr0), SYSTEM("cr2", cr2), SYSTEM("cr3", cr3), SYSTEM("cr4", cr4), SYSTEM("efer", efer), SYSTEM("xcr0", xcr0),
	SYSTEM("k_gs_base", kernel_gs_base), SYSTEM("cs_base", seg[SEG_CS].base), SYSTEM("ss_base", seg[SEG_SS].base),
	SYSTEM("ds_base", seg[SEG_DS].base), SYSTEM("es_base", seg[SEG_ES].base), SYSTEM("gdtr_base", gdtr.base),
	SYSTEM("gdtr_limit", gdtr.limit), SYSTEM("idtr_base", idtr.base), SYSTEM("idtr_limit", idtr.limit), SYSTEM("ldtr", ldtr.selector),
	SYSTEM("tr", tr.selector), SYSTEM("tr_base", tr.base), SYSTEM("dr6", dr[6]), SYSTEM("dr7", dr[7]),
};

static const struct feature {
	const char *name;
	const struct reg *regs;
	unsigned count;
} features[] = {
	{ "org.gnu.gdb.i386.core", core, ARRAY_SIZE(core) },
	{ "org.gnu.gdb.i386.sse", sse, ARRAY_SIZE(sse) },
	{ "org.gnu.gdb.i386.avx", avx, ARRAY_SIZE(avx) },
	{ "org.gnu.gdb.i386.segments", segments, ARRAY_SIZE(segments) },
	{ "doppel.x86.system", system_registers, ARRAY_SIZE(system_registers) },
};

static bool shown(const struct vcpu *vcpu, const struct reg *r)
{
	bool wide = x86_has(&vcpu->core, FEATURE_LM);

	if (r->flags & (wide ? NARROW : WIDE))
		return false;
	return !(r->flags & AVX) || x86_has(&vcpu->core, FEATURE_AVX);
}

static const struct reg *find(const struct vcpu *vcpu, unsigned n)
{
	for (unsigned f = 0; f < ARRAY_SIZE(features); f++)
		for (unsigned k = 0; k < features[f].count; k++)
			if (shown(vcpu, &features[f].regs[k]) && !n--)
				return &features[f].regs[k];
	return NULL;
}

unsigned gdb_register_count(const struct vcpu *vcpu)
{
	unsigned count = 0;

	for (unsigned f = 0; f < ARRAY_SIZE(features); f++)
		for (unsigned k = 0; k < features[f].count; k++)
			count += shown(vcpu, &features[f].regs[k]);
	return count;
}

size_t gdb_register_size(const struct vcpu *vcpu, unsigned n)
{
	const struct reg *r = find(vcpu, n);

	return r ? r->bits / 8u : 0;
}

size_t gdb_register_get(const struct vcpu *vcpu, unsigned n, void *value)
{
	const struct reg *r = find(vcpu, n);
	uint8_t bytes[16] = { 0 };

	if (!r)
		return 0;
	memcpy(bytes, (const char *)&vcpu->core.cpu + r->at, MIN(r->size, sizeof(bytes)));
	if (r->flags & TAGS) { /* two bits for each physical register: 3 is empty. The kinds of those that are not are GDB's to find */
		uint16_t tags = 0;
		for (unsigned k = 0; k < 8; k++)
			tags |= (uint16_t)((vcpu->core.cpu.xsave.legacy.ftw >> k & 1 ? 0 : 3) << 2 * k);
		memcpy(bytes, &tags, 2);
	}
	memcpy(value, bytes, r->bits / 8u);
	return r->bits / 8u;
}

/* Selectors can be written only as what they are: a new one would need its descriptor loaded. */
bool gdb_register_set(struct vcpu *vcpu, unsigned n, const void *value, size_t size)
{
	const struct reg *r = find(vcpu, n);
	char *at = (char *)&vcpu->core.cpu + (r ? r->at : 0);
	bool selector = r && r->size == 2 && r->at < offsetof(struct x86_cpu, xsave);

	if (!r || size < r->bits / 8u)
		return false;
	if ((r->flags & READONLY) || selector)
		return !memcmp(at, value, r->size);
	if (!strcmp(r->name, "mxcsr") && (((const uint8_t *)value)[2] || ((const uint8_t *)value)[3]))
		return false; /* the host would not load it */
	memcpy(at, value, MIN(r->size, r->bits / 8u));
	if (r->flags & NARROW)
		memset(at + 4, 0, 4);
	vcpu->core.cpu.rflags |= FLAG_FIXED;
	return true;
}

void gdb_describe(const struct vcpu *vcpu, FILE *out)
{
	bool wide = x86_has(&vcpu->core, FEATURE_LM);
	unsigned number = 0;

	fprintf(out, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\">"
		     "<architecture>%s</architecture>", wide ? "i386:x86-64" : "i386");
	for (unsigned f = 0; f < ARRAY_SIZE(features); f++) {
		bool any = false;
		for (unsigned k = 0; k < features[f].count; k++)
			any |= shown(vcpu, &features[f].regs[k]);
		if (!any)
			continue;
		fprintf(out, "<feature name=\"%s\">", features[f].name);
		if (features[f].regs == sse)
			fprintf(out, "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
				     "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
				     "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/><vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
				     "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
				     "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/>"
				     "<field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>"
				     "<field name=\"uint128\" type=\"uint128\"/></union>");
		for (unsigned k = 0; k < features[f].count; k++) {
			const struct reg *r = &features[f].regs[k];
			const char *type = !strcmp(r->type, "i386_eflags") || !strcmp(r->type, "i386_mxcsr") ? "int32" : r->type;
			if (!shown(vcpu, r))
				continue;
			fprintf(out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"%s/>", r->name, r->bits, type, number++,
				features[f].regs == system_registers ? " group=\"system\"" : "");
		}
		fprintf(out, "</feature>");
	}
	fprintf(out, "</target>");
}
