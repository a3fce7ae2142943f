/* SPDX-License-Identifier: MIT */
/* Port and memory-mapped I/O: who answers at which address. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "util/bits.h"

struct vm;
struct device;

enum bus_space { BUS_MEMORY, BUS_PORT, BUS_SPACES };

/* One handler type for ports and MMIO. `offset` counts from the start of the range; size is 1, 2, 4 or 8. An
 * access wider than max_size is split by the bus into accesses of max_size, low address first; one narrower than
 * min_size reaches the handler as it is. The bus holds device->lock around the call. */
struct bus_ops {
	uint64_t (*read)(struct device *, uint64_t offset, unsigned size);
	void (*write)(struct device *, uint64_t offset, unsigned size, uint64_t value);
	uint8_t max_size; /* 1, 2, 4, 8 */
	bool unlocked;    /* the handler locks for itself */
};

struct bus_range {
	uint64_t start, size;
	const struct bus_ops *ops;
	struct device *device;
	uint64_t offset;       /* added to the handler's offset: two ranges can be one register file */
	_Atomic uint64_t reads, writes;
	struct bus_range *older; /* in the list of removed ones */
};

struct bus_map { /* immutable once published; sorted by start, ranges do not overlap */
	uint64_t generation;   /* no two maps of this process have the same: the key of each thread's last hit */
	struct bus_map *older; /* in the list of retired ones */
	unsigned count;
	struct bus_range *range[];
};

#define BUS_GARBAGE 64

struct bus {
	_Atomic(struct bus_map *) map[BUS_SPACES];
	struct bus_map *retired;     /* replaced maps and removed ranges that a vCPU may still be looking at */
	struct bus_range *removed;
	/* number of both: from BUS_GARBAGE on, a vCPU calls bus_reclaim at the next safe point */
	_Atomic unsigned garbage;
	_Atomic uint64_t unclaimed_reads[BUS_SPACES], unclaimed_writes[BUS_SPACES];
	pthread_mutex_t lock; /* for changes */
};

/* bus.c */
int bus_init(struct vm *);
void bus_fini(struct vm *);
/* Registers a range; -EEXIST (after an error naming both devices) when it overlaps another. */
int bus_add(struct vm *, enum bus_space, uint64_t start, uint64_t size, const struct bus_ops *, struct device *);
int bus_add_at(struct vm *, enum bus_space, uint64_t start, uint64_t size, const struct bus_ops *, struct device *,
	uint64_t offset);
/* As bus_add_at, for a range that the guest places: -EEXIST, without a word, when it overlaps another. */
int bus_claim(struct vm *, enum bus_space, uint64_t start, uint64_t size, const struct bus_ops *, struct device *,
	uint64_t offset);
int bus_remove(struct vm *, enum bus_space, uint64_t start);
/* From a vCPU thread, holding no device lock. An address nobody claims reads as all ones, and ignores writes. */
uint64_t bus_read(struct vm *, enum bus_space, uint64_t address, unsigned size);
void bus_write(struct vm *, enum bus_space, uint64_t address, unsigned size, uint64_t value);
/* At a safe point: frees what a change left behind (a guest may move its PCI windows as often as it likes). */
void bus_reclaim(struct vm *);
