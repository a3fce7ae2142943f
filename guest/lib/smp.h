/* SPDX-License-Identifier: MIT */
/* Further processors for our guests: started by INIT and SIPI, each with a stack and a TSS of its own. SDM 3A 8.4 */
#pragma once
#include "lib/apic.h"
#include "lib/guest.h"

#define CPUS_MAX 8
#define TRAMPOLINE 0x9000ULL /* where SIPI's vector leads; nothing of the loader's is there */

/* Local APIC IDs of the machine are 0 to n - 1. */
static inline unsigned cpu_index(void)
{
	return apic_read(APIC_ID) >> 24;
}

/* smp.c -- Starts processors 1 to count - 1: each enables its APIC and calls the function, with interrupts off; what comes
 * back from it halts for good. How many of all came up in time, the first included. Those that run already are started again. */
unsigned smp_start(unsigned count, void (*function)(unsigned cpu));
/* For smp_start: one job after another, each on all processors at once, by smp_run on the first one; or on all others, between smp_begin and smp_end. */
void smp_work(unsigned cpu);
void smp_run(void (*job)(unsigned cpu));
void smp_begin(void (*job)(unsigned cpu));
void smp_end(void);
/* INIT, or SIPI with this page as the vector, to one processor. */
void smp_init(unsigned cpu);
void smp_sipi(unsigned cpu, uint64_t page);
/* Waits until so many processors are here. Each of them must call it equally often. */
void smp_meet(unsigned count);
/* Sends what ICR's low half says; the destination is an APIC ID or a logical one. */
void smp_send(uint8_t destination, uint32_t icr);
/* About so many TSC cycles. */
void smp_delay(uint64_t cycles);
/* Waits until *value is `want`, for ten seconds or so: whether it came. */
bool smp_await(const volatile uint32_t *value, uint32_t want);
