/* SPDX-License-Identifier: MIT */
/* Field tables: what of a struct is state. One table serves save, load, listing and comparison.
 *
 * A stream is self-describing (name, type, count of each field), little-endian, and hostile: loading checks every length before it
 * stores, refuses unknown types, skips fields it does not know, and leaves absent ones as reset left them. */
#pragma once
#include "util/bits.h"

enum field_type { FIELD_TYPE_END, FIELD_TYPE_U8, FIELD_TYPE_U16, FIELD_TYPE_U32, FIELD_TYPE_U64, FIELD_TYPE_BOOL, FIELD_TYPE_BYTES, FIELD_TYPE_STRUCT };

struct field {
	const char *name;
	uint8_t type;
	uint32_t offset, count, size; /* size: of one element */
	const struct field *fields;   /* of a struct */
};

#define FIELD_(type_, s, member, element)                                                                              \
	{ #member, type_, offsetof(s, member), sizeof(((s *)0)->member) / (element), element, 0 }
#define FIELD_U8(s, member) FIELD_(FIELD_TYPE_U8, s, member, 1)   /* scalar or array alike */
#define FIELD_U16(s, member) FIELD_(FIELD_TYPE_U16, s, member, 2)
#define FIELD_U32(s, member) FIELD_(FIELD_TYPE_U32, s, member, 4)
#define FIELD_U64(s, member) FIELD_(FIELD_TYPE_U64, s, member, 8)
#define FIELD_BOOL(s, member) FIELD_(FIELD_TYPE_BOOL, s, member, 1)
#define FIELD_BYTES(s, member) { #member, FIELD_TYPE_BYTES, offsetof(s, member), 1, sizeof(((s *)0)->member), 0 }
#define FIELD_STRUCT(s, member, table, type_)                                                                          \
	{ #member, FIELD_TYPE_STRUCT, offsetof(s, member), sizeof(((s *)0)->member) / sizeof(type_), sizeof(type_), table }
#define FIELD_END { 0, FIELD_TYPE_END, 0, 0, 0, 0 }

struct buffer { /* grows when written; at: read position */
	uint8_t *data;
	size_t size, room, at;
	int error; /* the first failure, -errno; later calls do nothing */
};

/* field.c -- */
void buffer_fini(struct buffer *);
void buffer_put(struct buffer *, const void *, size_t);
int buffer_get(struct buffer *, void *, size_t); /* -EPROTO when it ends too early */
int fields_save(const struct field *, const void *object, struct buffer *);
int fields_load(const struct field *, void *object, struct buffer *);
