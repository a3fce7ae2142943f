/* SPDX-License-Identifier: MIT */
/* GDT, IDT and TSS of the 32-bit guests, and what happens to an exception: somebody expects it, or the guest ends. */
#include "legacy/lib/legacy.h"

struct caught caught;
bool (*trap_handler)(struct frame *);
uint32_t try_at, try_end, try_resume;
struct tss tss __attribute__((aligned(4096)));
uint64_t idt[256] __attribute__((aligned(16)));
uint8_t trap_stack[2 * PAGE] __attribute__((aligned(4096))), user_stack[2 * PAGE] __attribute__((aligned(4096)));
uint8_t test_stack[2 * PAGE] __attribute__((aligned(4096)));

extern uint8_t trap_stubs[], user_return[], user_enter[], v86_enter[];
extern uint32_t attempt_esp;
_Noreturn void attempt_leave(int vector);

uint64_t gdt[GDT_ENTRIES] = {
	[KCS / 8] = 0x00cf9b000000ffff,
	[KDS / 8] = 0x00cf93000000ffff,
	[UCS / 8] = 0x00cffb000000ffff,
	[UDS / 8] = 0x00cff3000000ffff,
};

uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 | (uint64_t)(limit >> 16 & 0xf) << 48 |
	       (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

uint64_t gate(uint16_t selector, uint32_t offset, unsigned access, unsigned params)
{
	return (offset & 0xffff) | (uint32_t)selector << 16 | (uint64_t)(params | access << 8 | (offset & 0xffff0000)) << 32;
}

uint32_t trap_stub(unsigned vector)
{
	return (uint32_t)trap_stubs + 16 * vector;
}

void guest_setup(void);
void guest_setup(void)
{
	const struct {
		uint16_t limit;
		void *base;
	} __attribute__((packed)) idtr = { sizeof(idt) - 1, idt };

	for (unsigned v = 0; v < 256; v++)
		idt[v] = gate(KCS, trap_stub(v), GATE_INTERRUPT, 0);
	idt[BP] = gate(KCS, trap_stub(BP), GATE_INTERRUPT | GATE_DPL3, 0);
	idt[OF] = gate(KCS, trap_stub(OF), GATE_INTERRUPT | GATE_DPL3, 0);
	idt[VECTOR_RETURN] = gate(KCS, trap_stub(VECTOR_RETURN), GATE_INTERRUPT | GATE_DPL3, 0);
	asm volatile("lidt %0" : : "m"(idtr));
	tss.ss0 = KDS;
	tss.esp0 = (uint32_t)trap_stack + sizeof(trap_stack) - 64;
	tss.io_map = sizeof(tss);
	gdt[TSS_SEL / 8] = descriptor((uint32_t)&tss, TSS_LIMIT, 0x89, 0);
	asm volatile("ltr %w0" : : "r"(TSS_SEL));
}

void trap(struct frame *);
void trap(struct frame *f)
{
	caught.vector = (int)f->vector;
	caught.cr2 = READ_CR(2);
	caught.dr6 = READ_DR(6);
	caught.frame = *f;
	caught.frame_at = (uint32_t)&f->error;
	if (f->vector == VECTOR_RETURN && f->eip == (uint32_t)user_return + 2)
		caught.vector = NONE;
	else if (trap_handler && trap_handler(f))
		return;
	if (try_resume && f->cs == KCS && !(f->eflags & FLAG_VM) && caught.vector != NONE) {
		f->eip = try_resume;
		f->eflags = 2;
		return;
	}
	if (attempt_esp)
		attempt_leave(caught.vector);
	print("not ok guest - unexpected vector %d, error %lx, EIP %lx, CS %lx, EFLAGS %lx, CR2 %lx\n", (int)f->vector, (word_t)f->error,
	      (word_t)f->eip, (word_t)f->cs, (word_t)f->eflags, (word_t)caught.cr2);
	check(false, "no unexpected exception");
	guest_end();
}

int user_flags(void (*function)(void), uint32_t argument, uint32_t flags)
{
	uint32_t *stack = (uint32_t *)(user_stack + sizeof(user_stack) - 64);
	*--stack = (uint32_t)user_return;
	const uint32_t entry[] = { (uint32_t)function, UCS, flags | 2, (uint32_t)stack, UDS, argument };
	try_resume = 0;
	return attempt((void (*)(void))user_enter, (uint32_t)entry);
}

int user(void (*function)(void), uint32_t argument)
{
	return user_flags(function, argument, 0);
}

int v86(const struct v86 *state)
{
	struct v86 s = *state;
	s.eflags |= FLAG_VM | 2;
	try_resume = 0;
	return attempt((void (*)(void))v86_enter, (uint32_t)&s);
}

void check_caught(int vector, uint32_t error, uint32_t eip, const char *name)
{
	bool holds = caught.vector == vector && (vector == NONE || (caught.frame.error == error && caught.frame.eip == eip));
	check_count(holds);
	if (holds)
		print("ok %s\n", name);
	else
		print("not ok %s - got vector %d, error %lx, EIP %lx; want vector %d, error %lx, EIP %lx\n", name, caught.vector,
		      (word_t)caught.frame.error, (word_t)caught.frame.eip, vector, (word_t)error, (word_t)eip);
}

void low_copy(const uint8_t *start, const uint8_t *end)
{
	memcpy((void *)LOW, start, (size_t)(end - start));
}

void *page_alloc(void)
{
	static uint32_t pool = 32 * MIB; /* behind any image, below what the smallest machine of a test has */
	void *page = (void *)pool;
	pool += PAGE;
	return memset(page, 0, PAGE);
}
