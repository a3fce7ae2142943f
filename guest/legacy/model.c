/* SPDX-License-Identifier: MIT */
/* The processor is what its CPUID says: an instruction of a feature that it lacks is #UD, or what older processors make of it; a bit of CR4
 * that it lacks is #GP. Runs under every --cpu. SDM volume 2 */
#include "legacy/lib/legacy.h"

enum word { D1, C1, B7, D81, C81, X1 };

static bool has(enum word word, unsigned bit)
{
	switch (word) {
	case D1: return cpuid(1, 0).edx >> bit & 1;
	case C1: return cpuid(1, 0).ecx >> bit & 1;
	case B7: return cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ebx >> bit & 1);
	case X1: return cpuid(0, 0).eax >= 13 && (cpuid(13, 1).eax >> bit & 1);
	default: break;
	}
	if (cpuid(0x80000000, 0).eax >> 16 != 0x8000)
		return false;
	return (word == D81 ? cpuid(0x80000001, 0).edx : cpuid(0x80000001, 0).ecx) >> bit & 1;
}

/* Code, that runs with EAX, ECX, EDX zero and ESI at an aligned area. */
static const struct row {
	const char *name;
	enum word word;
	uint8_t bit, size;
	uint8_t bytes[8];
} rows[] = {
#define R(word, bit, name, ...) { name, word, bit, sizeof((uint8_t[]){ __VA_ARGS__ }), { __VA_ARGS__ } }
	R(D1, 4, "RDTSC", 0x0f, 0x31),
	R(D1, 8, "CMPXCHG8B", 0x0f, 0xc7, 0x0e),
	R(D1, 15, "CMOVZ", 0x0f, 0x44, 0xc1),
	R(D1, 15, "FCMOVB", 0xda, 0xc1),
	R(D1, 15, "FCOMI", 0xdb, 0xf1),
	R(D1, 15, "NOP with ModRM", 0x0f, 0x1f, 0x06),
	R(D1, 15, "ENDBR32", 0xf3, 0x0f, 0x1e, 0xfb),
	R(D1, 23, "PADDB", 0x0f, 0xfc, 0xc1),
	R(D1, 23, "EMMS", 0x0f, 0x77),
	R(D1, 24, "FXSAVE", 0x0f, 0xae, 0x06),
	R(D1, 25, "ADDPS", 0x0f, 0x58, 0xc1),
	R(D1, 25, "PAVGB of MMX registers", 0x0f, 0xe0, 0xc1),
	R(D1, 25, "SFENCE", 0x0f, 0xae, 0xf8),
	R(D1, 26, "ADDPD", 0x66, 0x0f, 0x58, 0xc1),
	R(D1, 26, "MFENCE", 0x0f, 0xae, 0xf0),
	R(D1, 26, "PADDQ of MMX registers", 0x0f, 0xd4, 0xc1),
	R(D1, 19, "CLFLUSH", 0x0f, 0xae, 0x3e),
	R(C1, 0, "HADDPS", 0xf2, 0x0f, 0x7c, 0xc1),
	R(C1, 9, "PSHUFB", 0x66, 0x0f, 0x38, 0x00, 0xc1),
	R(C1, 19, "PMULLD", 0x66, 0x0f, 0x38, 0x40, 0xc1),
	R(C1, 20, "PCMPISTRI", 0x66, 0x0f, 0x3a, 0x63, 0xc1, 0x00),
	R(C1, 20, "CRC32", 0xf2, 0x0f, 0x38, 0xf1, 0xc1),
	R(C1, 23, "POPCNT", 0xf3, 0x0f, 0xb8, 0xc1),
	R(C1, 22, "MOVBE", 0x0f, 0x38, 0xf0, 0x06),
	R(C1, 25, "AESENC", 0x66, 0x0f, 0x38, 0xdc, 0xc1),
	R(C1, 1, "PCLMULQDQ", 0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x00),
	R(C1, 26, "XGETBV", 0x0f, 0x01, 0xd0),
	R(C1, 30, "RDRAND", 0x0f, 0xc7, 0xf0),
	R(B7, 18, "RDSEED", 0x0f, 0xc7, 0xf8),
	R(B7, 19, "ADCX", 0x66, 0x0f, 0x38, 0xf6, 0xc1),
	R(B7, 29, "SHA1NEXTE", 0x0f, 0x38, 0xc8, 0xc1),
	R(B7, 3, "ANDN", 0xc4, 0xe2, 0x78, 0xf2, 0xc1),
	R(B7, 8, "PDEP", 0xc4, 0xe2, 0x7b, 0xf5, 0xc1),
	R(B7, 20, "STAC, CLAC", 0x0f, 0x01, 0xcb, 0x0f, 0x01, 0xca),
	R(B7, 23, "CLFLUSHOPT", 0x66, 0x0f, 0xae, 0x3e),
	R(B7, 24, "CLWB", 0x66, 0x0f, 0xae, 0x36),
	R(D81, 27, "RDTSCP", 0x0f, 0x01, 0xf9),
	R(X1, 0, "XSAVEOPT", 0x0f, 0xae, 0x36),
#undef R
};

uint8_t area[1024] __attribute__((aligned(64))), code[16];

extern void call_code(void);
asm(".pushsection .text; call_code: fninit; mov $area, %esi; xor %eax, %eax; xor %ecx, %ecx; xor %edx, %edx; jmp code; .popsection");

static int run(const uint8_t *bytes, unsigned size)
{
	memcpy(code, bytes, size);
	code[size] = 0xc3;
	caught.vector = NONE;
	return attempt(call_code, 0);
}

static void test_instructions(void)
{
	if (has(D1, 24))
		WRITE_CR(4, READ_CR(4) | 0x200 | (has(D1, 25) ? 0x400 : 0)); /* OSFXSR, OSXMMEXCPT */
	if (has(C1, 26))
		WRITE_CR(4, READ_CR(4) | 0x40000); /* OSXSAVE */
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		bool offered = has(rows[n].word, rows[n].bit);
		check_vector(run(rows[n].bytes, rows[n].size), offered ? NONE : UD, join(offered ? "runs: " : "#UD: ", rows[n].name));
	}
	check_vector(run((const uint8_t[]){ 0xb9, 0x74, 1, 0, 0, 0x0f, 0x32 }, 7), has(D1, 5) ? has(D1, 11) ? NONE : GP : UD, "RDMSR of SYSENTER_CS");
	if (!has(D1, 11))
		check_vector(run((const uint8_t[]){ 0x0f, 0x34 }, 2), UD, "#UD: SYSENTER");
	check_vector(run((const uint8_t[]){ 0x0f, 0x05 }, 2), UD, "#UD: SYSCALL in protected mode, on a processor of Intel's");
	check_vector(run((const uint8_t[]){ 0xf3, 0x90 }, 2), NONE, "PAUSE is a NOP where it is not known");
}

/* What older processors make of newer encodings. */
static void test_fallbacks(void)
{
	uint32_t value = 0x50, result = 0xdead;
	bool zf;
	asm volatile("mov $0, %%edx; .byte 0xf3; bsf %2, %0; setz %1" : "=r"(result), "=q"(zf) : "r"(value) : "edx", "cc");
	check(result == 4 && !zf, "TZCNT or BSF of a number");
	asm volatile(".byte 0xf3; bsf %2, %0; setc %1" : "=r"(result), "=q"(zf) : "r"(0) : "cc");
	if (has(B7, 3))
		check(zf && result == 32, "TZCNT of 0");
	else
		check(!zf || result != 32, "F3 BSF of 0 is BSF");
	asm volatile(".byte 0xf3; bsr %1, %0" : "=r"(result) : "r"(value) : "cc");
	check_equal(result, has(C81, 5) ? 25 : 6, has(C81, 5) ? "LZCNT" : "LZCNT is BSR");
	if (has(D81, 29) || has(C81, 8))
		check_vector(run((const uint8_t[]){ 0x0f, 0x0d, 0x0e }, 3), NONE, "PREFETCHW");
	else
		check_vector(run((const uint8_t[]){ 0x0f, 0x0d, 0x0e }, 3), UD, "#UD: PREFETCHW");
}

static void test_cr4(void)
{
	static const struct { enum word word; uint8_t bit, cr4; } bits[] = {
		{ D1, 1, 0 }, { D1, 4, 2 }, { D1, 2, 3 }, { D1, 3, 4 }, { D1, 6, 5 }, { D1, 7, 6 }, { D1, 13, 7 }, { D1, 24, 9 }, { D1, 25, 10 },
		{ C1, 26, 18 }, { B7, 7, 20 }, { B7, 20, 21 },
	};
	uint32_t old = READ_CR(4);
	bool good = true;
	for (unsigned n = 0; n < ARRAY_SIZE(bits); n++) {
		int got = TRY("mov %0, %%cr4", : "r"(old | 1u << bits[n].cr4));
		good &= got == (has(bits[n].word, bits[n].bit) ? NONE : GP);
	}
	WRITE_CR(4, old);
	check(good, "CR4 has the bits of the features that CPUID offers, and the others are #GP");
}

int main(void)
{
	test_instructions();
	test_fallbacks();
	test_cr4();
	return 0;
}
