/* SPDX-License-Identifier: MIT */
/* A builder for ACPI machine language: encodes the objects of aml.h as ACPI 6.4 chapter 20 says.
 *
 * The one difficulty: an object's length stands before its content, in 1 to 4 bytes that count themselves. So an
 * object is opened with no room for its length, and when it is closed its content moves up by as many bytes as the
 * length turned out to need. */
#include "board/aml.h"
#include <string.h>

enum { /* 20.2, 20.3 */
	AML_NAME = 0x08, AML_BYTE = 0x0a, AML_WORD = 0x0b, AML_DWORD = 0x0c, AML_STRING = 0x0d, AML_QWORD = 0x0e,
	AML_SCOPE = 0x10, AML_BUFFER = 0x11, AML_PACKAGE = 0x12, AML_METHOD = 0x14, AML_EXT = 0x5b, AML_REGION = 0x80,
	AML_FIELD = 0x81,
	AML_DEVICE = 0x82, AML_IF = 0xa0, AML_DUAL_NAME = 0x2e, AML_MULTI_NAME = 0x2f,
	METHOD_SERIALIZED = BIT(3), REGION_PCI_CONFIG = 2, FIELD_BYTE_ACCESS = 1,
};
enum { /* 6.4.2, 6.4.3 */
	RESOURCE_IRQ = 0x22, RESOURCE_DMA = 0x2a, RESOURCE_IO = 0x47, RESOURCE_END = 0x79, IO_DECODE_16 = 1,
	RESOURCE_DWORD_RANGE = 0x87, RESOURCE_WORD_RANGE = 0x88, RESOURCE_IRQS = 0x89,
	RANGE_MEMORY = 0, RANGE_IO = 1, RANGE_BUS = 2, RANGE_FIXED = 0x0c /* both ends */, RANGE_WHOLE_IO = 3,
	RANGE_READ_WRITE = BIT(0), RANGE_CACHEABLE = BIT(1),
	IRQS_CONSUMER = BIT(0), IRQS_SHARED = BIT(3),
};

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

/* A buffer is: its length, its size as an integer, its bytes. The size is known at the end: a byte stands in for
 * it, as no template of ours has more than 255. */
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

void aml_dma(struct aml *a, unsigned channel)
{
	put8(a, RESOURCE_DMA);
	put8(a, (uint8_t)BIT(channel));
	put8(a, 0);
}

void aml_irq_shared(struct aml *a, const uint8_t *irqs, unsigned count)
{
	put8(a, RESOURCE_IRQS);
	put16(a, (uint16_t)(2 + 4 * count));
	put8(a, IRQS_CONSUMER | IRQS_SHARED); /* level, active high: the bits in between are 0 */
	put8(a, (uint8_t)count);
	for (unsigned i = 0; i < count; i++) {
		uint32_t irq = irqs[i];
		put(a, &irq, sizeof(irq));
	}
}

static void word_range(struct aml *a, uint8_t type, uint8_t flags, uint16_t first, uint16_t last)
{
	enum { LENGTH = 13 };
	put8(a, RESOURCE_WORD_RANGE);
	put16(a, LENGTH);
	put8(a, type);
	put8(a, RANGE_FIXED);
	put8(a, flags);
	put16(a, 0); /* granularity */
	put16(a, first);
	put16(a, last);
	put16(a, 0); /* translation */
	put16(a, (uint16_t)(last - first + 1));
}

void aml_bus_range(struct aml *a, uint16_t first, uint16_t last)
{
	word_range(a, RANGE_BUS, 0, first, last);
}

void aml_io_range(struct aml *a, uint16_t first, uint16_t last)
{
	word_range(a, RANGE_IO, RANGE_WHOLE_IO, first, last);
}

void aml_memory_range(struct aml *a, uint32_t first, uint32_t last, bool cacheable)
{
	const uint32_t numbers[] = { 0, first, last, 0, last - first + 1 }; /* granularity, ends, translation, length */
	put8(a, RESOURCE_DWORD_RANGE);
	put16(a, 3 + sizeof(numbers));
	put8(a, RANGE_MEMORY);
	put8(a, RANGE_FIXED);
	put8(a, RANGE_READ_WRITE | (cacheable ? RANGE_CACHEABLE : 0));
	put(a, numbers, sizeof(numbers));
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

void aml_package(struct aml *a, const char *name, uint8_t count)
{
	begin_name(a, name);
	aml_package_element(a, count);
}

void aml_package_element(struct aml *a, uint8_t count)
{
	put8(a, AML_PACKAGE);
	open_length(a);
	put8(a, count);
}

void aml_pci_region(struct aml *a, const char *name, uint8_t offset, uint8_t size)
{
	put8(a, AML_EXT);
	put8(a, AML_REGION);
	put_name(a, name);
	put8(a, REGION_PCI_CONFIG);
	put_integer(a, offset);
	put_integer(a, size);
}

void aml_byte_fields(struct aml *a, const char *region, const char *const *names, unsigned count)
{
	enum { BITS = 8 };
	put8(a, AML_EXT);
	put8(a, AML_FIELD);
	open_length(a);
	put_name(a, region);
	put8(a, FIELD_BYTE_ACCESS);
	for (unsigned i = 0; i < count; i++) {
		put_segment(a, names[i], strlen(names[i]));
		put8(a, BITS);
	}
	aml_close(a);
}

void aml_method(struct aml *a, const char *name, unsigned args)
{
	put8(a, AML_METHOD);
	open_length(a);
	put_name(a, name);
	put8(a, (uint8_t)(args | METHOD_SERIALIZED));
}

void aml_if(struct aml *a)
{
	put8(a, AML_IF);
	open_length(a);
}

void aml_term(struct aml *a, enum aml_term term)
{
	put8(a, (uint8_t)term);
}

void aml_integer(struct aml *a, uint64_t value)
{
	put_integer(a, value);
}

void aml_reference(struct aml *a, const char *name)
{
	put_name(a, name);
}
