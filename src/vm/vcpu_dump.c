/* SPDX-License-Identifier: MIT */
/* A processor's registers as lines on stderr: for crashes, and for whoever asks what a guest is doing. */
#include <stdio.h>
#include "util/log.h"
#include "vm/vcpu.h"
#include "x86/features.h"

#define CODE_BYTES 15 /* of the longest instruction */

static void general(const struct x86_cpu *c)
{
	static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					     "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15" };

	for (unsigned r = 0; r < ARRAY_SIZE(names); r += 4)
		log_info("  %s %016lx  %s %016lx  %s %016lx  %s %016lx", names[r], c->gpr[r], names[r + 1], c->gpr[r + 1], names[r + 2],
			 c->gpr[r + 2], names[r + 3], c->gpr[r + 3]);
}

static void flags(uint64_t rflags, char text[64])
{
	static const struct { uint64_t bit; const char *name; } bits[] = {
		{ FLAG_CF, "CF " }, { FLAG_PF, "PF " }, { FLAG_AF, "AF " }, { FLAG_ZF, "ZF " }, { FLAG_SF, "SF " }, { FLAG_TF, "TF " },
		{ FLAG_IF, "IF " }, { FLAG_DF, "DF " }, { FLAG_OF, "OF " }, { FLAG_NT, "NT " }, { FLAG_RF, "RF " }, { FLAG_VM, "VM " },
		{ FLAG_AC, "AC " },
	};
	int used = 0;

	text[0] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
		if (rflags & bits[i].bit)
			used += snprintf(text + used, 64 - (size_t)used, "%s", bits[i].name);
}

static void segment(const char *name, const struct x86_segment *s)
{
	log_info("  %s %04x  base %016lx  limit %08x  attr %05x", name, s->selector, s->base, s->limit, s->attr);
}

static void code(struct x86_core *core)
{
	uint64_t rip = core->cpu.gpr[X86_GPR_RIP], at = rip + core->cpu.seg[SEG_CS].base;
	uint8_t bytes[CODE_BYTES];
	char hex[3 * CODE_BYTES + 1], text[128];
	unsigned got = 0;

	while (got < CODE_BYTES && x86_peek(core, at + got, &bytes[got], 1)) {
		snprintf(hex + 3 * got, 4, "%02x ", bytes[got]);
		got++;
	}
	if (!got) {
		log_info("  no memory at rip");
		return;
	}
	x86_disassemble(text, sizeof(text), bytes, got, core->mode, rip);
	log_info("  code %s", hex);
	log_info("       %s", text);
	unsigned lacks = x86_decode_lacks(bytes, got, core->mode, core->model);
	if (lacks != FEATURE_NONE)
		log_info("       which needs %s: this guest is for a later processor than --cpu %s", x86_feature_name(lacks), core->model->name);
}

void vcpu_dump(struct vcpu *vcpu)
{
	static const char *const activity[] = { "running", "halted", "shut down", "waiting for SIPI" };
	static const char *const segments[SEG_COUNT] = { "es  ", "cs  ", "ss  ", "ds  ", "fs  ", "gs  " };
	struct x86_cpu *c = &vcpu->core.cpu;
	char names[64];

	vcpu_state(vcpu, X86_ALL_GROUPS);
	flags(c->rflags, names);
	log_info("cpu%u: %s, after %lu instructions", vcpu->index, c->activity < ARRAY_SIZE(activity) ? activity[c->activity] : "?",
		 vcpu->core.icount);
	log_info("  rip %016lx  rflags %08lx %s cpl %u", c->gpr[X86_GPR_RIP], c->rflags, names, vcpu->core.cpl);
	general(c);
	for (unsigned s = 0; s < SEG_COUNT; s++)
		segment(segments[s], &c->seg[s]);
	segment("ldtr", &c->ldtr);
	segment("tr  ", &c->tr);
	log_info("  gdtr base %016lx limit %04x  idtr base %016lx limit %04x", c->gdtr.base, c->gdtr.limit, c->idtr.base, c->idtr.limit);
	log_info("  cr0 %08lx  cr2 %016lx  cr3 %016lx  cr4 %08lx  efer %04lx", c->cr0, c->cr2, c->cr3, c->cr4, c->efer);
	log_info("  dr6 %08lx  dr7 %08lx  interrupts: %s%s%s", c->dr[6], c->dr[7], vcpu->intr_pending ? "pending " : "",
		 c->interrupt_shadow ? "shadowed " : "", c->nmi_blocked ? "nmi-blocked" : "");
	code(&vcpu->core);
}
