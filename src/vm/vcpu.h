/* SPDX-License-Identifier: MIT */
/* A virtual processor: its state, the loop that runs it, and the ways to stop it.
 *
 * The loop: take a stop or an interrupt request, let the engine run, handle its exit (HLT, shutdown, limit). Whatever mode
 * the engine cannot run, the interpreter runs. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "vm/vm.h"
#include "x86/core.h"

struct engine;

enum vm_exit_reason {
	VM_EXIT_KICK,      /* somebody wants the loop's attention */
	VM_EXIT_LIMIT,     /* the run limit was reached */
	VM_EXIT_HALT,      /* HLT: cpu.activity tells */
	VM_EXIT_SHUTDOWN,  /* triple fault */
	VM_EXIT_DEBUG,     /* a breakpoint of the debugger at RIP */
	VM_EXIT_MODE,      /* the processor came into a mode that this engine cannot run */
	VM_EXIT_REASONS
};

struct vm_exit {
	enum vm_exit_reason reason;
};

/* How far run() may go. Exact where the engine COUNTS. */
struct run_limit {
	uint64_t icount;   /* stop when core.icount reaches this; UINT64_MAX: no limit */
	bool step;         /* stop after one instruction */
};

struct vcpu {
	struct x86_core core;        /* first member: env callbacks get the vcpu from it */
	struct vm *vm;
	unsigned index;
	const struct engine *_Atomic engine; /* that holds the state now */
	void *engine_data[ENGINE_SLOTS]; /* by engine->slot */
	unsigned held;               /* register groups that the engine holds; the others are current in core.cpu */
	unsigned changed;            /* groups that were written outside and must be loaded before the next run */

	uint64_t fallback;           /* instructions that the interpreter runs next, where the VM's engine cannot */

	pthread_t thread;
	bool thread_running;         /* it has a thread of its own, which sleeps in HLT; else whoever calls vcpu_run_once does */
	_Atomic int tid;             /* of the thread that runs it; 0: none */
	_Atomic bool running;        /* inside engine->run: a kick needs the signal */
	_Atomic bool sleeping;       /* waits for `wake` to change */
	_Atomic uint32_t wake;       /* futex: each kick of a sleeper adds one */
	_Atomic bool unseen;         /* its engine stores past PAGE_CODE, and it may be running: counted in vm->unseen */
	bool waits_inside;           /* its engine sleeps in HLT, and waits for SIPI, inside run() */
	bool idle;                   /* may not be RUNNING: its activity is to be looked at before the next run */
	_Atomic bool kicked;         /* set before the signal; the engine tests it once it is committed to run */
	_Atomic bool intr_pending;   /* an interrupt controller has a vector for it */
	_Atomic bool nmi_pending;
	_Atomic bool init_pending;
	_Atomic int sipi_vector;     /* -1: none */
	bool debug_step;             /* runs one instruction for the debugger; guarded by the pause that set it */
	bool debug_stands;           /* and stands still until debugger_resume; guarded by vm->lock */
	uint64_t debug_from;         /* icount when it went on: a breakpoint there was met already */
	bool parked;                 /* outside, counted in vm->vcpus_outside; guarded by vm->lock, changed by its own thread only */

	uint64_t random_state;       /* of the deterministic generator, where the clock counts instructions */
	uint64_t random[32];         /* else: bytes from the host, and how many words are left */
	unsigned random_left;

	struct {
		uint64_t exits[VM_EXIT_REASONS];
		uint64_t kicks, halts, ns_halted;
	} stat;
};

static inline struct vcpu *vcpu_of(struct x86_core *core)
{
	return container_of(core, struct vcpu, core);
}

/* What kicks: an empty handler, no SA_RESTART, on the alternate stack where there is one. vCPU threads take no other signal. */
#define VCPU_SIGNAL SIGUSR1

/* vcpu.c -- */
int vcpu_create(struct vm *, unsigned index);
void vcpu_destroy(struct vcpu *);
/* The processor that the calling thread runs right now; NULL on other threads. */
struct vcpu *vcpu_current(void);
/* Brings the groups in core.cpu up to date / says that they were written. At a safe point, or on the vCPU's own thread outside run(). */
int vcpu_state(struct vcpu *, unsigned groups);
void vcpu_changed(struct vcpu *, unsigned groups);
/* Its stores pass by PAGE_CODE from now on (engine->writes_unseen), or do no longer, once all that was decoded is dropped. While another
 * processor's do, the interpreter keeps no decoded code: it decodes each instruction when it runs it. Own thread outside run(), or at a safe
 * point. */
void vcpu_unseen(struct vcpu *, bool unseen);
/* Any thread: makes run() return soon; never lost. Without need when called on the vCPU's own thread, but harmless. */
void vcpu_kick(struct vcpu *);
/* Interrupt chips, any thread: the controller has (no longer) a vector for this processor. Wakes it from HLT. */
void vcpu_interrupt(struct vcpu *, bool pending);
void vcpu_nmi(struct vcpu *);
void vcpu_init(struct vcpu *);
void vcpu_sipi(struct vcpu *, uint8_t vector);
/* vcpu_stop.c -- The safe point: returns when every vCPU is outside run(). Nests; one thread has it at a time, others wait for their turn, and
 * whoever stopped resumes. Never with a device lock held. From a vCPU's thread: the caller counts as outside; it must be at
 * an instruction boundary. */
void vcpu_stop_all(struct vm *);
void vcpu_resume_all(struct vm *);
/* For the loops: goes outside, for a wait; comes back, once nobody holds the safe point. vcpu_enter is false when the VM has ended: then the
 * vCPU stays outside. */
void vcpu_leave(struct vcpu *);
bool vcpu_enter(struct vcpu *);
/* vcpu.c -- Body of a vCPU thread. */
void *vcpu_thread(void *vcpu);
/* Prepares the calling thread to run processors: signals, tid. vcpu_turns.c -- Body of the one thread that runs all of a VM's. */
void vcpu_thread_begin(struct vcpu *);
void *vcpu_turns_thread(void *vm);
/* Runs one slice of one vCPU: used by the thread's loop, and by the single-threaded round robin. Returns false when the VM has ended. */
bool vcpu_run_once(struct vcpu *, const struct run_limit *);
/* The vCPU's own thread, outside run(): would it run an instruction now? An event that ends its HLT does so. */
bool vcpu_runnable(struct vcpu *);
/* Sleeps until one of the `count` processors from this one on is kicked. Own thread, outside. */
void vcpu_sleep(struct vcpu *, unsigned count);
/* At a safe point: RESET of this processor, or, with init, INIT: the boot processor goes to the reset vector, the others wait for a SIPI. */
void vcpu_reset(struct vcpu *, bool init);
/* vcpu_dump.c -- Prints registers, and the bytes at RIP disassembled, to stderr: for crashes. */
void vcpu_dump(struct vcpu *);
/* The env of every core: memory through memory.c, devices through the bus, interrupts through the controller. env.c */
extern const struct x86_env vcpu_env;
/* vcpu_fields.c -- What of a processor is state. */
extern const struct field x86_cpu_fields[];
