/* SPDX-License-Identifier: MIT */
/* What the boot protocol hands over: PVH start information, or Multiboot information when linked with its header.
 * The loader is asked for the command line "alpha beta=1" and two modules that begin with "doppel module", the second with the words
 * "second=2". */
#include "lib/guest.h"

extern uint64_t boot_magic, boot_info;
extern uint8_t image_start[], image_end[];

static const char append[] = "alpha beta=1", content[] = "doppel module", words[] = "second=2";

static volatile uint8_t zeros[65536];

struct range {
	uint64_t start, size;
};

static bool ends_with(const char *text, const char *end)
{
	size_t text_size = 0, end_size = 0;
	while (text[text_size])
		text_size++;
	while (end[end_size])
		end_size++;
	return text_size >= end_size && !memcmp(text + text_size - end_size, end, end_size);
}

/* RAM that the map names must hold the image and the module, be sorted, and be RAM. */
static void check_map(const struct range *ram, unsigned count, uint64_t module, uint64_t module_size)
{
	bool image = false, held = false, sorted = true, works = true;
	for (unsigned i = 0; i < count; i++) {
		uint64_t end = ram[i].start + ram[i].size;
		image |= ram[i].start <= (uint64_t)image_start && end >= (uint64_t)image_end;
		held |= ram[i].start <= module && end >= module + module_size;
		sorted &= end > ram[i].start && (!i || ram[i].start >= ram[i - 1].start + ram[i - 1].size);
		if (end <= 4096 * MIB) {
			volatile uint64_t *last = (volatile uint64_t *)(end - 8);
			uint64_t old = *last;
			*last = ~old;
			works &= *last == ~old;
			*last = old;
		}
	}
	check(count >= 2, "the memory map has low and high memory");
	check(image, "the memory map holds the image");
	check(held, "the memory map holds the module");
	check(sorted, "the memory map is sorted and without overlaps");
	check(works, "the memory map's RAM is RAM");
	check(module >= (uint64_t)image_end, "the module lies behind the image");
}

static void check_pvh(void)
{
	const struct {
		uint32_t magic, version, flags, modules;
		uint64_t module_list, cmdline, rsdp, map;
		uint32_t map_entries, reserved;
	} *info = (void *)boot_info;
	const struct {
		uint64_t start, size;
		uint32_t type, reserved;
	} *map = (void *)info->map;
	const uint64_t *module = (uint64_t *)info->module_list;
	struct range ram[16];
	unsigned count = 0;
	check_equal(info->magic, 0x336ec578, "PVH magic");
	check(info->version >= 1, "PVH version");
	check(info->cmdline && ends_with((char *)info->cmdline, append), "PVH command line");
	check(!info->rsdp || !memcmp((void *)info->rsdp, "RSD PTR ", 8), "PVH RSDP");
	check_equal(info->modules, 2, "PVH modules");
	if (info->modules < 2)
		return;
	check(module[1] >= sizeof(content) - 1 && !memcmp((void *)module[0], content, sizeof(content) - 1), "PVH module's content");
	check(!module[2], "PVH module without words");
	check(!memcmp((void *)module[4], content, sizeof(content) - 1) && module[6] && ends_with((char *)module[6], words),
	      "PVH second module with its words");
	check(module[4] >= module[0] + module[1], "PVH modules lie behind each other");
	for (unsigned i = 0; i < info->map_entries && count < ARRAY_SIZE(ram); i++)
		if (map[i].type == 1)
			ram[count++] = (struct range){ map[i].start, map[i].size };
	check_map(ram, count, module[0], module[1]);
}

static void check_multiboot(void)
{
	const uint32_t *info = (uint32_t *)boot_info;
	enum { FLAGS, LOWER, UPPER, DEVICE, CMDLINE, MODULES, MODULE_LIST, MAP_SIZE = 11, MAP };
	struct range ram[16];
	unsigned count = 0;
	check_equal(info[FLAGS] & 0x4d, 0x4d, "Multiboot information has memory, command line, modules, map");
	check(info[LOWER] >= 512 && info[LOWER] <= 640, "Multiboot mem_lower");
	check(ends_with((char *)(uint64_t)info[CMDLINE], append), "Multiboot command line");
	check_equal(info[MODULES], 2, "Multiboot modules");
	if (info[MODULES] < 2)
		return;
	const uint32_t *module = (uint32_t *)(uint64_t)info[MODULE_LIST];
	check(module[1] - module[0] >= sizeof(content) - 1 && !memcmp((void *)(uint64_t)module[0], content, sizeof(content) - 1),
	      "Multiboot module's content");
	check(!(module[0] & (PAGE - 1)), "Multiboot module on a page");
	check(!ends_with((char *)(uint64_t)module[2], words), "Multiboot module without words");
	check(!memcmp((void *)(uint64_t)module[4], content, sizeof(content) - 1) && ends_with((char *)(uint64_t)module[6], words),
	      "Multiboot second module with its words");
	check(!(module[4] & (PAGE - 1)) && module[4] >= module[1], "Multiboot second module on a page behind the first");
	for (uint32_t at = 0; at < info[MAP_SIZE] && count < ARRAY_SIZE(ram);) {
		const struct {
			uint32_t size;
			uint64_t start, length;
			uint32_t type;
		} __attribute__((packed)) *e = (void *)(uint64_t)(info[MAP] + at);
		if (e->type == 1)
			ram[count++] = (struct range){ e->start, e->length };
		at += e->size + 4;
	}
	check_map(ram, count, module[0], module[1] - module[0]);
}

int main(void)
{
	bool clear = true;
	for (unsigned i = 0; i < sizeof(zeros); i++)
		clear &= !zeros[i];
	check(clear, "BSS is clear");
	if (boot_magic == 0x2badb002)
		check_multiboot();
	else
		check_pvh();
	return 0;
}
