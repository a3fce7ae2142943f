/* SPDX-License-Identifier: MIT */
/* A builder for ACPI machine language (ACPI 6.4, chapter 20): just the objects that describe fixed devices. */
#pragma once
#include "util/bits.h"

#define AML_DEPTH 8

/* Writes into the caller's room. What no longer fits sets `overflow` and is dropped; the size then means nothing. */
struct aml {
	uint8_t *data;
	size_t room, size;
	size_t open[AML_DEPTH]; /* where the lengths of the open objects go */
	unsigned depth;
	bool overflow;
};

/* aml.c -- Scope, Device and resource buffers are opened and closed in pairs, and nest. Names are written as in ASL, with up to four
 * characters a segment ("\\_SB", "COM1"). */
void aml_scope(struct aml *, const char *name);
void aml_device(struct aml *, const char *name);
void aml_close(struct aml *);
void aml_name_integer(struct aml *, const char *name, uint64_t value);
void aml_name_eisa(struct aml *, const char *name, const char *id);        /* "PNP0501" */
void aml_name_string(struct aml *, const char *name, const char *text);
void aml_name_package(struct aml *, const char *name, const uint8_t *values, unsigned count);
/* A Name with a resource template: the descriptors follow, then aml_resources_close. 6.4.2 */
void aml_resources(struct aml *, const char *name);
void aml_io(struct aml *, uint16_t port, uint8_t length);
void aml_irq(struct aml *, unsigned irq);                                 /* ISA: edge, active high, not shared */
void aml_resources_close(struct aml *);
