/* SPDX-License-Identifier: MIT */
/* SMBIOS structures of the machine, after DMTF's DSP0134, chapters 6 and 7: system, chassis, memory. */
#include "board/smbios.h"
#include <string.h>

enum { SYSTEM = 1, CHASSIS = 3, MEMORY_ARRAY = 16, MEMORY_DEVICE = 17, MEMORY_MAPPED = 19, BOOT = 32, END = 127 };
#define HANDLE(type) ((uint16_t)((type) << 8))
#define UNKNOWN 2
#define OTHER 1
#define SIZE_EXTENDED 0x7fff /* the size is in the extended field */

struct header {
	uint8_t type, length;
	uint16_t handle;
} __attribute__((packed));

struct system { /* 7.2 */
	struct header h;
	uint8_t manufacturer, product, version, serial, uuid[16], wake_up, sku, family;
} __attribute__((packed));

struct chassis { /* 7.4 */
	struct header h;
	uint8_t manufacturer, type, version, serial, asset, boot_state, power_state, thermal_state, security;
	uint32_t oem;
	uint8_t height, power_cords, elements, element_length, sku;
} __attribute__((packed));

struct memory_array { /* 7.17 */
	struct header h;
	uint8_t location, use, correction;
	uint32_t capacity_kib;
	uint16_t error, devices;
	uint64_t capacity; /* where the former is 80000000h */
} __attribute__((packed));

struct memory_device { /* 7.18 */
	struct header h;
	uint16_t array, error, total_width, data_width, size_mib;
	uint8_t form, set, locator, bank, type;
	uint16_t detail, speed;
	uint8_t manufacturer, serial, asset, part, attributes;
	uint32_t extended_mib;
	uint16_t configured_speed, least_mv, most_mv, configured_mv;
} __attribute__((packed));

struct memory_mapped { /* 7.20 */
	struct header h;
	uint32_t start_kib, end_kib; /* FFFFFFFFh: in the longer fields */
	uint16_t array;
	uint8_t width;
	uint64_t start, end;
} __attribute__((packed));

struct boot { /* 7.33 */
	struct header h;
	uint8_t reserved[6], status[10];
} __attribute__((packed));

/* A structure and its strings, which it names by their number, from 1 on. */
static void add(struct smbios *s, uint8_t type, void *object, uint8_t size, const char *const *strings)
{
	struct header h = { type, size, (uint16_t)(HANDLE(type)) };
	uint16_t start = s->size;
	memcpy(object, &h, sizeof(h));
	memcpy(s->data + s->size, object, size);
	s->size += size;
	for (unsigned i = 0; strings && strings[i]; i++) {
		size_t length = strlen(strings[i]) + 1;
		memcpy(s->data + s->size, strings[i], length);
		s->size += (uint16_t)length;
	}
	s->size += strings ? 1 : 2; /* zeros */
	s->largest = MAX(s->largest, (uint16_t)(s->size - start));
	s->count++;
}

void smbios_build(struct smbios *s, struct vm *vm)
{
	uint64_t ram = vm->memory.ram_size, mib = ram / MiB;
	static const char *const system_names[] = { "doppel", "PC (440FX, PIIX3)", NULL }, *const chassis_names[] = { "doppel", NULL },
				 *const device_names[] = { "RAM", NULL };
	struct system system = { .manufacturer = 1, .product = 2, .wake_up = 6 /* power switch */ };
	struct chassis chassis = { .manufacturer = 1, .type = OTHER, .boot_state = 3, .power_state = 3, .thermal_state = 3, .security = UNKNOWN };
	struct memory_array array = { .location = OTHER, .use = 3, .correction = UNKNOWN, .capacity_kib = 0x80000000u, .error = 0xfffe, .devices = 1,
				      .capacity = ram };
	struct memory_device device = { .array = HANDLE(MEMORY_ARRAY), .error = 0xfffe, .total_width = 0xffff, .data_width = 0xffff,
					.size_mib = (uint16_t)MIN(mib, (uint64_t)SIZE_EXTENDED), .form = 9 /* DIMM */, .locator = 1, .type = 7 /* RAM */,
					.detail = BIT(1), .extended_mib = mib >= SIZE_EXTENDED ? (uint32_t)mib : 0 };
	struct memory_mapped mapped = { .start_kib = ~0u, .end_kib = ~0u, .array = HANDLE(MEMORY_ARRAY), .width = 1, .end = ram - 1 };
	struct boot boot = { .status = { 0 } };
	struct header end;
	memset(s, 0, sizeof(*s));
	add(s, SYSTEM, &system, sizeof(system), system_names);
	add(s, CHASSIS, &chassis, sizeof(chassis), chassis_names);
	add(s, MEMORY_ARRAY, &array, sizeof(array), NULL);
	add(s, MEMORY_DEVICE, &device, sizeof(device), device_names);
	add(s, MEMORY_MAPPED, &mapped, sizeof(mapped), NULL);
	add(s, BOOT, &boot, sizeof(boot), NULL);
	add(s, END, &end, sizeof(end), NULL);
}

struct smbios_entry smbios_entry(const struct smbios *s, uint32_t at)
{
	struct smbios_entry e = { .anchor = "_SM_", .length = sizeof(e), .major = 2, .minor = 8, .largest = s->largest, .anchor2 = "_DMI_",
				  .size = s->size, .at = at, .count = s->count, .bcd_revision = 0x28 };
	e.checksum2 = firmware_checksum(e.anchor2, sizeof(e) - offsetof(struct smbios_entry, anchor2));
	e.checksum = firmware_checksum(&e, sizeof(e));
	return e;
}

void smbios_write(struct firmware_area *area)
{
	struct smbios s;
	smbios_build(&s, area->vm);
	gpa_t entry_at = firmware_take(area, sizeof(struct smbios_entry), 16), at = firmware_take(area, s.size, 16);
	struct smbios_entry entry = smbios_entry(&s, (uint32_t)at);
	firmware_write(area, at, s.data, s.size);
	firmware_write(area, entry_at, &entry, sizeof(entry));
}
