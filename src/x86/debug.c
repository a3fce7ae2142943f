/* SPDX-License-Identifier: MIT */
/* Breakpoints of the debug registers: instruction, data and I/O. SDM 3B 17.2.
 *
 * Data accesses run through the TLB without a look at DR7. A page with a data breakpoint in it therefore never
 * enters the TLB (whoever writes DR7 flushes it), so only accesses to that page, in the slow half, are compared with
 * the breakpoints. */
#include "x86/debug.h"

enum { KIND_EXECUTE, KIND_WRITE, KIND_IO, KIND_ACCESS };

static bool enabled(const struct x86_core *core, unsigned n)
{
	return core->cpu.dr[7] >> (2 * n) & 3;
}

static unsigned kind_of(const struct x86_core *core, unsigned n)
{
	return core->cpu.dr[7] >> (16 + 4 * n) & 3;
}

static unsigned length_of(const struct x86_core *core, unsigned n)
{
	static const uint8_t length[4] = { 1, 2, 8, 4 };
	return length[core->cpu.dr[7] >> (18 + 4 * n) & 3];
}

/* Breakpoints are aligned to their length: the low address bits do not count. */
static bool meets(const struct x86_core *core, unsigned n, uint64_t address, unsigned size)
{
	uint64_t length = length_of(core, n), from = core->cpu.dr[n] & ~(length - 1);
	return address < from + length && from < address + size;
}

static bool is_data(unsigned kind)
{
	return kind == KIND_WRITE || kind == KIND_ACCESS;
}

bool x86_debug_in_page(const struct x86_core *core, gva_t page)
{
	for (unsigned n = 0; n < 4; n++)
		if (enabled(core, n) && is_data(kind_of(core, n)) && (core->cpu.dr[n] & X86_PAGE_MASK) == page)
			return true;
	for (unsigned n = 0; n < core->watches; n++)
		if (core->watch[n].at < page + X86_PAGE_SIZE && page < core->watch[n].at + core->watch[n].len)
			return true;
	return false;
}

void x86_debug_access(struct x86_core *core, gva_t gva, unsigned size, enum x86_access access)
{
	for (unsigned n = 0; n < core->watches; n++) {
		const struct x86_watch *w = &core->watch[n];
		if ((access == ACCESS_WRITE ? w->write : w->read) && gva < w->at + w->len && w->at < gva + size) {
			core->watch_hit = true;
			core->watch_address = w->at;
		}
	}
	for (unsigned n = 0; n < 4; n++) {
		unsigned kind = kind_of(core, n);
		if (enabled(core, n) && is_data(kind) && (access == ACCESS_WRITE || kind == KIND_ACCESS) &&
		    meets(core, n, gva, size))
			core->cpu.pending_debug |= BIT(n);
	}
}

void x86_debug_port(struct x86_core *core, uint16_t port, unsigned size)
{
	if (!(core->cpu.cr4 & CR4_DE))
		return;
	for (unsigned n = 0; n < 4; n++)
		if (enabled(core, n) && kind_of(core, n) == KIND_IO && meets(core, n, port, size))
			core->cpu.pending_debug |= BIT(n);
}

unsigned x86_debug_code(const struct x86_core *core, gva_t gva)
{
	unsigned met = 0;

	for (unsigned n = 0; n < 4; n++)
		if (enabled(core, n) && kind_of(core, n) == KIND_EXECUTE && core->cpu.dr[n] == gva)
			met |= 1u << n;
	return met;
}
