/* SPDX-License-Identifier: MIT */
/* What a processor runs after SIPI, from real mode into long mode. Copied to TRAMPOLINE; it may stand on any page below 1 MiB. */
#include "lib/asm.h"

	.text
	.code16
	.globl trampoline, trampoline_end
trampoline:
	cli
	mov %cs, %ax
	mov %ax, %ds
	lgdtl (trampoline_gdtr - trampoline)
	mov $(CR0_PE + CR0_ET), %eax
	mov %eax, %cr0
	ljmpl $KCS32, $ap32
	.balign 8
trampoline_gdtr:
	.word 8 * GDT_ENTRIES - 1
	.long gdt
trampoline_end:

	.code32
ap32:
	mov $KDS, %eax
	mov %eax, %ds
	mov %eax, %ss
	mov %eax, %es
	mov $(CR4_PAE + CR4_OSFXSR + CR4_OSXMMEXCPT), %eax
	mov %eax, %cr4
	mov $boot_pml4, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	mov $(EFER_SCE + EFER_LME + EFER_NXE), %eax
	xor %edx, %edx
	wrmsr
	mov $(CR0_PE + CR0_MP + CR0_ET + CR0_NE + CR0_WP + CR0_PG), %eax
	mov %eax, %cr0
	ljmp $KCS, $ap64

	.code64
ap64:
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	mov 0xfee00020, %eax		/* the local APIC's ID */
	shr $24, %eax
	mov %eax, %edi
	inc %eax
	imul $AP_STACK, %eax, %eax
	lea ap_stacks(%rax), %rsp
	xor %ebp, %ebp
	call ap_main
