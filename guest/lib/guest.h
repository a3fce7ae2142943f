/* SPDX-License-Identifier: MIT */
/* What our guests stand on: output, checks, exceptions that are expected, page tables, processor access.
 *
 * A guest is one file with a main(). It prints "ok NAME" or "not ok NAME - why" a check on port E9h and ends through the debug-exit
 * port: 0 when all checks held, 1 when not. It runs alone in ring 0 in long mode, with interrupts off. */
#pragma once
#include "lib/asm.h"
#include "lib/console.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n) (1ULL << (n))
#define PTE_NX BIT(63)
#define NAKED __attribute__((naked, noinline, noclone))
#define PAGE 4096ULL
#define MIB (1ULL << 20)

enum { DE = 0, DB = 1, NMI = 2, BP = 3, OF = 4, BR = 5, UD = 6, NM = 7, DF = 8, TS = 10, NP = 11, SS = 12, GP = 13, PF = 14, MF = 16, AC = 17, XM = 19 };

#define FLAG_CF BIT(0)
#define FLAG_TF BIT(8)
#define FLAG_IF BIT(9)
#define FLAG_DF BIT(10)
#define FLAG_NT BIT(14)
#define FLAG_RF BIT(16)
#define FLAG_AC BIT(18)
#define FLAG_ID BIT(21)
#define FLAG_IOPL BIT(12) /* times 0 to 3 */

/* Does the command line begin with this? PVH: cmdline_paddr of struct hvm_start_info. */
static inline bool asked_for(const char *word, size_t length)
{
	extern uint64_t boot_info;
	const char *line = *(const char **)(boot_info + 24);
	return line && !memcmp(line, word, length);
}

/* --- exceptions and interrupts, trap.c --- */

struct frame { /* as trap.S pushes it */
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* The last exception or interrupt. */
extern struct caught {
	int vector;        /* NONE: there was none since caught was cleared */
	unsigned count;
	uint64_t cr2, dr6;
	uint64_t frame_at; /* RSP right after the processor pushed the frame (and a zero for an error code that there is not) */
	struct frame frame;
} caught;
/* Asked first, for each exception and interrupt; true: handled, return with what is now in the frame. */
extern bool (*trap_handler)(struct frame *);
/* The instruction that TRY ran, and the one behind it. */
extern uint64_t try_at, try_end;

/* Runs one instruction (or a few) and gives the vector of the exception that it raised, or NONE. `...` is outputs : inputs, as in asm.
 * After an exception goes on behind the instruction. r11 is clobbered. */
#define TRY(instruction, ...)                                                                                          \
	({                                                                                                             \
		caught.vector = NONE;                                                                                  \
		asm volatile("lea 771f(%%rip), %%r11\n\tmov %%r11, try_at(%%rip)\n\t"                                  \
			     "lea 772f(%%rip), %%r11\n\tmov %%r11, try_end(%%rip)\n\tmov %%r11, try_resume(%%rip)\n"   \
			     "771:\t" instruction "\n772:\tmovq $0, try_resume(%%rip)"                                 \
			     : __VA_ARGS__                                                                             \
			     : "r11", "memory", "cc");                                                                 \
		caught.vector;                                                                                         \
	})

/* trap.S -- Calls the function; NONE, or the vector of the exception that ended it. */
int attempt(void (*function)(void *), void *argument);
/* Calls a function in ring 3: it must be NAKED, reach memory relative to RIP or through `argument`, and end with ret. NONE if it did (its RAX is in
 * caught.frame.rax), else the vector that ended it. The flags are those it begins with. */
int user(void (*function)(void *), uint64_t argument);
int user_flags(void (*function)(void *), uint64_t argument, uint64_t flags);
/* Where ring 3 sees something of ours. */
#define USER(object) ((uint64_t)(object) + USER_BASE)
/* A check that the last exception was this one, at this RIP. */
void check_caught(int vector, uint64_t error, uint64_t rip, const char *name);

struct descriptor_table {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));
struct tss {
	uint32_t reserved0;
	uint64_t rsp[3], reserved1, ist[7], reserved2;
	uint16_t reserved3, io_map;
} __attribute__((packed));
extern struct tss tss;
extern uint64_t gdt[GDT_ENTRIES];
struct gate {
	uint64_t low, high;
};
extern struct gate idt[256];
#define GATE_INTERRUPT 0x8e
#define GATE_TRAP 0x8f
#define GATE_DPL3 0x60
void idt_set(unsigned vector, uint64_t target, uint16_t selector, unsigned ist, unsigned type);
/* The entry of a vector in trap.S. */
uint64_t trap_stub(unsigned vector);
uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags);
extern uint8_t user_stack[4 * PAGE], test_stack[4 * PAGE];

/* --- page tables, paging.c --- */

/* A cleared page; its address is physical and linear. Never given back. */
void *page_alloc(void);
/* Maps a page of level 1 (4 KiB), 2 (2 MiB) or 3 (1 GiB); tables above get all rights. Flushes the address. */
void map(uint64_t linear, uint64_t physical, uint64_t flags, unsigned level);
/* The entry of that level for an address (4: PML4), NULL when there is no table. */
uint64_t *entry_of(uint64_t linear, unsigned level);
bool canonical(uint64_t linear);
/* Where the byte lies in physical memory, which is also where we see it, by the page tables as they are; false: the access faults there. error: the
 * error code of its #PF. */
bool byte_at(uint64_t linear, bool write, bool ring3, unsigned *error, uint8_t **byte);

/* --- processor access --- */

#define READ_CR(n)                                                                                                     \
	({                                                                                                             \
		uint64_t value_;                                                                                       \
		asm volatile("mov %%cr" #n ", %0" : "=r"(value_));                                                     \
		value_;                                                                                                \
	})
#define WRITE_CR(n, value) asm volatile("mov %0, %%cr" #n : : "r"((uint64_t)(value)) : "memory")
#define READ_DR(n)                                                                                                     \
	({                                                                                                             \
		uint64_t value_;                                                                                       \
		asm volatile("mov %%dr" #n ", %0" : "=r"(value_));                                                     \
		value_;                                                                                                \
	})
#define WRITE_DR(n, value) asm volatile("mov %0, %%dr" #n : : "r"((uint64_t)(value)) : "memory")

static inline uint64_t rdmsr(uint32_t index)
{
	uint32_t low, high;
	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
	return (uint64_t)high << 32 | low;
}
static inline void wrmsr(uint32_t index, uint64_t value)
{
	asm volatile("wrmsr" : : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(index) : "memory");
}
/* NONE or the exception. */
static inline int try_wrmsr(uint32_t index, uint64_t value)
{
	return TRY("wrmsr", : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(index));
}
static inline int try_rdmsr(uint32_t index)
{
	uint32_t low, high;
	return TRY("rdmsr", "=a"(low), "=d"(high) : "c"(index));
}
static inline uint64_t rdtsc(void)
{
	uint32_t low, high;
	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}
struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid r;
	asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
	return r;
}
static inline void invlpg(uint64_t linear)
{
	asm volatile("invlpg (%0)" : : "r"(linear) : "memory");
}
static inline uint64_t flags_get(void)
{
	uint64_t flags;
	asm volatile("pushfq; pop %0" : "=r"(flags));
	return flags;
}

/* CPUID features that tests ask for. */
#define HAS_1_ECX(bit) (cpuid(1, 0).ecx >> (bit) & 1)
#define HAS_1_EDX(bit) (cpuid(1, 0).edx >> (bit) & 1)
#define HAS_7_EBX(bit) (cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx >> (bit) & 1)
#define HAS_7_ECX(bit) (cpuid(0, 0).eax >= 7 && cpuid(7, 0).ecx >> (bit) & 1)
#define HAS_X_EDX(bit) (cpuid(0x80000001, 0).edx >> (bit) & 1)
#define HAS_PCID HAS_1_ECX(17)
#define HAS_XSAVE HAS_1_ECX(26)
#define HAS_SMEP HAS_7_EBX(7)
#define HAS_SMAP HAS_7_EBX(20)
#define HAS_INVPCID HAS_7_EBX(10)
#define HAS_FSGSBASE HAS_7_EBX(0)
#define HAS_UMIP HAS_7_ECX(2)
#define HAS_RDPID HAS_7_ECX(22)
#define HAS_PAGES_1G HAS_X_EDX(26)
#define HAS_RDTSCP HAS_X_EDX(27)
#define IS_INTEL (cpuid(0, 0).ebx == 0x756e6547) /* "Genu" */
