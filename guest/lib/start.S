/* SPDX-License-Identifier: MIT */
/* The way of our guests from a 32-bit boot protocol (PVH, Multiboot) into long mode: page tables, mode switch, main().
 *
 * The identity map of the first 4 GiB is for the supervisor only. The first GiB appears a second time, for ring 3, at USER_BASE
 * (PML4 entry 2): so SMEP and SMAP can be on, and code for ring 3 lies in the same image as all else. */
#include "lib/asm.h"

	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 4, 18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start32

	.text
	.code32
	.globl start32
start32:
	cld
	mov $boot_stack_end, %esp
	mov %eax, boot_magic
	mov %ebx, boot_info

	/* PML4[0] -> PDPT -> four directories of 2 MiB pages; PML4[2] -> one directory for ring 3. */
	movl $(boot_pdpt + PTE_P + PTE_W), boot_pml4
	movl $(boot_user_pdpt + PTE_P + PTE_W + PTE_U), boot_pml4 + 16
	movl $(boot_user_pd + PTE_P + PTE_W + PTE_U), boot_user_pdpt
	mov $(boot_pd + PTE_P + PTE_W), %eax
	xor %ecx, %ecx
1:	mov %eax, boot_pdpt(,%ecx,8)
	add $0x1000, %eax
	inc %ecx
	cmp $4, %ecx
	jne 1b
	mov $(PTE_P + PTE_W + PTE_PS), %eax
	xor %ecx, %ecx
2:	mov %eax, boot_pd(,%ecx,8)
	cmp $512, %ecx
	jae 3f
	mov %eax, %edx
	or $PTE_U, %edx
	mov %edx, boot_user_pd(,%ecx,8)
3:	add $0x200000, %eax
	inc %ecx
	cmp $2048, %ecx
	jne 2b

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
	lgdt boot_gdtr
	ljmp $KCS, $start64

	.code64
start64:
	mov $KDS, %eax
	mov %eax, %ss
	mov %eax, %ds
	mov %eax, %es
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	mov $boot_stack_end, %rsp
	xor %ebp, %ebp
	call guest_setup
	call main
	call guest_end
1:	hlt
	jmp 1b

	.data
	.balign 8
boot_gdtr:
	.word 8 * GDT_ENTRIES - 1
	.quad gdt

	.globl boot_magic, boot_info, boot_pml4, boot_stack_end
boot_magic:
	.quad 0
boot_info:
	.quad 0

	.bss
	.balign 4096
boot_pml4:
	.skip 4096
boot_pdpt:
	.skip 4096
boot_pd:
	.skip 4 * 4096
boot_user_pdpt:
	.skip 4096
boot_user_pd:
	.skip 4096
	.skip 65536
boot_stack_end:
