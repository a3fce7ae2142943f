/* SPDX-License-Identifier: MIT */
/* Encodings that mean one thing in 32-bit code and another in 64-bit code, in which bt writes them down again. SDM volume 2, 2.3. */
#include "engine/bt/bt.h"
#include "vm/memory.h"
#include "vm_test.h"
#include "x86/cpuid.h"
#include "bt_loop.h"

#define CODE 0x1000
#define DATA 0x3000
#define LONG 8

struct encoding {
	const char *what;
	uint8_t code[LONG];
	unsigned size;
};

/* The register in an immediate, in VEX.vvvv, in modrm.rm: a fourth bit names another in 64-bit code only. */
static const struct encoding encodings[] = {
	{ "vblendvps xmm0, xmm1, xmm2, xmm3", { 0xc4, 0xe3, 0x71, 0x4a, 0xc2, 0xb0 }, 6 },
	{ "vblendvpd ymm0, ymm1, ymm2, ymm3", { 0xc4, 0xe3, 0x75, 0x4b, 0xc2, 0xbf }, 6 },
	{ "vpblendvb xmm0, xmm1, xmm2, xmm3", { 0xc4, 0xe3, 0x71, 0x4c, 0xc2, 0xb0 }, 6 },
	{ "vaddps xmm0, xmm1, xmm2", { 0xc4, 0xe1, 0x30, 0x58, 0xc2 }, 5 },
	{ "vaddps xmm0, xmm1, xmm2", { 0xc4, 0xc1, 0x70, 0x58, 0xc2 }, 5 },
	{ "andn eax, ecx, edx", { 0xc4, 0xe2, 0x30, 0xf2, 0xc2 }, 5 },
	{ "andn eax, ecx, edx", { 0xc4, 0xc2, 0x70, 0xf2, 0xc2 }, 5 },
	{ "andn eax, ecx, edx, W", { 0xc4, 0xe2, 0xf0, 0xf2, 0xc2 }, 5 },
	{ "shlx eax, edx, ecx, W", { 0xc4, 0xe2, 0xf1, 0xf7, 0xc2 }, 5 },
	{ "rorx eax, edx, 5, W", { 0xc4, 0xe3, 0xfb, 0xf0, 0xc2, 5 }, 6 },
	{ "blsr ecx, edx, W", { 0xc4, 0xe2, 0xf0, 0xf3, 0xca }, 5 },
	{ "mulx eax, ecx, ebx, W", { 0xc4, 0xe2, 0xf3, 0xf6, 0xc3 }, 5 },
	{ "pext eax, ecx, edx, W", { 0xc4, 0xe2, 0xf2, 0xf5, 0xc2 }, 5 },
	{ "bextr eax, edx, ecx, W", { 0xc4, 0xe2, 0xf0, 0xf7, 0xc2 }, 5 },
	{ "vmovd xmm0, eax, W", { 0xc4, 0xe1, 0xf9, 0x6e, 0xc0 }, 5 },
	{ "vmovd eax, xmm2, W", { 0xc4, 0xe1, 0xf9, 0x7e, 0xd0 }, 5 },
	{ "vmovd [ebx], xmm2, W", { 0xc4, 0xe1, 0xf9, 0x7e, 0x13 }, 5 },
	{ "vpinsrd xmm0, xmm1, eax, 1, W", { 0xc4, 0xe3, 0xf1, 0x22, 0xc0, 1 }, 6 },
	{ "vpextrd [ebx], xmm1, 1, W", { 0xc4, 0xe3, 0xf9, 0x16, 0x0b, 1 }, 6 },
	{ "vcvtsi2sd xmm0, xmm1, edx, W", { 0xc4, 0xe1, 0xf3, 0x2a, 0xc2 }, 5 },
	{ "vcvttsd2si eax, xmm2, W", { 0xc4, 0xe1, 0xfb, 0x2c, 0xc2 }, 5 },
	{ "vzeroupper", { 0xc5, 0xf8, 0x77 }, 3 }, /* of eight registers */
	{ "vzeroall", { 0xc5, 0xfc, 0x77 }, 3 },
	{ "vpcmpestri xmm0, xmm2, W", { 0xc4, 0xe3, 0xf9, 0x61, 0xc2, 8 }, 6 }, /* lengths in EAX and EDX */
	{ "vpcmpestrm xmm0, xmm2, W", { 0xc4, 0xe3, 0xf9, 0x60, 0xc2, 8 }, 6 },
};

static struct x86_cpu *run(struct vm *vm, const struct encoding *e)
{
	struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;
	static const uint8_t zero[16];
	uint8_t code[LONG + 1];

	memcpy(code, e->code, e->size);
	code[e->size] = 0xf4; /* hlt */
	loop_prepare(vm, CODE, code, e->size + 1);
	cpu->cr4 = CR4_OSFXSR | CR4_OSXSAVE;
	cpu->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
	cpu->xsave.legacy.mxcsr = 0x1f80;
	for (unsigned n = 0; n < 16; n++) {
		memset(cpu->xsave.legacy.xmm[n], n < 8 ? (int)n << 4 | 0xb : 0xee - (int)n, 16);
		memset(cpu->xsave.ymm_high[n], n < 8 ? (int)n << 4 | 0x3 : 0xce - (int)n, 16);
	}
	for (unsigned n = 0; n < 16; n++)
		cpu->gpr[n] = 0x11223344 * (n + 1ULL) >> 3;
	cpu->gpr[RAX] = (uint32_t)-3;
	cpu->gpr[RDX] = (uint32_t)-5;
	cpu->gpr[RBX] = DATA;
	guest_write(vm, DATA, zero, sizeof(zero));
	cpu->gpr[RSP] = 2 * MiB; /* aligned: else the interpreter would run it */
	cpu->gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
	loop_run(vm->vcpu[0]);
	vcpu_state(vm->vcpu[0], X86_ALL_GROUPS);
	return cpu;
}

int main(void)
{
	struct vm_config config = { .name = "test", .memory = 4 * MiB, .cpus = 1, .model = x86_model_find("max") };
	struct vm *interp = NULL, *bt = NULL;

	if (!loop_possible("bt"))
		return done();
	if (!__builtin_cpu_supports("avx2")) {
		skip("encodings - this host has no AVX2");
		return done();
	}
	config.engine = "interp";
	if (!ok(!vm_create(&interp, &config), "a machine with interp"))
		return done();
	config.engine = "bt";
	if (!ok(!vm_create(&bt, &config), "a machine with bt"))
		return done();
	for (unsigned n = 0; n < ARRAY_SIZE(encodings); n++) {
		const struct x86_cpu *a = run(interp, &encodings[n]), *b = run(bt, &encodings[n]);
		ok(!memcmp(a->gpr, b->gpr, sizeof(a->gpr)) && !memcmp(a->xsave.legacy.xmm, b->xsave.legacy.xmm, sizeof(a->xsave.legacy.xmm)) &&
		   !memcmp(a->xsave.ymm_high, b->xsave.ymm_high, sizeof(a->xsave.ymm_high)) &&
		   !memcmp(memory_host(interp, DATA, 16), memory_host(bt, DATA, 16), 16) && x86_flags_get(&interp->vcpu[0]->core) == x86_flags_get(&bt->vcpu[0]->core), "%u: %s", n, encodings[n].what);
	}
	vm_destroy(interp);
	vm_destroy(bt);
	return done();
}
