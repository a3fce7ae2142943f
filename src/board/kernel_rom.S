/* SPDX-License-Identifier: MIT */
/* An expansion ROM that boots a Linux kernel from fw_cfg by the 16-bit boot protocol, on a BIOS: PnP BIOS specification 1.0A, chapter 3 (a boot
 * entry vector); Linux's Documentation/arch/x86/boot.rst; QEMU's fw_cfg with DMA, which reaches all memory from real mode.
 * The last byte is for the checksum. */

	.section .rodata
	.code16
	.globl	kernel_rom, kernel_rom_end

/* As in device/fw_cfg.h. */
FW_CFG_KERNEL_ADDR = 0x07
FW_CFG_KERNEL_SIZE = 0x08
FW_CFG_INITRD_ADDR = 0x0a
FW_CFG_INITRD_SIZE = 0x0b
FW_CFG_KERNEL_DATA = 0x11
FW_CFG_INITRD_DATA = 0x12
FW_CFG_CMDLINE_ADDR = 0x13
FW_CFG_CMDLINE_SIZE = 0x14
FW_CFG_CMDLINE_DATA = 0x15
FW_CFG_SETUP_ADDR = 0x16
FW_CFG_SETUP_SIZE = 0x17
FW_CFG_SETUP_DATA = 0x18

SELECT_AND_READ = 0x0a         /* of the control word, whose upper half is the item's key */
DMA_HIGH = 0x514               /* the descriptor's address, big-endian: writing the lower half starts it */
DMA_LOW = 0x518
SETUP_SEGMENT = 0x1000
STACK = 0xfff0                 /* above the setup code's heap */

/* Copies an item of \size bytes (a key) to the address that item \at has. */
.macro load data, size, at
	movw	$\size, %ax
	call	number
	movl	%ebx, 4(%bp)
	movw	$\at, %ax
	call	number
	movl	%ebx, 12(%bp)
	movw	$\data, %ax
	call	transfer
.endm

kernel_rom:
	.byte	0x55, 0xaa, (kernel_rom_end - kernel_rom) / 512
	lret                    /* nothing to initialize */
	.org	kernel_rom + 0x1a, 0
	.word	pnp - kernel_rom
pnp:	.ascii	"$PnP"
	.byte	1, 2            /* version; length in units of 16 bytes */
	.word	0               /* no other header */
	.byte	0, 0            /* checksum: not looked at */
	.long	0
	.word	0               /* manufacturer: none */
	.word	product - kernel_rom
	.byte	0, 0, 0         /* type of device */
	.byte	0
	.word	0, 0            /* neither a disk to boot from ... */
	.word	boot - kernel_rom /* ... but what boots by itself */
	.word	0, 0
product: .asciz "Linux kernel"

/* A descriptor lies on the stack, at BP: control, length, upper and lower half of the address, all big-endian. */
boot:	cli
	cld
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %ss
	movl	$0x7c00, %esp
	subw	$20, %sp
	movw	%sp, %bp
	movl	$0, 8(%bp)
	load	FW_CFG_SETUP_DATA, FW_CFG_SETUP_SIZE, FW_CFG_SETUP_ADDR
	load	FW_CFG_KERNEL_DATA, FW_CFG_KERNEL_SIZE, FW_CFG_KERNEL_ADDR
	load	FW_CFG_INITRD_DATA, FW_CFG_INITRD_SIZE, FW_CFG_INITRD_ADDR
	load	FW_CFG_CMDLINE_DATA, FW_CFG_CMDLINE_SIZE, FW_CFG_CMDLINE_ADDR
	movw	$SETUP_SEGMENT, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %fs
	movw	%ax, %gs
	movw	%ax, %ss
	movl	$STACK, %esp
	ljmp	$SETUP_SEGMENT + 0x20, $0

/* EBX: the 32-bit number that item AX is, big-endian. */
number:	movl	4(%bp), %ecx
	movl	12(%bp), %edx
	pushl	%ecx
	pushl	%edx
	movl	$0x04000000, 4(%bp)
	leaw	16(%bp), %bx
	movzwl	%bx, %ebx
	bswap	%ebx
	movl	%ebx, 12(%bp)
	call	transfer
	popl	%edx
	popl	%ecx
	movl	%ecx, 4(%bp)
	movl	%edx, 12(%bp)
	movl	16(%bp), %ebx
	bswap	%ebx
	ret

/* Item AX, by the descriptor; EAX, EDX are lost. It is done when the control word is zero. */
transfer:
	shll	$16, %eax
	movw	$SELECT_AND_READ, %ax
	bswap	%eax
	movl	%eax, (%bp)
	movzwl	%bp, %eax
	bswap	%eax
	movw	$DMA_LOW, %dx
	outl	%eax, %dx
1:	cmpl	$0, (%bp)
	jne	1b
	ret

	.org	kernel_rom + 512, 0
kernel_rom_end:
	.section .note.GNU-stack, "", @progbits
