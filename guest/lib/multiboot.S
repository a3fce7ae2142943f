/* SPDX-License-Identifier: MIT */
/* A Multiboot 1 header, for the guests that are linked with it: with addresses, since many loaders refuse ELF64. */
#define FLAGS 0x10003 /* addresses; modules on pages; memory information */
	.section .multiboot, "a"
	.balign 4
multiboot_header:
	.long 0x1badb002, FLAGS, 0 - 0x1badb002 - FLAGS
	.long multiboot_header, image_start, image_data_end, image_end, start32
