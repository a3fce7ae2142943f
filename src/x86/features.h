/* SPDX-License-Identifier: MIT */
/* FEATURE_name: the features of features.def as (word << 5 | bit). */
#pragma once
#include "x86/cpuid.h"

enum x86_feature {
#define FEATURE(name, text, word, bit, needs) FEATURE_##name = FEAT_##word << 5 | (bit),
#include "x86/features.def"
#undef FEATURE
	FEATURE_NONE = 0xffff,
};
