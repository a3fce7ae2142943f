/* SPDX-License-Identifier: MIT */
/* Counters: what --stats prints. One line a counter, "name value", sorted by group. */
#pragma once
#include <stdio.h>
struct vm;
/* stats.c -- After the VM has stopped, or at a safe point. First line: "instructions N" (architectural, all vCPUs; a repeated string
 * instruction counts one). Then exits by reason, exceptions by name, interrupts by line, TLB, port and MMIO accesses by
 * device, and what the engine adds (engine->stats). */
void stats_print(struct vm *, FILE *);
