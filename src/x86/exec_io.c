/* SPDX-License-Identifier: MIT */
/* Ports: IN, OUT, INS, OUTS with REP; I/O privilege and the permission bitmap of the TSS. SDM volume 1 chapter 19,
 * volume 2. */
#include "x86/debug.h"
#include "x86/exec_system.h"
#include "x86/segment.h"

/* Every bit of the bitmap that stands for one of the ports must be clear; the processor always reads two bytes of
 * it. */
static bool bitmap_allows(struct x86_core *core, const struct insn *i, uint16_t port, unsigned size)
{
	const struct x86_segment *tr = &core->cpu.tr;
	uint32_t map, at;

	if ((tr->attr & SEGA_TYPE) < SYS_TSS || TSS_IO_MAP_BASE + 1 > tr->limit)
		return false;
	map = (uint32_t)x86_load_system(core, i, tr->base + TSS_IO_MAP_BASE, 2);
	at = map + port / 8;
	if (at + 1 > tr->limit)
		return false;
	uint64_t bits = x86_load_system(core, i, tr->base + at, 2) >> (port & 7);
	return !(bits & (BIT(size) - 1));
}

static void check_port(struct x86_core *core, const struct insn *i, uint16_t port, unsigned size)
{
	unsigned iopl = (unsigned)(core->cpu.rflags & FLAG_IOPL) >> 12;

	if (!(core->mode & (MODE_PROTECTED | MODE_V86)))
		return;
	if ((core->cpl > iopl || (core->mode & MODE_V86)) && !bitmap_allows(core, i, port, size))
		x86_raise_error(core, i, VECTOR_GP, 0);
}

static uint64_t read_port(struct x86_core *core, uint16_t port, unsigned size)
{
	core->stat.port_io++;
	if (unlikely(x86_debug_armed(core)))
		x86_debug_port(core, port, size);
	return core->env->io_read(core, SPACE_PORT, port, size);
}

static void write_port(struct x86_core *core, uint16_t port, unsigned size, uint64_t value)
{
	core->stat.port_io++;
	if (unlikely(x86_debug_armed(core)))
		x86_debug_port(core, port, size);
	core->env->io_write(core, SPACE_PORT, port, size, value);
}

static unsigned data_size(const struct insn *i)
{
	return !(i->opcode & 1) ? 1 : i->osize == 2 ? 2 : 4;
}

static uint16_t port_of(struct x86_core *core, const struct insn *i)
{
	return i->opcode & 8 ? (uint16_t)core->cpu.gpr[RDX] : (uint8_t)i->imm;
}

EXEC(in)
{
	unsigned size = data_size(i);
	uint16_t port = port_of(core, i);

	check_port(core, i, port, size);
	x86_reg_set(core, RAX * 8, size, read_port(core, port, size));
	X86_NEXT(core, i);
}

EXEC(out)
{
	unsigned size = data_size(i);
	uint16_t port = port_of(core, i);

	check_port(core, i, port, size);
	write_port(core, port, size, x86_reg(core, RAX * 8, size));
	X86_NEXT(core, i);
}

/* One element from the port to ES:rDI. The port is read when the store cannot fail any more. */
static void ins_one(struct x86_core *core, const struct insn *i, uint16_t port, unsigned size)
{
	struct insn es = *i; /* the destination has no override; decoding describes the source */

	es.base = RDI * 8;
	es.scaled = X86_GPR_ZERO * 8;
	es.scale = 0;
	es.disp = 0;
	es.seg = SEG_ES;
	es.flags = (uint16_t)((i->flags & ~INSN_STACK_SEG) | INSN_ADDRESS);
	gva_t at = x86_address(core, &es, size, ACCESS_WRITE);
	x86_check_write(core, i, at, size);
	x86_store(core, i, at, size, read_port(core, port, size));
}

static void outs_one(struct x86_core *core, const struct insn *i, uint16_t port, unsigned size)
{
	struct insn ds = *i;

	ds.base = RSI * 8;
	ds.scaled = X86_GPR_ZERO * 8;
	ds.scale = 0;
	ds.disp = 0;
	ds.flags |= INSN_ADDRESS;
	write_port(core, port, size, x86_load(core, i, x86_address(core, &ds, size, ACCESS_READ), size));
}

/* One element, or as many as rCX says. Between two the engine may take over: registers are those of a fresh start. */
static bool string_io(struct x86_core *core, const struct insn *i, unsigned pointer,
		      void (*one)(struct x86_core *, const struct insn *, uint16_t, unsigned))
{
	uint16_t port = (uint16_t)core->cpu.gpr[RDX];
	bool repeat = i->flags & (INSN_REP | INSN_REPNE);
	uint64_t mask = size_mask(i->asize), step = core->cpu.rflags & FLAG_DF ? -(uint64_t)i->size : i->size;

	if (repeat && !(core->cpu.gpr[RCX] & mask))
		return true;
	check_port(core, i, port, i->size);
	for (;;) {
		one(core, i, port, i->size);
		x86_reg_set(core, pointer * 8, i->asize, (core->cpu.gpr[pointer] + step) & mask);
		if (!repeat)
			return true;
		uint64_t left = (core->cpu.gpr[RCX] - 1) & mask;
		x86_reg_set(core, RCX * 8, i->asize, left);
		if (!left)
			return true;
		if (!*(volatile uint64_t *)&core->chain_limit || core->cpu.pending_debug ||
		    (core->cpu.rflags & FLAG_TF)) {
			core->cpu.rflags |= FLAG_RF; /* as for the string instructions */
			return false;
		}
	}
}

EXEC(ins)
{
	if (string_io(core, i, RDI, ins_one))
		X86_NEXT(core, i);
	x86_leave(core, i, false);
}

EXEC(outs)
{
	if (string_io(core, i, RSI, outs_one))
		X86_NEXT(core, i);
	x86_leave(core, i, false);
}

const struct x86_forms x86_in = { .any = in };
const struct x86_forms x86_out = { .any = out };
const struct x86_forms x86_ins = { .any = ins };
const struct x86_forms x86_outs = { .any = outs };
