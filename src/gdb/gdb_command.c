/* SPDX-License-Identifier: MIT */
/* The packets of GDB's remote protocol: GDB manual, E.2 to E.5. What a client sends is hostile: every number is checked, and nothing that he can
 * say ends the monitor. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "gdb/gdb.h"
#include "util/log.h"

#define SIGNAL_INT 2 /* as GDB numbers them */
#define SIGNAL_TRAP 5
#define MONITOR_MAX 2000

void gdb_print(struct gdb_text *t, const char *format, ...)
{
	size_t room = sizeof(t->data) - t->size;
	va_list args;

	va_start(args, format);
	int n = vsnprintf(t->data + t->size, room, format, args);
	va_end(args);
	t->overflow |= n < 0 || (size_t)n >= room;
	if (!t->overflow)
		t->size += (size_t)n;
}

void gdb_hex(struct gdb_text *t, const void *data, size_t size)
{
	for (size_t n = 0; n < size; n++)
		gdb_print(t, "%02x", ((const uint8_t *)data)[n]);
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t gdb_unhex(const char *text, void *data, size_t size)
{
	size_t n = 0;

	while (n < size && digit(text[2 * n]) >= 0 && digit(text[2 * n + 1]) >= 0) {
		((uint8_t *)data)[n] = (uint8_t)(digit(text[2 * n]) << 4 | digit(text[2 * n + 1]));
		n++;
	}
	return n;
}

/* A hexadecimal number; *text moves behind it. False: there is none. */
static bool number(const char **text, uint64_t *value)
{
	const char *from = *text;

	for (*value = 0; digit(**text) >= 0; (*text)++)
		*value = *value << 4 | (unsigned)digit(**text);
	return *text != from && *text - from <= 16;
}

static bool skip(const char **text, char c)
{
	if (**text != c)
		return false;
	(*text)++;
	return true;
}

/* --- memory --- */

/* One piece, which lies in a page; false where there is no memory. */
static bool piece(struct gdb *g, gva_t at, void *data, size_t size, bool write)
{
	struct x86_walk w = { .gpa = at };

	if (!g->physical && !x86_walk(&g->selected->core, at, ACCESS_READ, false, false, &w))
		return false;
	return write ? !guest_write(g->vm, w.gpa, data, size) : !guest_read(g->vm, w.gpa, data, size);
}

/* How many bytes came through before one that is not there. */
static size_t memory(struct gdb *g, gva_t at, uint8_t *data, size_t size, bool write)
{
	size_t done = 0;

	while (done < size) {
		size_t part = MIN(size - done, (size_t)(X86_PAGE_SIZE - ((at + done) & ~X86_PAGE_MASK)));
		if (!piece(g, at + done, data + done, part, write))
			break;
		done += part;
	}
	return done;
}

static void read_memory(struct gdb *g, const char *p, struct gdb_text *a)
{
	static uint8_t data[GDB_PACKET / 2];
	uint64_t at, size;

	if (!number(&p, &at) || !skip(&p, ',') || !number(&p, &size) || size > sizeof(data) - 16) {
		gdb_print(a, "E22");
		return;
	}
	size_t got = memory(g, at, data, size, false);
	if (!got && size)
		gdb_print(a, "E14");
	else
		gdb_hex(a, data, got);
}

static void write_memory(struct gdb *g, const char *p, const char *end, bool binary, struct gdb_text *a)
{
	static uint8_t data[GDB_PACKET];
	uint64_t at, size;
	size_t got = 0;

	if (!number(&p, &at) || !skip(&p, ',') || !number(&p, &size) || !skip(&p, ':') || size > sizeof(data)) {
		gdb_print(a, "E22");
		return;
	}
	if (!binary)
		got = gdb_unhex(p, data, size);
	for (; binary && p < end && got < size; p++) {
		if (*p == '}' && p + 1 < end)
			data[got++] = (uint8_t)(*++p ^ 0x20);
		else
			data[got++] = (uint8_t)*p;
	}
	gdb_print(a, got != size ? "E22" : memory(g, at, data, size, true) == size ? "OK" : "E14");
}

/* --- registers --- */

static void read_registers(struct gdb *g, struct gdb_text *a)
{
	uint8_t value[16];

	for (unsigned n = 0; n < gdb_register_count(g->selected); n++)
		gdb_hex(a, value, gdb_register_get(g->selected, n, value));
}

static void write_registers(struct gdb *g, const char *p, struct gdb_text *a)
{
	uint8_t value[16];

	for (unsigned n = 0; n < gdb_register_count(g->selected); n++) {
		size_t size = gdb_register_size(g->selected, n);
		if (gdb_unhex(p, value, size) != size)
			break;
		gdb_register_set(g->selected, n, value, size);
		p += 2 * size;
	}
	vcpu_changed(g->selected, X86_ALL_GROUPS);
	gdb_print(a, "OK");
}

static void one_register(struct gdb *g, const char *p, bool write, struct gdb_text *a)
{
	uint8_t value[16];
	uint64_t n;

	if (!number(&p, &n) || n >= gdb_register_count(g->selected) || (write && !skip(&p, '='))) {
		gdb_print(a, "E22");
	} else if (!write) {
		gdb_hex(a, value, gdb_register_get(g->selected, (unsigned)n, value));
	} else {
		size_t size = gdb_unhex(p, value, sizeof(value));
		bool done = gdb_register_set(g->selected, (unsigned)n, value, size);
		vcpu_changed(g->selected, X86_ALL_GROUPS);
		gdb_print(a, done ? "OK" : "E01");
	}
}

/* --- threads: processor n is thread n + 1 --- */

static void select_vcpu(struct gdb *g, struct vcpu *vcpu)
{
	g->selected = vcpu;
	vcpu_state(vcpu, X86_ALL_GROUPS);
}

static struct vcpu *thread(struct gdb *g, const char **p)
{
	uint64_t n;

	if (skip(p, '-')) /* all, and any */
		return number(p, &n) ? g->selected : NULL;
	if (!number(p, &n) || n > g->vm->config.cpus)
		return NULL;
	return n ? g->vm->vcpu[n - 1] : g->selected;
}

static void set_thread(struct gdb *g, const char *p, struct gdb_text *a)
{
	bool registers = *p++ == 'g';
	struct vcpu *vcpu = thread(g, &p);

	if (vcpu && registers)
		select_vcpu(g, vcpu);
	gdb_print(a, vcpu ? "OK" : "E22");
}

void gdb_stopped(struct gdb *g, unsigned signal, struct gdb_text *a)
{
	static const char *const watch[] = { "watch", "rwatch", "awatch" };
	struct debugger *d = &g->debugger;

	g->running = false;
	if (d->stopped)
		signal = SIGNAL_TRAP;
	select_vcpu(g, d->stopped ? d->stopped : g->selected);
	gdb_print(a, "T%02xthread:%x;", signal, g->selected->index + 1);
	for (unsigned n = 0; n < d->watches && d->stopped && d->reason == DEBUG_WATCHPOINT; n++) {
		const struct x86_watch *w = &d->watch[n];
		if (w->at != d->address)
			continue;
		gdb_print(a, "%s:%lx;", watch[w->read && w->write ? 2 : w->read], d->address);
		break;
	}
}

/* --- going on --- */

static void go(struct gdb *g, struct vcpu *step)
{
	debugger_resume(g->vm, step);
	g->running = true;
	vm_unpause(g->vm);
}

/* ;c ;s:THREAD ... : who steps, if anyone. The others go on. */
static bool resume(struct gdb *g, const char *p, struct gdb_text *a)
{
	struct vcpu *step = NULL;

	while (skip(&p, ';')) {
		char action = *p ? *p++ : 0;
		uint64_t signal;
		struct vcpu *vcpu = g->selected;
		if ((action == 'C' || action == 'S') && !number(&p, &signal))
			action = 0;
		if (skip(&p, ':') && !(vcpu = thread(g, &p)))
			action = 0;
		if (action != 'c' && action != 'C' && action != 's' && action != 'S') {
			gdb_print(a, "E22");
			return true;
		}
		if ((action | 0x20) == 's' && !step)
			step = vcpu;
	}
	go(g, step);
	return false;
}

void gdb_detached(struct gdb *g)
{
	vm_pause(g->vm);
	debugger_remove_all(g->vm);
	g->physical = g->no_ack = g->leaving = false;
	go(g, NULL);
	g->running = false;
}

/* --- break and watch points --- */

static void point(struct gdb *g, const char *p, bool add, struct gdb_text *a)
{
	static const enum debug_kind kinds[] = { DEBUG_EXECUTE, DEBUG_EXECUTE, DEBUG_WRITE, DEBUG_READ, DEBUG_ACCESS };
	uint64_t type, at, len;

	if (!number(&p, &type) || !skip(&p, ',') || !number(&p, &at) || !skip(&p, ',') || !number(&p, &len)) {
		gdb_print(a, "E22");
		return;
	}
	if (type >= ARRAY_SIZE(kinds))
		return; /* an empty answer: not supported */
	int error = (add ? debugger_add : debugger_remove)(g->vm, kinds[type], at, len);
	if (error)
		gdb_print(a, "E%02x", -error & 0xff);
	else
		gdb_print(a, "OK");
}

/* --- monitor --- */

static void info(struct gdb *g, FILE *out)
{
	static const char *const activity[] = { "running", "halted", "shut down", "waiting for SIPI" };

	for (unsigned n = 0; n < g->vm->config.cpus; n++) {
		struct vcpu *vcpu = g->vm->vcpu[n];
		const struct x86_cpu *c = &vcpu->core.cpu;
		vcpu_state(vcpu, X86_ALL_GROUPS);
		fprintf(out, "cpu%u: %s, rip %lx cs %04x cpl %u cr0 %lx cr3 %lx cr4 %lx efer %lx, %lu instructions\n", n,
			c->activity < ARRAY_SIZE(activity) ? activity[c->activity] : "?", c->gpr[X86_GPR_RIP], c->seg[SEG_CS].selector,
			vcpu->core.cpl, c->cr0, c->cr3, c->cr4, c->efer, vcpu->core.icount);
	}
	fprintf(out, "memory by %s addresses\n", g->physical ? "physical" : "linear");
}

static void dump(struct gdb *g, const char *text, FILE *out)
{
	char *end;
	uint64_t at = strtoull(text, &end, 0), size = *end ? strtoull(end, NULL, 0) : 64;
	uint8_t line[16];

	for (size = MIN(size, 512u); size; at += 16, size -= MIN(size, 16u)) {
		if (guest_read(g->vm, at, line, sizeof(line))) {
			fprintf(out, "%lx: no memory\n", at);
			break;
		}
		fprintf(out, "%lx:", at);
		for (unsigned n = 0; n < sizeof(line); n++)
			fprintf(out, " %02x", line[n]);
		fprintf(out, "\n");
	}
}

static void monitor(struct gdb *g, const char *hex, struct gdb_text *a)
{
	char command[256] = "", text[MONITOR_MAX] = "";
	FILE *out = fmemopen(text, sizeof(text) - 1, "w");

	if (!out) {
		gdb_print(a, "E0c");
		return;
	}
	command[gdb_unhex(hex, command, sizeof(command) - 1)] = 0;
	if (!strcmp(command, "info")) {
		info(g, out);
	} else if (!strcmp(command, "reset")) {
		vcpu_stop_all(g->vm);
		vm_reset(g->vm);
		vcpu_resume_all(g->vm);
		select_vcpu(g, g->selected);
		fprintf(out, "the machine is as after a reset\n");
	} else if (!strcmp(command, "phys on") || !strcmp(command, "phys off")) {
		g->physical = !strcmp(command, "phys on");
		fprintf(out, "memory by %s addresses\n", g->physical ? "physical" : "linear");
	} else if (!strncmp(command, "xp ", 3)) {
		dump(g, command + 3, out);
	} else {
		fprintf(out, "%sinfo            the processors\nphys on|off     memory by physical addresses, or by linear ones\n"
			     "xp ADDRESS [N]  physical memory\nreset           resets the machine\n",
			!strcmp(command, "help") ? "" : "there is no such command; these are:\n");
	}
	fclose(out);
	gdb_hex(a, text, strlen(text));
	if (!*text)
		gdb_print(a, "OK");
}

/* --- queries --- */

static void transfer(struct gdb *g, const char *p, struct gdb_text *a)
{
	char *xml = NULL;
	size_t size = 0;
	uint64_t from, length;
	FILE *out;

	if (!number(&p, &from) || !skip(&p, ',') || !number(&p, &length) || !(out = open_memstream(&xml, &size))) {
		gdb_print(a, "E22");
		return;
	}
	gdb_describe(g->selected, out);
	fclose(out);
	from = MIN(from, size);
	length = MIN(MIN(length, size - from), (uint64_t)GDB_PACKET - 64);
	gdb_print(a, "%c", from + length < size ? 'm' : 'l');
	gdb_print(a, "%.*s", (int)length, xml + from);
	free(xml);
}

static void query(struct gdb *g, const char *p, struct gdb_text *a)
{
	static const char features[] = "Xfer:features:read:target.xml:", command[] = "Rcmd,", extra[] = "ThreadExtraInfo,";

	if (!strncmp(p, "Supported", 9)) {
		gdb_print(a, "PacketSize=%x;qXfer:features:read+;vContSupported+;QStartNoAckMode+", GDB_PACKET - 1);
	} else if (!strncmp(p, features, sizeof(features) - 1)) {
		transfer(g, p + sizeof(features) - 1, a);
	} else if (!strncmp(p, command, sizeof(command) - 1)) {
		monitor(g, p + sizeof(command) - 1, a);
	} else if (!strcmp(p, "fThreadInfo")) {
		for (unsigned n = 0; n < g->vm->config.cpus; n++)
			gdb_print(a, "%c%x", n ? ',' : 'm', n + 1);
	} else if (!strcmp(p, "sThreadInfo")) {
		gdb_print(a, "l");
	} else if (!strncmp(p, extra, sizeof(extra) - 1)) {
		char text[32];
		p += sizeof(extra) - 1;
		struct vcpu *vcpu = thread(g, &p);
		snprintf(text, sizeof(text), "cpu%u", vcpu ? vcpu->index : 0);
		gdb_hex(a, text, strlen(text));
	} else if (!strcmp(p, "C")) {
		gdb_print(a, "QC%x", g->selected->index + 1);
	} else if (!strncmp(p, "Attached", 8)) {
		gdb_print(a, "1");
	}
}

bool gdb_command(struct gdb *g, char *packet, size_t size, struct gdb_text *a)
{
	const char *p = packet + 1, *end = packet + size;

	switch (packet[0]) {
	case '?': gdb_stopped(g, SIGNAL_TRAP, a); break;
	case 'g': read_registers(g, a); break;
	case 'G': write_registers(g, p, a); break;
	case 'p': one_register(g, p, false, a); break;
	case 'P': one_register(g, p, true, a); break;
	case 'm': read_memory(g, p, a); break;
	case 'M': write_memory(g, p, end, false, a); break;
	case 'X': write_memory(g, p, end, true, a); break;
	case 'H': set_thread(g, p, a); break;
	case 'T': gdb_print(a, thread(g, &p) ? "OK" : "E22"); break;
	case 'Z':
	case 'z': point(g, p, packet[0] == 'Z', a); break;
	case 'q': query(g, p, a); break;
	case 'Q':
		if (!strcmp(p, "StartNoAckMode")) {
			g->no_ack = true;
			gdb_print(a, "OK");
		}
		break;
	case 'c':
	case 's': /* from where it stands; an address to go on from is not supported */
		if (*p) {
			gdb_print(a, "E22");
			break;
		}
		go(g, packet[0] == 's' ? g->selected : NULL);
		return false;
	case 'v':
		if (!strncmp(p, "Cont;", 5))
			return resume(g, p + 4, a);
		if (!strcmp(p, "Cont?"))
			gdb_print(a, "vCont;c;C;s;S");
		if (strncmp(p, "Kill", 4))
			break;
		/* fall through */
	case 'k':
		vm_finish(g->vm, VM_STOPPED, 0);
		gdb_print(a, "OK");
		g->leaving = true;
		break;
	case 'D':
		gdb_print(a, "OK");
		g->leaving = true;
		break;
	default: break; /* an empty answer: not supported */
	}
	if (a->overflow) {
		a->size = 0;
		a->overflow = false;
		gdb_print(a, "E0c");
	}
	return true;
}
