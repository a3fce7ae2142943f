/* SPDX-License-Identifier: MIT */
/* What a board tells firmware through the fw_cfg device: items by number, and files by name. */
#pragma once
#include "vm/vm.h"

/* Numbers with a fixed meaning (QEMU's specification, docs/specs/fw_cfg). */
enum fw_cfg_key {
	FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_UUID = 0x02, FW_CFG_RAM_SIZE = 0x03, FW_CFG_NO_GRAPHIC = 0x04,
	FW_CFG_CPUS = 0x05, FW_CFG_KERNEL_ADDR = 0x07, FW_CFG_KERNEL_SIZE = 0x08, FW_CFG_INITRD_ADDR = 0x0a, FW_CFG_INITRD_SIZE = 0x0b,
	FW_CFG_NUMA = 0x0d, FW_CFG_BOOT_MENU = 0x0e, FW_CFG_CPUS_MAX = 0x0f, FW_CFG_KERNEL_DATA = 0x11, FW_CFG_INITRD_DATA = 0x12,
	FW_CFG_CMDLINE_ADDR = 0x13, FW_CFG_CMDLINE_SIZE = 0x14, FW_CFG_CMDLINE_DATA = 0x15, FW_CFG_SETUP_ADDR = 0x16,
	FW_CFG_SETUP_SIZE = 0x17, FW_CFG_SETUP_DATA = 0x18,
	FW_CFG_DIRECTORY = 0x19,
	FW_CFG_FIRST_FILE = 0x20, FW_CFG_IRQ0_OVERRIDE = 0x8002,
};
#define FW_CFG_NAME_SIZE 56 /* with the zero at the end */

struct fw_cfg_config {
	/* A file was selected, and nothing of it is read yet: it may be replaced now. Device lock held. May be NULL. */
	void (*selected)(struct device *, const char *file, void *arg);
	void *arg;
};
extern const struct device_class fw_cfg_class;

/* fw_cfg.c -- base 510h: two ports, and the DMA address at base + 4. Each copies the data; an item that is there
 * already is replaced. Set-up time, or from `selected`. 0; -ENOMEM, -ENOSPC, or -ENAMETOOLONG, after log_error. */
int fw_cfg_put(struct device *, uint16_t key, const void *data, size_t size);
int fw_cfg_put_file(struct device *, const char *name, const void *data, size_t size);
int fw_cfg_put_number(struct device *, uint16_t key, uint64_t value, unsigned size);
/* The bytes of a file; NULL: there is none of that name. */
const uint8_t *fw_cfg_file(struct device *, const char *name, size_t *size);
