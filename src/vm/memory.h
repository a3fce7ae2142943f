/* SPDX-License-Identifier: MIT */
/* Guest-physical memory: one memfd holds all RAM and ROM of a VM, regions say where it appears.
 *
 * The monitor's view of the memfd is always readable and writable, with guard pages on both sides; rights live in the
 * engines' tables. Each page of RAM has bits that writers must honour; everyone who is not an engine writes through
 * guest_write or an iovec. The map of regions is read without a lock: a change publishes a new array.
 *
 * What a chip switches while the machine runs is a window: shadow RAM, SMRAM, a frame buffer that the guest moves
 * about. The map is what comes of RAM and ROM with the windows laid over them, or under. A new map is put in place
 * at a safe point, and all translations that engines derived from the old one are dropped there. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include "util/bits.h"

struct vm;

enum memory_kind {
	MEMORY_RAM,
	MEMORY_ROM,    /* guest writes are dropped */
	/* reads come from `offset`, writes go to `shadow`: how a BIOS copies itself. No engine maps it for writing */
	MEMORY_SHADOW,
	MEMORY_HOLE,   /* only in a window: there is no memory, accesses go to the bus */
};

struct memory_region {
	gpa_t start;
	uint64_t size;
	uint64_t offset;       /* in the memfd */
	uint64_t shadow;       /* MEMORY_SHADOW: in the memfd, what is written */
	enum memory_kind kind;
	const char *name;
};

struct memory_map { /* immutable once published; sorted by start */
	struct memory_map *older; /* in the list of retired ones */
	unsigned count;
	struct memory_region region[];
};

struct memory_window {
	struct memory_region region; /* whole pages; size 0: not shown */
	bool under;                  /* RAM and ROM hide it, as they hide a PCI device; else it hides them */
	struct memory_window *next;  /* added later: lies above */
};

/* Page bits, one byte a page of the memfd. */
#define PAGE_DIRTY 0x01u  /* written since the log was read last */
#define PAGE_CODE 0x02u   /* an engine holds decoded or translated code from it */
#define PAGE_TRANSLATED 0x08u /* the same, for an engine beside the interpreter */
#define PAGE_TRACED 0x04u /* each write is to be reported to the engines (debugging, page-table mirrors) */

struct memory {
	int fd;
	uint8_t *host;         /* the monitor's view: memfd offset 0 */
	uint64_t size;         /* of the memfd, RAM and ROM */
	uint64_t ram_size;     /* of RAM, as configured */
	uint64_t low_ram;      /* RAM from address 0 to here is at offset 0 of the memfd */
	/* the longest stretch of it that is mapped so: the common case needs no search */
	uint64_t plain_start, plain_size;
	uint64_t rom_used;     /* bytes of the memfd's ROM part, behind RAM, that regions have */
	_Atomic(uint8_t) *page_bits;
	_Atomic uint64_t *populated; /* by MEMORY_POPULATED bytes of the memfd, a bit each */
	_Atomic(struct memory_map *) map;
	bool shadowing;        /* a region of the map is MEMORY_SHADOW */

	pthread_mutex_t lock;  /* guards what follows; a device's lock may be held around it */
	struct memory_map *fixed;            /* RAM and ROM, without windows */
	struct memory_window *windows;
	_Atomic(struct memory_map *) next;   /* to be put in place at the next safe point */
	struct memory_map *retired;          /* replaced maps that a reader may still be looking at */
	unsigned retirees;
	_Atomic unsigned readers;            /* other threads than vCPUs' that are: see memory_apply */
};

#define RAM_HOLE_START 0xc0000000ULL /* RAM beyond it continues at 4 GiB */
#define RAM_HOLE_END 0x100000000ULL

/* memory.c -- memory_init makes the memfd (ram + rom_size) and maps RAM at 0 and above 4 GiB. 0 or -errno, after
 * an error message. */
int memory_init(struct vm *, uint64_t ram, uint64_t rom_size);
void memory_fini(struct vm *);
/* Adds a region backed by `size` new bytes of the memfd's ROM part, and fills it with data (NULL: zeros). start
 * and size are multiples of the page size. Tells the engine (memory_changed). One thread at a time. -EEXIST when
 * it overlaps another, -ENOSPC when the ROM part is full, both after an error message. */
int memory_add_rom(struct vm *, gpa_t start, const void *data, uint64_t size, const char *name);
/* As memory_add_rom, but the bytes appear nowhere until a window shows them: *offset says where in the memfd they
 * are. 0, -EINVAL or -ENOSPC. */
int memory_reserve(struct vm *, const void *data, uint64_t size, const char *name, uint64_t *offset);
/* The region that holds gpa, or NULL (device or nothing). From a vCPU's thread, where the result is good until the
 * next safe point; or at one. */
const struct memory_region *memory_find(struct vm *, gpa_t);
/* Host address of gpa when len bytes from it lie in one region, else NULL. For reading; a writer uses guest_write. */
uint8_t *memory_host(struct vm *, gpa_t, uint64_t len);
static inline uint64_t memory_offset(const struct memory *m, const uint8_t *host)
{
	return (uint64_t)(host - m->host);
}

/* These bytes of the memfd are about to be written, or some of them. Memory that is touched for the first time is touched beside it soon: the host is
 * called once for all pages near by, instead of a fault for each. That it fails, or that pages go again (a balloon), only means that they fault. Any thread. */
#define MEMORY_POPULATED (64 * KiB)
void memory_populate(struct memory *, uint64_t offset, uint64_t len);

/* memory_window.c -- Adds a window, shown or not; it must live as long as the VM. Set-up time. */
void memory_window_add(struct vm *, struct memory_window *);
/* What the window shows from the next commit on: *region, or, NULL, nothing. Regions lie within the memfd, and are
 * whole pages. */
void memory_window_set(struct vm *, struct memory_window *, const struct memory_region *region);
/* Makes the changes of windows count. On a vCPU's thread inside run(): from its next instruction on, since an OUT
 * ends what an engine runs in one go when the processor is kicked. At a safe point, or before the VM runs: at
 * once. 0 or -ENOMEM. */
int memory_commit(struct vm *);
/* For the vCPU loop, at a safe point: puts the committed map in place. */
void memory_apply(struct vm *);
static inline bool memory_pending(struct memory *m)
{
	return atomic_load_explicit(&m->next, memory_order_relaxed);
}
/* For memory.c: the map of what m->fixed and the windows say; NULL: out of memory. */
struct memory_map *memory_flatten(struct memory *);

/* Checked copies, any thread. Overflow-safe; 0, or -EFAULT when a byte is not RAM (reads: RAM or ROM), with
 * nothing copied. */
int guest_read(struct vm *, gpa_t, void *data, uint64_t len);
int guest_write(struct vm *, gpa_t, const void *data, uint64_t len);
/* Host pieces of guest memory for readv/writev. `to_guest`: the host will write it. Returns the number of pieces,
 * or -EFAULT / -E2BIG. guest_iov_end sets the bits and tells the engines about the first `done` bytes. */
int guest_iov_begin(struct vm *, gpa_t, uint64_t len, bool to_guest, struct iovec *, unsigned max);
void guest_iov_end(struct vm *, gpa_t, uint64_t done, bool to_guest);

/* Gives the host back what is behind whole pages of RAM; they read as zeros, as if those had been written. Anything else is left. Any thread. */
void memory_discard(struct vm *, gpa_t, uint64_t len);

/* Page bits by memfd page number. memory_written is what every writer owes: sets DIRTY, and tells the engines
 * (code_changed) if CODE, TRANSLATED or TRACED is set. */
void memory_written(struct vm *, gpa_t, uint64_t len);
static inline uint8_t page_bits_get(struct memory *m, uint64_t page)
{
	return atomic_load_explicit(&m->page_bits[page], memory_order_relaxed);
}
static inline void page_bits_set(struct memory *m, uint64_t page, uint8_t bits)
{
	if ((page_bits_get(m, page) & bits) != bits)
		atomic_fetch_or(&m->page_bits[page], bits);
}
static inline void page_bits_clear(struct memory *m, uint64_t page, uint8_t bits)
{
	atomic_fetch_and(&m->page_bits[page], (uint8_t)~bits);
}
