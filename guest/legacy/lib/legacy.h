/* SPDX-License-Identifier: MIT */
/* What the 32-bit guests stand on: ring 0 in flat protected mode without paging, interrupts off. As lib/guest.h, in the older
 * processor's terms. */
#pragma once
#include "lib/console.h"
#include "legacy/lib/asm.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n) (1u << (n))
#define NAKED __attribute__((naked, noinline, noclone))
#define PAGE 4096u
#define MIB (1u << 20)

enum { DE = 0, DB = 1, NMI = 2, BP = 3, OF = 4, BR = 5, UD = 6, NM = 7, DF = 8, TS = 10, NP = 11, SS = 12, GP = 13, PF = 14, MF = 16, AC = 17 };
#define FLAG_TF BIT(8)
#define FLAG_IF BIT(9)
#define FLAG_NT BIT(14)
#define FLAG_RF BIT(16)
#define FLAG_VM BIT(17)
#define FLAG_AC BIT(18)
#define FLAG_VIF BIT(19)
#define FLAG_VIP BIT(20)
#define FLAG_IOPL BIT(12) /* times 0 to 3 */
#define CR0_PE BIT(0)
#define CR0_TS BIT(3)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_PG BIT(31)
#define CR4_VME BIT(0)
#define CR4_PVI BIT(1)
#define CR4_DE BIT(3)
#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_PGE BIT(7)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)

struct frame { /* as trap.S pushes it; from esp on only out of another privilege, from v86_es on only out of virtual-8086 mode */
	uint32_t gs, fs, es, ds, edi, esi, ebp, unused, ebx, edx, ecx, eax, vector, error, eip, cs, eflags, esp, ss;
	uint32_t v86_es, v86_ds, v86_fs, v86_gs;
};
extern struct caught {
	int vector; /* NONE: there was none since caught was cleared */
	uint32_t cr2, dr6;
	struct frame frame;
	uint32_t frame_at; /* ESP right after the processor pushed the frame (and a zero for an error code that there is not) */
} caught;
/* Asked first; true: handled, return with what is now in the frame. */
extern bool (*trap_handler)(struct frame *);
extern uint32_t try_at, try_end, try_resume;

/* As in lib/guest.h. DS must be flat. */
#define TRY(instruction, ...)                                                                                          \
	({                                                                                                             \
		caught.vector = NONE;                                                                                  \
		asm volatile("movl $771f, try_at\n\tmovl $772f, try_end\n\tmovl $772f, try_resume\n"                   \
			     "771:\t" instruction "\n772:\tmovl $0, try_resume"                                        \
			     : __VA_ARGS__                                                                             \
			     : "memory", "cc");                                                                        \
		caught.vector;                                                                                         \
	})
/* Calls the function with `argument` in EAX; NONE, or the vector of the exception that ended it. */
int attempt(void (*function)(void), uint32_t argument);
/* The same in ring 3: the function ends with ret. All data segments are flat. */
int user(void (*function)(void), uint32_t argument);
int user_flags(void (*function)(void), uint32_t argument, uint32_t flags);

struct v86 { /* in the order in which IRET pops, then the general registers */
	uint32_t eip, cs, eflags, esp, ss, es, ds, fs, gs, eax, ebx, ecx, edx;
};
/* Runs virtual-8086 code until something comes out of it: the vector. */
int v86(const struct v86 *);
void check_caught(int vector, uint32_t error, uint32_t eip, const char *name);

struct tss {
	uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt;
	uint16_t trap, io_map;
	uint8_t bitmap[8224 + 32]; /* 32 bytes of the interrupt redirection bitmap may stand before the ports */
} __attribute__((packed));
#define TSS_LIMIT (sizeof(struct tss) - 1)
extern struct tss tss;
extern uint64_t gdt[GDT_ENTRIES], idt[256];
extern uint8_t trap_stack[2 * PAGE], user_stack[2 * PAGE], test_stack[2 * PAGE];
/* SDM 3A figure 3-8. access: type, S, DPL, P; flags: AVL, L, D/B, G in bits 0 to 3. */
uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags);
/* Call, interrupt, trap and task gates. */
uint64_t gate(uint16_t selector, uint32_t offset, unsigned access, unsigned params);
uint32_t trap_stub(unsigned vector);
#define GATE_INTERRUPT 0x8e
#define GATE_TRAP 0x8f
#define GATE_DPL3 0x60
/* Copies 16-bit code to where real and virtual-8086 mode can run it: segment LOW_SEGMENT, offset 0. */
#define LOW_SEGMENT 0x800
#define LOW (LOW_SEGMENT * 16u)
void low_copy(const uint8_t *start, const uint8_t *end);
/* Cleared pages; never given back. */
void *page_alloc(void);

#define READ_CR(n) ({ uint32_t value_; asm volatile("mov %%cr" #n ", %0" : "=r"(value_)); value_; })
#define WRITE_CR(n, value) asm volatile("mov %0, %%cr" #n : : "r"((uint32_t)(value)) : "memory")
#define READ_DR(n) ({ uint32_t value_; asm volatile("mov %%dr" #n ", %0" : "=r"(value_)); value_; })
#define WRITE_DR(n, value) asm volatile("mov %0, %%dr" #n : : "r"((uint32_t)(value)) : "memory")

struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid r;
	asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
	return r;
}
static inline void wrmsr(uint32_t index, uint64_t value)
{
	asm volatile("wrmsr" : : "c"(index), "A"(value));
}
static inline uint64_t rdmsr(uint32_t index)
{
	uint64_t value;
	asm volatile("rdmsr" : "=A"(value) : "c"(index));
	return value;
}
#define HAS_1_EDX(bit) (cpuid(1, 0).edx >> (bit) & 1)
#define HAS_7_EBX(bit) (cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx >> (bit) & 1)
#define HAS_81_EDX(bit) (cpuid(0x80000000, 0).eax > 0x80000000 && cpuid(0x80000001, 0).edx >> (bit) & 1)
