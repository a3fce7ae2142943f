/* SPDX-License-Identifier: MIT */
/* x86_decode: random bytes in all modes against Zydis's own verdict, and the fields of known instructions. SDM
 * volume 2, chapter 2. Usage: decode [seed]; or SEED in the environment. */
#include "decode_check.h"
#include "integer_cases.h"
#include "test.h"
#include "x86/cpuid.h"

#define RANDOM_CASES 100000u
#define SHOWN 5u
#define LONG64 (MODE_CODE64 | MODE_STACK64 | MODE_PROTECTED | MODE_LONG | MODE_FLAT)
#define FLAT32 (MODE_CODE32 | MODE_STACK32 | MODE_PROTECTED | MODE_FLAT)
#define REAL16 (MODE_CODE16 | MODE_STACK16)

/* Random bytes alone rarely make a long instruction: put prefixes, and 0F, in front of some. */
static void random_bytes(uint8_t *bytes, unsigned size)
{
	static const uint8_t front[] = { 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x64,
					 0x65, 0x48, 0x4f, 0x0f, 0xc4, 0xc5, 0x62, 0x8f };
	for (unsigned n = 0; n < size; n++)
		bytes[n] = (uint8_t)random_next();
	for (unsigned n = one_in(64) ? random_below(size + 1) : random_below(5), at = 0; n; n--, at++)
		bytes[at] = front[random_below(sizeof(front))];
}

static void check_random(void)
{
	unsigned failed = 0;

	for (unsigned n = 0; n < RANDOM_CASES; n++) {
		unsigned size = one_in(8) ? 1 + random_below(15) : 15 + random_below(5);
		uint32_t mode = decode_mode(n);
		uint8_t bytes[20];
		struct insn i;
		random_bytes(bytes, size);
		const char *problem = decode_check(bytes, size, mode, &i);
		if (problem && failed++ < SHOWN) {
			printf("# mode %x, %u bytes:", mode, size);
			for (unsigned k = 0; k < size; k++)
				printf(" %02x", bytes[k]);
			printf(": %s\n", problem);
		}
	}
	ok(!failed, "%u random byte strings in %u modes, %u failed", RANDOM_CASES, DECODE_MODES, failed);
}

static struct insn decoded(uint32_t mode, const char *bytes, unsigned size, const struct x86_model *model)
{
	struct insn i = { .offset = 0x100, .index = 3 };
	x86_decode(&i, (const uint8_t *)bytes, size, mode, model);
	return i;
}
#define DECODE(mode, bytes) decoded(mode, bytes, sizeof(bytes) - 1, NULL)

static void check_addresses(void)
{
	struct insn i = DECODE(LONG64, "\x8b\x05\x10\x00\x00\x00"); /* mov eax, [rip+0x10] */
	ok(i.op == X86_OP_MOV && i.form == FORM_RM && i.base == X86_GPR_RIP * 8 && i.disp == 0x100 + 6 + 0x10 &&
		   i.index == 3,
	   "a RIP-relative displacement counts from the start of the trace");
	i = DECODE(LONG64, "\x67\x43\x8d\x34\xc5\x1d\xec\xff\xff"); /* lea esi, [r8d*8-0x13e3] */
	ok(i.base == X86_GPR_ZERO * 8 && i.scaled == R8 * 8 && i.scale == 3 && i.disp == -0x13e3,
	   "SIB without base, REX.B and 32-bit addresses");
	i = DECODE(LONG64, "\x8b\x04\x24"); /* mov eax, [rsp] */
	ok(i.base == RSP * 8 && (i.flags & INSN_STACK_SEG) && i.seg == SEG_FLAT && !(i.flags & INSN_ADDRESS),
	   "RSP as base faults with #SS");
	i = DECODE(FLAT32, "\x2e\x89\x03"); /* mov cs:[ebx], eax */
	ok(i.seg == SEG_CS && (i.flags & INSN_ADDRESS), "CS is not flat for data: it cannot be written");
	i = DECODE(REAL16, "\x8b\x42\xfe"); /* mov ax, [bp+si-2] */
	ok(i.base == RBP * 8 && i.scaled == RSI * 8 && i.disp == -2 && i.seg == SEG_SS && i.asize == 2 && i.size == 2,
	   "16-bit address");
	i = DECODE(LONG64, "\x48\xa1\x88\x77\x66\x55\x44\x33\x22\x11"); /* mov rax, [0x1122334455667788] */
	ok(i.form == FORM_RM && (uint64_t)i.disp == 0x1122334455667788 && i.base == X86_GPR_ZERO * 8,
	   "64-bit absolute address");
}

static void check_operands(void)
{
	struct insn i = DECODE(LONG64, "\x88\xe7"); /* mov bh, ah */
	ok(i.dst == RBX * 8 + 1 && i.src == 1 && i.size == 1, "high bytes");
	i = DECODE(LONG64, "\x40\x88\xe7"); /* mov dil, spl */
	ok(i.dst == RDI * 8 && i.src == RSP * 8, "low bytes with REX");
	i = DECODE(LONG64, "\x48\x83\xc0\xff"); /* add rax, -1 */
	ok(i.form == FORM_RI && i.imm == ~0ULL && i.size == 8, "immediates are sign-extended");
	i = DECODE(LONG64, "\xc8\x34\x12\x05"); /* enter 0x1234, 5 */
	ok(i.op == X86_OP_ENTER && i.imm == 0x51234, "ENTER");
	i = DECODE(FLAT32, "\xea\x78\x56\x34\x12\x23\x00"); /* jmp 0x23:0x12345678 */
	ok(i.op == X86_OP_JMP_FAR && i.imm == 0x12345678 && i.disp == 0x23, "far pointer");
	i = DECODE(LONG64, "\x74\xfe"); /* je . */
	ok(i.op == X86_OP_JZ && (int64_t)i.imm == -2, "branch displacement");
	i = DECODE(LONG64, "\xf3\xa4"); /* rep movsb */
	ok(i.op == X86_OP_MOVSB && (i.flags & INSN_REP) && i.size == 1 && i.seg == SEG_FLAT, "REP MOVSB");
	i = DECODE(LONG64, "\xf2\xa4");
	ok(i.op == X86_OP_MOVSB && (i.flags & (INSN_REP | INSN_REPNE)), "F2 repeats MOVSB too");
	i = DECODE(LONG64, "\x87\x03"); /* xchg [rbx], eax */
	ok(i.op == X86_OP_XCHG && (i.flags & INSN_LOCK), "XCHG with memory locks by itself");
}

static void check_refused(void)
{
	static const struct x86_model old = { .name = "without anything" };
	char too_long[16];
	struct insn i;

	memset(too_long, 0x66, sizeof(too_long));
	too_long[15] = (char)0x90;
	i = decoded(LONG64, too_long, sizeof(too_long), NULL);
	ok(i.exec == x86_exec_gp, "more than 15 bytes are #GP");
	ok(decoded(LONG64, too_long + 1, 15, NULL).op == X86_OP_NOP, "15 are not");
	ok(DECODE(LONG64, "\xf0\x8b\x03").exec == x86_exec_ud, "LOCK where it is not allowed is #UD");
	ok(decoded(FLAT32, "\x66\xc6\x6f\x40\x12", 5, NULL).length == 3 && decoded(LONG64, "\x06\x00", 2, NULL).length == 1, "as long as what tells that it is none");
	ok(DECODE(LONG64, "\x06").exec == x86_exec_ud && DECODE(FLAT32, "\x06").exec != x86_exec_ud,
	   "PUSH ES is #UD in 64-bit code only");
	ok(DECODE(REAL16, "\xc4\xe2\x78\xf2\xc1").exec == x86_exec_ud, "VEX is #UD in real mode");
	ok(DECODE(LONG64, "\xc4\xe2\x78\xf2\xc1").op == X86_OP_ANDN, "and ANDN in 64-bit code");
	ok(decoded(LONG64, "\xf3\x0f\xbc\xc1", 4, NULL).op == X86_OP_TZCNT, "TZCNT");
	ok(decoded(LONG64, "\xf3\x0f\xbc\xc1", 4, &old).op == X86_OP_BSF, "is BSF where there is no BMI1");
	ok(decoded(LONG64, "\xf3\x0f\xbd\xc1", 4, &old).op == X86_OP_BSR, "LZCNT is BSR where there is no ABM");
	ok(decoded(LONG64, "\xf3\x0f\xb8\xc1", 4, &old).exec == x86_exec_ud, "POPCNT is #UD where there is none");
	ok(decoded(LONG64, "\x0f\x40\xc1", 3, &old).exec == x86_exec_ud, "CMOV is #UD where there is none");
	ok(DECODE(LONG64 | MODE_SSE_UD, "\x0f\x58\xc1").exec == x86_exec_ud, "ADDPS is #UD without OSFXSR");
	ok(DECODE(LONG64 | MODE_SSE_NM, "\x0f\x58\xc1").exec == x86_exec_nm, "and #NM with TS");
	ok(DECODE(LONG64 | MODE_X87_NM, "\xd8\xc1").exec == x86_exec_nm, "as x87 is with EM or TS");
}

/* SDM volume 2, 2.3 and 2.4: what makes a VEX instruction #UD or #NM, before it does anything. */
static void check_vex(void)
{
	static const struct x86_model old = { .name = "without anything" };
	struct insn i = DECODE(LONG64, "\xc5\xf4\x58\xc2"); /* vaddps ymm0, ymm1, ymm2 */

	ok(i.op == X86_OP_VADDPS && i.form == FORM_RRR && (i.flags & INSN_YMM) && i.dst == 0 && i.src == 16 && i.src2 == 32, "VADDPS");
	i = DECODE(LONG64, "\xc4\xe2\x75\x90\x04\x97"); /* vpgatherdd ymm0, [rdi+ymm2*4], ymm1 */
	ok(i.form == FORM_RMR && i.src == 16 && i.src2 == 32 && i.scaled == X86_GPR_ZERO * 8 && i.base == RDI * 8 && i.scale == 2,
	   "a gather's vector of indices is no general register");
	i = DECODE(LONG64, "\xc4\xe3\x71\x4a\xc2\x30"); /* vblendvps xmm0, xmm1, xmm2, xmm3 */
	ok(i.form == FORM_RRRR && i.imm == 48 && !(i.flags & INSN_YMM), "a fourth register is in the immediate");
	ok(DECODE(LONG64, "\xc4\xe1\xf2\x2a\xc0").ssize == 8 && DECODE(FLAT32, "\xc4\xe1\xf2\x2a\xc0").ssize == 4,
	   "VEX.W counts in 64-bit code");
	ok(DECODE(LONG64, "\xf0\xc5\xf4\x58\xc2").exec == x86_exec_ud && DECODE(LONG64, "\x66\xc5\xf4\x58\xc2").exec == x86_exec_ud &&
		   DECODE(LONG64, "\xf2\xc5\xf4\x58\xc2").exec == x86_exec_ud &&
		   DECODE(LONG64, "\xf3\xc5\xf4\x58\xc2").exec == x86_exec_ud && DECODE(LONG64, "\x48\xc5\xf4\x58\xc2").exec == x86_exec_ud,
	   "LOCK, 66, F2, F3 and REX in front of VEX");
	ok(DECODE(LONG64, "\xc5\xf4\x51\xc2").exec == x86_exec_ud && DECODE(LONG64, "\xc5\xfc\x51\xc2").op == X86_OP_VSQRTPS,
	   "a register in vvvv of an operation with one source");
	ok(DECODE(LONG64, "\xc4\xe2\x7d\x90\x04\x97").exec == x86_exec_ud, "a gather whose mask is its destination");
	ok(DECODE(LONG64, "\xc4\xe2\x74\x90\x04\x97").exec == x86_exec_ud, "a gather without 66");
	ok(DECODE(REAL16, "\xc5\xf4\x58\xc2").exec == x86_exec_ud, "real mode");
	ok(DECODE(LONG64 | MODE_AVX_UD, "\xc5\xf4\x58\xc2").exec == x86_exec_ud, "XCR0 without AVX");
	ok(DECODE(LONG64 | MODE_SSE_NM, "\xc5\xf4\x58\xc2").exec == x86_exec_nm, "CR0.TS");
	ok(DECODE(LONG64 | MODE_AVX_UD | MODE_SSE_NM, "\xc4\xe2\x78\xf2\xc1").op == X86_OP_ANDN, "ANDN is VEX, but needs neither");
	ok(decoded(LONG64, "\xc5\xf4\x58\xc2", 4, &old).exec == x86_exec_ud, "a model without AVX");
}

int main(int argc, char **argv)
{
	const char *given = argc > 1 ? argv[1] : getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1;

	printf("# seed %llu\n", (unsigned long long)seed);
	random_seed(seed);
	check_addresses();
	check_operands();
	check_refused();
	check_vex();
	check_random();
	return done();
}
