/* SPDX-License-Identifier: MIT */
/* doppel run: makes a virtual machine from the command line, runs it to its end, and says how it ended. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "cmd/cmd.h"
#include "cmd/run_signals.h"
#include "cmd/screen.h"
#include "cmd/verify.h"
#include "control/control.h"
#include "engine/engine.h"
#include "gdb/gdb.h"
#include "util/file.h"
#include "util/log.h"
#include "vm/stats.h"

#define MEMORY_DEFAULT (512 * MiB)
#define MEMORY_LEAST (1 * MiB)
#define MEMORY_MOST (1024 * GiB)
#define CPUS_MOST 255
#define PORT_NONE UINT64_MAX
#define CLOCK_UNSAID (-1)
#define DEFAULT_MODEL "v2"
#define VERIFY_EVERY 10000

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
	{ "vsock", "PATH", "sockets between guest and host (virtio): PATH is the Unix socket to\nconnect to the guest, PATH_N where the guest finds the host's "
	  "port N;\n\",cid=N\" behind it is the guest's number (default: 3)", OPTION_STRING, AT(cards.vsock), 0, 0 },
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
	{ "verify", "ENGINE", "run the guest twice, by ENGINE and by the interpreter, and compare;\nwith --clock instructions; what comes in comes to both",
	  OPTION_STRING, AT(verify), 0, 0 },
	{ "verify-every", "N", "instructions between two comparisons (default: 10000)", OPTION_NUMBER, AT(verify_every), 1, GiB },
	{ "verbose", NULL, "say what was chosen", OPTION_FLAG, AT(verbose), 0, 0 },
	{ .type = OPTION_END },
};
#undef AT

COMMAND(run, .summary = "Runs a virtual machine",
	.usage = "--kernel FILE | --disk FILE | --cdrom FILE | --floppy FILE | --bios FILE [OPTION]...",
	.options = options,
	.notes = "On a terminal, Ctrl-A is the escape key: Ctrl-A h tells what there is, Ctrl-A x ends the machine.\n\n"
		 "Exit status: 0 the guest powered off, or Ctrl-A x; 1 the host could not do it; 2 wrong usage;\n"
		 "3 the guest crashed (triple fault); 4 the monitor could not go on; 2v + 1 by --debug-exit;\n"
		 "128 + n ended by signal n.\n");

static bool written(const struct option_list *images)
{
	for (unsigned i = 0; i < images->count; i++)
		if (!strstr(images->item[i], ",readonly") && !strstr(images->item[i], ",snapshot"))
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
	if ((o->screenshot && file_can_replace(o->screenshot)) || (o->screen_text && file_can_replace(o->screen_text)))
		return EXIT_HOST;
	if (o->trace) {
		unsigned events;
		if (trace_parse(o->trace, &events))
			return EXIT_USAGE;
		trace_set(events);
	}
	if (o->verify && (written(&o->cards.disk) || written(&o->floppy))) {
		log_error("--verify: two machines cannot write to one disk; put \",snapshot\" or \",readonly\" behind the file's name");
		return EXIT_USAGE;
	}
	if (o->verify && written(&o->cards.share)) {
		log_error("--verify: two machines cannot write to one folder; put \",readonly\" behind --share");
		return EXIT_USAGE;
	}
	if (o->verify && o->cards.vsock) {
		log_error("--verify: the host's programs could speak to one machine of two by --vsock; leave it away");
		return EXIT_USAGE;
	}
	if (o->verify && o->gdb) {
		log_error("--verify: gdb would stop one machine of two; look at a difference that was found with \"--clock instructions --gdb\"");
		return EXIT_USAGE;
	}
	if (o->name && !control_name_valid(o->name)) {
		log_error("--name %s: a name has up to %d letters, digits, \"_\", \"-\" and \".\", and does not begin with \".\" or \"-\"",
			  o->name, CONTROL_NAME_LONGEST);
		return EXIT_USAGE;
	}
	return EXIT_OK;
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
static int open_control(struct control *control, struct machine *m, const struct run_options *o)
{
	char why[512];
	int error;
	if (o->name)
		return control_open(control, m->vm, o->name);
	log_divert(why, sizeof(why));
	error = control_open(control, m->vm, m->config.name);
	log_divert(NULL, 0);
	if (error)
		log_warn("the machine cannot be controlled from outside: %s", why);
	return 0;
}

static int run_machine(struct machine *m, const struct run_options *o)
{
	struct signals signals;
	struct control control = { 0 };
	struct gdb *gdb = NULL;
	int status = machine_read(m, o); /* a file may be a pipe that is slow to come: signals still end us */
	signals_hold(&signals);
	if (!status)
		status = machine_set_up(m, o);
	if (status)
		goto out;
	status = EXIT_HOST;
	if (o->paused)
		vm_pause(m->vm);
	int error = o->gdb ? gdb_open(&gdb, m->vm, o->gdb) : 0;
	if (error)
		status = command_status(error);
	if (error || open_control(&control, m, o) || signals_start(&signals, m->vm, o, &m->screen))
		goto out;
	if (!display_start(m->display, &m->screen, m->config.name) && !vm_start(m->vm)) {
		enum vm_end end = vm_wait(m->vm);
		/* First what the guest wrote, then what we have to say about it. */
		machine_drain(m);
		status = ended(m->vm, end);
		if (screen_save(&m->screen, o->screenshot, o->screen_text) && !status)
			status = EXIT_HOST;
		if (o->stats)
			stats_print(m->vm, stderr);
		if (o->hash)
			fprintf(stderr, "hash %016lx\n", vm_hash(m->vm));
	}
	signals_stop(&signals);
out:
	gdb_close(gdb);
	control_close(&control);
	machine_tear_down(m);
	return status;
}

static int do_run(int argc, char **argv)
{
	struct run_options o = { .memory = MEMORY_DEFAULT, .cpus = 1, .cpu = DEFAULT_MODEL, .debug_exit = PORT_NONE, .clock = CLOCK_UNSAID,
				 .verify_every = VERIFY_EVERY };
	int status = command_options(&run_command, &o, argc, argv);
	if (status >= 0)
		return status;
	if (!o.kernel && !o.bios && (o.cards.disk.count || o.cdrom.count || o.floppy.count))
		o.bios = BIOS_SEABIOS;
	if (o.verify && o.engine) {
		log_error("--verify %s says which engine runs the guest: leave --engine %s away", o.verify, o.engine);
		return EXIT_USAGE;
	}
	if (o.verify && !strcmp(o.verify, VERIFY_REFERENCE)) {
		log_error("--verify %s: the interpreter is what the others are compared with; --verify bt, say", o.verify);
		return EXIT_USAGE;
	}
	if (o.verify && !strcmp(o.verify, null_engine.name)) {
		log_error("--verify %s: it runs nothing that could be compared; --verify bt, say", o.verify);
		return EXIT_USAGE;
	}
	if (o.verify && o.clock == CLOCK_HOST) {
		log_error("--verify: two machines are the same only while time is what they count; leave --clock host away");
		return EXIT_USAGE;
	}
	if (o.verify)
		o.engine = o.verify;
	if (o.clock == CLOCK_UNSAID)
		o.clock = o.verify ? CLOCK_INSTRUCTIONS : CLOCK_HOST;
	struct machine m = { .board.debug_exit_port = o.debug_exit == PORT_NONE ? -1 : (int)o.debug_exit };
	status = machine_choose_model(&m, &o);
	if (status || !m.config.model)
		return status;
	status = check(&o);
	if (!status)
		status = machine_choose_engine(&m, &o);
	if (status)
		return status;
	char name[32];
	snprintf(name, sizeof(name), "doppel-%d", getpid());
	m.config.name = o.name ? o.name : name;
	m.config.memory = o.memory;
	m.config.cpus = (unsigned)o.cpus;
	m.config.clock = (enum clock_mode)o.clock;
	m.config.reset_ends = o.no_reboot;
	m.config.profile = o.stats;
	return o.verify ? run_pair(&m, &o) : run_machine(&m, &o);
}
