/* SPDX-License-Identifier: MIT */
/* From a seed to descriptor tables, task state segments, page tables, registers and an instruction: see system_case.h. */
#include "system_case.h"

#define PAE_TABLE 0x14000u   /* PDPTEs, 32 bytes each: good ones, then some with reserved bits */
#define PAE_TABLES 4u
#define PAGED_TABLE 0x15000u /* a page directory of 4 MiB pages */

const char *const system_names[SYSTEM_WHATS] = { "MOV sreg", "LAR, LSL, VERR, VERW", "LLDT, LTR", "far JMP", "far CALL", "far RET", "IRET", "INT n",
						 "an exception", "task switches", "SYSCALL, SYSRET, SYSENTER, SYSEXIT", "MOV CR, LMSW, SMSW, CLTS" };

static uint64_t state, plain_bits;
static uint64_t rnd(void) /* splitmix64 */
{
	uint64_t z = state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}
static bool one_of(unsigned n)
{
	return rnd() % n == 0;
}
static bool is_plain(unsigned bit)
{
	return plain_bits >> bit & 1;
}
static uint16_t random_selector(void)
{
	if (one_of(20))
		return (uint16_t)(rnd() & 3);
	if (one_of(30))
		return (uint16_t)rnd();
	if (one_of(4))
		return (uint16_t)((rnd() % LDT_ENTRIES) << 3 | 4 | (rnd() & 3));
	return (uint16_t)((rnd() % GDT_ENTRIES) << 3 | (rnd() & 3));
}
static uint16_t task_selector(void)
{
	return one_of(10) ? random_selector() : (uint16_t)(TASK_SELECTOR(rnd() % TASKS) | (rnd() & 3 & (one_of(4) ? 7 : 0)));
}
static uint64_t random_offset(bool lma)
{
	if (lma && one_of(12))
		return 0x800000000000 + rnd() % 0x1000;
	return one_of(10) ? rnd() & 0xfffff : 0x5000 + rnd() % 0x1000;
}
static uint64_t gate(unsigned type, uint64_t offset)
{
	uint16_t selector = type == SYS_TASK_GATE ? task_selector() : random_selector();
	return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)(rnd() & 7 & (one_of(2) ? 7 : 0)) << 32 |
	       (uint64_t)(type | (rnd() & 3) << 5 | (one_of(10) ? 0 : 0x80)) << 40 | (offset >> 16 & 0xffff) << 48;
}
static uint64_t random_descriptor(bool lma)
{
	static const uint32_t limits[] = { 0xfffff, 0xfffff, 0xffff, 0x8fff, 0x4fff, 0x100, 0 };
	uint32_t limit = limits[rnd() % ARRAY_SIZE(limits)], base = one_of(4) ? (uint32_t)(rnd() % 0x800) : 0, attr;

	if (one_of(4)) {
		unsigned type = one_of(3) ? rnd() & 15 : 12;
		if (type != SYS_LDT && (type & 5) != 1)
			return gate(type, random_offset(lma));
		return flat_descriptor(base, limit & 0xffff, type | (uint32_t)(rnd() & 0x60) | (one_of(8) ? 0 : SEGA_P));
	}
	attr = SEGA_S | (uint32_t)(rnd() & 0x6f) | (one_of(10) ? 0 : SEGA_P) | (one_of(3) ? 0 : SEGA_DB) | (one_of(2) ? SEGA_G : 0);
	if (!(attr & SEGA_CODE) && !one_of(4))
		attr = (attr | SEGA_WRITABLE) & ~(uint32_t)SEGA_EXPAND_DOWN;
	if (lma && attr & SEGA_CODE && !one_of(3))
		attr = (attr | SEGA_L) & ~(one_of(10) ? 0 : (uint32_t)SEGA_DB);
	return flat_descriptor(base, limit, attr);
}

static void tables(bool lma)
{
	for (unsigned n = FLAT_FREE / 8; n < GDT_ENTRIES; n++) {
		uint64_t d = lma && n & 1 && one_of(2) ? 0 : random_descriptor(lma);
		flat_put(FLAT_GDT + 8 * n, 8, n < GDT_ENTRIES - TASKS && is_plain(PLAIN_GDT + n - FLAT_FREE / 8) ? 0 : d);
	}
	for (unsigned n = 0; n < LDT_ENTRIES; n++) {
		uint64_t d = random_descriptor(lma);
		flat_put(LDT + 8 * n, 8, is_plain(PLAIN_LDT + n) ? 0 : d);
	}
	for (unsigned n = 0; n < IDT_VECTORS; n++) {
		static const unsigned types[] = { 14, 15, 14, 15, 6, 7, 5, 12 };
		uint64_t raw = gate(one_of(20) ? rnd() & 31 : types[rnd() % (lma ? 4 : 8)], random_offset(lma));
		if (one_of(2) && (raw >> 40 & 31) != SYS_TASK_GATE) /* so that delivery often succeeds */
			raw = (raw & ~0xffff0000ULL) | (uint64_t)(lma ? FLAT_CODE64 : FLAT_CODE0) << 16;
		flat_put(FLAT_IDT + (lma ? 16 : 8) * n, 8, is_plain(PLAIN_IDT) ? 0 : raw);
	}
}

static void current_task(bool lma)
{
	for (unsigned n = 0; n < 0x68; n += 4)
		flat_put(FLAT_TSS + n, 4, STACK + 0x800 + (rnd() & 0x3fc));
	for (unsigned n = 0; n < 3 && !lma; n++)
		flat_put(FLAT_TSS + 8 + 8 * n, 4, one_of(3) && !is_plain(PLAIN_STACKS) ? random_selector() : FLAT_DATA0);
	for (unsigned at = 4; at < 0x5c && lma; at += 8)
		flat_put(FLAT_TSS + at, 8, one_of(12) && !is_plain(PLAIN_STACKS) ? 0x8000000000000000 : STACK + 0x800 + (rnd() & 0x3ff));
	if (!lma)
		flat_put(FLAT_TSS, 2, task_selector());
}

/* The others: mostly what can run, with one thing wrong now and then. */
static void tasks(void)
{
	for (unsigned t = 0; t < TASKS; t++) {
		bool small = t & 1, user = one_of(2);
		unsigned size = small ? 2 : 4, at = TASK_AT(t), seg = at + (small ? 0x22 : 0x48), segs = small ? 4 : 6;
		unsigned odd = is_plain(PLAIN_TASKS) ? ~0u : (unsigned)(rnd() % 12); /* the selector that is anything */
		uint16_t rpl = user ? 3 : 0, any;
		uint64_t flags = rnd() & (FLAGS_ARITH | FLAG_IF | FLAG_IOPL | FLAG_DF | FLAG_NT | 0x8028), ip = random_offset(false);

		flat_put(at + (small ? 0x0e : 0x20), size, ip);
		flat_put(at + (small ? 0x10 : 0x24), size, is_plain(PLAIN_TASKS) ? 0 : flags);
		for (unsigned r = 0; r < 8; r++)
			flat_put(at + (small ? 0x12 : 0x28) + r * size, size, r == RSP ? STACK + 0x200 + (rnd() & 0xf0) : rnd());
		for (unsigned s = 0; s < segs; s++) {
			uint16_t selector = s == SEG_CS ? (user ? FLAT_CODE3 : FLAT_CODE0) : user ? FLAT_DATA3 : FLAT_DATA0;
			any = random_selector();
			flat_put(seg + s * size, 2, s == odd ? any : (selector | rpl));
		}
		any = random_selector();
		flat_put(at + (small ? 0x2a : 0x60), 2, odd == 6 ? any : 0);
		flat_put(FLAT_GDT + TASK_SELECTOR(t), 8, flat_descriptor(at, one_of(12) ? (unsigned)(rnd() % 0x68) : 0xff,
			(small ? SYS_TSS16 : SYS_TSS) | (one_of(3) ? 2 : 0) | (uint32_t)(rnd() & 0x60) | (one_of(10) ? 0 : SEGA_P)));
	}
}

static void registers(struct flat *f, struct system_case *c, unsigned cpl, bool lma)
{
	struct x86_cpu *cpu = &f->core.cpu;
	static const struct x86_segment table = { .base = LDT, .limit = LDT_ENTRIES * 8 - 1, .attr = SEGA_P | SYS_LDT, .selector = FLAT_FREE };
	bool without = one_of(5), small, narrow, high;
	uint64_t flags;

	cpu->gdtr.limit = GDT_ENTRIES * 8 - 1;
	cpu->idtr.limit = IDT_VECTORS * 8 - 1;
	cpu->ldtr = without || is_plain(PLAIN_LDTR) ? (struct x86_segment){ .attr = SEGA_UNUSABLE } : table;
	narrow = one_of(8) && !is_plain(PLAIN_TR);
	small = !lma && one_of(3) && !is_plain(PLAIN_TR);
	cpu->tr = (struct x86_segment){ .base = FLAT_TSS, .limit = narrow ? 0x10 : 0x1ff, .selector = FLAT_TR,
					.attr = SEGA_P | (small ? SYS_TSS16_BUSY : SYS_TSS_BUSY) };
	for (unsigned s = SEG_CS; s <= SEG_SS; s++) {
		cpu->seg[s].attr = (cpu->seg[s].attr & ~SEGA_DPL) | cpl << SEGA_DPL_SHIFT;
		cpu->seg[s].selector = (uint16_t)((cpu->seg[s].selector & ~3u) | cpl);
	}
	high = c->mode == FLAT_LONG && one_of(20);
	cpu->gpr[RSP] = high && !is_plain(PLAIN_RSP) ? 0x800000000000 : STACK + (rnd() & (is_plain(PLAIN_RSP) ? 0 : 0x3f0));
	flags = (rnd() & (FLAGS_ARITH | FLAG_IF | FLAG_IOPL | FLAG_DF)) | (one_of(20) || (c->what == TASK && c->n == BY_RETURN) ? FLAG_NT : 0);
	cpu->rflags = FLAG_FIXED | (is_plain(PLAIN_FLAGS) ? flags & FLAG_NT : flags);
	for (unsigned r = 0; r < 16; r++) {
		uint64_t value = one_of(3) && lma ? rnd() : (uint32_t)rnd();
		if (r != RSP && (c->what == TASK || c->what == FAST || c->what == CONTROL) && (r < 8 || lma) && !is_plain(PLAIN_REGISTERS))
			cpu->gpr[r] = value;
	}
}

static uint64_t code_address(void)
{
	return one_of(12) ? 0xffff800000000000 | (rnd() & 0xffff) : 0x5000 + (rnd() & 0xffe);
}

static void msrs(struct x86_cpu *cpu)
{
	uint64_t star = rnd(), mask = rnd() & (FLAGS_ARITH | FLAG_IF | FLAG_DF | FLAG_NT | FLAG_IOPL);
	uint64_t cs = one_of(8) ? rnd() & 3 : rnd() & 0xffff, target = code_address(), entry = code_address(), stack = STACK + (rnd() & 0xff0);
	bool enabled = !one_of(10);

	cpu->star = is_plain(PLAIN_MSRS) ? 0x0023001000000000 : star;
	cpu->lstar = target;
	cpu->sfmask = is_plain(PLAIN_MSRS) ? 0 : (uint32_t)mask;
	cpu->sysenter_cs = is_plain(PLAIN_MSRS) ? 0x10 : cs;
	cpu->sysenter_eip = entry;
	cpu->sysenter_esp = stack;
	cpu->efer |= enabled ? EFER_SCE : 0;
}

/* Paging without long mode, and bits of CR0 and CR4 that change nothing else. */
static void control_state(struct flat *f, struct system_case *c)
{
	struct x86_cpu *cpu = &f->core.cpu;
	unsigned paging = (unsigned)(rnd() % 4), cr3 = (unsigned)(rnd() & 0xfff);
	uint64_t cr0 = rnd() & (CR0_MP | CR0_TS | CR0_NE | CR0_AM | CR0_CD);
	uint64_t cr4 = rnd() & (CR4_PVI | CR4_TSD | CR4_DE | CR4_PGE | CR4_OSFXSR | CR4_UMIP | CR4_PSE);
	bool pcid = one_of(2), lme = one_of(4);

	for (unsigned n = 0; n < FLAT_RAM / (2 * MiB); n++)
		flat_put(FLAT_PML4 + 0x2000 + 8 * n, 8, n * 2 * MiB | PTE_P | PTE_W | PTE_U | PTE_PS);
	for (unsigned n = 0; n < 4; n++)
		flat_put(PAGED_TABLE + 4 * n, 4, n << 22 | PTE_P | PTE_W | PTE_U | PTE_PS);
	for (unsigned n = 0; n < PAE_TABLES; n++)
		for (unsigned e = 0; e < 4; e++)
			flat_put(PAE_TABLE + 32 * n + 8 * e, 8, (FLAT_PML4 + 0x2000) | PTE_P | (e == n && n ? BIT(n == 1 ? 1 : n == 2 ? 45 : 7) : 0));
	if (is_plain(PLAIN_CR))
		cr0 = cr4 = 0, pcid = lme = false;
	cpu->cr0 |= cr0;
	cpu->cr4 |= cr4;
	if (cpu->efer & EFER_LMA) {
		if (pcid) {
			cpu->cr4 |= CR4_PCIDE;
			cpu->cr3 |= one_of(2) ? 0 : cr3;
		}
		return;
	}
	for (unsigned t = 0; t < TASKS; t += 2)
		flat_put(TASK_AT(t) + 0x1c, 4, paging == 1 ? PAGED_TABLE : PAE_TABLE);
	switch (paging) {
	case 0:
		cpu->efer |= lme ? EFER_LME : 0;
		cpu->cr4 |= one_of(2) ? CR4_PAE : 0;
		cpu->cr3 = one_of(2) ? FLAT_PML4 : PAE_TABLE + 32 * (rnd() % PAE_TABLES);
		return;
	case 1:
		cpu->cr0 |= CR0_PG;
		cpu->cr4 |= CR4_PSE;
		cpu->cr3 = PAGED_TABLE;
		return;
	case 2:
		cpu->cr0 |= CR0_PG;
		cpu->cr4 |= CR4_PAE;
		cpu->cr3 = PAE_TABLE;
		for (unsigned n = 0; n < 4; n++)
			cpu->pdpte[n] = flat_get(PAE_TABLE + 8 * n, 8);
	}
}

/* What is written: what is there, with some bits changed, or anything. */
static uint64_t control_value(const struct x86_cpu *cpu, unsigned cr)
{
	static const uint64_t bits[5][6] = {
		[0] = { CR0_PG, CR0_PE, CR0_NW, CR0_CD, CR0_WP, BIT(40) },
		[4] = { CR4_PAE, CR4_PCIDE, CR4_PGE, CR4_PSE, CR4_SMEP, BIT(15) },
	};
	uint64_t value = cr == 0 ? cpu->cr0 : cpu->cr4;

	if (cr == 3) {
		static const uint64_t at[] = { FLAT_PML4, PAGED_TABLE, PAE_TABLE, PAE_TABLE + 32, PAE_TABLE + 64, PAE_TABLE + 96 };
		value = at[rnd() % ARRAY_SIZE(at)] | (rnd() & (one_of(3) ? 0xfff : 0x18));
		return one_of(5) ? value | BIT(63) : one_of(8) ? value | BIT(40 + rnd() % 23) : value;
	}
	if (cr != 0 && cr != 4)
		return one_of(2) ? rnd() & 15 : rnd();
	for (unsigned n = 0; n < 6; n++)
		value ^= one_of(n == 5 ? 20 : 4) ? bits[cr][n] : 0;
	return one_of(6) ? value ^ BIT(rnd() % 32) : value;
}

/* The frame for returns. */
static void frame(struct system_case *c, struct x86_cpu *cpu)
{
	uint64_t sp = cpu->gpr[RSP];
	unsigned at = 2 * c->size;

	c->n = c->what == RETURN && one_of(2) ? (unsigned)(rnd() & 0x1c) : 0;
	if (sp >= MEM - 0x100)
		return;
	flat_put(sp, c->size, c->offset);
	flat_put(sp + c->size, 2, c->selector);
	if (c->what == IRETURN) {
		flat_put(sp + at, c->size, rnd() & (FLAGS_ARITH | FLAG_IF | FLAG_IOPL | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_FIXED));
		at += c->size;
	}
	at += c->n;
	flat_put(sp + at, c->size, STACK + 0x600 + (rnd() & 0xf0));
	flat_put(sp + at + c->size, 2, one_of(3) ? FLAT_DATA3 | 3 : one_of(2) ? (c->selector & 3u) | (random_selector() & ~3u) : random_selector());
}

static uint8_t *far_pointer(struct system_case *c, struct x86_cpu *cpu, uint8_t *b, bool call)
{
	if (c->mode != FLAT_LONG) {
		*b++ = call ? 0x9a : 0xea;
		memcpy(b, &c->offset, c->size);
		memcpy(b + c->size, &c->selector, 2);
		b += c->size + 2;
	} else {
		flat_put(POINTER, c->size, c->offset);
		flat_put(POINTER + c->size, 2, c->selector);
		cpu->gpr[RBX] = POINTER;
		*b++ = 0xff, *b++ = call ? 0x1b : 0x2b;
	}
	c->offset &= size_mask(c->size);
	return b;
}

static uint8_t *task(struct system_case *c, struct x86_cpu *cpu, uint8_t *b)
{
	static const unsigned gates[] = { 20, VECTOR_UD };
	unsigned vector = gates[rnd() % 2];
	bool indirect = one_of(2);

	switch (c->n) {
	case BY_JUMP:
	case BY_CALL:
		c->selector = task_selector();
		if (indirect) { /* by a gate in the LDT */
			flat_put(LDT, 8, gate(SYS_TASK_GATE, 0));
			c->selector = 4 | (c->selector & 3);
		}
		return far_pointer(c, cpu, b, c->n == BY_CALL);
	case BY_GATE:
		flat_put(FLAT_IDT + 8 * vector, 8, gate(SYS_TASK_GATE, 0));
		if (vector == VECTOR_UD)
			*b++ = 0x0f, *b++ = 0x0b;
		else
			*b++ = 0xcd, *b++ = (uint8_t)vector;
		c->size = vector;
		return b;
	default:
		*b++ = 0xcf;
		return b;
	}
}

static uint8_t *control_bytes(struct system_case *c, struct x86_cpu *cpu, uint8_t *b)
{
	static const uint8_t registers[] = { 0, 0, 0, 4, 4, 4, 3, 3, 2, 8, 8, 1, 5 };
	unsigned cr = registers[rnd() % ARRAY_SIZE(registers)];

	c->n = rnd() % 4 ? WRITE_CR : (unsigned)(rnd() % CONTROLS);
	c->reg = (unsigned)(rnd() & 7) == RSP ? RAX : (unsigned)(rnd() & 7);
	if (c->reg == RSP)
		c->reg = RAX;
	if (cr == 8 && c->mode != FLAT_LONG)
		cr = 0;
	uint64_t value = control_value(cpu, cr);
	if (c->n == WRITE_CR)
		cpu->gpr[c->reg] = c->mode == FLAT_LONG ? value : (uint32_t)value;
	c->size = cr;
	c->selector = (uint16_t)cpu->gpr[c->reg];
	if (c->n == SMSW && c->mode == FLAT_PROTECTED16)
		*b++ = 0x66;
	if (c->n <= READ_CR && cr == 8)
		*b++ = 0x44;
	*b++ = 0x0f;
	if (c->n == CLTS)
		return *b++ = 6, b;
	*b++ = c->n == WRITE_CR ? 0x22 : c->n == READ_CR ? 0x20 : 1;
	*b++ = (uint8_t)(0xc0 | (c->n == LMSW ? 6 : c->n == SMSW ? 4 : cr & 7) << 3 | c->reg);
	return b;
}

static void encode(struct system_case *c, struct x86_cpu *cpu)
{
	static const unsigned sregs[] = { SEG_ES, SEG_SS, SEG_DS, SEG_FS, SEG_GS };
	static const uint8_t fast[] = { 0x05, 0x07, 0x34, 0x35 };
	bool long_mode = c->mode == FLAT_LONG;
	uint8_t *b = c->bytes;

	c->wide = false;
	if (one_of(3) && c->what >= JUMP && c->what <= IRETURN) {
		c->size = long_mode ? 8 : 6 - c->size;
		*b++ = long_mode ? 0x48 : 0x66;
	}
	switch (c->what) {
	case MOV_SREG:
		c->n = sregs[c->n % 5];
		cpu->gpr[RAX] = c->selector;
		*b++ = 0x8e, *b++ = (uint8_t)(0xc0 | c->n << 3);
		break;
	case ASK:
		c->n %= 4;
		cpu->gpr[RAX] = c->selector;
		cpu->gpr[RDX] = 0x12345678;
		if (c->mode == FLAT_PROTECTED16 && c->n <= LSL)
			*b++ = 0x66;
		*b++ = 0x0f, *b++ = c->n == LAR ? 2 : c->n == LSL ? 3 : 0;
		*b++ = c->n == LAR || c->n == LSL ? 0xd0 : c->n == VERR ? 0xe0 : 0xe8;
		break;
	case TABLE_REGISTER:
		c->n %= 2;
		cpu->gpr[RAX] = c->selector;
		*b++ = 0x0f, *b++ = 0, *b++ = c->n ? 0xd8 : 0xd0;
		break;
	case JUMP:
	case CALL:
		b = far_pointer(c, cpu, b, c->what == CALL);
		break;
	case RETURN:
	case IRETURN:
		frame(c, cpu);
		if (c->what == IRETURN)
			*b++ = 0xcf;
		else if (c->n)
			*b++ = 0xca, *b++ = (uint8_t)c->n, *b++ = 0;
		else
			*b++ = 0xcb;
		break;
	case INT_N:
		c->n %= IDT_VECTORS + 4;
		*b++ = 0xcd, *b++ = (uint8_t)c->n;
		break;
	case TASK:
		b = task(c, cpu, b);
		break;
	case FAST:
		c->n %= FAST_CALLS;
		c->wide = long_mode && c->n != FAST_SYSCALL && c->n != FAST_SYSENTER && one_of(2);
		cpu->gpr[RCX] = one_of(2) ? 0x5000 + (rnd() & 0xffe) : cpu->gpr[RCX];
		cpu->gpr[RDX] = one_of(2) ? 0x5000 + (rnd() & 0xffe) : cpu->gpr[RDX];
		if (c->wide)
			*b++ = 0x48;
		*b++ = 0x0f, *b++ = fast[c->n];
		break;
	case CONTROL:
		b = control_bytes(c, cpu, b);
		break;
	default:
		*b++ = 0x0f, *b++ = 0x0b; /* UD2 */
	}
	c->length = (unsigned)(b - c->bytes);
}

/* What systems do all day, which a random case seldom is: a program's segments, its interrupt, and the return to it, with at most one thing changed. */
static void ordinary(struct system_case *c, struct x86_cpu *cpu, unsigned cpl, bool lma)
{
	static const uint8_t data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	unsigned odd = (unsigned)(rnd() % 16);
	uint64_t sp = cpu->gpr[RSP], random = rnd(), low = random & 3;

	for (unsigned n = 0; n < ARRAY_SIZE(data) && (odd != 0 || n != low); n++) {
		cpu->seg[data[n]].attr |= SEGA_DPL;
		cpu->seg[data[n]].selector = FLAT_DATA3 | 3;
		if (lma && random & BIT(n + 2))
			cpu->seg[data[n]] = (struct x86_segment){ .attr = SEGA_UNUSABLE };
	}
	if (c->what == MOV_SREG && odd > 2)
		cpu->gpr[RAX] = c->selector = FLAT_DATA3 | 3;
	if (c->what == INT_N && c->n < IDT_VECTORS && !lma && odd != 3) {
		uint64_t gate_ = flat_get(FLAT_IDT + 8 * c->n, 8) & ~(0xffff0000ULL | 0x7fULL << 40);
		flat_put(FLAT_IDT + 8 * c->n, 8, gate_ | FLAT_CODE0 << 16 | (odd == 4 ? 0ULL : 0x60) << 40 | (random & 1 ? (uint64_t)SYS_INT : SYS_TRAP) << 40);
	}
	if (c->what != IRETURN || sp >= MEM - 0x100 || (cpl && odd & 1))
		return;
	uint16_t code = lma ? FLAT_CODE64 : FLAT_CODE0, stack = FLAT_DATA0, user = 0;
	if (cpl || random & 0x100)
		code = lma ? FLAT_CODE64_3 : FLAT_CODE3, stack = FLAT_DATA3, user = 3;
	flat_put(sp, c->size, 0x5000 + (random >> 16 & 0xffe));
	if (odd != 5)
		flat_put(sp + c->size, 2, code | user);
	if (odd != 6)
		flat_put(sp + 2 * c->size, c->size, (flat_get(sp + 2 * c->size, 4) & ~(FLAG_NT | FLAG_AC)) | (random & 0x200 ? FLAG_RF : 0));
	if (odd != 7)
		flat_put(sp + 3 * c->size, c->size, STACK + 0x600 + (random >> 32 & (odd == 8 ? 0xff : 0xf8)));
	if (odd != 9)
		flat_put(sp + 4 * c->size, 2, lma && !user && random & 0x400 ? 0 : stack | user);
}

enum system_what system_what_of(uint64_t seed)
{
	state = seed;
	return rnd() % SYSTEM_WHATS;
}

void system_build(struct flat *f, struct system_case *c, uint64_t seed, uint64_t plain)
{
	bool lma;

	*c = (struct system_case){ .seed = seed, .plain = plain, .what = system_what_of(seed), .mode = FLAT_PROTECTED16 + rnd() % 4 };
	plain_bits = plain;
	c->n = (unsigned)rnd();
	if (c->what == TASK) {
		c->mode = FLAT_PROTECTED16 + rnd() % 2;
		c->n %= 4;
	}
	memset(flat_ram, 0, SYSTEM_MEMORY); /* no case depends on one before */
	unsigned cpl = one_of(2) ? 3 : rnd() & 3;
	if (c->what == CONTROL && !one_of(6))
		cpl = 0;
	flat_mode(f, c->mode, cpl ? 3 : 0);
	lma = c->mode == FLAT_COMPAT32 || c->mode == FLAT_LONG;
	tables(lma);
	current_task(lma);
	if (!lma)
		tasks();
	registers(f, c, cpl, lma);
	if (c->what == FAST)
		msrs(&f->core.cpu);
	if (c->what == CONTROL)
		control_state(f, c);
	c->selector = random_selector();
	c->offset = random_offset(lma);
	c->size = c->mode == FLAT_PROTECTED16 ? 2 : 4;
	encode(c, &f->core.cpu);
	if (one_of(2))
		ordinary(c, &f->core.cpu, cpl, lma);
	for (unsigned at = CODE + 0x1000; at < CODE + 0x2000; at += 2)
		flat_put(at, 2, JUMP_TO_ITSELF);
	memcpy(flat_ram + CODE, c->bytes, c->length);
	flat_put(CODE + c->length, 2, JUMP_TO_ITSELF);
	flat_put(CODE - 2, 2, 0x9090);
	x86_core_loaded(&f->core);
}
