/* SPDX-License-Identifier: MIT */
/* Which processors hold code that was derived (decoded, translated) from a page of guest memory, and how they come to know that its bytes changed.
 *
 * Who derives code from a page must learn of every write to it. So the page carries a bit (PAGE_CODE, PAGE_TRANSLATED) that makes every
 * write to it slow: it must go when the last processor gave the page's code up, and a write must disturb only the processors that
 * hold some. So there is, for each page of the memfd, a word with a bit a processor.
 *
 * Each engine that keeps such code has one `struct code_pages` a machine, with a page bit of its own, and each of its processors a
 * `struct code_holder`. */
#pragma once
#include <pthread.h>
#include "vm/vcpu.h"

#define CODE_CHANGES 64

struct code_holder {            /* a processor's */
	struct vcpu *vcpu;
	struct code_pages *pages;
	pthread_mutex_t lock;                       /* guards the list below */
	struct { gpa_t gpa; uint64_t len; } changed[CODE_CHANGES]; /* written by another thread, until this processor drops it */
	unsigned changes;                           /* more than the list holds: everything */
	_Atomic bool moved;                         /* pages may be others */
	_Atomic bool has_changes;
};

struct code_pages_model {       /* an engine's */
	unsigned bit;                                         /* PAGE_* */
	struct code_holder *(*holder)(struct vcpu *);         /* NULL: it has none (yet) */
	void (*standing)(struct vcpu *);                      /* own thread, before it waits for a safe point; may be NULL */
	void (*protect)(struct vcpu *, uint64_t number);      /* at a safe point: forget every right to write this page of the memfd */
	void (*drop)(struct vcpu *, gpa_t, uint64_t len);     /* own thread: the code of these bytes */
	void (*drop_all)(struct vcpu *);                      /* own thread */
	void (*drop_moved)(struct vcpu *);                    /* own thread: of pages that are elsewhere than they were; may be NULL: all */
	void (*kick)(struct vcpu *);                          /* any thread: be soon where code_holder_catch_up is called */
};

struct code_pages {             /* a machine's, one an engine */
	const struct code_pages_model *model;
	struct vm *vm;
	pthread_mutex_t lock;                                 /* between "nobody holds it" and the clearing of the bit nobody becomes a holder */
	_Atomic uint64_t *mask;                               /* by page of the memfd; processors 64 and up share the bits of 0 and up */
	size_t size;
};

/* 0 or -errno. Before the machine runs, or at a safe point. */
int code_pages_init(struct code_pages *, struct vm *, const struct code_pages_model *);
/* Also after an init that failed. */
void code_pages_fini(struct code_pages *);
void code_holder_init(struct code_holder *, struct code_pages *, struct vcpu *);
void code_holder_fini(struct code_holder *);

/* The processor is going to derive code from the page: watched first, then read. True if it was not watched for this processor before, so
 * that what was read of it may be old. May leave by UNWIND_RESTART. Own thread. */
bool code_holder_add(struct code_holder *, gpa_t page);
/* Does the processor hold code of the page, so that it learns of writes to it? */
bool code_holder_has(const struct code_holder *, gpa_t page);
/* It holds no code of the page any more. Own thread, or at a safe point. */
void code_holder_remove(struct code_holder *, gpa_t page);
/* Bytes of code have just been read, and are newer, perhaps, than what this processor was told of: another one's store is seen before it is
 * reported. Older code of the same bytes must not run after them. Returns when all that was under way is reported: what is to be dropped then
 * is, before derived code runs on. Own thread, no lock held. */
void code_holder_settle(struct code_holder *);
/* Drops what others have written meanwhile. Own thread, where no derived code runs. */
void code_holder_catch_up(struct code_holder *);

/* These bytes, which lie in one page, were written. Any thread. On the processor's own at once: the store that runs must see its effect on
 * the next instruction; others learn of it before their next round. */
void code_pages_changed(struct code_pages *, gpa_t, uint64_t len);
/* Any bytes may be others: all code goes, by each processor's own thread, which may stand still in the middle of making some. */
void code_pages_changed_all(struct code_pages *);
/* The map of memory is another: so goes the code of pages that are elsewhere now. */
void code_pages_moved(struct code_pages *);
