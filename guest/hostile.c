/* SPDX-License-Identifier: MIT */
/* A guest that means no good: nothing that it does may end or hang the monitor. The kernel's command line names what it does
 * ("case=NAME"). Some end with a result as other guests do, some with a triple fault, some never. Without a name it does
 * a little of all that end well. tests/cli/guests_bad.sh knows what must come of each. */
#include "lib/smp.h"

#define CPUS 4
#define NOTHING 0xc0000000ULL /* where neither RAM nor a device is */
#define IOAPIC 0xfec00000ULL
#define WINDOW 0x80000000000ULL /* for pages that are mapped here and there */
#define HUGE_COUNT BIT(40)

static unsigned rounds = 1; /* more of everything when a case was asked for */
static uint64_t state = 0x9e3779b97f4a7c15ULL;

static uint64_t random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1dULL;
}

static unsigned below(unsigned n)
{
	return (unsigned)((random64() >> 32) * n >> 32);
}

static void no_idt(void)
{
	const struct descriptor_table none = { 0, 0 };
	asm volatile("lidt %0" : : "m"(none));
}

static void jump(uint64_t address)
{
	asm volatile("jmp *%0" : : "r"(address));
}

static uint8_t small_stack[2 * PAGE] __attribute__((aligned(4096)));

/* --- those that end in a triple fault --- */

static void case_void(void)
{
	no_idt();
	jump(NOTHING);
}

static void case_triple(void)
{
	no_idt();
	asm volatile("int3");
}

static void case_no_stack(void)
{
	idt_set(DF, trap_stub(DF), KCS, 0, GATE_INTERRUPT);
	asm volatile("mov %0, %%rsp; mov %0, %%rbp; ud2" : : "r"(0x123456789000));
}

/* The handler of #UD begins with UD2: frame after frame, until the stack ends. */
static void case_recursion(void)
{
	static const uint8_t ud2[] = { 0x0f, 0x0b };
	for (unsigned v = 0; v < 32; v++)
		idt_set(v, (uint64_t)ud2, KCS, 0, GATE_INTERRUPT);
	*entry_of((uint64_t)small_stack, 2) = 0; /* 2 MiB around it: also this code, so there is no way on */
	map(WINDOW + PAGE, (uint64_t)page_alloc(), PTE_P | PTE_W, 1);
	asm volatile("mov %0, %%rsp; ud2" : : "r"(WINDOW + 2 * PAGE));
}

static void case_cr3_device(void)
{
	WRITE_CR(3, APIC_BASE);
}

static void case_cr3_nothing(void)
{
	WRITE_CR(3, 0xffffff000ULL);
}

static void case_idt_device(void)
{
	const struct descriptor_table idtr = { 4095, APIC_BASE };
	asm volatile("lidt %0; ud2" : : "m"(idtr));
}

static void case_gdt_device(void)
{
	const struct descriptor_table gdtr = { 4095, IOAPIC };
	no_idt();
	asm volatile("lgdt %0; pushq $0x20; pushq $0; lretq" : : "m"(gdtr));
}

/* --- those that never end --- */

static void case_spin(void)
{
	asm volatile("cli; 1: jmp 1b");
}

static void case_halt(void)
{
	asm volatile("cli; 1: hlt; jmp 1b");
}

static void case_stos_device(void)
{
	uint64_t count;
	for (uint64_t page = 0; page < 512; page++)
		map(WINDOW + page * PAGE, APIC_BASE, PTE_P | PTE_W, 1);
	for (;;) { /* 2 MiB of the APIC's page */
		uint64_t at = WINDOW;
		count = 512 * PAGE;
		asm volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(0) : "memory");
	}
}

/* One REP that would take days. */
static void case_outs(void)
{
	uint64_t at = 0, count = HUGE_COUNT;
	for (uint64_t page = 0; page < 512; page++)
		map(WINDOW + page * (1ULL << 21), 0, PTE_P | PTE_W, 2);
	at = WINDOW;
	asm volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(0x80) : "memory");
}

static void case_cmps(void)
{
	for (;;) {
		uint64_t at = 0, count = 1ULL << 32;
		asm volatile("repe cmpsb" : "+S"(at), "+c"(count) : "D"(at) : "memory", "cc");
	}
}

static NAKED void again(void)
{
	asm volatile("iretq");
}

/* An exception whose handler returns to it. */
static void case_fault_loop(void)
{
	idt_set(UD, (uint64_t)again, KCS, 0, GATE_INTERRUPT);
	asm volatile("ud2");
}

static void case_step_loop(void)
{
	idt_set(DB, (uint64_t)again, KCS, 0, GATE_INTERRUPT);
	asm volatile("pushfq; orq $0x100, (%rsp); popfq; 1: jmp 1b");
}

/* Only ever interrupts: each one asks for the next before it ends. */
static bool ask_again(struct frame *f)
{
	if (f->vector < 32)
		return false;
	apic_write(APIC_EOI, 0);
	apic_write(APIC_ICR, ICR_SELF | ICR_ASSERT | 0x50);
	return true;
}

static void storm(unsigned cpu)
{
	asm volatile("sti");
	apic_write(APIC_ICR, ICR_SELF | ICR_ASSERT | 0x50);
	for (;;)
		asm volatile("pause");
}

static void case_storm(void)
{
	trap_handler = ask_again;
	smp_start(CPUS, storm);
	storm(0);
}

static volatile uint8_t line[192] __attribute__((aligned(64)));

static void split(unsigned cpu)
{
	for (;;)
		asm volatile("lock addq $1, %0" : "+m"(*(volatile uint64_t *)(line + 61)) : : "memory", "cc");
}

static void case_split(void)
{
	smp_start(CPUS, split);
	split(0);
}

/* Processors that start each other anew without end. */
static void restart(unsigned cpu)
{
	for (;;) {
		unsigned other = 1 + (cpu + below(CPUS - 2)) % (CPUS - 1);
		smp_init(other);
		smp_sipi(other, TRAMPOLINE);
	}
}

static void case_restart(void)
{
	smp_start(CPUS, restart);
	restart(0);
}

/* The timer as fast as it goes, without an end of interrupt in between. */
static bool count_tick(struct frame *f)
{
	apic_write(APIC_EOI, 0);
	return f->vector >= 32;
}

static void case_timer(void)
{
	trap_handler = count_tick;
	apic_enable();
	apic_write(APIC_DIVIDE, 0xb);
	apic_write(APIC_TIMER, 0x50 | LVT_PERIODIC);
	apic_write(APIC_INITIAL, 1);
	outb(0x43, 0x34); /* the 8254 too: mode 2, count 2 */
	outb(0x40, 2);
	outb(0x40, 0);
	for (;;)
		asm volatile("sti; hlt");
}

static void case_flood_forever(void)
{
	for (;;)
		outb(0x3f8, 'x');
}

/* --- those that end well --- */

/* As fast as it goes, not asking whether there is room. */
static void case_flood(void)
{
	outb(0x3fa, 7); /* FIFO */
	for (unsigned n = 0; n < 100000 * rounds; n++)
		outb(0x3f8, (uint8_t)('a' + n % 26));
	check(true, "flooded the UART");
}

/* Ports whose right value ends or resets the machine, moves what does, or is our own way to report. */
static bool port_is_ours(unsigned port, unsigned size)
{
	static const struct {
		uint16_t first, last;
	} ours[] = { { 0x60, 0x60 }, { 0x64, 0x64 }, { 0x92, 0x92 }, { 0xe9, 0xe9 }, { 0xf4, 0xf7 }, { 0x604, 0x605 }, { 0xcf8, 0xcff } };
	for (unsigned i = 0; i < ARRAY_SIZE(ours); i++)
		if (port <= ours[i].last && port + size > ours[i].first)
			return true;
	return false;
}

static unsigned some_port(void)
{
	static const struct {
		uint16_t first, count;
	} chips[] = { { 0x00, 0x10 }, { 0x20, 2 }, { 0x40, 4 }, { 0x61, 1 }, { 0x70, 2 }, { 0x80, 0x10 }, { 0xa0, 2 }, { 0xb2, 2 }, { 0xc0, 0x20 },
		      { 0x170, 8 }, { 0x1f0, 8 }, { 0x2f8, 8 }, { 0x376, 1 }, { 0x3f0, 16 }, { 0x402, 1 }, { 0x4d0, 2 }, { 0x510, 12 }, { 0x600, 64 } };
	if (below(4) == 0)
		return below(0x10000);
	unsigned chip = below(ARRAY_SIZE(chips));
	return chips[chip].first + below(chips[chip].count);
}

static void one_port(void)
{
	unsigned size = 1u << below(3), port = some_port();
	uint32_t value = below(2) ? (uint32_t)random64() : below(256);
	switch (below(8)) {
	case 0 ... 3:
		switch (size) {
		case 1: asm volatile("inb %w1, %b0" : "=a"(value) : "d"(port)); break;
		case 2: asm volatile("inw %w1, %w0" : "=a"(value) : "d"(port)); break;
		case 4: asm volatile("inl %w1, %0" : "=a"(value) : "d"(port)); break;
		}
		return;
	case 4: {
		static uint8_t buffer[64];
		void *to = buffer;
		uint64_t count = below(16);
		asm volatile("rep insl" : "+D"(to), "+c"(count) : "d"(port) : "memory");
		return;
	}
	default:
		if (port_is_ours(port, size))
			return;
		switch (size) {
		case 1: asm volatile("outb %b0, %w1" : : "a"(value), "d"(port)); break;
		case 2: asm volatile("outw %w0, %w1" : : "a"(value), "d"(port)); break;
		case 4: asm volatile("outl %0, %w1" : : "a"(value), "d"(port)); break;
		}
	}
}

static void case_ports(void)
{
	for (unsigned n = 0; n < 30000 * rounds; n++)
		one_port();
	check(true, "read and wrote ports without sense");
}

/* PCI configuration: all functions and registers, but those of power management, which would move the ports that are left alone above, and
 * the write to CF9h that resets. */
static void case_pci(void)
{
	uint32_t value;
	for (unsigned n = 0; n < 10000 * rounds; n++) {
		uint32_t address = BIT(31) | below(4) << 16 | below(4) << 11 | (below(8) << 8) | (below(64) << 2);
		if (below(16) == 0)
			address = (uint32_t)random64();
		if ((address >> 8 & 7) == 3)
			address ^= 1 << 8;
		asm volatile("outl %0, %w1" : : "a"(address), "d"(0xcf8));
		if (below(2)) {
			asm volatile("inl %w1, %0" : "=a"(value) : "d"(0xcfc));
			asm volatile("inb %w1, %b0" : "=a"(value) : "d"(0xcfc + below(4)));
		} else if (!(address & BIT(31)) || (address >> 8 & 0xffff) != 0) {
			/* not the host bridge: it would take the memory away from under us */
			asm volatile("outl %0, %w1" : : "a"((uint32_t)random64()), "d"(0xcfc));
			asm volatile("outb %b0, %w1" : : "a"((uint32_t)random64()), "d"(0xcfc + below(4)));
		}
	}
	check(true, "wrote PCI configuration without sense");
}

/* What an APIC may be told without being told to stop this processor: INIT (mode 5) becomes NMI, SIPI and SMI fixed. */
static uint32_t harmless(uint32_t value)
{
	return value & ~(uint32_t)(5 << 8);
}

static void one_mmio(uint64_t base)
{
	uint64_t at = base + (below(4) ? 16 * below(256) : below(PAGE)), value = random64(), other = random64();
	switch (below(14)) {
	case 0: (void)*(volatile uint8_t *)at; break;
	case 1: (void)*(volatile uint16_t *)at; break;
	case 2: (void)*(volatile uint32_t *)at; break;
	case 3: (void)*(volatile uint64_t *)at; break;
	case 4: *(volatile uint32_t *)(at & ~3ULL) = harmless((uint32_t)value); break;
	case 5: *(volatile uint32_t *)(at & ~3ULL) = below(256); break;
	case 6: TRY("movups (%0), %%xmm0", : "r"(at)); break;
	case 7: TRY("movaps %%xmm0, (%0)", : "r"(at)); break;
	case 8: TRY("lock andl %1, (%0)", : "r"(at & ~3ULL), "r"(0)); break;
	case 9: TRY("xchgb %b1, (%0)", : "r"(at), "q"(0)); break;
	case 10: TRY("fxrstor (%0)", : "r"(at & ~15ULL)); break;
	case 11: TRY("lock cmpxchg16b (%0)", "+a"(value), "+d"(other) : "r"(at & ~15ULL), "b"(0ULL), "c"(0ULL)); break;
	case 12: TRY("fldenv (%0); fninit", : "r"(at)); break;
	case 13: TRY("cmpxchg8b (%0)", "+a"(value), "+d"(other) : "r"(at), "b"(0), "c"(0)); break;
	}
	if (base == IOAPIC && below(4) == 0) {
		*(volatile uint32_t *)IOAPIC = below(256);
		*(volatile uint32_t *)(IOAPIC + 16) = harmless((uint32_t)random64());
	}
}

static void case_mmio(void)
{
	static const uint64_t bases[] = { APIC_BASE, IOAPIC, NOTHING, 0xa0000, 0xe0000, 0xffff0000, 0xfed00000 };
	for (unsigned n = 0; n < 10000 * rounds; n++)
		one_mmio(bases[below(ARRAY_SIZE(bases))]);
	check(true, "read and wrote devices' memory without sense");
}

static void call_device(void *address)
{
	((void (*)(void))address)();
}

/* Device memory as code, stack, page table, and what a task segment names. */
static void case_roles(void)
{
	static const uint64_t bases[] = { APIC_BASE, IOAPIC, NOTHING };
	int vector = 0;
	uint64_t saved;
	for (unsigned b = 0; b < ARRAY_SIZE(bases); b++) {
		for (unsigned at = 0; at < PAGE; at += 0x70) {
			/* Code that is all zeros or ones: add %al, (%rax), or nothing. */
			vector += attempt(call_device, (void *)(bases[b] + at));
			TRY("mov %%rsp, %0; mov %1, %%rsp; push %%rax; pop %%r11; mov %0, %%rsp", "=&b"(saved) : "r"(bases[b] + at + 8));
			TRY("mov %%rsp, %0; mov %1, %%rsp; call 1f; 1: mov %0, %%rsp", "=&b"(saved) : "r"(bases[b] + at + 8));
		}
		for (unsigned level = 1; level < 4; level++) {
			/* A table in a device: the walk reads entries there, and would set their accessed bits. */
			uint64_t start = WINDOW + ((b * 4ULL + level) << 39);
			map(start, (uint64_t)page_alloc(), PTE_P | PTE_W, 1);
			*entry_of(start, level + 1) = bases[b] | PTE_P | PTE_W | PTE_U;
			WRITE_CR(3, READ_CR(3));
			for (unsigned n = 0; n < 512; n += 3) {
				uint64_t linear = start + ((uint64_t)n << (3 + 9 * level));
				TRY("mov (%1), %0", "=r"(saved) : "r"(linear));
				TRY("lock orb $0, (%0)", : "r"(linear));
			}
		}
	}
	check(vector != 0, "code, stacks and page tables in devices");
}

static void case_strings(void)
{
	static uint8_t buffer[2 * PAGE];
	for (unsigned n = 0; n < 10 * rounds; n++) {
		uint64_t count = PAGE, from = IOAPIC, to = APIC_BASE + 0x400;
		asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
		count = PAGE / 8, from = NOTHING - PAGE / 2, to = (uint64_t)buffer;
		asm volatile("rep movsq" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
		count = PAGE, from = APIC_BASE + PAGE - 1, to = (uint64_t)buffer + 2 * PAGE - 1;
		asm volatile("std; rep movsb; cld" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
		count = 3 * PAGE / 4, to = NOTHING + 0x10000;
		asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(0) : "memory");
		count = 1 << 16, from = NOTHING;
		asm volatile("repe cmpsw" : "+S"(from), "+c"(count) : "D"(NOTHING + 0x1001) : "memory", "cc");
		count = 1000, to = APIC_BASE + 0x7fd;
		asm volatile("rep insl" : "+D"(to), "+c"(count) : "d"(0x71) : "memory");
	}
	check(true, "string instructions over devices");
}

/* Model-specific registers, but those that would take the ground away: FS to KERNEL_GS base are free to change. */
static void case_msrs(void)
{
	for (unsigned n = 0; n < 5000 * rounds; n++) {
		uint32_t index = below(3) ? below(0x1000) : below(2) ? 0xc0000080 + below(0x40) : (uint32_t)random64();
		uint64_t value = below(2) ? random64() : below(256);
		try_rdmsr(index);
		if (index != MSR_EFER && index != 0x1b && index != 0x830)
			try_wrmsr(index, value);
	}
	for (unsigned n = 0; n < 100; n++) { /* the local APIC elsewhere, and back */
		try_wrmsr(0x1b, (random64() & 0xfffff000) | 0x900);
		(void)*(volatile uint32_t *)(NOTHING + 0x20);
	}
	wrmsr(0x1b, APIC_BASE | 0x900);
	check_equal(rdmsr(0x1b), APIC_BASE | 0x900, "wrote MSRs without sense");
}

static volatile uint32_t ended;

static bool swallow(struct frame *f)
{
	if (f->vector < 32 && f->vector != NMI)
		return false;
	apic_write(APIC_EOI, 0);
	return true;
}

static void send_everywhere(unsigned cpu)
{
	asm volatile("sti");
	for (unsigned n = 0; n < 5000 * rounds; n++) {
		unsigned vector = n % 16 ? 32 + (n * 13 + cpu) % 224 : n % 15; /* below 16: not allowed, an error of the APIC */
		unsigned shorthand = (n & 6) << 17, logical = (n & 8) << 8;
		smp_send(n & 1 ? (uint8_t)(n * 7 + cpu) : 0xff, ICR_ASSERT | shorthand | logical | vector);
	}
	asm volatile("cli");
	__atomic_fetch_add(&ended, 1, __ATOMIC_SEQ_CST);
}

static void case_ipis(void)
{
	trap_handler = swallow;
	ended = 0;
	unsigned up = smp_start(CPUS, send_everywhere);
	send_everywhere(0);
	while (ended != up)
		asm volatile("pause");
	trap_handler = NULL;
	check_equal(up, CPUS, "processors that flood each other with interrupts");
}

static const struct {
	const char *name;
	void (*run)(void);
	bool ends; /* with a result */
} cases[] = {
	{ "flood", case_flood, true }, { "ports", case_ports, true }, { "pci", case_pci, true }, { "mmio", case_mmio, true },
	{ "roles", case_roles, true }, { "strings", case_strings, true }, { "msrs", case_msrs, true }, { "ipis", case_ipis, true },
	{ "void", case_void, false }, { "triple", case_triple, false }, { "no_stack", case_no_stack, false },
	{ "recursion", case_recursion, false }, { "cr3_device", case_cr3_device, false }, { "cr3_nothing", case_cr3_nothing, false },
	{ "idt_device", case_idt_device, false }, { "gdt_device", case_gdt_device, false },
	{ "spin", case_spin, false }, { "halt", case_halt, false }, { "stos_device", case_stos_device, false }, { "outs", case_outs, false },
	{ "cmps", case_cmps, false }, { "fault_loop", case_fault_loop, false }, { "step_loop", case_step_loop, false },
	{ "storm", case_storm, false }, { "split", case_split, false }, { "restart", case_restart, false }, { "timer", case_timer, false },
	{ "flood_forever", case_flood_forever, false },
};

extern uint64_t boot_info;

/* The text behind "case=" on the command line, NULL when there is none. */
static const char *asked(void)
{
	const char *line = *(const char **)(boot_info + 24);
	for (; line && *line; line++)
		if (!memcmp(line, "case=", 5))
			return line + 5;
	return NULL;
}

static bool same_word(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return !*a && (!*b || *b == ' ');
}

int main(void)
{
	const char *name = asked();
	if (name)
		rounds = 30;
	for (unsigned c = 0; c < ARRAY_SIZE(cases); c++)
		if (name ? same_word(cases[c].name, name) : cases[c].ends)
			cases[c].run();
	return 0;
}
