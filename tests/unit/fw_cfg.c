/* SPDX-License-Identifier: MIT */
/* The fw_cfg device: items, directory, DMA with good and hostile descriptors; and the ACPI tables as its script
 * puts them together. */
#include "device/fw_cfg.h"
#include "board/board.h"
#include "board/smbios.h"
#include "machine.h"

#define SELECT 0x510
#define DATA 0x511
#define DMA_HIGH 0x514
#define DMA_LOW 0x518
#define AT 0x10000u /* a descriptor in guest memory */
enum { ERROR = 1, READ = 2, SKIP = 4, SELECT_KEY = 8, WRITE = 16 };

static unsigned selections;
static char selected_name[64];

static void selected(struct device *d, const char *file, void *arg)
{
	selections++;
	snprintf(selected_name, sizeof(selected_name), "%s", file);
	if (!strcmp(file, "late"))
		fw_cfg_put_file(d, "late", "fresh", 5);
}

static const struct fw_cfg_config config = { .selected = selected };
static const struct device_place places[] = { { .class = &fw_cfg_class, .name = "fw_cfg", .base = SELECT, .irq = -1,
	.config = &config } };
static struct vm *vm;
static struct device *d;

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, 1);
	d = device_find(vm, "fw_cfg");
}

static void select_key(uint16_t key)
{
	bus_write(vm, BUS_PORT, SELECT, 2, key);
}

static uint64_t bytes(unsigned count)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < count; i++)
		value |= (uint64_t)in8(vm, DATA) << 8 * i;
	return value;
}

static uint32_t big(unsigned count)
{
	uint32_t value = 0;
	while (count--)
		value = value << 8 | in8(vm, DATA);
	return value;
}

static uint16_t find_file(const char *name, uint32_t *size)
{
	select_key(FW_CFG_DIRECTORY);
	for (uint32_t count = big(4); count--;) {
		char text[FW_CFG_NAME_SIZE];
		*size = big(4);
		uint16_t key = (uint16_t)big(2);
		big(2);
		for (unsigned i = 0; i < sizeof(text); i++)
			text[i] = (char)in8(vm, DATA);
		if (!strcmp(text, name))
			return key;
	}
	return 0;
}

static uint32_t dma_at(gpa_t at, uint32_t control, uint32_t length, gpa_t address)
{
	struct { uint32_t control, length; uint64_t address; } x = {
		__builtin_bswap32(control), __builtin_bswap32(length), __builtin_bswap64(address),
	};
	guest_write(vm, at, &x, sizeof(x));
	bus_write(vm, BUS_PORT, DMA_HIGH, 4, __builtin_bswap32((uint32_t)(at >> 32)));
	bus_write(vm, BUS_PORT, DMA_LOW, 4, __builtin_bswap32((uint32_t)at));
	guest_read(vm, at, &x, sizeof(x));
	return __builtin_bswap32(x.control);
}

static uint32_t dma(uint32_t control, uint32_t length, gpa_t address)
{
	return dma_at(AT, control, length, address);
}

static void items(void)
{
	uint32_t size;
	fresh();
	select_key(FW_CFG_SIGNATURE);
	ok(bytes(4) == 0x554d4551, "fw_cfg: signature");
	ok(bytes(2) == 0, "fw_cfg: zeros behind the end");
	select_key(FW_CFG_ID);
	ok(bytes(4) == 3, "fw_cfg: with DMA");
	ok(bus_read(vm, BUS_PORT, DMA_HIGH, 4) == 0x554d4551 && bus_read(vm, BUS_PORT, DMA_LOW, 4) == 0x47464320,
		"fw_cfg: DMA signature");
	fw_cfg_put_number(d, FW_CFG_CPUS, 0x1234, 2);
	select_key(FW_CFG_CPUS);
	ok(bytes(4) == 0x1234, "fw_cfg: a number");
	select_key(0x7777);
	ok(bytes(8) == 0, "fw_cfg: an item that is not there");
	select_key(FW_CFG_CPUS);
	bus_write(vm, BUS_PORT, SELECT, 1, 0);
	bus_write(vm, BUS_PORT, DATA, 1, 0xff);
	ok(bytes(2) == 0x1234, "fw_cfg: single bytes select nothing and write nothing");
	fw_cfg_put_file(d, "etc/one", "abc", 3);
	fw_cfg_put_file(d, "etc/two", "defg", 4);
	fw_cfg_put_file(d, "late", "stale", 5);
	uint16_t one = find_file("etc/one", &size);
	ok(one == FW_CFG_FIRST_FILE && size == 3, "fw_cfg: a file");
	uint16_t two = find_file("etc/two", &size);
	ok(two == one + 1 && size == 4 && !find_file("etc", &size), "fw_cfg: another");
	select_key(two);
	ok(bytes(4) == 0x67666564 && selections == 1 && !strcmp(selected_name, "etc/two"), "fw_cfg: its bytes");
	select_key(find_file("late", &size));
	ok(bytes(5) == 0x6873657266, "fw_cfg: one that is made when it is asked for");
	char name[100];
	memset(name, 'x', sizeof(name) - 1);
	name[99] = 0;
	ok(fw_cfg_put_file(d, name, "", 0) < 0, "fw_cfg: a name that is too long");
	int error = 0;
	for (unsigned i = 0; i < 100 && !error; i++) {
		snprintf(name, sizeof(name), "many/%u", i);
		error = fw_cfg_put_file(d, name, "", 0);
	}
	ok(error, "fw_cfg: too many files");
	device_reset_all(vm, RESET_COLD);
	ok(bytes(4) == 0x554d4551, "fw_cfg: after reset the signature is selected");
}

static void good_dma(void)
{
	uint8_t data[8];
	fresh();
	fw_cfg_put_file(d, "f", "0123456789", 10);
	ok(dma(SELECT_KEY | READ | FW_CFG_FIRST_FILE << 16, 4, 0x20000) == 0, "dma: select and read");
	guest_read(vm, 0x20000, data, 4);
	ok(!memcmp(data, "0123", 4), "dma: the bytes");
	ok(dma(SKIP, 2, 0) == 0 && dma(READ, 6, 0x20000) == 0, "dma: skip, and read beyond the end");
	guest_read(vm, 0x20000, data, 6);
	ok(!memcmp(data, "6789\0\0", 6), "dma: zeros there");
	ok(dma(SELECT_KEY | FW_CFG_FIRST_FILE << 16, 0, 0) == 0 && in8(vm, DATA) == '0',
		"dma: select only; ports go on from there");
	ok(dma(READ, 0, 0xffffffffffff) == 0, "dma: nothing can be read to anywhere");
}

static void hostile_dma(void)
{
	uint8_t byte = 1;
	fresh();
	fw_cfg_put_file(d, "f", "0123456789", 10);
	ok(dma(SELECT_KEY | WRITE | FW_CFG_FIRST_FILE << 16, 4, 0x20000) == ERROR, "dma: writing is refused");
	ok(dma(SELECT_KEY | READ | FW_CFG_FIRST_FILE << 16, 4, 64 * MiB) == ERROR, "dma: not to where there is no RAM");
	ok(dma(READ, 4, 64 * MiB - 2) == ERROR, "dma: nor beyond its end");
	ok(dma(READ, 4, UINT64_MAX - 1) == ERROR, "dma: nor around the end of the address space");
	ok(dma(READ, UINT32_MAX, 0x20000) == ERROR, "dma: more than there is RAM for");
	ok(dma(SKIP, UINT32_MAX, 0) == 0 && dma(SKIP, UINT32_MAX, 0) == 0 && dma(READ, 1, 0x20000) == 0,
		"dma: skipped far beyond the end");
	guest_read(vm, 0x20000, &byte, 1);
	ok(byte == 0, "dma: zeros there, too");
	bus_write(vm, BUS_PORT, DMA_HIGH, 4, 0xffffffff);
	bus_write(vm, BUS_PORT, DMA_LOW, 4, 0xffffffff);
	bus_write(vm, BUS_PORT, DMA_LOW, 4, __builtin_bswap32(64 * MiB - 8));
	ok(true, "dma: a descriptor that is not in RAM is left alone");
	ok(dma_at(64 * MiB - 16, SELECT_KEY | READ | FW_CFG_FIRST_FILE << 16, 16, 64 * MiB - 16) == 0,
		"dma: onto its own descriptor");
	for (unsigned i = 0; i < 16; i++)
		bus_write(vm, BUS_PORT, SELECT + i / 4 * 4, 1u << (i & 1), 0xa5a5a5a5);
	ok(true, "dma: odd sizes");
}

static void round_trip(void)
{
	fresh();
	fw_cfg_put_file(d, "f", "0123456789", 10);
	select_key(FW_CFG_FIRST_FILE);
	bytes(3);
	struct vm *one = vm, *two = machine(1, places, 1);
	fw_cfg_put_file(device_find(two, "fw_cfg"), "f", "0123456789", 10);
	ok(copy_state(one, two) && same_state(one, two), "fw_cfg: state loads");
	vm = two;
	ok(in8(vm, DATA) == '3', "fw_cfg: and goes on");
	vm = one;
	vm_destroy(two);
}

static void use(struct vm *v)
{
	vm = v;
	bytes(4);
	dma(READ, 8, 0x20000);
}

/* What firmware does with the board's files: a small table loader, into one block for each file. */
static struct loaded {
	char name[FW_CFG_NAME_SIZE];
	uint8_t *data;
	size_t size;
	uint64_t at;
} loaded[4];

static struct loaded *loaded_file(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(loaded); i++)
		if (!strcmp(loaded[i].name, name))
			return &loaded[i];
	return NULL;
}

static bool sums_to_zero(const uint8_t *data, size_t size)
{
	uint8_t sum = 0;
	while (size--)
		sum += data[size];
	return !sum;
}

static bool run_step(struct device *fw, const uint8_t *step, unsigned *files)
{
	const char *name = (const char *)step + 4, *to = name + FW_CFG_NAME_SIZE;
	const uint8_t *args = (const uint8_t *)to;
	struct loaded *f = loaded_file(name), *g;
	uint32_t n[3], command;
	memcpy(&command, step, 4);
	memcpy(n, args, sizeof(n));
	if (command == 1) {
		size_t size;
		const uint8_t *data = fw_cfg_file(fw, name, &size);
		if (!data || *files == ARRAY_SIZE(loaded) || n[0] & (n[0] - 1))
			return false;
		f = &loaded[(*files)++];
		snprintf(f->name, sizeof(f->name), "%s", name);
		f->data = malloc(size);
		memcpy(f->data, data, size);
		f->size = size;
		f->at = 0x10000000u * *files;
		return true;
	}
	if (command == 2) {
		uint64_t value = 0;
		uint32_t at;
		uint8_t size = step[4 + 2 * FW_CFG_NAME_SIZE + 4];
		memcpy(&at, to + FW_CFG_NAME_SIZE, 4);
		g = loaded_file(to);
		if (!f || !g || at + size > f->size || (size != 4 && size != 8))
			return false;
		memcpy(&value, f->data + at, size);
		if (value >= g->size)
			return false;
		value += g->at;
		memcpy(f->data + at, &value, size);
		return true;
	}
	if (command != 3 || !f || n[0] >= f->size || n[1] + n[2] > f->size)
		return false;
	uint8_t sum = 0;
	for (uint32_t i = 0; i < n[2]; i++)
		sum += f->data[n[1] + i];
	f->data[n[0]] -= sum;
	return true;
}

static void script(void)
{
	static uint8_t bios[64 * 1024];
	struct vm_config machine_config = { .name = "test", .engine = "null", .memory = 64 * MiB, .cpus = 3,
		.clock = CLOCK_STEPPED };
	struct board_options options = { .debug_exit_port = -1, .bios = bios, .bios_size = sizeof(bios) };
	struct vm *pc;
	machine_config.model = x86_model_find("v2");
	if (vm_create(&pc, &machine_config) || board_pc.build(pc, &options)) {
		ok(false, "a PC with a BIOS");
		return;
	}
	vm_reset(pc);
	struct device *fw = device_find(pc, "fw_cfg");
	size_t size;
	unsigned files = 0;
	const uint8_t *steps = fw_cfg_file(fw, "etc/table-loader", &size);
	bool good = steps && size && size % 128 == 0;
	for (size_t i = 0; good && i < size; i += 128)
		good = run_step(fw, steps + i, &files);
	ok(good && files == 2, "script: every command can be done");
	struct loaded *rsdp = loaded_file("etc/acpi/rsdp"), *tables = loaded_file("etc/acpi/tables");
	if (!rsdp || !tables)
		return;
	ok(!memcmp(rsdp->data, "RSD PTR ", 8) && sums_to_zero(rsdp->data, 20) && sums_to_zero(rsdp->data, 36),
		"script: the RSDP");
	uint64_t xsdt, count = 0;
	memcpy(&xsdt, rsdp->data + 24, 8);
	const uint8_t *root = tables->data + (xsdt - tables->at);
	uint32_t length;
	memcpy(&length, root + 4, 4);
	ok(xsdt >= tables->at && xsdt < tables->at + tables->size && !memcmp(root, "XSDT", 4) &&
		sums_to_zero(root, length), "script: the XSDT");
	for (uint32_t i = 36; i < length; i += 8) {
		uint64_t at;
		uint32_t size_of;
		memcpy(&at, root + i, 8);
		const uint8_t *table = tables->data + (at - tables->at);
		memcpy(&size_of, table + 4, 4);
		count += at >= tables->at && at + size_of <= tables->at + tables->size && sums_to_zero(table, size_of);
	}
	ok(count == 2, "script: the tables it points to");
	/* Firmware moves the ACPI block, then looks at the tables. */
	static const uint8_t base[] = { 0x08, 0xb0, 0, 0 };
	vm = pc;
	d = fw;
	bus_write(vm, BUS_PORT, 0xcf8, 4, 0x80000b40);
	bus_write(vm, BUS_PORT, 0xcfc, 4, 0xb001);
	bus_write(vm, BUS_PORT, 0xcf8, 4, 0x80000b80);
	bus_write(vm, BUS_PORT, 0xcfc, 1, 1);
	uint32_t file_size;
	select_key(find_file("etc/acpi/tables", &file_size));
	const uint8_t *now = fw_cfg_file(fw, "etc/acpi/tables", &size);
	ok(size == tables->size && memmem(now, size, base, sizeof(base)),
		"script: the FADT names the ports of the ACPI block");
	for (unsigned i = 0; i < files; i++)
		free(loaded[i].data);
	vm_destroy(pc);
	vm = NULL;
}

/* The structures behind each other, each with its strings: as a reader of them walks. */
static void smbios(void)
{
	struct smbios s;
	fresh();
	smbios_build(&s, vm);
	struct smbios_entry e = smbios_entry(&s, 0x12340);
	ok(!firmware_checksum(&e, sizeof(e)) && !firmware_checksum(e.anchor2, sizeof(e) - offsetof(struct smbios_entry, anchor2)) && e.length == 31 &&
		   e.at == 0x12340 && e.size == s.size, "smbios: the entry point");
	unsigned at = 0, count = 0, largest = 0, last = 0;
	bool named = false;
	while (at + 4 <= s.size && s.data[at + 1] >= 4) {
		unsigned start = at;
		last = s.data[at];
		at += s.data[at + 1];
		named |= last == 1 && !strcmp((char *)s.data + at, "doppel");
		while (at + 1 < s.size && (s.data[at] || s.data[at + 1]))
			at++;
		at += 2;
		largest = at - start > largest ? at - start : largest;
		count++;
	}
	ok(at == s.size && count == e.count && largest == e.largest && last == 127, "smbios: the structures, up to the last");
	ok(named, "smbios: who made the machine");
}

int main(void)
{
	smbios();
	items();
	good_dma();
	hostile_dma();
	round_trip();
	fresh();
	fw_cfg_put_file(d, "f", "0123456789", 10);
	abuse_state(vm, "fw_cfg", use);
	vm_destroy(vm);
	script();
	return done();
}
