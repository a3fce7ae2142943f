/* SPDX-License-Identifier: MIT */
/* What a PC's firmware leaves behind for an operating system that is loaded without one: the BIOS data area, ACPI
 * and MP tables, SMBIOS, interrupt vectors, and the memory type registers. Follows the IBM PC AT technical reference (BIOS data area) and the
 * Intel SDM 3A 11.11 (MTRRs). */
#include "board/firmware.h"
#include <errno.h>
#include <string.h>
#include "board/acpi.h"
#include "board/smbios.h"
#include "board/text_mode.h"
#include "util/log.h"
#include "vm/vcpu.h"
#include "x86/cpuid.h"

#define TABLES_START 0xf0000ULL /* both table roots must lie from here to 1 MiB, where systems look for them */
#define BDA_AT 0x400

struct bios_data { /* from 0040:0000; what a 32-bit system still reads */
	uint16_t uart[4], printer[3];
	uint16_t ebda_segment;
	uint16_t equipment;      /* bits 11:9: number of UARTs; 5:4: 2 for colour, 80 columns; 2: PS/2 mouse; 1: math coprocessor */
	uint8_t reserved;
	uint16_t memory_kib;     /* below the EBDA */
} __attribute__((packed));

#define VIDEO_DATA_AT 0x449
struct video_data { /* the screen that text_mode_set leaves */
	uint8_t mode;
	uint16_t columns, page_bytes, page_start;
	uint16_t cursor[8];      /* of each page: column, row */
	uint16_t cursor_shape;   /* last line, first line */
	uint8_t page;
	uint16_t crtc_port;
} __attribute__((packed));
#define VIDEO_ROWS_AT 0x484
struct video_rows {
	uint8_t last_row;
	uint16_t character_lines;
} __attribute__((packed));

gpa_t firmware_take(struct firmware_area *area, uint64_t size, uint64_t align)
{
	gpa_t at = align_up(area->at, align);
	if (area->error)
		return 0;
	if (size > area->end - at) {
		area->error = -ENOSPC;
		return 0;
	}
	area->at = at + size;
	return at;
}

void firmware_write(struct firmware_area *area, gpa_t at, const void *data, uint64_t size)
{
	if (!area->error)
		area->error = guest_write(area->vm, at, data, size);
}

uint8_t firmware_checksum(const void *data, size_t size)
{
	uint8_t sum = 0;
	for (size_t i = 0; i < size; i++)
		sum += ((const uint8_t *)data)[i];
	return (uint8_t)-sum;
}

/* Write-back by default, uncached from the end of low RAM's possible range to 4 GiB and in the VGA window, ROM
 * area write-protected: the kernel turns PAT off when it finds the MTRRs off, and compares all processors. */
static int set_memory_types(struct vm *vm)
{
	enum { MTRR_ENABLE = BIT(11), MTRR_FIXED_ENABLE = BIT(10), UNCACHED = 0, WRITE_PROTECTED = 5, WRITE_BACK = 6,
		VALID = BIT(11) };
	const uint64_t each_byte = 0x0101010101010101ULL;
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		struct vcpu *vcpu = vm->vcpu[i];
		struct x86_cpu *cpu = &vcpu->core.cpu;
		int error = vcpu_state(vcpu, X86_MSRS);
		if (error)
			return error;
		uint64_t address_mask = BIT(vcpu->core.model->physical_bits) - 1;
		cpu->mtrr_def_type = MTRR_ENABLE | MTRR_FIXED_ENABLE | WRITE_BACK;
		cpu->mtrr_var[0] = RAM_HOLE_START | UNCACHED;
		cpu->mtrr_var[1] = (address_mask & ~(RAM_HOLE_END - RAM_HOLE_START - 1)) | VALID;
		cpu->mtrr_fixed[0] = cpu->mtrr_fixed[1] = WRITE_BACK * each_byte; /* 0-7FFFF, 80000-9FFFF */
		cpu->mtrr_fixed[2] = UNCACHED;                                    /* A0000-BFFFF */
		for (unsigned f = 3; f < ARRAY_SIZE(cpu->mtrr_fixed); f++)
			cpu->mtrr_fixed[f] = WRITE_PROTECTED * each_byte;         /* C0000-FFFFF */
		vcpu_changed(vcpu, X86_MSRS);
	}
	return 0;
}

static void write_bios_data(struct firmware_area *area, const struct firmware_facts *facts)
{
	struct bios_data data = { .ebda_segment = PC_EBDA >> 4, .memory_kib = PC_EBDA / KiB };
	data.equipment = (uint16_t)(facts->uarts << 9 | 2 << 4 | BIT(1));
	for (unsigned i = 0; i < facts->uarts; i++)
		data.uart[i] = facts->uart[i].port;
	uint8_t ebda_kib = (PC_VGA_START - PC_EBDA) / KiB;
	firmware_write(area, BDA_AT, &data, sizeof(data));
	static const struct video_data video = { .mode = 3, .columns = TEXT_MODE_COLUMNS, .page_bytes = 4 * KiB, .cursor_shape = 0x0d0e,
		.crtc_port = 0x3d4 };
	static const struct video_rows rows = { .last_row = TEXT_MODE_ROWS - 1, .character_lines = TEXT_MODE_GLYPH };
	firmware_write(area, VIDEO_DATA_AT, &video, sizeof(video));
	firmware_write(area, VIDEO_ROWS_AT, &rows, sizeof(rows));
	firmware_write(area, PC_EBDA, &ebda_kib, sizeof(ebda_kib));
}

/* Programs that go back to real mode (Xen does, to ask for the memory map) call the BIOS. There is none: a service reports that it is
 * not supported, as a BIOS does of functions that it does not know, and an interrupt request is acknowledged. */
static const uint8_t service_code[] = {
	0x55,                   /* push bp */
	0x89, 0xe5,             /* mov bp, sp */
	0x80, 0x4e, 0x06, 0x01, /* or byte [bp + 6], 1: CF of the flags that IRET loads */
	0x5d,                   /* pop bp */
	0xb4, 0x86,             /* mov ah, 86h */
	0xcf,                   /* iret */
};
static const uint8_t irq_code[] = {
	0x50,                   /* push ax */
	0xb0, 0x20,             /* mov al, 20h: end of interrupt */
	0xe6, 0xa0,             /* out 0a0h, al */
	0xe6, 0x20,             /* out 20h, al */
	0x58,                   /* pop ax */
	0xcf,                   /* iret */
};
#define IRQ_MASTER 0x08 /* first vectors of the 8259s, as a BIOS sets them */
#define IRQ_SLAVE 0x70
#define IRQS 8

static uint32_t far_pointer(gpa_t at)
{
	return (uint32_t)(TABLES_START >> 4 << 16 | (at - TABLES_START));
}

static void write_interrupt_vectors(struct firmware_area *area)
{
	uint32_t vector[256];
	gpa_t service = firmware_take(area, sizeof(service_code), 16), irq = firmware_take(area, sizeof(irq_code), 16);
	firmware_write(area, service, service_code, sizeof(service_code));
	firmware_write(area, irq, irq_code, sizeof(irq_code));
	for (unsigned i = 0; i < ARRAY_SIZE(vector); i++)
		vector[i] = far_pointer(i - IRQ_MASTER < IRQS || i - IRQ_SLAVE < IRQS ? irq : service);
	firmware_write(area, 0, vector, sizeof(vector));
}

int firmware_install(struct vm *vm, const struct firmware_facts *facts, gpa_t *rsdp)
{
	struct firmware_area area = { .vm = vm, .at = TABLES_START, .end = PC_BIOS_END };
	write_bios_data(&area, facts);
	*rsdp = acpi_write(&area, facts);
	mptable_write(&area, facts);
	smbios_write(&area);
	write_interrupt_vectors(&area);
	int error = area.error ? area.error : set_memory_types(vm);
	if (error)
		log_error("no room for the firmware's tables: %s; with fewer processors (--cpus) they are smaller",
			strerror(-error));
	return error;
}
