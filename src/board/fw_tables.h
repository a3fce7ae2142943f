/* SPDX-License-Identifier: MIT */
/* What the board tells a BIOS through the fw_cfg device. */
#pragma once
#include "board/firmware.h"

struct fw_tables {
	struct vm *vm;
	struct firmware_facts *facts;
	struct device *pm;          /* the acpi_pm: firmware decides where its ports are */
	uint16_t console_port;      /* a UART that stands in for the screen; 0: none */
	const struct board_kernel *kernel; /* for firmware to start; NULL: none. Used by fw_tables_fill only */
};

/* fw_tables.c -- Puts all items into the device. 0 or -errno, after log_error. */
int fw_tables_fill(struct fw_tables *, struct device *fw_cfg);
/* For struct fw_cfg_config, with a struct fw_tables: the tables say where the ACPI block is by now. */
void fw_tables_selected(struct device *fw_cfg, const char *file, void *tables);
