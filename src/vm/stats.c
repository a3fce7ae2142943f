/* SPDX-License-Identifier: MIT */
/* What --stats prints: every counter that the machine keeps, those of zero left out. */
#include "vm/stats.h"
#include "engine/engine.h"

static void row(FILE *out, const char *group, const char *name, uint64_t value)
{
	if (value)
		fprintf(out, "%s.%s %lu\n", group, name, value);
}

#define SUM(vm, member)                                                                                                \
	({                                                                                                             \
		uint64_t sum_ = 0;                                                                                     \
		for (unsigned v_ = 0; v_ < (vm)->config.cpus; v_++)                                                    \
			sum_ += (vm)->vcpu[v_]->member;                                                                \
		sum_;                                                                                                  \
	})

static void print_instructions(struct vm *vm, FILE *out)
{
	fprintf(out, "instructions %lu\n", SUM(vm, core.icount));
	row(out, "instructions", "partial", vm->engine->counts_if_asked && vm->config.clock != CLOCK_INSTRUCTIONS);
}

static void print_exits(struct vm *vm, FILE *out)
{
	static const char *const names[VM_EXIT_REASONS] = {
		[VM_EXIT_KICK] = "kick", [VM_EXIT_LIMIT] = "limit", [VM_EXIT_HALT] = "halt",
		[VM_EXIT_SHUTDOWN] = "shutdown", [VM_EXIT_MODE] = "mode",
	};

	for (unsigned r = 0; r < VM_EXIT_REASONS; r++)
		row(out, "exit", names[r], SUM(vm, stat.exits[r]));
	row(out, "vcpu", "kicks", SUM(vm, stat.kicks));
	row(out, "vcpu", "pauses", SUM(vm, core.stat.pause));
	row(out, "vcpu", "ns_halted", SUM(vm, stat.ns_halted));
}

static void print_exceptions(struct vm *vm, FILE *out)
{
	static const char *const names[32] = { "DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "CSO", "TS", "NP", "SS", "GP", "PF",
					       "15", "MF", "AC", "MC", "XM", "VE", "CP", "22", "23", "24", "25", "26", "27", "HV", "VC",
					       "SX", "31" };

	for (unsigned e = 0; e < ARRAY_SIZE(names); e++)
		row(out, "exception", names[e], SUM(vm, core.stat.exception[e]));
	row(out, "interrupt", "delivered", SUM(vm, core.stat.interrupt));
}

static void print_lines(struct vm *vm, FILE *out)
{
	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++) {
		char name[16];
		snprintf(name, sizeof(name), "%u", gsi);
		row(out, "irq", name, vm->irq.raised[gsi]);
	}
}

static void print_core(struct vm *vm, FILE *out)
{
	row(out, "tlb", "miss", SUM(vm, core.stat.tlb_miss));
	row(out, "tlb", "flush", SUM(vm, core.stat.tlb_flush));
	row(out, "tlb", "walk", SUM(vm, core.stat.walk));
	row(out, "code", "written", SUM(vm, core.stat.smc_write));
	row(out, "io", "mmio", SUM(vm, core.stat.mmio));
	row(out, "io", "port", SUM(vm, core.stat.port_io));
}

/* All ranges of one device in one row. */
static void print_device(struct vm *vm, FILE *out, enum bus_space space, const struct device *device)
{
	static const char *const spaces[BUS_SPACES] = { [BUS_MEMORY] = "mmio", [BUS_PORT] = "port" };
	const struct bus_map *map = vm->bus.map[space];
	uint64_t reads = 0, writes = 0;
	char name[64];

	for (unsigned i = 0; i < map->count; i++) {
		if (map->range[i]->device != device)
			continue;
		reads += map->range[i]->reads;
		writes += map->range[i]->writes;
	}
	snprintf(name, sizeof(name), "%s.read", device->name);
	row(out, spaces[space], name, reads);
	snprintf(name, sizeof(name), "%s.write", device->name);
	row(out, spaces[space], name, writes);
}

static void print_bus(struct vm *vm, FILE *out)
{
	for (struct device *d = vm->devices; d; d = d->next) {
		print_device(vm, out, BUS_PORT, d);
		print_device(vm, out, BUS_MEMORY, d);
	}
	row(out, "port", "nobody.read", vm->bus.unclaimed_reads[BUS_PORT]);
	row(out, "port", "nobody.write", vm->bus.unclaimed_writes[BUS_PORT]);
	row(out, "mmio", "nobody.read", vm->bus.unclaimed_reads[BUS_MEMORY]);
	row(out, "mmio", "nobody.write", vm->bus.unclaimed_writes[BUS_MEMORY]);
}

void stats_print(struct vm *vm, FILE *out)
{
	print_instructions(vm, out);
	print_exits(vm, out);
	print_exceptions(vm, out);
	print_lines(vm, out);
	print_core(vm, out);
	print_bus(vm, out);
	row(out, "io", "doorbell", vm->stat.doorbells);
	row(out, "engine", "switches", vm->stat.switches);
	row(out, "engine", "ns_switching", vm->stat.ns_switching);
	for (unsigned slot = 0; slot < ENGINE_SLOTS; slot++)
		if (vm->engines[slot] && ((const struct engine *)vm->engines[slot])->stats)
			((const struct engine *)vm->engines[slot])->stats(vm, out);
}
