/* SPDX-License-Identifier: MIT */
/* The first instructions of the bare benchmark: a ROM of 64 KiB that any PC emulator runs from the reset vector on. Copies itself to 1 MiB,
 * goes to long mode with the first GiB mapped by 2 MiB pages, and calls main(). */

	LOAD = 0x100000
	TABLES = 0x8000 /* PML4, PDPT, page directory */
	STACK = 0x7000
	CODE32 = 8
	DATA = 16
	CODE64 = 24

	.section .start, "ax"
	.code32
	.globl image_start
image_start: /* at 1 MiB, from protected mode */
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$STACK, %esp
	mov	$bss_start, %edi
	mov	$bss_end, %ecx
	sub	%edi, %ecx
	xor	%eax, %eax
	cld
	rep stosb
	mov	$TABLES, %edi
	mov	$0x3000 / 4, %ecx
	rep stosl
	movl	$TABLES + 0x1003, TABLES
	movl	$TABLES + 0x2003, TABLES + 0x1000
	mov	$TABLES + 0x2000, %edi
	mov	$0x83, %eax
	mov	$512, %ecx
1:	mov	%eax, (%edi)
	add	$0x200000, %eax
	add	$8, %edi
	loop	1b
	mov	$0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
	mov	%eax, %cr4
	mov	$TABLES, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	$0x80000023, %eax /* PG, NE, MP, PE */
	mov	%eax, %cr0
	ljmp	$CODE64, $1f
	.code64
1:	xor	%eax, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	fninit
	call	main
1:	cli
	hlt
	jmp	1b

/* In the last KiB of the ROM, where the reset vector can jump to. It runs in segment F000h. */
	.section .reset, "ax"
	.code16
reset:
	cli
	cld
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %ss
	lgdtl	%cs:(0xfc00 + gdtr - reset)
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$CODE32, $0xffc00 + 1f - reset
	.code32
1:	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	$0xf0000, %esi
	mov	$LOAD, %edi
	mov	$0x10000 / 4, %ecx
	rep movsl
	ljmp	$CODE32, $image_start
	.balign 8
gdt:
	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdtr:
	.word gdtr - gdt - 1
	.long 0xffc00 + gdt - reset
	.org 0x3e0
	.globl order
order:	.long 0, 0 /* which benchmark, how often: bench/bochs writes them here, into the file */
	.org 0x3f0
	.code16
	ljmp	$0xf000, $0xfc00
	.org 0x400
