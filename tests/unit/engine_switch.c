/* SPDX-License-Identifier: MIT */
/* Engines take over from each other while our guests run, at random moments, and the guests do not notice.
 *
 * Where both engines count instructions the moments are exact: a seed gives the same run again, and all of memory and of the
 * processor is the same at the end as after a run without changes. Else a thread changes engines as time goes by, and what
 * the guest prints is the same.
 *
 * Among the engines is one that exists only here: it keeps all state to itself and leaves rubbish in core.cpu, so that
 * whoever looks there without having asked for it, or forgets to say what he changed, is found out.
 *     engine_switch [GUEST [SEED]]   one guest only, with other moments; WITH=ENGINE: only pairs with that */
#include <errno.h>
#include <signal.h>
#include <unistd.h>
#include "backend/chardev.h"
#include "board/board.h"
#include "boot/boot.h"
#include "engine/engine.h"
#include "vm/stats.h"
#include "vm_test.h"
#include "x86/cpuid.h"

#define CHANGES 200
#define ENGINES 8
#define SECONDS_MAX 240
#define OUTPUT_MAX (256 * KiB)

static uint64_t random_state;

static uint64_t any(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
}

static void seed(uint64_t value)
{
	random_state = value * 0x9e3779b97f4a7c15ULL | 1;
}

/* --- the engine that keeps everything to itself --- */

#define HOARD_SLOT 5

struct hoard {
	struct x86_cpu own;
	bool inside; /* core.cpu has it at present */
};

static const struct { unsigned group; size_t from, to; } parts[] = {
#define PART(group, first, last) { group, offsetof(struct x86_cpu, first), offsetof(struct x86_cpu, last) + sizeof(((struct x86_cpu *)0)->last) }
	PART(X86_GPRS, gpr, gpr), PART(X86_FLAGS, rflags, rflags), PART(X86_SEGMENTS, seg, idtr), PART(X86_CONTROL, cr0, cr8),
	PART(X86_CONTROL, xcr0, efer), PART(X86_CONTROL, pdpte, pdpte), PART(X86_DEBUG, dr, dr), PART(X86_MSRS, star, mtrr_fixed),
	PART(X86_EVENTS, activity, event_error), PART(X86_EVENTS, pending_debug, pending_debug), PART(X86_XSAVE, xsave, xsave),
#undef PART
};

static void move(struct x86_cpu *to, const struct x86_cpu *from, unsigned groups)
{
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		if (parts[i].group & groups)
			memcpy((char *)to + parts[i].from, (const char *)from + parts[i].from, parts[i].to - parts[i].from);
}

static void spoil(struct x86_cpu *cpu, unsigned groups)
{
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		if (parts[i].group & groups)
			memset((char *)cpu + parts[i].from, 0xa5, parts[i].to - parts[i].from);
}

static int hoard_probe(struct engine_report *report)
{
	*report = (struct engine_report){ .usable = true, .capabilities = ENGINE_COUNTS | ENGINE_STEPS | ENGINE_SMP, .mips = 1 };
	return 0;
}

static int hoard_init(struct vcpu *vcpu)
{
	vcpu->engine_data[HOARD_SLOT] = calloc(1, sizeof(struct hoard) + 64);
	return vcpu->engine_data[HOARD_SLOT] ? 0 : -ENOMEM;
}

static struct hoard *hoard_of(struct vcpu *vcpu)
{
	return (struct hoard *)align_up((uint64_t)vcpu->engine_data[HOARD_SLOT], 64);
}

static void hoard_fini(struct vcpu *vcpu)
{
	free(vcpu->engine_data[HOARD_SLOT]);
}

static int hoard_load(struct vcpu *vcpu, unsigned groups)
{
	move(&hoard_of(vcpu)->own, &vcpu->core.cpu, groups);
	return 0;
}

static int hoard_store(struct vcpu *vcpu, unsigned groups)
{
	struct hoard *h = hoard_of(vcpu);

	if (h->inside)
		return interp_engine.store_state(vcpu, groups);
	move(&vcpu->core.cpu, &h->own, groups);
	return 0;
}

static const struct engine hoard_engine;

static int hoard_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	struct hoard *h = hoard_of(vcpu);
	unsigned mine;
	int error;

	move(&vcpu->core.cpu, &h->own, X86_ALL_GROUPS);
	interp_engine.load_state(vcpu, X86_ALL_GROUPS);
	h->inside = true;
	error = interp_engine.run(vcpu, limit, exit);
	mine = X86_ALL_GROUPS & ~vcpu->changed;
	interp_engine.store_state(vcpu, mine);
	h->inside = false;
	if (vcpu->engine == &hoard_engine) {
		move(&h->own, &vcpu->core.cpu, mine);
		spoil(&vcpu->core.cpu, mine);
	}
	return error;
}

static void hoard_kick(struct vcpu *vcpu)
{
	interp_engine.kick(vcpu);
}

static const struct engine hoard_engine = {
	.name = "hoard", .summary = "keeps all state to itself", .slot = HOARD_SLOT, .kick_suffices = true,
	.probe = hoard_probe, .vcpu_init = hoard_init, .vcpu_fini = hoard_fini, .run = hoard_run, .kick = hoard_kick,
	.load_state = hoard_load, .store_state = hoard_store,
};
ENGINE(hoard_engine);

/* --- machines --- */

static bool counts(const char *name)
{
	struct engine_report report = { 0 };

	engine_find(name)->probe(&report);
	return report.capabilities & ENGINE_COUNTS;
}

struct machine {
	struct vm *vm;
	struct board_options board;
	struct boot_request request;
	char output[256];
};

struct result {
	uint64_t instructions, hash;
	int end;
	uint64_t value;
	unsigned changes;
	struct x86_cpu cpu;
	uint64_t entries; /* into a guest that the host itself runs, as far as an engine counts them */
	uint64_t hot;     /* blocks of bt's that ran often */
	char *text;
};

static const char *guests = "build/guest"; /* the folder */
static const char *guest_words = "";

/* An engine of the host's kernel gets options by which it does all it can, and the guest what any such kernel can. */
static bool make_machine(struct machine *m, const char *guest, const char *engine, enum clock_mode clock, unsigned cpus)
{
	bool kernel = !counts(engine);
	static unsigned number;
	struct vm_config config = { .name = "test", .engine = engine, .memory = 64 * MiB, .cpus = cpus, .clock = clock,
				    .model = x86_model_find("v2"), .engine_options = kernel ? "modes=all" : NULL };
	const char *tmp = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	char path[256], backend[300];

	*m = (struct machine){ .board.debug_exit_port = 0xf4, .request.append = guest_words };
	snprintf(path, sizeof(path), "%s/%s.elf", guests, guest);
	snprintf(m->output, sizeof(m->output), "%s/doppel-switch-%d-%u", tmp, getpid(), number++);
	snprintf(backend, sizeof(backend), "file:%s", m->output);
	return !chardev_open(&m->board.debugcon, backend) && !boot_image_read(&m->request.kernel, path) && !vm_create(&m->vm, &config) &&
	       !board_pc.build(m->vm, &m->board) && (vm_reset(m->vm), true) && !board_pc.firmware(m->vm, &m->request.rsdp) &&
	       !boot_load(m->vm, &m->request);
}

/* From the statistics: the number behind this name. */
static uint64_t statistic(struct vm *vm, const char *name)
{
	char *text = NULL, *at;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	uint64_t value = 0;

	stats_print(vm, f);
	fclose(f);
	at = strstr(text, name);
	if (at)
		value = strtoull(at + strlen(name), NULL, 10);
	free(text);
	return value;
}

static void end_machine(struct machine *m, struct result *r)
{
	FILE *f;
	size_t n = 0;

	if (m->vm) {
		r->end = m->vm->end;
		r->value = m->vm->end_value;
		for (unsigned i = 0; i < m->vm->config.cpus; i++)
			r->instructions += m->vm->vcpu[i]->core.icount;
		/* Where time is a count, an instruction in the middle of what an engine runs in one go reads the time of its beginning: a change of
		 * engine moves that, and with it what WRMSR to the TSC makes of it. */
		for (unsigned i = 0; i < m->vm->config.cpus; i++) {
			vcpu_state(m->vm->vcpu[i], X86_ALL_GROUPS);
			m->vm->vcpu[i]->core.cpu.tsc_offset = m->vm->vcpu[i]->core.cpu.tsc_adjust = 0;
		}
		r->hash = vm_hash(m->vm);
		r->cpu = m->vm->vcpu[0]->core.cpu;
		r->entries = statistic(m->vm, ".entries ");
		r->hot = statistic(m->vm, "bt.hot ");
	}
	if (m->board.debugcon)
		m->board.debugcon->ops->stop(m->board.debugcon);
	vm_destroy(m->vm);
	chardev_close(m->board.debugcon);
	boot_image_free(&m->request.kernel);
	r->text = calloc(1, OUTPUT_MAX);
	f = fopen(m->output, "r");
	if (f) {
		n = fread(r->text, 1, OUTPUT_MAX - 1, f);
		fclose(f);
	}
	r->text[n] = 0;
	unlink(m->output);
}

static bool change(struct vm *vm, const char *const *engines, unsigned count)
{
	const struct engine *to;
	uint64_t ns;

	do
		to = engine_find(engines[any() % count]);
	while (to == vm->engine);
	return !vm_engine_switch(vm, to, &ns);
}

/* All on this thread, as vcpu_turns.c does it: so that a moment is a count of instructions. */
static void run_exact(struct vm *vm, const char *const *engines, unsigned count, uint64_t length, struct result *r)
{
	struct vcpu *vcpu = vm->vcpu[0];
	uint64_t moment = length ? any() % (2 * length / CHANGES) : UINT64_MAX;
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	vcpu_thread_begin(vcpu);
	pthread_sigmask(SIG_SETMASK, &mask, NULL); /* it is still the main thread */
	while (!vm->end && (!length || vcpu->core.icount < 2 * length)) {
		uint64_t now, next;

		event_drain(vm, clock_now(vm));
		now = clock_now(vm);
		next = vm->clock.next;
		if (next > now) {
			struct run_limit limit = { .icount = MIN(moment, vcpu->core.icount + MIN(next - now, UINT32_MAX)) };
			if (!vcpu_run_once(vcpu, &limit))
				break;
		}
		clock_advance_to(vm, clock_now(vm));
		if (!vm->end && vcpu->core.icount >= moment) {
			if (!change(vm, engines, count))
				break;
			r->changes++;
			moment += any() % 8 ? any() % (2 * length / CHANGES) : any() % 3; /* some at once behind each other */
		} else if (!vcpu_runnable(vcpu) && vm->clock.next != TIMER_OFF) {
			clock_advance_to(vm, vm->clock.next);
		}
	}
	vcpu_leave(vcpu);
}

/* The moments come as they come; seldom enough that the guest gets on. */
static void run_timed(struct vm *vm, const char *const *engines, unsigned count, struct result *r)
{
	if (vm_start(vm))
		return;
	while (!vm->end) {
		struct timespec t = { .tv_nsec = (long)(any() % 1500000) };
		nanosleep(&t, NULL);
		if (!vm->end && !change(vm, engines, count))
			break;
		r->changes++;
	}
	vm_wait(vm);
}

static bool by_time; /* changes come by the host's time, also where engines count */

/* length 0: without changes. */
static struct result run(const char *guest, unsigned cpus, const char *const *engines, unsigned count, uint64_t length)
{
	struct machine m;
	struct result r = { 0 };
	bool exact = cpus == 1 && !by_time;

	for (unsigned i = 0; i < count; i++)
		exact &= counts(engines[i]);
	if (!make_machine(&m, guest, engines[0], exact ? CLOCK_INSTRUCTIONS : CLOCK_HOST, cpus))
		ok(false, "a machine for %s", guest);
	else if (exact)
		run_exact(m.vm, engines, count, length, &r);
	else
		run_timed(m.vm, engines, count, &r);
	end_machine(&m, &r);
	return r;
}

static uint64_t one_seed;
/* Compare memory and registers, too: for a guest that does not arm timers or set the TSC amid everything (see end_machine). */
static bool whole = true;

static bool hot_code; /* there has to be some */

/* Says what is another, for who looks for the reason. */
static void differences(const struct result *got, const struct result *want)
{
	printf("got end %d %lu, %lu instructions, hash %lx; want end %d %lu, %lu instructions, hash %lx\n", got->end, got->value,
	       got->instructions, got->hash, want->end, want->value, want->instructions, want->hash);
	for (const struct field *f = x86_cpu_fields; f->type != FIELD_TYPE_END; f++) {
		const uint8_t *a = (const uint8_t *)&got->cpu + f->offset, *b = (const uint8_t *)&want->cpu + f->offset;
		for (uint32_t n = 0; n < f->count * f->size; n++)
			if (a[n] != b[n]) {
				printf("%s is another from byte %u on: %02x, not %02x\n", f->name, n, a[n], b[n]);
				break;
			}
	}
	if (strcmp(got->text, want->text))
		printf("%s", got->text);
}

/* Runs a guest with changes among the engines, until there were enough of them; the same must come of it as without. */
static void compare(const char *guest, unsigned cpus, const char *const *engines, unsigned count, const struct result *want, unsigned changes)
{
	char names[100] = "";
	unsigned done = 0;
	uint64_t entered = 0, hot = 0;
	bool exact = cpus == 1 && !by_time, same = true;
	uint64_t number = one_seed ? one_seed : 1000;

	for (unsigned i = 0; i < count; i++) {
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? ", " : "", engines[i]);
		exact &= counts(engines[i]);
	}
	while (done < changes && same) {
		struct result got;
		seed(++number);
		got = run(guest, cpus, engines, count, want->instructions);
		done += got.changes;
		entered += got.entries;
		hot += got.hot;
		same = got.end == want->end && got.value == want->value && !strcmp(got.text, want->text);
		if (exact && whole)
			same &= got.hash == want->hash && got.instructions == want->instructions;
		if (!same)
			differences(&got, want);
		free(got.text);
		if (!got.changes)
			break;
	}
	ok(same && done, "%s: %u changes of engine (%s), last seed %lu: %s", guest, done, names, number,
	   exact && whole ? "memory, processor and output are the same" : "the output is the same");
	if (hot_code)
		ok(hot, "%s: bt had hot code (%lu blocks)", guest, hot);
	else if (!exact && cpus == 1)
		ok(entered, "%s: the kernel ran some of it (%lu entries)", guest, entered);
}

static const char *usable[ENGINES];
static unsigned usables;

static void find_engines(void)
{
	for (const struct engine *e = engine_next(NULL); e && usables < ENGINES; e = engine_next(e)) {
		struct engine_report report = { 0 };
		if (e == &null_engine)
			continue;
		if (!e->probe(&report) && report.usable)
			usable[usables++] = e->name;
		else
			skip("changes from and to %s - %s", e->name, report.why);
	}
}

/* Does every engine come to the same without any change? Those that count: exactly. */
static void test_alone(const char *guest, const struct result *want)
{
	for (unsigned i = 0; i < usables; i++) {
		struct result got;
		bool same;
		if (!counts(usable[i]))
			continue;
		got = run(guest, 1, &usable[i], 1, 0);
		same = got.end == want->end && got.value == want->value && got.hash == want->hash && got.instructions == want->instructions &&
		       !strcmp(got.text, want->text);
		if (!same)
			differences(&got, want);
		ok(same, "%s: %s comes to the same as interp", guest, usable[i]);
		free(got.text);
	}
}

static void test_pairs(const char *guest)
{
	const char *only = getenv("WITH");
	static const char *const reference[] = { "interp" };
	struct result want, plain;

	guest_words = "plain";
	plain = run(guest, 1, reference, 1, 0);
	guest_words = "";
	want = run(guest, 1, reference, 1, 0);
	ok(want.end == VM_DEBUG_EXIT && want.value == 1, "%s: all checks hold with interp, %lu instructions", guest, want.instructions);
	test_alone(guest, &want);
	for (unsigned a = 0; a < usables; a++)
		for (unsigned b = 0; b < a; b++) {
			bool kernel = !counts(usable[a]) || !counts(usable[b]), first = counts(usable[b]);
			const char *const pair[] = { usable[first ? a : b], usable[first ? b : a] };
			if (only && strcmp(only, pair[0]) && strcmp(only, pair[1]))
				continue;
			guest_words = kernel ? "plain" : "";
			compare(guest, 1, pair, 2, kernel ? &plain : &want, CHANGES);
		}
	guest_words = "";
	free(want.text);
	free(plain.text);
}

/* The other guests, with changes among all engines that count: what they print. */
static void test_all(const char *guest)
{
	static const char *const reference[] = { "interp" };
	const char *counting[ENGINES];
	unsigned count = 0;
	struct result want = run(guest, 1, reference, 1, 0);

	for (unsigned i = 0; i < usables; i++)
		if (counts(usable[i]))
			counting[count++] = usable[i];
	whole = false;
	compare(guest, 1, counting, count, &want, 1);
	free(want.text);
}

/* Loops that are hot under bt, left and come back to at any moment: after a count of instructions, and where bt does not count. */
static void test_hot(const char *guest, const char *words)
{
	static const char *const engines[] = { "interp", "bt" };
	const struct engine *bt = engine_find("bt");
	struct engine_report report = { 0 };
	struct result want;

	if (bt->probe(&report) || !report.usable)
		return;
	guest_words = words;
	hot_code = whole = true;
	want = run(guest, 1, engines, 1, 0);
	compare(guest, 1, engines, 2, &want, CHANGES);
	by_time = true;
	compare(guest, 1, engines, 2, &want, CHANGES);
	by_time = hot_code = false;
	guest_words = "";
	free(want.text);
}

static void test_smp(void)
{
	static const char *const reference[] = { "interp" };
	const char *engines[ENGINES];
	unsigned count = 0;
	struct machine m;
	struct result want = { 0 };

	for (unsigned i = 0; i < usables; i++)
		if (counts(usable[i]) && strcmp(usable[i], "step")) /* that one takes a minute */
			engines[count++] = usable[i];
	if (!make_machine(&m, "smp", reference[0], CLOCK_HOST, 4) || vm_start(m.vm)) {
		ok(false, "a machine of four processors");
		return;
	}
	vm_wait(m.vm);
	end_machine(&m, &want);
	compare("smp", 4, engines, count, &want, CHANGES);
	free(want.text);
}

int main(int argc, char **argv)
{
	static const char *const others[] = { "exceptions", "paging", "shadow", "smc", "syscall", "mode", "cpu", "legacy-debug", "legacy-gates", "legacy-model",
					      "legacy-paging", "legacy-real", "legacy-strings", "legacy-tasks", "legacy-v86" };
	char path[300], made[300];

	alarm(SECONDS_MAX);
	if (getenv("GUESTS"))
		guests = getenv("GUESTS");
	snprintf(path, sizeof(path), "make -s -C guest BUILD=\"$(realpath -m %s)\" >/dev/null", guests);
	snprintf(made, sizeof(made), "%s/matrix.elf", guests);
	if (system(path) && access(made, R_OK)) { /* a machine without a compiler may have been given them */
		skip("changes of engine - the guests cannot be built here");
		return done();
	}
	find_engines();
	if (argc > 2)
		one_seed = strtoull(argv[2], NULL, 0) - 1;
	if (argc > 1) {
		if (!strcmp(argv[1], "hot") || !strcmp(argv[1], "random") || !strcmp(argv[1], "legacy-random"))
			test_hot(argv[1], !strcmp(argv[1], "hot") ? "" : "10000 30");
		else
			(strcmp(argv[1], "matrix") ? test_all : test_pairs)(argv[1]);
		return done();
	}
	test_pairs("matrix");
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
		test_all(others[i]);
	test_hot("hot", "");
	test_hot("random", "10000 30");
	test_hot("legacy-random", "20000 30");
	test_smp();
	return done();
}
