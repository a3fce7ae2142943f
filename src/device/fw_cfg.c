/* SPDX-License-Identifier: MIT */
/* The firmware configuration device, after QEMU's specification of it (docs/specs/fw_cfg): ports 510h and 511h, and
 * DMA from port 514h.
 *
 * A 16-bit write to the first port selects an item, each read of the second gives its next byte; behind the end
 * come zeros. DMA does the same in one go: the guest writes the address of a descriptor, big-endian as all else
 * here. No item can be written. */
#include "device/fw_cfg.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/log.h"

#define SELECT 0         /* offsets of the ports */
#define DMA 4
#define PORTS 2
#define DMA_PORTS 8
#define ID_PORTS 1u      /* item FW_CFG_ID: the interfaces that there are */
#define ID_DMA 2u
#define KEY_WRITE 0x4000u /* of a selector: asks to write; nothing can be */
#define ITEMS_MAX 64
#define CHUNK 4096

enum { DMA_ERROR = BIT(0), DMA_READ = BIT(1), DMA_SKIP = BIT(2), DMA_SELECT = BIT(3), DMA_WRITE = BIT(4),
	DMA_KEY_SHIFT = 16 };
struct dma { /* the descriptor, big-endian */
	uint32_t control, length;
	uint64_t address;
} __attribute__((packed));

struct directory_entry {
	uint32_t size;
	uint16_t key, reserved;
	char name[FW_CFG_NAME_SIZE];
} __attribute__((packed));

struct item {
	uint16_t key;
	char name[FW_CFG_NAME_SIZE]; /* of a file */
	uint8_t *data;
	size_t size;
};

struct fw_cfg {
	struct device device;
	uint16_t key;       /* selected */
	uint32_t offset;    /* of the next byte in it */
	uint32_t dma_high;  /* upper half of the descriptor's address, as written last */
	struct {
		struct item item[ITEMS_MAX];
		unsigned items;
		uint16_t next_file;
	} host;
};

static struct fw_cfg *of(struct device *d)
{
	return container_of(d, struct fw_cfg, device);
}

static struct item *find(struct fw_cfg *f, uint16_t key)
{
	for (unsigned i = 0; i < f->host.items; i++)
		if (f->host.item[i].key == key)
			return &f->host.item[i];
	return NULL;
}

static struct item *find_file(struct fw_cfg *f, const char *name)
{
	for (unsigned i = 0; i < f->host.items; i++)
		if (f->host.item[i].name[0] && !strcmp(f->host.item[i].name, name))
			return &f->host.item[i];
	return NULL;
}

static int put(struct fw_cfg *f, uint16_t key, const char *name, const void *data, size_t size)
{
	struct item *item = find(f, key);
	uint8_t *copy = malloc(size ? size : 1);
	if (!copy || (!item && f->host.items == ITEMS_MAX)) {
		log_error("%s: no room for item %#x", f->device.name, key);
		free(copy);
		return copy ? -ENOSPC : -ENOMEM;
	}
	if (size)
		memcpy(copy, data, size);
	if (!item) {
		item = &f->host.item[f->host.items++];
		item->key = key;
		strcpy(item->name, name);
	}
	free(item->data);
	item->data = copy;
	item->size = size;
	return 0;
}

/* A count, and an entry for each file. */
static int put_directory(struct fw_cfg *f)
{
	struct {
		uint32_t count;
		struct directory_entry entry[ITEMS_MAX];
	} __attribute__((packed)) d = { 0 };
	uint32_t count = 0;
	for (unsigned i = 0; i < f->host.items; i++) {
		const struct item *item = &f->host.item[i];
		if (!item->name[0])
			continue;
		d.entry[count].size = __builtin_bswap32((uint32_t)item->size);
		d.entry[count].key = __builtin_bswap16(item->key);
		strcpy(d.entry[count++].name, item->name);
	}
	d.count = __builtin_bswap32(count);
	return put(f, FW_CFG_DIRECTORY, "", &d, sizeof(d.count) + count * sizeof(d.entry[0]));
}

int fw_cfg_put(struct device *d, uint16_t key, const void *data, size_t size)
{
	return put(of(d), key, "", data, size);
}

int fw_cfg_put_number(struct device *d, uint16_t key, uint64_t value, unsigned size)
{
	return put(of(d), key, "", &value, size);
}

int fw_cfg_put_file(struct device *d, const char *name, const void *data, size_t size)
{
	struct fw_cfg *f = of(d);
	const struct item *there = find_file(f, name);
	if (strlen(name) >= FW_CFG_NAME_SIZE) {
		log_error("%s: the name of file '%s' is too long", d->name, name);
		return -ENAMETOOLONG;
	}
	int error = put(f, there ? there->key : f->host.next_file++, name, data, size);
	return error ? error : put_directory(f);
}

const uint8_t *fw_cfg_file(struct device *d, const char *name, size_t *size)
{
	const struct item *item = find_file(of(d), name);
	*size = item ? item->size : 0;
	return item ? item->data : NULL;
}

static void select_key(struct fw_cfg *f, uint16_t key)
{
	const struct fw_cfg_config *config = f->device.place->config;
	const struct item *item;
	f->key = key & (uint16_t)~KEY_WRITE;
	f->offset = 0;
	item = find(f, f->key);
	if (config && config->selected && item && item->name[0])
		config->selected(&f->device, item->name, config->arg);
}

/* Up to `size` bytes from where the guest is; returns how many there are. */
static size_t take(struct fw_cfg *f, uint8_t *data, size_t size)
{
	const struct item *item = find(f, f->key);
	size_t left = item && f->offset < item->size ? item->size - f->offset : 0, count = MIN(size, left);
	if (count)
		memcpy(data, item->data + f->offset, count);
	f->offset += (uint32_t)count;
	return count;
}

/* False when the guest gave us an address that is no RAM. What lies behind the item's end is written as zeros. */
static bool dma_read(struct fw_cfg *f, gpa_t address, uint32_t length)
{
	uint8_t bytes[CHUNK];
	while (length && !f->device.vm->end) {
		size_t size = MIN(length, (uint32_t)CHUNK), there = take(f, bytes, size);
		memset(bytes + there, 0, size - there);
		if (guest_write(f->device.vm, address, bytes, size))
			return false;
		address += size;
		length -= (uint32_t)size;
	}
	return true;
}

static void skip(struct fw_cfg *f, uint32_t length)
{
	f->offset += MIN(length, UINT32_MAX - f->offset);
}

static void run_dma(struct fw_cfg *f, gpa_t at)
{
	struct vm *vm = f->device.vm;
	struct dma d;
	bool good = true;
	if (guest_read(vm, at, &d, sizeof(d)))
		return;
	uint32_t control = __builtin_bswap32(d.control), length = __builtin_bswap32(d.length), result;
	if (control & DMA_SELECT)
		select_key(f, (uint16_t)(control >> DMA_KEY_SHIFT));
	if (control & DMA_READ)
		good = dma_read(f, __builtin_bswap64(d.address), length);
	else if (control & DMA_WRITE)
		good = false;
	else if (control & DMA_SKIP)
		skip(f, length);
	result = __builtin_bswap32(good ? 0 : DMA_ERROR);
	guest_write(vm, at + offsetof(struct dma, control), &result, sizeof(result));
}

static uint64_t fw_cfg_read(struct device *d, uint64_t offset, unsigned size)
{
	static const char signature[] = "QEMU CFG"; /* DMA_PORTS bytes */
	uint64_t value = 0;
	if (offset >= DMA)
		memcpy(&value, signature + (offset - DMA), size);
	else
		take(of(d), (uint8_t *)&value, 1);
	return value;
}

static void fw_cfg_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct fw_cfg *f = of(d);
	if (offset == SELECT && size == 2) {
		select_key(f, (uint16_t)value);
	} else if (offset == DMA && size == 4) {
		f->dma_high = __builtin_bswap32((uint32_t)value);
	} else if (offset == DMA + 4 && size == 4) {
		gpa_t at = (gpa_t)f->dma_high << 32 | __builtin_bswap32((uint32_t)value);
		f->dma_high = 0;
		run_dma(f, at);
	}
}

static void fw_cfg_reset(struct device *d, enum reset_kind kind)
{
	struct fw_cfg *f = of(d);
	f->key = 0;
	f->offset = f->dma_high = 0;
}

static int fw_cfg_init(struct device *d)
{
	static const struct bus_ops ops = { .read = fw_cfg_read, .write = fw_cfg_write, .max_size = 2 };
	static const struct bus_ops dma_ops = { .read = fw_cfg_read, .write = fw_cfg_write, .max_size = 4 };
	struct fw_cfg *f = of(d);
	f->host.next_file = FW_CFG_FIRST_FILE;
	int error = put(f, FW_CFG_SIGNATURE, "", "QEMU", 4);
	if (!error)
		error = fw_cfg_put_number(d, FW_CFG_ID, ID_PORTS | ID_DMA, 4);
	if (!error)
		error = put_directory(f);
	if (!error)
		error = bus_add(d->vm, BUS_PORT, d->place->base, PORTS, &ops, d);
	return error ? error : bus_add_at(d->vm, BUS_PORT, d->place->base + DMA, DMA_PORTS, &dma_ops, d, DMA);
}

static void fw_cfg_fini(struct device *d)
{
	struct fw_cfg *f = of(d);
	for (unsigned i = 0; i < f->host.items; i++)
		free(f->host.item[i].data);
}

static const struct field fields[] = {
	FIELD_U16(struct fw_cfg, key),
	FIELD_U32(struct fw_cfg, offset),
	FIELD_U32(struct fw_cfg, dma_high),
	FIELD_END,
};

const struct device_class fw_cfg_class = {
	.name = "fw_cfg", .summary = "firmware configuration", .size = sizeof(struct fw_cfg), .init = fw_cfg_init,
	.reset = fw_cfg_reset,
	.fini = fw_cfg_fini, .fields = fields, .version = 1,
};
DEVICE_CLASS(fw_cfg_class);
