/* SPDX-License-Identifier: MIT */
/* Linux/x86 boot protocol (Documentation/arch/x86/boot.rst, zero-page.rst): offsets and bits of the setup header and of
 * the zero page (struct boot_params). The header lies at the same offset, 1F1h, in the file and in the zero page. */
#pragma once
#include "boot/e820.h"
#include "util/bits.h"

struct linux_header { /* from offset 1F1h; fields below a protocol version are absent in older ones */
	uint8_t setup_sects;           /* sectors of 512 bytes of real-mode code behind the first; 0 means 4 */
	uint16_t root_flags;
	uint32_t syssize;              /* protected-mode code in units of 16 bytes */
	uint16_t ram_size, vid_mode, root_dev;
	uint16_t boot_flag;            /* AA55h */
	uint16_t jump;                 /* the second byte + 202h is where the header ends */
	uint32_t magic;                /* "HdrS" */
	uint16_t version;              /* of the protocol, BCD: 020Fh is 2.15 */
	uint32_t realmode_switch;
	uint16_t start_sys_seg, kernel_version;
	uint8_t type_of_loader;        /* we write */
	uint8_t loadflags;             /* LOADFLAG_* */
	uint16_t setup_move_size;
	uint32_t code32_start;         /* where the 32-bit entry is */
	uint32_t ramdisk_image, ramdisk_size; /* we write */
	uint32_t bootsect_kludge;
	uint16_t heap_end_ptr;
	uint8_t ext_loader_ver, ext_loader_type;
	uint32_t cmd_line_ptr;         /* we write */
	uint32_t initrd_addr_max;      /* 2.03: highest address of the initrd's last byte */
	uint32_t kernel_alignment;     /* 2.05 */
	uint8_t relocatable_kernel;    /* 2.05 */
	uint8_t min_alignment;         /* 2.10: power of two */
	uint16_t xloadflags;           /* 2.12: XLF_* */
	uint32_t cmdline_size;         /* 2.06: longest command line without its NUL */
	uint32_t hardware_subarch;     /* 2.07 */
	uint64_t hardware_subarch_data;
	uint32_t payload_offset, payload_length; /* 2.08 */
	uint64_t setup_data;           /* 2.09 */
	uint64_t pref_address;         /* 2.10: where the kernel wants to be */
	uint32_t init_size;            /* 2.10: memory it needs from there before it reads the memory map */
	uint32_t handover_offset, kernel_info_offset;
} __attribute__((packed));

#define LINUX_HEADER_AT 0x1f1
#define LINUX_HEADER_END_BASE 0x202    /* + second byte of jump */
#define LINUX_MAGIC 0x53726448u        /* "HdrS" */
#define LINUX_BOOT_FLAG 0xaa55
#define LINUX_OLDEST 0x0206            /* Linux 2.6.22 */
#define LINUX_OLDEST_16 0x0202         /* by the 16-bit protocol: the first with cmd_line_ptr */
#define LINUX_WITHOUT_BIOS 0x0208      /* older ones are rarely Linux, but what wants to be started as one */
#define LINUX_INITRD_MAX_OLD 0x37ffffff /* before initrd_addr_max */
#define LINUX_CMDLINE_OLD 255          /* before cmdline_size */
#define LINUX_ENTRY64 0x200            /* of the 64-bit entry, from the start of the protected-mode code */
#define LINUX_LOADER_OTHER 0xff        /* type_of_loader without a number of its own */
#define LOADFLAG_HIGH BIT(0)           /* protected-mode code belongs to 1 MiB and above: a bzImage */
#define LOADFLAG_HEAP BIT(7)           /* heap_end_ptr is valid */
#define XLF_KERNEL_64 BIT(0)           /* has the 64-bit entry */
#define XLF_ABOVE_4G BIT(1)            /* kernel, zero page, command line and initrd may lie above 4 GiB */

struct linux_screen { /* include/uapi/linux/screen_info.h; a text screen's part of it */
	uint8_t cursor_column, cursor_row;
	uint16_t ext_mem_k;
	uint16_t page;
	uint8_t mode;                  /* of the video BIOS: 3 */
	uint8_t columns;
	uint8_t flags, unused1;
	uint16_t ega_bx;               /* not 0x10: an EGA or VGA */
	uint16_t unused2;
	uint8_t rows;
	uint8_t is_vga;                /* LINUX_SCREEN_*: what drivers may assume */
	uint16_t character_lines;
	uint8_t unused3[0x40 - 0x12];
} __attribute__((packed));
#define LINUX_SCREEN_VGA_TEXT 1

struct linux_zero_page {
	struct linux_screen screen;    /* 000h */
	uint8_t apm_etc[0x30];
	uint64_t acpi_rsdp_addr;       /* 070h */
	uint8_t unused1[0x48];
	uint32_t ext_ramdisk_image, ext_ramdisk_size, ext_cmd_line_ptr; /* 0C0h: upper halves */
	uint8_t unused2[0x1e0 - 0xcc];
	uint32_t alt_mem_k;            /* 1E0h: memory above 1 MiB in KiB, for who reads no map */
	uint32_t scratch;
	uint8_t e820_entries;          /* 1E8h */
	uint8_t eddbuf_entries, edd_mbr_entries, kbd_status, secure_boot;
	uint8_t unused3[2];
	uint8_t sentinel;              /* 1EFh: zero says that the page was cleared properly */
	uint8_t unused4;
	struct linux_header header;    /* 1F1h */
	uint8_t unused5[0x2d0 - LINUX_HEADER_AT - sizeof(struct linux_header)];
	struct e820_entry e820[128];   /* 2D0h */
	uint8_t unused6[0x1000 - 0x2d0 - 128 * sizeof(struct e820_entry)];
} __attribute__((packed));

_Static_assert(sizeof(struct linux_header) == 0x26c - LINUX_HEADER_AT, "the header ends at 26Ch");
_Static_assert(sizeof(struct linux_screen) == 0x40, "the screen's part of the zero page");
_Static_assert(sizeof(struct linux_zero_page) == 4096, "one page");
_Static_assert(offsetof(struct linux_zero_page, e820_entries) == 0x1e8, "zero page");
_Static_assert(offsetof(struct linux_zero_page, header) == LINUX_HEADER_AT, "zero page");
