/* SPDX-License-Identifier: MIT */
/* Doorbells: addresses at which a write of any value says "look", and nothing else.
 *
 * A processor need not wait until a device has looked. So an engine that can see such a write without leaving the guest (KVM's ioeventfd)
 * answers it by writing to the doorbell's eventfd, and the event loop's thread has the device look. With any other engine, and whenever the
 * interpreter steps in, the write comes over the bus as ever, and the device looks at once; so nothing depends on which engine runs. */
#pragma once
#include "vm/bus.h"
#include "vm/loop.h"

struct doorbell {
	struct device *device;
	void (*ring)(struct device *, unsigned which); /* device lock held; may come without reason */
	unsigned which;
	enum bus_space space;
	uint64_t address;          /* while it is placed */
	bool placed;
	struct loop_fd ready;      /* ready.fd is the eventfd */
	struct doorbell *next;
};

/* doorbell.c -- From a device's init; it lives as long as the VM, and is nowhere at first. NULL: the host gives none, and the device works
 * without. */
struct doorbell *doorbell_add(struct device *, enum bus_space, void (*ring)(struct device *, unsigned which), unsigned which);
/* Any thread, the device's lock held: from now on it is at the address, or nowhere. NULL is no doorbell. */
void doorbell_place(struct doorbell *, bool placed, uint64_t address);
/* At a safe point at which the loop stands still, too, holding no lock: a device has looked wherever it was rung, before anybody looks at its
 * state. */
void doorbells_settle(struct vm *);
void doorbells_fini(struct vm *);
/* For an engine that is set up when there are some already: calls its `doorbell` for each that is placed. At a safe point. */
struct engine;
void doorbells_show(struct vm *, const struct engine *);
