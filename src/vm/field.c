/* SPDX-License-Identifier: MIT */
/* Field tables to and from a stream.
 *
 * A table is a sequence of records and one END byte. A record is
 *     u8 type, u8 length of the name, the name, u32 count, u32 length of the payload in bytes, the payload
 * and its payload count elements: little-endian integers (bools are one byte, 0 or 1), bytes, or nested tables. All is
 * little-endian, as the host is. Since each record tells its length, a reader skips what it does not know. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "vm/field.h"

#define BUFFER_MIN 256

void buffer_fini(struct buffer *b)
{
	free(b->data);
	*b = (struct buffer){ 0 };
}

void buffer_put(struct buffer *b, const void *data, size_t size)
{
	if (b->error || !size)
		return;
	if (size > b->room - b->size) {
		size_t room = b->room ? b->room : BUFFER_MIN;
		uint8_t *bigger;

		while (room - b->size < size && room < SIZE_MAX / 2)
			room *= 2;
		bigger = room - b->size < size ? NULL : realloc(b->data, room);
		if (!bigger) {
			b->error = -ENOMEM;
			return;
		}
		b->data = bigger;
		b->room = room;
	}
	memcpy(b->data + b->size, data, size);
	b->size += size;
}

int buffer_get(struct buffer *b, void *data, size_t size)
{
	if (b->error)
		return b->error;
	if (size > b->size - b->at)
		return b->error = -EPROTO;
	if (size)
		memcpy(data, b->data + b->at, size);
	b->at += size;
	return 0;
}

static void put_u8(struct buffer *b, uint8_t value)
{
	buffer_put(b, &value, sizeof(value));
}

static void put_u32(struct buffer *b, uint32_t value)
{
	buffer_put(b, &value, sizeof(value));
}

static void save_field(const struct field *f, const uint8_t *object, struct buffer *b)
{
	size_t name_len = strlen(f->name), start;
	uint32_t length;

	if (name_len > UINT8_MAX) {
		b->error = -EINVAL;
		return;
	}
	put_u8(b, f->type);
	put_u8(b, (uint8_t)name_len);
	buffer_put(b, f->name, name_len);
	put_u32(b, f->type == FIELD_TYPE_BYTES ? f->size : f->count);
	start = b->size;
	put_u32(b, 0); /* the length, once it is known */
	if (f->type == FIELD_TYPE_STRUCT)
		for (uint32_t i = 0; i < f->count; i++)
			fields_save(f->fields, object + f->offset + (size_t)i * f->size, b);
	else
		buffer_put(b, object + f->offset, (size_t)f->count * f->size);
	if (b->error)
		return;
	length = (uint32_t)(b->size - start - sizeof(length));
	memcpy(b->data + start, &length, sizeof(length));
}

int fields_save(const struct field *table, const void *object, struct buffer *b)
{
	for (const struct field *f = table; f->type != FIELD_TYPE_END; f++)
		save_field(f, object, b);
	put_u8(b, FIELD_TYPE_END);
	return b->error;
}

static const struct field *find(const struct field *table, const char *name, size_t len)
{
	for (const struct field *f = table; f->type != FIELD_TYPE_END; f++)
		if (strlen(f->name) == len && !memcmp(f->name, name, len))
			return f;
	return NULL;
}

static int load_structs(const struct field *f, uint8_t *object, uint32_t count, struct buffer *payload)
{
	for (uint32_t i = 0; i < count; i++) {
		int error = fields_load(f->fields, object + f->offset + (size_t)i * f->size, payload);
		if (error)
			return error;
	}
	return payload->at == payload->size ? 0 : -EPROTO;
}

/* Only 0 and 1 may ever be stored in a bool. */
static bool all_bools(const uint8_t *data, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (data[i] > 1)
			return false;
	return true;
}

static int load_payload(const struct field *f, uint8_t *object, uint32_t count, struct buffer *payload)
{
	uint64_t element = f->type == FIELD_TYPE_BYTES ? 1 : f->size;
	uint64_t most = f->type == FIELD_TYPE_BYTES ? f->size : f->count;

	if (count > most)
		return -EPROTO;
	if (f->type == FIELD_TYPE_STRUCT)
		return load_structs(f, object, count, payload);
	if (payload->size != count * element)
		return -EPROTO;
	if (f->type == FIELD_TYPE_BOOL && !all_bools(payload->data, count))
		return -EPROTO;
	return buffer_get(payload, object + f->offset, payload->size);
}

/* One record, whose type byte was read. */
static int load_record(const struct field *table, uint8_t *object, uint8_t type, struct buffer *b)
{
	const struct field *f;
	struct buffer payload;
	char name[UINT8_MAX];
	uint8_t name_len;
	uint32_t count, length;
	int error;

	if (type > FIELD_TYPE_STRUCT)
		return -EPROTO;
	if (buffer_get(b, &name_len, sizeof(name_len)) || buffer_get(b, name, name_len) || buffer_get(b, &count, sizeof(count)) ||
	    buffer_get(b, &length, sizeof(length)))
		return b->error;
	if (length > b->size - b->at)
		return -EPROTO;
	payload = (struct buffer){ .data = b->data + b->at, .size = length, .room = length };
	b->at += length;
	f = find(table, name, name_len);
	if (!f)
		return 0;
	if (f->type != type)
		return -EPROTO;
	error = load_payload(f, object, count, &payload);
	return error;
}

int fields_load(const struct field *table, void *object, struct buffer *b)
{
	for (;;) {
		uint8_t type;
		int error = buffer_get(b, &type, sizeof(type));

		if (error || type == FIELD_TYPE_END)
			return error;
		error = load_record(table, object, type, b);
		if (error)
			return b->error = error;
	}
}
