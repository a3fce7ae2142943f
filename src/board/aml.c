/* SPDX-License-Identifier: MIT */
/* A builder for ACPI machine language: encodes the objects of aml.h as ACPI 6.4 chapter 20 says.
 *
 * The one difficulty: an object's length stands before its content, in 1 to 4 bytes that count themselves. So an object is opened with no
 * room for its length, and when it is closed its content moves up by as many bytes as the length turned out to need. */
#include "board/aml.h"
#include <string.h>

enum { /* 20.2, 20.3 */
	AML_NAME = 0x08, AML_BYTE = 0x0a, AML_WORD = 0x0b, AML_DWORD = 0x0c, AML_STRING = 0x0d, AML_QWORD = 0x0e,
	AML_SCOPE = 0x10, AML_BUFFER = 0x11, AML_PACKAGE = 0x12, AML_EXT = 0x5b, AML_DEVICE = 0x82, AML_DUAL_NAME = 0x2e,
	AML_MULTI_NAME = 0x2f,
};
enum { RESOURCE_IRQ = 0x22, RESOURCE_IO = 0x47, RESOURCE_END = 0x79, IO_DECODE_16 = 1 }; /* 6.4.2 */

static void put(struct aml *a, const void *data, size_t size)
{
	if (size > a->room - a->size) {
		a->overflow = true;
		return;
	}
	memcpy(a->data + a->size, data, size);
	a->size += size;
}

static void put8(struct aml *a, uint8_t byte)
{
	put(a, &byte, 1);
}

static void put16(struct aml *a, uint16_t value)
{
	put(a, &value, sizeof(value));
}

static void open_length(struct aml *a)
{
	if (a->depth == AML_DEPTH) {
		a->overflow = true;
		return;
	}
	a->open[a->depth++] = a->size;
}

void aml_close(struct aml *a)
{
	if (a->overflow)
		return;
	size_t at = a->open[--a->depth], content = a->size - at;
	/* One byte holds 6 bits of length; two to four hold 4 + 8 (n - 1). */
	unsigned bytes = 1;
	if (content + 1 >= 1 << 6)
		for (bytes = 2; content + bytes >= (size_t)1 << (4 + 8 * (bytes - 1)); bytes++)
			;
	size_t length = content + bytes;
	if (bytes > 4 || bytes > a->room - a->size) {
		a->overflow = true;
		return;
	}
	memmove(a->data + at + bytes, a->data + at, content);
	a->size += bytes;
	if (bytes == 1) {
		a->data[at] = (uint8_t)length;
		return;
	}
	a->data[at] = (uint8_t)((bytes - 1) << 6 | (length & 0xf));
	for (unsigned i = 1; i < bytes; i++)
		a->data[at + i] = (uint8_t)(length >> (4 + 8 * (i - 1)));
}

static void put_segment(struct aml *a, const char *text, size_t length)
{
	char segment[4] = { '_', '_', '_', '_' };
	memcpy(segment, text, MIN(length, sizeof(segment)));
	put(a, segment, sizeof(segment));
}

static void put_name(struct aml *a, const char *name)
{
	if (*name == '\\')
		put8(a, (uint8_t)*name++);
	unsigned segments = 1;
	for (const char *c = name; *c; c++)
		segments += *c == '.';
	if (segments == 2)
		put8(a, AML_DUAL_NAME);
	if (segments > 2) {
		put8(a, AML_MULTI_NAME);
		put8(a, (uint8_t)segments);
	}
	while (*name) {
		size_t length = strcspn(name, ".");
		put_segment(a, name, length);
		name += length + (name[length] == '.');
	}
}

static void put_integer(struct aml *a, uint64_t value)
{
	unsigned size = value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= UINT32_MAX ? 4 : 8;
	static const uint8_t prefix[] = { [1] = AML_BYTE, [2] = AML_WORD, [4] = AML_DWORD, [8] = AML_QWORD };
	if (value > 1) /* Zero and One are their own opcodes */
		put8(a, prefix[size]);
	put(a, &value, size);
}

void aml_scope(struct aml *a, const char *name)
{
	put8(a, AML_SCOPE);
	open_length(a);
	put_name(a, name);
}

void aml_device(struct aml *a, const char *name)
{
	put8(a, AML_EXT);
	put8(a, AML_DEVICE);
	open_length(a);
	put_name(a, name);
}

static void begin_name(struct aml *a, const char *name)
{
	put8(a, AML_NAME);
	put_name(a, name);
}

void aml_name_integer(struct aml *a, const char *name, uint64_t value)
{
	begin_name(a, name);
	put_integer(a, value);
}

/* 19.3.4: three letters of 5 bits, four hexadecimal digits; stored with the bytes swapped. */
void aml_name_eisa(struct aml *a, const char *name, const char *id)
{
	uint32_t code = 0;
	for (unsigned i = 0; i < 3; i++)
		code = code << 5 | (uint32_t)(id[i] - '@');
	for (unsigned i = 3; i < 7; i++)
		code = code << 4 | (uint32_t)(id[i] <= '9' ? id[i] - '0' : id[i] - 'A' + 10);
	code = __builtin_bswap32(code);
	begin_name(a, name);
	put8(a, AML_DWORD);
	put(a, &code, sizeof(code));
}

void aml_name_string(struct aml *a, const char *name, const char *text)
{
	begin_name(a, name);
	put8(a, AML_STRING);
	put(a, text, strlen(text) + 1);
}

void aml_name_package(struct aml *a, const char *name, const uint8_t *values, unsigned count)
{
	begin_name(a, name);
	put8(a, AML_PACKAGE);
	open_length(a);
	put8(a, (uint8_t)count);
	for (unsigned i = 0; i < count; i++)
		put_integer(a, values[i]);
	aml_close(a);
}

/* A buffer is: its length, its size as an integer, its bytes. The size is known at the end: a byte stands in for it, as no
 * template of ours has more than 255. */
void aml_resources(struct aml *a, const char *name)
{
	begin_name(a, name);
	put8(a, AML_BUFFER);
	open_length(a);
	put8(a, AML_BYTE);
	put8(a, 0);
}

void aml_io(struct aml *a, uint16_t port, uint8_t length)
{
	put8(a, RESOURCE_IO);
	put8(a, IO_DECODE_16);
	put16(a, port); /* lowest base */
	put16(a, port); /* highest base */
	put8(a, 1);     /* alignment */
	put8(a, length);
}

void aml_irq(struct aml *a, unsigned irq)
{
	put8(a, RESOURCE_IRQ);
	put16(a, (uint16_t)BIT(irq));
}

void aml_resources_close(struct aml *a)
{
	enum { HEADER = 2 };
	put8(a, RESOURCE_END);
	put8(a, 0); /* no checksum */
	if (a->overflow)
		return;
	size_t at = a->open[a->depth - 1];
	a->data[at + 1] = (uint8_t)(a->size - at - HEADER);
	aml_close(a);
}
