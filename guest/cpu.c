/* SPDX-License-Identifier: MIT */
/* What CPUID offers works, and what it does not offer is refused; time stamp, MSRs, extended state. SDM volume 2 CPUID; volume 1, 13; volume 4 */
#include "lib/guest.h"

#define NONCANONICAL 0x8000000000000000ULL
enum { MSR_TSC = 0x10, MSR_TSC_ADJUST = 0x3b, MSR_PAT = 0x277, MSR_TSC_AUX = 0xc0000103 };

static uint8_t area[4096] __attribute__((aligned(64))), other[4096] __attribute__((aligned(64)));
static uint64_t words[8] __attribute__((aligned(64)));

/* With the word "hardware" on the command line: a processor that has more than CPUID tells. */
static bool hardware(void)
{
	return asked_for("hardware", 8);
}

/* An instruction runs without #UD exactly when it is offered. */
static void offers(bool offered, int vector, const char *name)
{
	if (offered)
		check(vector != UD, join(name, " is offered and runs"));
	else if (vector != UD && hardware())
		skip(join(name, " is not offered"), "hardware runs what it has, whatever CPUID says");
	else
		check_vector(vector, UD, join(name, " is not offered: #UD"));
}

static void test_offers(void)
{
	uint64_t r, s = 5;
	offers(HAS_1_ECX(22), TRY("movbe %1, %0", "=r"(r) : "m"(words[0])), "MOVBE");
	offers(HAS_1_ECX(23), TRY("popcnt %1, %0", "=r"(r) : "r"(s)), "POPCNT");
	offers(HAS_1_ECX(0), TRY("haddps %%xmm0, %%xmm0", :), "SSE3");
	offers(HAS_1_ECX(1), TRY("pclmulqdq $0, %%xmm0, %%xmm0", :), "PCLMULQDQ");
	offers(HAS_1_ECX(9), TRY("pshufb %%xmm0, %%xmm0", :), "SSSE3");
	offers(HAS_1_ECX(19), TRY("pminsd %%xmm0, %%xmm0", :), "SSE4.1");
	offers(HAS_1_ECX(20), TRY("crc32b %b1, %k0", "=r"(r) : "r"(s)), "SSE4.2");
	offers(HAS_1_ECX(25), TRY("aesenc %%xmm0, %%xmm0", :), "AES");
	offers(HAS_1_ECX(13), TRY("cmpxchg16b %0", : "m"(words[0]), "a"(1), "d"(1), "b"(0), "c"(0)), "CMPXCHG16B");
	offers(HAS_1_ECX(30), TRY("rdrand %0", "=r"(r) :), "RDRAND");
	offers(HAS_7_EBX(18), TRY("rdseed %0", "=r"(r) :), "RDSEED");
	offers(HAS_7_EBX(3), TRY("andn %1, %1, %0", "=r"(r) : "r"(s)), "BMI1");
	offers(HAS_7_EBX(8), TRY("mulx %1, %0, %0", "=r"(r) : "r"(s)), "BMI2");
	offers(HAS_7_EBX(19), TRY("adcx %1, %0", "=r"(r) : "r"(s)), "ADX");
	offers(HAS_7_EBX(23), TRY("clflushopt %0", : "m"(area[0])), "CLFLUSHOPT");
	offers(HAS_7_EBX(24), TRY("clwb %0", : "m"(area[0])), "CLWB");
	offers(HAS_7_EBX(29), TRY("sha1nexte %%xmm0, %%xmm0", :), "SHA");
	offers(HAS_RDPID, TRY("rdpid %0", "=r"(r) :), "RDPID");
	offers(HAS_RDTSCP, TRY("rdtscp", "=a"(r) : "c"(0), "d"(0)), "RDTSCP");
	offers(HAS_1_ECX(3), TRY("monitor", : "a"(area), "c"(0), "d"(0)), "MONITOR");
	offers(false, TRY("vmxoff", :), "VMXOFF outside VMX operation");
	offers(false, TRY("vmovaps %%ymm0, %%ymm0", :), "AVX without CR4.OSXSAVE");
	offers(HAS_SMAP, TRY("stac", :), "STAC");
	TRY("clac", :);
	/* Without their feature LZCNT and TZCNT are BSR and BSF, PAUSE and hint NOPs run everywhere. */
	asm volatile("lzcnt %1, %0" : "=r"(r) : "r"(s) : "cc");
	if (!hardware())
		check_equal(r, cpuid(0x80000001, 0).ecx >> 5 & 1 ? 61 : 2, "LZCNT, or BSR where there is none");
	asm volatile("tzcnt %1, %0" : "=r"(r) : "r"(4ULL) : "cc");
	check_equal(r, 2, "TZCNT, or BSF where there is none");
	check_vector(TRY("pause; .byte 0x0f, 0x1f, 0x00; .byte 0xf3, 0x0f, 0x1e, 0xfa", :), NONE, "PAUSE, NOP, ENDBR64");
	check_vector(TRY("prefetchw %0", : "m"(area[0])), NONE, "PREFETCHW");
}

static void test_leaves(void)
{
	struct cpuid c = cpuid(0, 0);
	uint32_t top = c.eax;
	check(top >= 7, "CPUID has leaf 7");
	uint64_t a, b, cx, dx;
	asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(cx), "=d"(dx) : "a"(0xffffffff00000000ULL), "c"(0xffffffff00000000ULL));
	check(!((a | b | cx | dx) >> 32), "CPUID clears the upper halves");
	check_equal((uint32_t)a, top, "CPUID takes the lower half of RAX only");
	c = cpuid(1, 0);
	check(c.edx >> 0 & c.edx >> 4 & c.edx >> 5 & c.edx >> 6 & c.edx >> 8 & c.edx >> 15 & c.edx >> 24 & c.edx >> 25 & c.edx >> 26 & 1,
	      "CPUID offers FPU, TSC, MSR, PAE, CX8, CMOV, FXSR, SSE, SSE2");
	check(HAS_X_EDX(29) && HAS_X_EDX(20) && HAS_X_EDX(11), "CPUID offers long mode, NX, SYSCALL");
	c = cpuid(0x80000008, 0);
	check((c.eax & 0xff) >= 36 && (c.eax & 0xff) <= 52 && (c.eax >> 8 & 0xff) == 48, "CPUID address widths");
	uint64_t cr4 = READ_CR(4);
	if (HAS_XSAVE) {
		WRITE_CR(4, cr4 | CR4_OSXSAVE);
		check(HAS_1_ECX(27), "CPUID.OSXSAVE follows CR4");
		WRITE_CR(4, cr4 & ~(uint64_t)CR4_OSXSAVE);
	}
	check(!HAS_1_ECX(27), "CPUID.OSXSAVE is clear without CR4.OSXSAVE");
	uint64_t base = rdmsr(0x1b);
	wrmsr(0x1b, base & ~BIT(11));
	bool apic = HAS_1_EDX(9);
	wrmsr(0x1b, base);
	check(!apic && HAS_1_EDX(9), "CPUID.APIC follows the APIC's global enable");
}

/* --- time stamp --- */

static NAKED void u_rdtsc(void *argument)
{
	asm("rdtsc; ret");
}
static NAKED void u_rdpmc(void *argument)
{
	asm("xor %ecx, %ecx; u_rdpmc_at: rdpmc; ret");
}
static NAKED void u_cpuid(void *argument)
{
	asm("xor %eax, %eax; cpuid; ret");
}
extern uint8_t u_rdpmc_at[];

static void test_time(void)
{
	uint64_t last = rdtsc(), now, cr4 = READ_CR(4);
	bool grows = true;
	for (unsigned n = 0; n < 10000; n++, last = now) {
		now = rdtsc();
		grows &= now >= last;
	}
	check(grows, "RDTSC does not go back");
	uint32_t first, later;
	asm volatile("rdtsc; mov %%eax, %0; nop; nop; nop; nop; nop; nop; rdtsc" : "=&r"(first), "=&a"(later) : : "rdx");
	check(later != first, "RDTSC goes on within straight code");
	now = rdtsc();
	check(rdmsr(MSR_TSC) - now < BIT(40), "the TSC's MSR is the TSC");
	wrmsr(MSR_TSC, 1000);
	now = rdtsc();
	check(now >= 1000 && now < BIT(40), "the TSC can be written");
	wrmsr(MSR_TSC, last);
	if (HAS_7_EBX(1)) {
		uint64_t adjust = rdmsr(MSR_TSC_ADJUST);
		wrmsr(MSR_TSC_ADJUST, adjust + BIT(50));
		now = rdtsc();
		wrmsr(MSR_TSC_ADJUST, adjust);
		check(now > BIT(50), "TSC_ADJUST moves the TSC");
	} else {
		check_vector(try_rdmsr(MSR_TSC_ADJUST), GP, "#GP TSC_ADJUST where there is none");
	}
	if (HAS_RDTSCP) {
		uint32_t low, high, aux;
		wrmsr(MSR_TSC_AUX, 0x1234567);
		asm volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux));
		check_equal(aux, 0x1234567, "RDTSCP gives TSC_AUX");
		if (HAS_RDPID) {
			uint64_t id;
			asm volatile("rdpid %0" : "=r"(id));
			check_equal(id, 0x1234567, "RDPID gives TSC_AUX");
		}
		check_vector(try_wrmsr(MSR_TSC_AUX, BIT(32)), GP, "#GP upper half of TSC_AUX");
		wrmsr(MSR_TSC_AUX, 0);
	}
	user(u_rdtsc, 0);
	check_caught(NONE, 0, 0, "RDTSC in ring 3");
	WRITE_CR(4, cr4 | CR4_TSD);
	user(u_rdtsc, 0);
	check_caught(GP, 0, USER(u_rdtsc), "#GP RDTSC in ring 3 with CR4.TSD");
	check_vector(TRY("rdtsc", : "a"(0), "d"(0)), NONE, "RDTSC in ring 0 with CR4.TSD");
	WRITE_CR(4, cr4);
	user(u_rdpmc, 0);
	check_caught(GP, 0, USER(u_rdpmc_at), "#GP RDPMC in ring 3 without CR4.PCE");
	check_vector(user(u_cpuid, 0), NONE, "CPUID in ring 3");
}

/* --- MSRs --- */

static NAKED void u_rdmsr(void *argument)
{
	asm("mov $0x10, %ecx; u_rdmsr_at: rdmsr; ret");
}
extern uint8_t u_rdmsr_at[];

static void test_msrs(void)
{
	check_vector(try_rdmsr(0x12345678), GP, "#GP RDMSR of an unknown MSR");
	check_equal(caught.frame.error, 0, "#GP of RDMSR: error code");
	check_vector(try_wrmsr(0x12345678, 0), GP, "#GP WRMSR of an unknown MSR");
	user(u_rdmsr, 0);
	check_caught(GP, 0, USER(u_rdmsr_at), "#GP RDMSR in ring 3");
	uint64_t pat = rdmsr(MSR_PAT);
	check_equal(pat, 0x0007040600070406, "PAT after reset");
	check_vector(try_wrmsr(MSR_PAT, 0x0007040600070402), GP, "#GP PAT with a reserved type");
	check_vector(try_wrmsr(MSR_PAT, 0x0007040600070501), NONE, "PAT takes other types");
	check_equal(rdmsr(MSR_PAT), 0x0007040600070501, "PAT is kept");
	wrmsr(MSR_PAT, pat);
	uint64_t efer = rdmsr(MSR_EFER);
	check_equal(efer & (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE), EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE, "EFER");
	check_vector(try_wrmsr(MSR_EFER, efer | BIT(1)), GP, "#GP reserved bit of EFER");
	check_vector(try_wrmsr(MSR_EFER, efer & ~(uint64_t)EFER_LMA), NONE, "EFER.LMA is not written");
	check_equal(rdmsr(MSR_EFER), efer, "EFER.LMA stays");
	uint64_t high_a, high_d;
	asm volatile("rdmsr" : "=a"(high_a), "=d"(high_d) : "c"(MSR_EFER), "a"(~0ULL), "d"(~0ULL));
	check(!(high_a >> 32) && !(high_d >> 32), "RDMSR clears the upper halves");
	check_vector(try_rdmsr(0xfe), NONE, "MTRRCAP");
	check_vector(try_wrmsr(0xfe, 0), GP, "#GP MTRRCAP is read only");
	check_vector(try_wrmsr(0x2ff, 0xc02), GP, "#GP MTRR default type that is reserved");
}

/* --- FXSAVE, XSAVE --- */

static void fill_state(void)
{
	asm volatile("fninit; fld1; fldpi; mov %0, %%rax; movq %%rax, %%xmm0; movq %%rax, %%xmm15" : : "r"(0x1122334455667788) : "rax");
}

static void test_fxsave(void)
{
	fill_state();
	memset(area, 0xee, 512);
	asm volatile("fxsave64 %0" : "=m"(area));
	check_equal(*(uint16_t *)area, 0x37f, "FXSAVE: FCW");
	check_equal(*(uint16_t *)(area + 2) >> 11 & 7, 6, "FXSAVE: TOP");
	check_equal(area[4], 0xc0, "FXSAVE: abridged tag word");
	check_equal(*(uint32_t *)(area + 24), 0x1f80, "FXSAVE: MXCSR");
	check_equal(*(uint64_t *)(area + 32), 0xc90fdaa22168c235, "FXSAVE: ST0 is pi");
	check_equal(*(uint64_t *)(area + 48), 0x8000000000000000, "FXSAVE: ST1 is 1");
	check_equal(*(uint64_t *)(area + 160), 0x1122334455667788, "FXSAVE: XMM0");
	check_equal(*(uint64_t *)(area + 160 + 15 * 16), 0x1122334455667788, "FXSAVE: XMM15");
	check_equal(area[464], 0xee, "FXSAVE leaves the last bytes alone");
	asm volatile("fninit; xorps %%xmm0, %%xmm0; fxrstor64 %0; fxsave64 %1" : : "m"(area), "m"(other));
	check(!memcmp(area, other, 416), "FXRSTOR brings all back");
	TRY("fxsave (%0)", : "r"(area + 8));
	check_caught(GP, 0, try_at, "#GP FXSAVE at a misaligned address");
	*(uint32_t *)(area + 24) = 0x80000000;
	TRY("fxrstor %0", : "m"(area));
	check_caught(GP, 0, try_at, "#GP FXRSTOR with reserved bits of MXCSR");
	uint64_t cr0 = READ_CR(0);
	WRITE_CR(0, cr0 | CR0_TS);
	TRY("fxsave %0", : "m"(area));
	check_caught(NM, 0, try_at, "#NM FXSAVE with CR0.TS");
	WRITE_CR(0, cr0);
}

static int xsetbv(uint32_t index, uint64_t value)
{
	return TRY("xsetbv", : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}
static uint64_t xgetbv(void)
{
	uint32_t low, high;
	asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}
static NAKED void u_xsetbv(void *argument)
{
	asm("xor %ecx, %ecx; xor %edx, %edx; mov $1, %eax; u_xsetbv_at: xsetbv; ret");
}
extern uint8_t u_xsetbv_at[];

static void test_xsave(void)
{
	uint64_t cr4 = READ_CR(4);
	TRY("xgetbv", : "c"(0), "a"(0), "d"(0));
	check_caught(UD, 0, try_at, "#UD XGETBV without CR4.OSXSAVE");
	TRY("xsave %0", : "m"(area), "a"(3), "d"(0));
	check_caught(UD, 0, try_at, "#UD XSAVE without CR4.OSXSAVE");
	if (!HAS_XSAVE) {
		skip("XSAVE", "CPUID does not offer it");
		TRY("mov %0, %%cr4", : "r"(cr4 | CR4_OSXSAVE));
		check_caught(GP, 0, try_at, "#GP CR4.OSXSAVE without XSAVE");
		return;
	}
	WRITE_CR(4, cr4 | CR4_OSXSAVE);
	uint64_t supported = cpuid(13, 0).eax;
	check_equal(supported & 3, 3, "CPUID leaf 13: x87 and SSE");
	check_equal(xgetbv(), 1, "XCR0 after reset");
	check_vector(xsetbv(0, 3), NONE, "XSETBV x87 and SSE");
	check_equal(xgetbv(), 3, "XCR0 is kept");
	check_vector(xsetbv(0, 2), GP, "#GP XCR0 without x87");
	check_vector(xsetbv(0, 5), GP, "#GP XCR0 with AVX without SSE");
	check_vector(xsetbv(0, BIT(62) | 3), GP, "#GP reserved bit of XCR0");
	check_vector(xsetbv(1, 3), GP, "#GP XCR1");
	if (!(supported & 4))
		check_vector(xsetbv(0, 7), GP, "#GP XCR0 with AVX where there is none");
	user(u_xsetbv, 0);
	check_caught(GP, 0, USER(u_xsetbv_at), "#GP XSETBV in ring 3");
	check_equal(cpuid(13, 0).ebx, 576, "CPUID leaf 13: size for x87 and SSE");

	fill_state();
	memset(area, 0xee, sizeof(area));
	memset(area + 512, 0, 64);
	asm volatile("xsave64 %0" : "+m"(area) : "a"(3), "d"(0));
	check_equal(*(uint64_t *)(area + 512) & 3, 3, "XSAVE: XSTATE_BV");
	check_equal(*(uint64_t *)(area + 160), 0x1122334455667788, "XSAVE: XMM0");
	asm volatile("xorps %%xmm0, %%xmm0; fninit; xrstor64 %0" : : "m"(area), "a"(3), "d"(0));
	memset(other, 0, sizeof(other));
	asm volatile("xsave64 %0" : "+m"(other) : "a"(3), "d"(0));
	check(!memcmp(area + 32, other + 32, 416 - 32), "XRSTOR brings all back");
	*(uint64_t *)(area + 512) = 1; /* SSE to its initial state */
	asm volatile("xrstor64 %0" : : "m"(area), "a"(3), "d"(0));
	asm volatile("fxsave64 %0" : "=m"(other));
	check_equal(*(uint64_t *)(other + 160), 0, "XRSTOR with a clear bit of XSTATE_BV: initial state");
	check_equal(*(uint64_t *)(other + 32), 0xc90fdaa22168c235, "XRSTOR of x87");
	fill_state();
	asm volatile("xrstor64 %0" : : "m"(area), "a"(1), "d"(0));
	asm volatile("fxsave64 %0" : "=m"(other));
	check_equal(*(uint64_t *)(other + 160), 0x1122334455667788, "XRSTOR leaves alone what was not asked for");
	*(uint64_t *)(area + 512) = 1 | BIT(60);
	TRY("xrstor64 %0", : "m"(area), "a"(3), "d"(0));
	check_caught(GP, 0, try_at, "#GP XRSTOR with an unknown bit of XSTATE_BV");
	*(uint64_t *)(area + 512) = 3;
	area[528] = 1;
	TRY("xrstor64 %0", : "m"(area), "a"(3), "d"(0));
	check_caught(GP, 0, try_at, "#GP XRSTOR with a reserved byte of the header");
	area[528] = 0;
	TRY("xsave64 (%0)", : "r"(area + 32), "a"(3), "d"(0));
	check_caught(GP, 0, try_at, "#GP XSAVE at a misaligned address");
	WRITE_CR(4, cr4);
}

/* --- a few operations that kernels live on --- */

static void test_operations(void)
{
	bool done;
	words[0] = 1, words[1] = 2;
	if (HAS_1_ECX(13)) {
		uint64_t a = 1, d = 2;
		asm volatile("lock cmpxchg16b %1; setz %0" : "=q"(done), "+m"(words[0]), "+a"(a), "+d"(d) : "b"(3ULL), "c"(4ULL) : "memory", "cc");
		check(done && words[0] == 3 && words[1] == 4, "CMPXCHG16B that matches");
		asm volatile("lock cmpxchg16b %1; setz %0" : "=q"(done), "+m"(words[0]), "+a"(a), "+d"(d) : "b"(5ULL), "c"(6ULL) : "memory", "cc");
		check(!done && a == 3 && d == 4 && words[0] == 3, "CMPXCHG16B that does not match");
		TRY("cmpxchg16b (%0)", : "r"((uint8_t *)words + 8), "a"(0), "d"(0), "b"(0), "c"(0));
		check_caught(GP, 0, try_at, "#GP CMPXCHG16B at a misaligned address");
	}
	if (HAS_1_ECX(30)) {
		uint64_t x, y;
		asm volatile("rdrand %1; setc %0" : "=q"(done), "=r"(x) : : "cc");
		asm volatile("rdrand %0" : "=r"(y) : : "cc");
		check(done && x != y, "RDRAND gives numbers");
	}
	uint16_t status;
	TRY("smsw %w0", "=r"(status) :);
	check_equal(status, READ_CR(0) & 0xffff, "SMSW");
	uint64_t cr4 = READ_CR(4);
	if (HAS_UMIP) {
		WRITE_CR(4, cr4 | CR4_UMIP);
		check_vector(TRY("smsw %w0", "=r"(status) :), NONE, "SMSW in ring 0 with UMIP");
		WRITE_CR(4, cr4);
	}
}

static NAKED void u_sgdt(void *argument)
{
	asm("sgdt -16(%rsp); mov -14(%rsp), %rax; ret");
}

static void test_umip(void)
{
	uint64_t cr4 = READ_CR(4);
	check_vector(user(u_sgdt, 0), NONE, "SGDT in ring 3");
	check_equal(caught.frame.rax, (uint64_t)gdt, "SGDT gives the base");
	if (!HAS_UMIP) {
		skip("UMIP", "CPUID does not offer it");
		return;
	}
	WRITE_CR(4, cr4 | CR4_UMIP);
	user(u_sgdt, 0);
	check_caught(GP, 0, USER(u_sgdt), "#GP SGDT in ring 3 with UMIP");
	WRITE_CR(4, cr4);
}

int main(void)
{
	test_offers();
	test_leaves();
	test_time();
	test_msrs();
	test_fxsave();
	test_xsave();
	test_operations();
	test_umip();
	return 0;
}
