/* SPDX-License-Identifier: MIT */
/* CPU models: what CPUID offers, what decoding allows, which bits of control registers and MSRs exist. */
#pragma once
#include "x86/core.h"

struct x86_cpuid_leaf {
	uint32_t eax, ebx, ecx, edx;
};

/* Words of the feature bitmap, each a CPUID output register. */
enum { FEAT_1_EDX, FEAT_1_ECX, FEAT_7_EBX, FEAT_7_ECX, FEAT_7_EDX, FEAT_80000001_EDX, FEAT_80000001_ECX, FEAT_D1_EAX, FEAT_WORDS };

struct x86_model {
	const char *name, *summary;
	char vendor[13];
	char brand[49];
	uint8_t family, model, stepping;
	uint32_t features[FEAT_WORDS];
	uint8_t physical_bits, linear_bits;
	uint64_t xcr0; /* bits that XSETBV may set */
};
extern const struct x86_model x86_models[];
extern const unsigned x86_model_count;

/* cpuid.c -- NULL for a name that is none. "v2" is the default. A model is without what the semantics borrow from the host and the host
 * lacks; x86_model_limited tells whether that is something. */
const struct x86_model *x86_model_find(const char *name);
bool x86_model_limited(const struct x86_model *);
/* model.c -- A model with features added and taken away, "v2,-sse4.2,+aes", into *m. 0, or -1 with a message in why (256 bytes are enough);
 * with 0, why may hold a remark.
 * What is added brings what it needs; what is taken takes what needs it. The text becomes its name, and must live as long. */
int x86_model_parse(struct x86_model *m, const char *text, char *why, size_t size);
/* What --cpu calls a feature (features.h). The next one that --cpu knows, *row counts on from 0; NULL behind the last. */
const char *x86_feature_name(unsigned feature);
const char *x86_feature_text(unsigned *row);
/* CPUID with this leaf and subleaf, on this processor in its present state (OSXSAVE, APIC id, ...). */
struct x86_cpuid_leaf x86_cpuid(struct x86_core *, uint32_t leaf, uint32_t subleaf);
/* feature: (FEAT_word << 5) | bit, see features.h */
static inline bool x86_has(const struct x86_core *core, unsigned feature)
{
	return core->model->features[feature >> 5] >> (feature & 31) & 1;
}
