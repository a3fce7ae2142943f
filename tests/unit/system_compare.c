/* SPDX-License-Identifier: MIT */
/* Cases of system state in the model, and the comparison with it. What the manual leaves open is not compared: which accessed bits a transfer sets
 * before it faults, how much of a frame is written before #SS, RF in a TSS, and the upper halves of a 16-bit task's registers. */
#include <stdio.h>
#include "system_case.h"

static const struct flat *asked;
static bool has(unsigned feature)
{
	return x86_has(&asked->core, feature);
}

static void take(const struct flat *f)
{
	const struct x86_cpu *cpu = &f->core.cpu;

	asked = f;
	memset(&m, 0, sizeof(m) - sizeof(m.mem));
	memcpy(m.gpr, cpu->gpr, sizeof(m.gpr));
	memcpy(m.seg, cpu->seg, sizeof(m.seg));
	memcpy(m.pdpte, cpu->pdpte, sizeof(m.pdpte));
	m.ldtr = cpu->ldtr;
	m.tr = cpu->tr;
	m.rip = CODE;
	m.flags = x86_flags_get((struct x86_core *)&f->core);
	m.cpl = f->core.cpl;
	m.lma = cpu->efer & EFER_LMA;
	m.code64 = m.lma && cpu->seg[SEG_CS].attr & SEGA_L;
	m.cr0 = cpu->cr0, m.cr2 = cpu->cr2, m.cr3 = cpu->cr3, m.cr4 = cpu->cr4, m.cr8 = cpu->cr8, m.efer = cpu->efer;
	m.star = cpu->star, m.lstar = cpu->lstar, m.sfmask = cpu->sfmask;
	m.sysenter_cs = cpu->sysenter_cs, m.sysenter_esp = cpu->sysenter_esp, m.sysenter_eip = cpu->sysenter_eip;
	memcpy(m.mem, flat_ram, MEM);
}

static void run_task(const struct system_case *c, uint64_t next)
{
	if (c->n == BY_RETURN)
		far_return(true, c->size, 0, next);
	else if (c->n != BY_GATE)
		far_transfer(c->n == BY_CALL, c->selector, c->offset, c->size, next);
	else if (c->size == VECTOR_UD)
		raise_(VECTOR_UD, 0);
	else
		interrupt(c->size, false, 0, 0, next, false);
}

static void run_model(const struct system_case *c)
{
	uint64_t next = CODE + c->length;

	switch (c->what) {
	case MOV_SREG: mov_sreg(c->n, c->selector); break;
	case ASK: ask(c->n, c->selector); break;
	case TABLE_REGISTER: c->n ? ltr(c->selector) : lldt(c->selector); break;
	case JUMP: far_transfer(false, c->selector, c->offset, c->size, next); return;
	case CALL: far_transfer(true, c->selector, c->offset, c->size, next); return;
	case RETURN: far_return(false, c->size, c->n, next); return;
	case IRETURN: far_return(true, c->size, 0, next); return;
	case INT_N: interrupt(c->n, false, 0, 0, next, false); return;
	case TASK: run_task(c, next); return;
	case FAST: fast_call(c->n, c->wide, next); return;
	case CONTROL: control(c->n, c->size, c->reg, c->selector, has, next); return;
	default: raise_(VECTOR_UD, 0);
	}
	m.rip = next;
}

bool system_expect(const struct flat *f, const struct system_case *c, struct system_want *want)
{
	static struct model before;

	take(f);
	before = m;
	*want = (struct system_want){ .vector = -1 };
	if (!setjmp(faulted)) {
		run_model(c);
		return true;
	}
	if (fault.vector == SKIP)
		return false;
	want->vector = (int)fault.vector;
	want->error = fault.error;
	want->task_fault = m.in_new_task;
	if (want->task_fault)
		return true;
	bool loose = m.loose;
	m = before;
	m.loose = loose;
	return deliver((unsigned)want->vector, want->error);
}

/* --- comparing --- */

static bool same_segment(const struct x86_segment *a, const struct x86_segment *b, bool wide)
{
	if (a->selector != b->selector || !(a->attr & SEGA_UNUSABLE) != !(b->attr & SEGA_UNUSABLE))
		return false;
	if (a->attr & SEGA_UNUSABLE)
		return true;
	return a->attr == b->attr && (wide || (a->base == b->base && a->limit == b->limit));
}

static bool may_differ(unsigned at, uint8_t a, uint8_t b, bool faulted_)
{
	bool table = (at >= FLAT_GDT && at < FLAT_GDT + GDT_ENTRIES * 8) || (at >= LDT && at < LDT + LDT_ENTRIES * 8);

	if (faulted_ && table && at % 8 == 5 && (a ^ b) == 1)
		return true;
	if (at == FLAT_TSS + 0x26 && (a ^ b) == 1) /* RF in the old task's flags */
		return true;
	return m.loose && at >= STACK - 0x1000 && at < STACK + 0x1000;
}

static bool same_memory(const uint8_t *memory, bool faulted_)
{
	if (!memcmp(memory, m.mem, MEM))
		return true;
	for (unsigned at = 0; at < MEM; at++)
		if (memory[at] != m.mem[at] && !may_differ(at, memory[at], m.mem[at], faulted_))
			return false;
	return true;
}

static bool same_registers(const struct system_case *c, const struct x86_core *core)
{
	for (unsigned r = 0; r < 16; r++) {
		uint64_t differ = core->cpu.gpr[r] ^ m.gpr[r];
		if (r == RDX && c->what == ASK && c->n == LAR) /* bits 19:16 are undefined */
			differ &= ~0xf0000ULL;
		if (m.small_task ? (uint16_t)differ != 0 : differ != 0)
			return false;
	}
	uint64_t flags = x86_flags_get((struct x86_core *)core) ^ m.flags;
	return core->cpu.gpr[X86_GPR_RIP] == m.rip && !(flags & ~(uint64_t)(m.small_task ? 0xffff0000 : FLAG_RF));
}

static bool same_control(const struct x86_cpu *cpu)
{
	bool pdptes = m.cr0 & CR0_PG && m.cr4 & CR4_PAE && !m.lma;

	return cpu->cr0 == m.cr0 && cpu->cr2 == m.cr2 && cpu->cr3 == m.cr3 && cpu->cr4 == m.cr4 && cpu->cr8 == m.cr8 && cpu->efer == m.efer &&
	       (!pdptes || !memcmp(cpu->pdpte, m.pdpte, sizeof(m.pdpte)));
}

bool system_same(const struct system_case *c, const struct system_want *want, const struct x86_core *core, const uint8_t *memory)
{
	const struct x86_cpu *cpu = &core->cpu;
	bool same;

	if ((cpu->activity == X86_SHUTDOWN) != m.shutdown)
		return false;
	if (m.shutdown)
		return true;
	same = same_registers(c, core) && same_control(cpu) && same_segment(&cpu->tr, &m.tr, false) && same_memory(memory, want->vector >= 0);
	if (want->task_fault)
		return same;
	for (unsigned s = 0; s < (m.small_task ? 4u : 6u); s++)
		same &= same_segment(&cpu->seg[s], &m.seg[s], s == SEG_CS && m.code64);
	return same && core->cpl == m.cpl && same_segment(&cpu->ldtr, &m.ldtr, false);
}

void system_show(const struct system_case *c, const struct system_want *want, const struct x86_core *core, const uint8_t *memory)
{
	static const char *const modes[] = { "real", "16-bit protected", "32-bit protected", "compatibility", "64-bit" };
	const struct x86_cpu *cpu = &core->cpu;
	const struct { const char *name; uint64_t here, there;
	} rows[] = {
		{ "rip", cpu->gpr[X86_GPR_RIP], m.rip }, { "flags", x86_flags_get((struct x86_core *)core), m.flags }, { "cpl", core->cpl, m.cpl },
		{ "shutdown", cpu->activity == X86_SHUTDOWN, m.shutdown }, { "cr0", cpu->cr0, m.cr0 }, { "cr3", cpu->cr3, m.cr3 },
		{ "cr4", cpu->cr4, m.cr4 }, { "cr8", cpu->cr8, m.cr8 }, { "efer", cpu->efer, m.efer },
	};

	printf("# system_random -c %#lx -p %#lx: %s mode: %s %u, selector %x, offset %lx, size %u\n#   ", c->seed, c->plain, modes[c->mode],
	       system_names[c->what], c->n, c->selector, c->offset, c->size);
	for (unsigned n = 0; n < c->length; n++)
		printf("%02x", c->bytes[n]);
	printf(", by the manual vector %d error %x%s\n", want->vector, want->error, want->task_fault ? " in the new task" : "");
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++)
		if (rows[n].here != rows[n].there)
			printf("#   %s %lx, by the manual %lx\n", rows[n].name, rows[n].here, rows[n].there);
	for (unsigned r = 0; r < 16; r++)
		if (cpu->gpr[r] != m.gpr[r])
			printf("#   register %u: %lx, by the manual %lx\n", r, cpu->gpr[r], m.gpr[r]);
	for (unsigned s = 0; s < 8; s++) {
		const struct x86_segment *x = s < 6 ? &cpu->seg[s] : s == 6 ? &cpu->ldtr : &cpu->tr;
		const struct x86_segment *y = s < 6 ? &m.seg[s] : s == 6 ? &m.ldtr : &m.tr;
		if (!same_segment(x, y, false))
			printf("#   segment %u: %x %lx %x %x; by the manual %x %lx %x %x\n", s, x->selector, x->base, x->limit, x->attr,
			       y->selector, y->base, y->limit, y->attr);
	}
	for (unsigned at = 0, shown = 0; at < MEM && shown < 12; at++)
		if (memory[at] != m.mem[at] && ++shown)
			printf("#   [%x] %02x, by the manual %02x\n", at, memory[at], m.mem[at]);
}
