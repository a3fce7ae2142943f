/* SPDX-License-Identifier: MIT */
/* A builder for ACPI machine language (ACPI 6.4, chapter 20): just the objects that describe fixed devices, and
 * the few terms that their methods are made of. */
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

/* aml.c -- Scope, Device and resource buffers are opened and closed in pairs, and nest. Names are written as in
 * ASL, with up to four characters a segment ("\\_SB", "COM1"). */
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
void aml_dma(struct aml *, unsigned channel);                             /* 8 bits, compatible timing */
/* PCI: level, active high, shared; one of these. The number, of 32 bits, is AML_SHARED_IRQ_AT in the descriptor. */
void aml_irq_shared(struct aml *, const uint8_t *irqs, unsigned count);
#define AML_SHARED_IRQ_AT 5
void aml_bus_range(struct aml *, uint16_t first, uint16_t last);          /* what a bridge hands on */
void aml_io_range(struct aml *, uint16_t first, uint16_t last);
void aml_memory_range(struct aml *, uint32_t first, uint32_t last, bool cacheable);
void aml_resources_close(struct aml *);
/* A Name with a package, or a package within one: `count` elements follow, then aml_close. */
void aml_package(struct aml *, const char *name, uint8_t count);
void aml_package_element(struct aml *, uint8_t count);
/* Region of the configuration space of the PCI device that it is in, and a list of 8-bit registers in a region.
 * 19.6.100, 19.6.48 */
void aml_pci_region(struct aml *, const char *name, uint8_t offset, uint8_t size);
void aml_byte_fields(struct aml *, const char *region, const char *const *names, unsigned count);
/* A method, or what an If does; terms follow, then aml_close. */
void aml_method(struct aml *, const char *name, unsigned args);
void aml_if(struct aml *);
/* Terms. An operator comes first, then its operands, then, for those that have one, the target. */
enum aml_term {
	AML_ARG0 = 0x68, AML_STORE = 0x70, AML_AND = 0x7b, AML_OR = 0x7d, AML_DWORD_FIELD = 0x8a, AML_LESS = 0x95,
	AML_RETURN = 0xa4,
	AML_NOWHERE = 0x00, /* no target */
};
void aml_term(struct aml *, enum aml_term);
void aml_integer(struct aml *, uint64_t value);
void aml_reference(struct aml *, const char *name);
