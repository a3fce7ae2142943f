/* SPDX-License-Identifier: MIT */
/* A virtio disk, read whole in three ways: by looking until the answer is there, by the function's pin through the IOAPIC, by message. So whoever
 * runs the guest has to hear of each notification, also when that is written to a doorbell of its kernel's, and brings each interrupt.
 * What the device writes may be code that has run often. Each 16 bytes of the disk are their number, in 15 digits and a line end. VIRTIO 1.2 2.7, 4.1, 5.2; PCI 3.0 6.8.2; 82093AA 3.2.4 */
#include "lib/apic.h"
#include "lib/pci.h"

enum { VENDOR = 0x1af4, DISK = 0x1001 };
enum { CAP_VENDOR = 9, CAP_MSIX = 0x11 };
enum { /* of the common configuration */
	FEATURE_SELECT = 8, FEATURE = 12, STATUS = 20, QUEUE_SELECT = 22, QUEUE_SIZE = 24, QUEUE_VECTOR = 26, QUEUE_ENABLE = 28,
	QUEUE_DESC = 32, QUEUE_DRIVER = 40, QUEUE_DEVICE = 48,
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
enum { NEXT = 1, WRITE = 2 }; /* flags of a descriptor */
#define NO_VECTOR 0xffff
#define SIZE 16               /* of the queue */
#define SECTORS 8             /* of one request */
#define PIN_VECTOR 0x52
#define MESSAGE_VECTOR 0x53
#define IOAPIC 0xfec00000ULL
#define LEVEL BIT(15)

static uint64_t common, notify, isr, capacity_at, msix_table;
static uint8_t msix_at, function; /* its slot << 3 */
static volatile unsigned interrupts, strays;

static volatile struct { uint64_t at; uint32_t length; uint16_t flags, next; } desc[SIZE] __attribute__((aligned(16)));
static volatile struct { uint16_t flags, index, ring[SIZE]; } avail __attribute__((aligned(4)));
static volatile struct { uint16_t flags, index; struct { uint32_t id, length; } ring[SIZE]; } used __attribute__((aligned(4)));
static struct { uint32_t type, reserved; uint64_t sector; } header;
static volatile uint8_t done;
static volatile uint8_t data[SECTORS * 512];

#define MMIO(bits)                                                                                                     \
	static void put##bits(uint64_t at, uint##bits##_t value)                                                       \
	{                                                                                                              \
		*(volatile uint##bits##_t *)at = value;                                                                \
	}
MMIO(8) MMIO(16) MMIO(32)
#undef MMIO

static void put64(uint64_t at, uint64_t value)
{
	put32(at, (uint32_t)value);
	put32(at + 4, value >> 32);
}

static bool find_disk(void)
{
	for (unsigned slot = 1; slot < 32; slot++) {
		function = (uint8_t)(slot << 3);
		if (pci_read(function, 0) == (DISK << 16 | VENDOR))
			return true;
	}
	return false;
}

static void find_registers(void)
{
	pci_write(function, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (unsigned at = pci_read(function, PCI_CAPABILITIES) & 0xff; at; at = pci_read(function, at + 1) & 0xff) {
		bool msix = (pci_read(function, at) & 0xff) == CAP_MSIX;
		uint32_t word = pci_read(function, msix ? at + 4 : at + 8), bar = msix ? word & 7 : pci_read(function, at + 4) & 7;
		uint64_t where = (pci_read(function, PCI_BARS + 4 * bar) & ~15u) + (word & ~7u);
		if (msix) {
			msix_at = at;
			msix_table = where;
		} else if ((pci_read(function, at) & 0xff) == CAP_VENDOR) {
			switch (pci_read(function, at + 3) & 0xff) {
			case 1: common = where; break;
			case 2: notify = where; break;
			case 3: isr = where; break;
			case 4: capacity_at = where; break;
			}
		}
	}
}

/* From a reset; the device's pin is in charge, or its messages. */
static void start(uint16_t vector)
{
	pci_write(function, msix_at, (vector == NO_VECTOR ? 0 : BIT(31)));
	put8(common + STATUS, 0);
	put8(common + STATUS, ACKNOWLEDGE | DRIVER);
	for (unsigned half = 0; half < 2; half++) { /* VIRTIO_F_VERSION_1 is bit 32 */
		put32(common + FEATURE_SELECT, half);
		put32(common + FEATURE, half);
	}
	put8(common + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
	put16(common + QUEUE_SELECT, 0);
	put16(common + QUEUE_SIZE, SIZE);
	put16(common + QUEUE_VECTOR, vector);
	put64(common + QUEUE_DESC, (uint64_t)desc);
	put64(common + QUEUE_DRIVER, (uint64_t)&avail);
	put64(common + QUEUE_DEVICE, (uint64_t)&used);
	avail.index = used.index = 0;
	put16(common + QUEUE_ENABLE, 1);
	put8(common + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

static void request(uint64_t sector)
{
	header.sector = sector;
	done = 0xee;
	desc[0].at = (uint64_t)&header, desc[0].length = sizeof(header), desc[0].flags = NEXT, desc[0].next = 1;
	desc[1].at = (uint64_t)data, desc[1].length = sizeof(data), desc[1].flags = NEXT | WRITE, desc[1].next = 2;
	desc[2].at = (uint64_t)&done, desc[2].length = 1, desc[2].flags = WRITE;
	avail.ring[avail.index % SIZE] = 0;
	asm volatile("mfence" : : : "memory");
	avail.index++;
	put16(notify, 0);
}

static bool right(uint64_t sector)
{
	for (unsigned i = 0; i < sizeof(data) / 16; i++) {
		uint64_t n = sector * 32 + i;
		for (int digit = 14; digit >= 0; digit--, n /= 10)
			if (data[16 * i + digit] != '0' + n % 10)
				return false;
		if (data[16 * i + 15] != '\n')
			return false;
	}
	return true;
}

static bool on_interrupt(struct frame *f)
{
	if (f->vector != PIN_VECTOR && f->vector != MESSAGE_VECTOR)
		return false;
	if (f->vector == PIN_VECTOR && !(*(volatile uint8_t *)isr & 1))
		strays++;
	interrupts++;
	apic_write(APIC_EOI, 0);
	return true;
}

static void read_all(bool halt, const char *name)
{
	uint64_t sectors = *(volatile uint32_t *)capacity_at;
	unsigned wrong = 0, requests = 0;

	interrupts = strays = 0;
	for (uint64_t sector = 0; sector + SECTORS <= sectors; sector += SECTORS, requests++) {
		request(sector);
		while (halt && interrupts - strays == requests)
			asm volatile("sti; hlt; cli");
		while (!halt && used.index != avail.index)
			asm volatile("pause");
		wrong += used.index != avail.index || done != 0 || !right(sector);
	}
	check(requests && !wrong, join(name, ": every sector is what it shall be"));
	if (halt)
		check_equal(interrupts - strays, requests, join(name, ": an interrupt for each request"));
}

/* The lowest digit of a sector's first number goes into the immediate of an addition that is run again and again, the rest of it beside. */
static void test_code(void)
{
	static const uint8_t loop[] = { 0xb9, 0x10, 0x27, 0, 0, 0x31, 0xc0, 0x83, 0xc0, 0, 0xff, 0xc9, 0x75, 0xf9, 0xc3 };
	enum { IMMEDIATE = 9, ROUNDS = 10000, TIMES = 60 }; /* mov ecx, ROUNDS; xor eax, eax; 1: add eax, 0; dec ecx; jnz 1b; ret */
	uint64_t sectors = *(volatile uint32_t *)capacity_at, right = 0;
	uint8_t *code = page_alloc();

	memcpy(code, loop, sizeof(loop));
	for (unsigned n = 0; n < TIMES; n++) {
		uint64_t sector = n * 7 % sectors;
		uint32_t sum;
		header.sector = sector;
		desc[0].at = (uint64_t)&header, desc[0].length = sizeof(header), desc[0].flags = NEXT, desc[0].next = 1;
		desc[1].at = (uint64_t)data, desc[1].length = 14, desc[1].flags = NEXT | WRITE, desc[1].next = 2;
		desc[2].at = (uint64_t)(code + IMMEDIATE), desc[2].length = 1, desc[2].flags = NEXT | WRITE, desc[2].next = 3;
		desc[3].at = (uint64_t)data, desc[3].length = 497, desc[3].flags = NEXT | WRITE, desc[3].next = 4;
		desc[4].at = (uint64_t)&done, desc[4].length = 1, desc[4].flags = WRITE;
		avail.ring[avail.index % SIZE] = 0;
		asm volatile("mfence" : : : "memory");
		avail.index++;
		put16(notify, 0);
		while (used.index != avail.index) /* it runs meanwhile */
			asm volatile("call *%0" : : "r"(code) : "rax", "rcx", "cc", "memory");
		asm volatile("call *%1" : "=a"(sum) : "r"(code) : "rcx", "cc", "memory");
		right += sum == ROUNDS * ('0' + sector * 32 % 10);
	}
	check_equal(right, TIMES, "code that has run often is read from the disk");
}

static void ioapic(uint32_t index, uint32_t value)
{
	put32(IOAPIC, index);
	put32(IOAPIC + 0x10, value);
}

int main(void)
{
	unsigned line;

	trap_handler = on_interrupt;
	if (!find_disk()) {
		skip("a virtio disk", "this machine has none");
		guest_end();
	}
	find_registers();
	apic_enable();
	start(NO_VECTOR);
	read_all(false, "without interrupts");
	test_code();

	line = pci_read(function, PCI_LINE) & 0xff;
	ioapic(0x11 + 2 * line, apic_read(APIC_ID));
	ioapic(0x10 + 2 * line, LEVEL | PIN_VECTOR);
	start(NO_VECTOR);
	read_all(true, "by the pin");
	ioapic(0x10 + 2 * line, LVT_MASKED);

	put32(msix_table, APIC_BASE | apic_read(APIC_ID) >> 24 << 12);
	put32(msix_table + 4, 0);
	put32(msix_table + 8, MESSAGE_VECTOR);
	put32(msix_table + 12, 0);
	start(0);
	read_all(true, "by message");
	guest_end();
}
