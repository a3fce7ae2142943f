/* SPDX-License-Identifier: MIT */
/* doppel run: makes a virtual machine from the command line, runs it to its end, and says how it ended. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "backend/chardev.h"
#include "backend/display.h"
#include "backend/image.h"
#include "board/board.h"
#include "boot/boot.h"
#include "cmd/cards.h"
#include "cmd/cmd.h"
#include "cmd/screen.h"
#include "cmd/verify.h"
#include "control/control.h"
#include "engine/engine.h"
#include "gdb/gdb.h"
#include "util/log.h"
#include "vm/stats.h"
#include "x86/cpuid.h"

#define MEMORY_DEFAULT (512 * MiB)
#define MEMORY_LEAST (1 * MiB)
#define MEMORY_MOST (1024 * GiB)
#define CPUS_MOST 255
#define PORT_NONE UINT64_MAX
#define DEFAULT_MODEL "v2"
#define VERIFY_EVERY 10000
#define DEFAULT_NAME "doppel" /* for guests: the same in each run */

struct run_options {
	const char *engine, *cpu, *kernel, *append, *bios, *bios_log, *boot, *debugcon, *name, *trace, *display, *screenshot, *screen_text;
	uint64_t memory, cpus, debug_exit;
	struct option_list initrd, serial, floppy, cdrom;
	struct card_options cards;
	const char *verify, *gdb;
	uint64_t verify_every;
	int clock; /* enum clock_mode: the words of --clock come in its order */
	bool stats, hash, no_reboot, paused, verbose;
};

#define AT(member) offsetof(struct run_options, member)
static const struct option_row options[] = {
	{ "engine", "NAME", "how the processor is run; \"doppel engines\" lists them\n(default: auto, the best one that this host can run)",
	  OPTION_STRING, AT(engine), 0, 0 },
	{ "memory", "SIZE", "RAM of the machine, as 512M or 2G (default: 512M)", OPTION_SIZE, AT(memory), MEMORY_LEAST, MEMORY_MOST },
	{ "cpus", "N", "number of processors (default: 1)", OPTION_NUMBER, AT(cpus), 1, CPUS_MOST },
	{ "cpu", "MODEL", "processor model (default: " DEFAULT_MODEL "); \"help\" lists them", OPTION_STRING, AT(cpu), 0, 0 },
	{ "kernel", "FILE", "what to boot: a Linux bzImage, or an ELF file with a\nMultiboot header or a PVH entry", OPTION_STRING, AT(kernel), 0, 0 },
	{ "initrd", "FILE", "the initial RAM disk, or a module, for the kernel: \"FILE\", for\nMultiboot and PVH \"FILE WORDS\" too. Up to eight",
	  OPTION_LIST, AT(initrd), 0, BOOT_MODULES },
	{ "append", "STRING", "the kernel's command line", OPTION_STRING, AT(append), 0, 0 },
	{ "disk", "FILE", "a hard disk: an image, or a block device, with words behind it as\n\"FILE,readonly,bus=virtio\"; "
	  "the man page lists them", OPTION_LIST, AT(cards.disk), 0, CARD_EACH },
	{ "net", "KIND", "a network card: user (no rights needed; \"user,forward=tcp:2222:22\"),\ntap=NAME or socket=PATH", OPTION_LIST, AT(cards.net), 0,
	  CARD_EACH },
	{ "share", "FOLDER", "a folder of the host, as \"FOLDER,tag=NAME\"; \",readonly\" behind it\nforbids writing", OPTION_LIST,
	  AT(cards.share), 0, CARD_EACH },
	{ "console", "BACKEND", "a virtio console: as --serial; with \",name=NAME\" behind it a channel", OPTION_LIST, AT(cards.console), 0,
	  CARD_EACH },
	{ "balloon", NULL, "a memory balloon (virtio): the guest gives back what it does not use", OPTION_FLAG, AT(cards.balloon), 0, 0 },
	{ "cdrom", "FILE", "a CD or DVD: an ISO image", OPTION_LIST, AT(cdrom), 0, BOARD_DRIVES },
	{ "floppy", "FILE", "a floppy disk in drive A: a raw image of 160K to 2880K, or\n\"FILE,readonly\"; given again, in drive B",
	  OPTION_LIST, AT(floppy), 0, BOARD_FLOPPIES },
	{ "rng", NULL, "a source of random numbers (virtio)", OPTION_FLAG, AT(cards.rng), 0, 0 },
	{ "boot", "LIST", "what firmware tries to boot from, as \"cdrom,disk\"\n(default: disk,cdrom,floppy)", OPTION_STRING, AT(boot), 0, 0 },
	{ "bios", "FILE", "firmware, a ROM image that ends at 4 GiB: it boots a disk, CD or\nfloppy, or starts a Linux --kernel; \"seabios\" is Debian's (default,\nwithout a kernel)",
	  OPTION_STRING, AT(bios), 0, 0 },
	{ "bios-log", "BACKEND", "where SeaBIOS's log goes: as --serial (default: nowhere)", OPTION_STRING,
	  AT(bios_log), 0, 0 },
	{ "serial", "BACKEND", "where COM1 leads to; given again, COM2 to COM4:\nstdio, pty, file:PATH or none (default: stdio for COM1)",
	  OPTION_LIST, AT(serial), 0, 4 },
	{ "debugcon", "BACKEND", "where port E9h leads to: as --serial (default: not there)", OPTION_STRING, AT(debugcon), 0, 0 },
	{ "debug-exit", "PORT", "a guest that writes v to this port ends the machine, with\nexit status 2v + 1 (default: not there)",
	  OPTION_NUMBER, AT(debug_exit), 0, 0xfffc },
	{ "display", "none|vnc=ADDRESS", "who sees the screen: viewers of VNC, at :N (port 5900 + N of this\nhost), HOST:N or the path of a socket; "
	  "\",password-file=FILE\" behind\nit: who knows the password (default: none)", OPTION_STRING, AT(display), 0, 0 },
	{ "screenshot", "FILE", "a picture of the screen, at the end and at each SIGUSR2: a name\nthat ends in .png or .ppm", OPTION_STRING, AT(screenshot),
	  0, 0 },
	{ "screen-text", "FILE", "the text on the screen, likewise: UTF-8, one line a row", OPTION_STRING, AT(screen_text), 0, 0 },
	{ "clock", "host|instructions", "what the guest's time follows: the host's, or the count of\ninstructions (two runs are then the same)",
	  OPTION_CHOICE, AT(clock), 0, 0 },
	{ "name", "NAME", "what to call the machine, for \"doppel list\", \"pause\", \"stop\" and so\non (default: doppel- and the process ID)",
	  OPTION_STRING, AT(name), 0, 0 },
	{ "paused", NULL, "start paused: \"doppel resume\" sets it going", OPTION_FLAG, AT(paused), 0, 0 },
	{ "no-reboot", NULL, "a reset of the machine ends it", OPTION_FLAG, AT(no_reboot), 0, 0 },
	{ "stats", NULL, "print counters to stderr at the end", OPTION_FLAG, AT(stats), 0, 0 },
	{ "hash", NULL, "print a hash of memory and processors to stderr at the end", OPTION_FLAG, AT(hash), 0, 0 },
	{ "trace", "LIST", "print events to stderr: \"exit,irq\", or \"all\"", OPTION_STRING, AT(trace), 0, 0 },
	{ "gdb", "PORT|unix:PATH", "let GDB connect there: \"target remote :1234\"; --paused waits for it", OPTION_STRING, AT(gdb), 0, 0 },
	{ "verify", "ENGINE", "run the guest twice, by ENGINE and by the interpreter, and compare;\nno input, and --clock instructions", OPTION_STRING,
	  AT(verify), 0, 0 },
	{ "verify-every", "N", "instructions between two comparisons (default: 10000)", OPTION_NUMBER, AT(verify_every), 1, GiB },
	{ "verbose", NULL, "say what was chosen", OPTION_FLAG, AT(verbose), 0, 0 },
	{ .type = OPTION_END },
};
#undef AT

static int run(int argc, char **argv);
static const struct command run_command = {
	.name = "run",
	.summary = "Runs a virtual machine",
	.usage = "--kernel FILE | --disk FILE | --cdrom FILE | --floppy FILE | --bios FILE [OPTION]...",
	.options = options,
	.notes = "On a terminal, Ctrl-A is the escape key: Ctrl-A h tells what there is, Ctrl-A x ends the machine.\n\n"
		 "Exit status: 0 the guest powered off, or Ctrl-A x; 1 the host could not do it; 2 wrong usage;\n"
		 "3 the guest crashed (triple fault); 4 the monitor could not go on; 2v + 1 by --debug-exit;\n"
		 "128 + n ended by signal n.\n",
	.run = run,
};
COMMAND(run_command);

/* ---- Signals
 * ---------------------------------------------------------------------------------------------------------- */

/* One thread waits for the signals that the others hold off, so that their handling needs no care for what may be
 * called. SIGALRM is how we tell it to end. */
struct signals {
	struct vm *vm;
	const struct run_options *options;
	const struct screen *screen;
	pthread_t thread;
	sigset_t set, before;
};

#define SIGNAL_ECHO (200 * 1000 * 1000) /* ns */

static uint64_t monotonic(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *signal_thread(void *arg)
{
	struct signals *s = arg;
	bool ending = false;
	uint64_t first = 0;
	for (;;) {
		int signal;
		if (sigwait(&s->set, &signal) || signal == SIGALRM)
			return NULL;
		if (signal == SIGTSTP) {
			/* From another terminal: our own Ctrl-Z belongs to the guest. */
			terminal_suspend();
			kill(getpid(), SIGSTOP);
			continue;
		}
		if (signal == SIGCONT) {
			terminal_resume();
			continue;
		}
		if (signal == SIGUSR2) {
			screen_save(s->screen, s->options->screenshot, s->options->screen_text);
			continue;
		}
		/* timeout(1) signals its child, and then the group that the child is in: one request, not two. */
		uint64_t now = monotonic();
		if (ending && now - first < SIGNAL_ECHO)
			continue;
		if (ending) { /* asked twice: the output that is still owed is given up */
			terminal_restore();
			_exit(EXIT_SIGNAL + signal);
		}
		ending = true;
		first = now;
		vm_finish(s->vm, VM_STOPPED, (uint64_t)(EXIT_SIGNAL + signal));
	}
}

/* Before any other thread: they inherit the mask. */
static void signals_hold(struct signals *s)
{
	static const int held[] = { SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGUSR2, SIGALRM };
	sigemptyset(&s->set);
	for (unsigned i = 0; i < ARRAY_SIZE(held); i++)
		sigaddset(&s->set, held[i]);
	pthread_sigmask(SIG_BLOCK, &s->set, &s->before);
}

static int signals_start(struct signals *s, struct vm *vm, const struct run_options *o, const struct screen *screen)
{
	s->options = o;
	s->screen = screen;
	s->vm = vm;
	int error = pthread_create(&s->thread, NULL, signal_thread, s);
	if (error)
		log_error("no thread for signals: %s", strerror(error));
	return -error;
}

static void signals_stop(struct signals *s)
{
	pthread_kill(s->thread, SIGALRM);
	pthread_join(s->thread, NULL);
}

/* ---- Set-up
 * ----------------------------------------------------------------------------------------------------------- */

struct machine {
	struct vm_config config;
	struct board_options board;
	struct cards cards;
	struct boot_request request;
	struct board_kernel kernel;
	struct boot_image bios, vga_bios;
	struct display *display;
	struct screen screen;
	struct vm *vm;
	struct signals signals;
	struct x86_model model;
	struct control control;
	struct gdb *gdb;
};

static int choose_engine(struct machine *m, const struct run_options *o)
{
	const struct engine *engine;
	const char *options = o->engine ? strchr(o->engine, ',') : NULL;
	char why[400] = "", name[64] = "auto";
	if (o->engine)
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(o->engine, ","), o->engine);
	if (strcmp(name, "auto")) {
		engine = engine_find(name);
	} else {
		engine = engine_default(why, sizeof(why));
		if (!engine) {
			log_error("%s", why);
			return EXIT_HOST;
		}
	}
	if (!engine) {
		const char *names[16];
		unsigned count = 0;
		for (const struct engine *e = engine_next(NULL); e && count < ARRAY_SIZE(names); e = engine_next(e))
			names[count++] = e->name;
		const char *nearest = option_nearest(name, names, count);
		log_error("there is no engine %s; %s%s%s", name, nearest ? "did you mean " : "\"doppel engines\" lists them",
			  nearest ? nearest : "", nearest ? "?" : "");
		return EXIT_USAGE;
	}
	struct engine_report report = { 0 };
	if (engine->probe(&report) || !report.usable) {
		log_error("engine %s cannot run here: %s", engine->name, report.why);
		return EXIT_HOST;
	}
	if (o->clock == CLOCK_INSTRUCTIONS && !(report.capabilities & ENGINE_COUNTS)) {
		log_error("engine %s does not count instructions, which --clock instructions needs; --engine interp does", engine->name);
		return EXIT_USAGE;
	}
	if (o->cpus > 1 && o->clock == CLOCK_HOST && !(report.capabilities & ENGINE_SMP)) {
		log_error("engine %s runs one processor only; leave --cpus out, or take another engine", engine->name);
		return EXIT_USAGE;
	}
	if (options && !engine->has_options) {
		log_error("engine %s has no options, so there is nothing for %s to say", engine->name, options);
		return EXIT_USAGE;
	}
	if (why[0] && (o->verbose || isatty(STDERR_FILENO))) /* who looks on may want to know; a script's output stays what it was */
		log_info("engine %s", why);
	else if (o->verbose)
		log_info("engine %s: %s", engine->name, report.why);
	m->config.engine = engine->name;
	m->config.engine_options = options ? options + 1 : NULL;
	return EXIT_OK;
}

static void list_models(void)
{
	for (unsigned i = 0; i < x86_model_count; i++)
		printf("%-10s %s\n", x86_models[i].name, x86_models[i].summary);
	printf("\n+FEATURE adds one, -FEATURE takes one away, as in v2,-sse4.2,+aes:\n");
	unsigned column = 0;
	const char *text;
	for (unsigned row = 0; (text = x86_feature_text(&row));) {
		column += (unsigned)printf("%s%s", column ? " " : "  ", text);
		if (column > 70) {
			printf("\n");
			column = 0;
		}
	}
	printf("\n");
}

static int choose_model(struct machine *m, const struct run_options *o)
{
	char why[256];

	if (!strcmp(o->cpu, "help")) {
		list_models();
		return EXIT_OK;
	}
	m->config.model = &m->model;
	if (!x86_model_parse(&m->model, o->cpu, why, sizeof(why))) {
		if (*why)
			log_info("%s", why);
		return EXIT_OK;
	}
	log_error("%s", why);
	return EXIT_USAGE;
}

static bool written(const struct option_list *images)
{
	for (unsigned i = 0; i < images->count; i++)
		if (!strstr(images->item[i], ",readonly"))
			return true;
	return false;
}

static int check(const struct run_options *o)
{
	if (!o->kernel && !o->bios) {
		log_error("there is nothing to boot: give a kernel with --kernel FILE, "
			  "or what to boot from with --disk, --cdrom or --floppy");
		return EXIT_USAGE;
	}
	if (!o->kernel && (o->initrd.count || o->append)) {
		log_error("--initrd and --append are for a --kernel; firmware boots what it finds");
		return EXIT_USAGE;
	}
	if (o->memory % X86_PAGE_SIZE) {
		log_error("--memory: it must be a multiple of 4K");
		return EXIT_USAGE;
	}
	if (o->screenshot && picture_check_name(o->screenshot))
		return EXIT_USAGE;
	if (o->trace) {
		unsigned events;
		if (trace_parse(o->trace, &events))
			return EXIT_USAGE;
		trace_set(events);
	}
	if (o->verify && (written(&o->cards.disk) || written(&o->floppy))) {
		log_error("--verify: two machines cannot write to one disk; put \",readonly\" behind the file's name");
		return EXIT_USAGE;
	}
	if (o->name && !control_name_valid(o->name)) {
		log_error("--name %s: a name has up to %d letters, digits, \"_\", \"-\" and \".\", and does not begin with \".\" or \"-\"",
			  o->name, CONTROL_NAME_LONGEST);
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

/* A wrong word is the user's mistake, a file that cannot be made is the host's. */
static int open_backend(struct chardev **chardev, const char *spec)
{
	int error = chardev_open(chardev, spec);
	return !error ? EXIT_OK : error == -EINVAL || error == -EBUSY ? EXIT_USAGE : EXIT_HOST;
}

static bool is_stdio(const char *spec)
{
	return spec && !strcmp(spec, "stdio");
}

static int open_backends(struct machine *m, const struct run_options *o)
{
	int status = EXIT_OK;
	if (o->debugcon)
		status = open_backend(&m->board.debugcon, o->debugcon);
	for (unsigned i = 0; i < o->serial.count && !status; i++)
		status = open_backend(&m->board.serial[i], o->serial.item[i]);
	if (!status && o->bios_log)
		status = open_backend(&m->board.bios_log, o->bios_log);
	/* Standard input and output are the console's unless somebody else was given them. */
	if (!status && !o->serial.count && !is_stdio(o->debugcon) && !is_stdio(o->bios_log))
		status = open_backend(&m->board.serial[0], "stdio");
	return status;
}

/* "cdrom,disk": into four bits each. */
static int parse_boot_order(const char *list, uint16_t *order)
{
	static const char *const words[] = { "floppy", "disk", "cdrom" }; /* 1, 2, 3: struct mc146818_config */
	char word[16];
	for (unsigned at = 0; option_word(&list, word, sizeof(word)); at++) {
		unsigned i = 0;
		while (i < ARRAY_SIZE(words) && strcmp(words[i], word))
			i++;
		if (i == ARRAY_SIZE(words) || at == ARRAY_SIZE(words)) {
			log_error("--boot: a list of up to three of floppy, disk and cdrom, as \"cdrom,disk\"");
			return EXIT_USAGE;
		}
		*order |= (uint16_t)((i + 1) << 4 * at);
	}
	return EXIT_OK;
}

static int open_list(struct image **images, const struct option_list *list, unsigned flags)
{
	for (unsigned i = 0; i < list->count; i++)
		if (image_open(&images[i], list->item[i], flags))
			return EXIT_HOST;
	return EXIT_OK;
}

static int open_media(struct machine *m, const struct run_options *o)
{
	int status = o->boot ? parse_boot_order(o->boot, &m->board.boot_order) : EXIT_OK;
	if (!status)
		status = cards_open(&m->cards, &o->cards, &m->board, o->name ? o->name : DEFAULT_NAME, o->bios);
	if (!status)
		status = open_list(m->board.cdrom, &o->cdrom, IMAGE_READONLY);
	if (!status)
		status = open_list(m->board.floppy, &o->floppy, IMAGE_WORDS);
	return status;
}

static void close_list(struct image **images, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		image_close(images[i]);
}

static int read_bios(struct machine *m, const char *name)
{
	if (bios_read(&m->bios, name))
		return EXIT_HOST;
	m->board.bios = m->bios.data;
	m->board.bios_size = m->bios.size;
	if (!m->request.kernel.data)
		return EXIT_OK;
	m->board.kernel = &m->kernel;
	return linux_for_bios(&m->kernel, &m->request, m->config.memory) ? EXIT_HOST : EXIT_OK;
}

/* What firmware starts was copied. */
static void free_images(struct machine *m)
{
	linux_for_bios_free(&m->kernel);
	boot_image_free(&m->request.kernel);
	for (unsigned i = 0; i < m->request.modules; i++)
		boot_module_free(&m->request.module[i]);
	m->request.modules = 0;
}

static int read_images(struct machine *m, const struct run_options *o)
{
	m->request.append = o->append ? o->append : "";
	if (bios_read_vga(&m->vga_bios))
		return EXIT_HOST;
	if (!m->vga_bios.data && (o->screenshot || (o->display && strcmp(o->display, "none"))))
		log_warn("the screen has no font: it is in the VGA BIOS of Debian's package seabios (apt-get install seabios)");
	m->board.vga_bios = m->vga_bios.data;
	m->board.vga_bios_size = m->vga_bios.size;
	int error = o->kernel ? boot_image_read(&m->request.kernel, o->kernel) : 0;
	for (unsigned i = 0; i < o->initrd.count && !error; i++) {
		error = boot_module_read(&m->request.module[i], o->initrd.item[i]);
		m->request.modules += !error;
	}
	if (error)
		return EXIT_HOST;
	bool needs = !o->bios && linux_needs_bios(&m->request.kernel);
	if (needs && o->verbose)
		log_info("%s starts in real mode: --bios %s is chosen", o->kernel, BIOS_SEABIOS);
	return o->bios || needs ? read_bios(m, needs ? BIOS_SEABIOS : o->bios) : EXIT_OK;
}

static int boot(struct vm *vm, void *arg)
{
	struct machine *m = arg;
	int error = boot_images_need(&m->request);
	if (!error)
		error = board_pc.firmware(vm, &m->request.rsdp);
	if (!error)
		error = boot_load(vm, &m->request);
	boot_images_release(&m->request);
	return error;
}

static int set_up(struct machine *m, const struct run_options *o)
{
	int status = open_media(m, o);
	if (!status)
		status = open_backends(m, o);
	if (!status && o->display) {
		int error = display_open(&m->display, o->display);
		status = !error ? EXIT_OK : error == -EINVAL ? EXIT_USAGE : EXIT_HOST;
	}
	if (status)
		return status;
	if (vm_create(&m->vm, &m->config))
		return EXIT_HOST;
	if (board_pc.build(m->vm, &m->board))
		return EXIT_HOST;
	board_pc.screen(m->vm, &m->screen);
	vm_reset(m->vm);
	if (m->board.bios) { /* the reset vector is in it */
		free_images(m);
		return EXIT_OK;
	}
	if (boot(m->vm, m))
		return EXIT_HOST;
	m->vm->boot = boot; /* from the next reset on */
	m->vm->boot_arg = m;
	return EXIT_OK;
}

static void tear_down(struct machine *m)
{
	display_close(m->display);
	if (m->vm)
		vm_destroy(m->vm);
	for (unsigned i = 0; i < ARRAY_SIZE(m->board.serial); i++)
		chardev_close(m->board.serial[i]);
	chardev_close(m->board.debugcon);
	chardev_close(m->board.bios_log);
	cards_close(&m->cards);
	close_list(m->board.cdrom, BOARD_DRIVES);
	close_list(m->board.floppy, BOARD_FLOPPIES);
	terminal_restore();
	free_images(m);
	boot_image_free(&m->bios);
	boot_image_free(&m->vga_bios);
}

static int ended(const struct vm *vm, enum vm_end end)
{
	switch (end) {
	case VM_DEBUG_EXIT:
		return (int)(vm->end_value & 0xff);
	case VM_CRASHED:
		log_error("the guest crashed: triple fault");
		return EXIT_CRASHED;
	case VM_KILLED:
		log_error("the machine was stopped: %s", vm->end_reason);
		return EXIT_KILLED;
	case VM_STOPPED:
		return (int)vm->end_value;
	case VM_POWERED_OFF:
	case VM_RUNS:
		break;
	}
	return EXIT_OK;
}

/* Who gave the machine a name means to use it; another machine can do without. */
static int open_control(struct machine *m, const struct run_options *o)
{
	char why[512];
	int error;
	if (o->name)
		return control_open(&m->control, m->vm, o->name);
	log_divert(why, sizeof(why));
	error = control_open(&m->control, m->vm, m->config.name);
	log_divert(NULL, 0);
	if (error)
		log_warn("the machine cannot be controlled from outside: %s", why);
	return 0;
}

static int run_machine(struct machine *m, const struct run_options *o)
{
	int status = read_images(m, o); /* a file may be a pipe that is slow to come: signals still end us */
	signals_hold(&m->signals);
	if (!status)
		status = set_up(m, o);
	if (status)
		goto out;
	status = EXIT_HOST;
	if (o->paused)
		vm_pause(m->vm);
	int error = o->gdb ? gdb_open(&m->gdb, m->vm, o->gdb) : 0;
	if (error == -EINVAL)
		status = EXIT_USAGE;
	if (error || open_control(m, o) || signals_start(&m->signals, m->vm, o, &m->screen))
		goto out;
	if (!display_start(m->display, &m->screen, m->config.name) && !vm_start(m->vm)) {
		enum vm_end end = vm_wait(m->vm);
		/* First what the guest wrote, then what we have to say about it. */
		for (unsigned i = 0; i < ARRAY_SIZE(m->board.serial); i++)
			if (m->board.serial[i])
				m->board.serial[i]->ops->stop(m->board.serial[i]);
		cards_stop(&m->cards);
		if (m->board.debugcon)
			m->board.debugcon->ops->stop(m->board.debugcon);
		if (m->board.bios_log)
			m->board.bios_log->ops->stop(m->board.bios_log);
		status = ended(m->vm, end);
		if (screen_save(&m->screen, o->screenshot, o->screen_text) && !status)
			status = EXIT_HOST;
		if (o->stats)
			stats_print(m->vm, stderr);
		if (o->hash)
			fprintf(stderr, "hash %016lx\n", vm_hash(m->vm));
	}
	signals_stop(&m->signals);
out:
	gdb_close(m->gdb);
	control_close(&m->control);
	tear_down(m);
	return status;
}

/* ---- Lockstep
 * ---------------------------------------------------------------------------------------------------------- */

struct pair {
	struct machine verified, reference;
	const struct machine *like; /* what both start as */
	const struct run_options *options;
};

static int make_pair(void *arg, struct vm *vm[2], bool quiet)
{
	struct pair *p = arg;
	struct run_options silent = *p->options, loud = *p->options;
	silent.serial = (struct option_list){ { "none" }, 1 };
	silent.debugcon = silent.bios_log = NULL;
	p->verified = p->reference = *p->like;
	p->reference.config.engine = "interp";
	int status = read_images(&p->verified, p->options);
	if (!status)
		status = set_up(&p->verified, quiet ? &silent : &loud);
	if (!status)
		status = read_images(&p->reference, p->options);
	if (!status)
		status = set_up(&p->reference, &silent);
	vm[0] = p->verified.vm;
	vm[1] = p->reference.vm;
	return status;
}

static void unmake_pair(void *arg)
{
	struct pair *p = arg;
	tear_down(&p->verified);
	tear_down(&p->reference);
}

/* Standard input stays out of it: it would come to one machine only. */
static int verify(struct machine *m, const struct run_options *o)
{
	struct pair p = { .like = m, .options = o };
	const struct verify_maker maker = { make_pair, unmake_pair, &p };
	enum vm_end end = VM_KILLED;
	uint64_t value = 0;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0) {
		log_error("/dev/null: %s", strerror(errno));
		return EXIT_HOST;
	}
	close(null);
	int status = verify_run(&maker, o->verify_every, &end, &value);
	if (!status)
		status = end == VM_DEBUG_EXIT ? (int)(value & 0xff) : end == VM_CRASHED ? EXIT_CRASHED : end == VM_KILLED ? EXIT_KILLED : EXIT_OK;
	unmake_pair(&p);
	return status;
}

static int run(int argc, char **argv)
{
	struct run_options o = { .memory = MEMORY_DEFAULT, .cpus = 1, .cpu = DEFAULT_MODEL, .debug_exit = PORT_NONE, .clock = CLOCK_HOST,
				 .verify_every = VERIFY_EVERY };
	int status = command_options(&run_command, &o, argc, argv);
	if (status >= 0)
		return status;
	if (!o.kernel && !o.bios && (o.cards.disk.count || o.cdrom.count || o.floppy.count))
		o.bios = BIOS_SEABIOS;
	if (o.verify) {
		o.engine = o.verify;
		o.clock = CLOCK_INSTRUCTIONS;
	}
	struct machine m = { .board.debug_exit_port = o.debug_exit == PORT_NONE ? -1 : (int)o.debug_exit };
	status = choose_model(&m, &o);
	if (status || !m.config.model)
		return status;
	status = check(&o);
	if (!status)
		status = choose_engine(&m, &o);
	if (status)
		return status;
	char name[32];
	snprintf(name, sizeof(name), "doppel-%d", getpid());
	m.config.name = o.name ? o.name : name;
	m.config.memory = o.memory;
	m.config.cpus = (unsigned)o.cpus;
	m.config.clock = (enum clock_mode)o.clock;
	m.config.reset_ends = o.no_reboot;
	return o.verify ? verify(&m, &o) : run_machine(&m, &o);
}
