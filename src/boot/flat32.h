/* SPDX-License-Identifier: MIT */
/* The processor as 32-bit boot protocols hand it over: flat protected mode without paging. */
#pragma once
#include "vm/vcpu.h"

enum { FLAT32_CS = 0x08, FLAT32_DS = 0x10, FLAT32_TSS = 0x18 };

/* The protocols let a program assume nothing about the GDT; one that belongs to the selectors is there all the same, for those that do. */
struct flat32_tables {
	uint64_t gdt[4];
	uint8_t tss[104];
} __attribute__((packed));

/* flat32.c -- Fills the tables that will lie at `at`. */
void flat32_tables(struct flat32_tables *, gpa_t at);
/* Puts the boot processor at `entry`, with its tables at `tables`. 0 or -errno. */
int flat32_enter(struct vm *, gpa_t tables, uint32_t entry, uint32_t eax, uint32_t ebx);
