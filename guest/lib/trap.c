/* SPDX-License-Identifier: MIT */
/* GDT, IDT and TSS of our guests, and what happens to an exception: somebody expects it, or the guest ends. */
#include "lib/guest.h"

struct caught caught;
bool (*trap_handler)(struct frame *);
uint64_t try_at, try_end, try_resume;
struct tss tss __attribute__((aligned(64)));
struct gate idt[256] __attribute__((aligned(16)));
uint8_t user_stack[4 * PAGE] __attribute__((aligned(4096))), test_stack[4 * PAGE] __attribute__((aligned(4096)));
static uint8_t trap_stack[4][4 * PAGE] __attribute__((aligned(4096))); /* for ring 3's traps, #DF, NMI, tests */

extern uint8_t trap_stubs[], attempt_end[], user_return[];
extern uint64_t attempt_rsp;

uint64_t gdt[GDT_ENTRIES] = {
	[KCS / 8] = 0x00af9b000000ffff,
	[KDS / 8] = 0x00cf93000000ffff,
	[UCS32 / 8] = 0x00cffb000000ffff,
	[UDS / 8] = 0x00cff3000000ffff,
	[UCS / 8] = 0x00affb000000ffff,
	[UDS64 / 8] = 0x00cff3000000ffff,
	[KCS32 / 8] = 0x00cf9b000000ffff,
};

/* SDM 3A figure 3-8. access: type, S, DPL, P; flags: AVL, L, D/B, G in bits 0 to 3; limit as it is stored. */
uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 | (uint64_t)(limit >> 16 & 0xf) << 48 |
	       (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

uint64_t trap_stub(unsigned vector)
{
	return (uint64_t)trap_stubs + 16 * vector;
}

/* SDM 3A figure 6-8 */
void idt_set(unsigned vector, uint64_t target, uint16_t selector, unsigned ist, unsigned type)
{
	idt[vector].low = (target & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 | (uint64_t)type << 40 |
			  (target >> 16 & 0xffff) << 48;
	idt[vector].high = target >> 32;
}

void guest_setup(void);
void guest_setup(void)
{
	const struct descriptor_table idtr = { sizeof(idt) - 1, (uint64_t)idt };
	for (unsigned v = 0; v < 256; v++)
		idt_set(v, trap_stub(v), KCS, 0, GATE_INTERRUPT);
	idt_set(DF, trap_stub(DF), KCS, IST_DF, GATE_INTERRUPT);
	idt_set(NMI, trap_stub(NMI), KCS, IST_NMI, GATE_INTERRUPT);
	idt_set(BP, trap_stub(BP), KCS, 0, GATE_INTERRUPT | GATE_DPL3);
	idt_set(OF, trap_stub(OF), KCS, 0, GATE_INTERRUPT | GATE_DPL3);
	idt_set(VECTOR_RETURN, trap_stub(VECTOR_RETURN), KCS, 0, GATE_INTERRUPT | GATE_DPL3);
	asm volatile("lidt %0" : : "m"(idtr));

	tss.rsp[0] = (uint64_t)trap_stack[1];
	tss.ist[IST_DF - 1] = (uint64_t)trap_stack[2];
	tss.ist[IST_NMI - 1] = (uint64_t)trap_stack[3];
	tss.ist[IST_TEST - 1] = (uint64_t)(trap_stack + 4);
	tss.io_map = sizeof(tss);
	gdt[TSS_SEL / 8] = descriptor((uint32_t)(uint64_t)&tss, sizeof(tss) - 1, 0x89, 0);
	gdt[TSS_SEL / 8 + 1] = 0;
	asm volatile("ltr %w0" : : "r"(TSS_SEL));
}

_Noreturn static void unexpected(const struct frame *f)
{
	print("not ok guest - unexpected vector %d, error %lx, RIP %lx, CS %lx, RFLAGS %lx, RSP %lx, CR2 %lx\n", (int)f->vector, f->error, f->rip,
	      f->cs, f->rflags, f->rsp, READ_CR(2));
	check(false, "no unexpected exception");
	guest_end();
}

void trap(struct frame *);
void trap(struct frame *f)
{
	caught.vector = f->vector == VECTOR_RETURN && f->rip == USER(user_return) + 2 ? NONE : (int)f->vector;
	caught.count++;
	caught.cr2 = READ_CR(2);
	caught.dr6 = READ_DR(6);
	caught.frame_at = (uint64_t)&f->error;
	caught.frame = *f;
	if (caught.vector != NONE && trap_handler && trap_handler(f))
		return;
	if (!try_resume && !attempt_rsp)
		unexpected(f);
	f->rflags = 2; /* interrupts off, no trap flag; the other status flags are dead at both places */
	if (try_resume && f->cs == KCS && caught.vector != NONE) {
		f->rip = try_resume;
	} else {
		f->rax = (uint64_t)caught.vector;
		f->rip = (uint64_t)attempt_end;
		f->rsp = attempt_rsp;
		f->cs = KCS;
		f->ss = KDS;
	}
}

struct user_entry {
	uint64_t rip, cs, rflags, rsp, ss, argument;
};
void user_enter(void *);

int user_flags(void (*function)(void *), uint64_t argument, uint64_t flags)
{
	uint64_t *stack = (uint64_t *)(user_stack + sizeof(user_stack));
	*--stack = USER(user_return);
	struct user_entry entry = { USER(function), UCS, flags | 2, USER(stack), UDS, argument };
	try_resume = 0;
	return attempt(user_enter, &entry);
}

int user(void (*function)(void *), uint64_t argument)
{
	return user_flags(function, argument, 0);
}

void check_caught(int vector, uint64_t error, uint64_t rip, const char *name)
{
	bool holds = caught.vector == vector && (vector == NONE || (caught.frame.error == error && caught.frame.rip == rip));
	check_count(holds);
	if (holds)
		print("ok %s\n", name);
	else
		print("not ok %s - got vector %d, error %lx, RIP %lx; want vector %d, error %lx, RIP %lx\n", name, caught.vector,
		      caught.frame.error, caught.frame.rip, vector, error, rip);
}
