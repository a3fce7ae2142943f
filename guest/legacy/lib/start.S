/* SPDX-License-Identifier: MIT */
/* The PVH entry of a 32-bit guest, the entries of all vectors, and the ways to run code that may fault. */
#include "legacy/lib/asm.h"

	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 4, 18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start32

	.text
	.globl start32
start32:
	cld
	mov $boot_stack_end, %esp
	mov %ebx, boot_info
	lgdt boot_gdtr
	ljmp $KCS, $1f
1:	mov $KDS, %eax
	mov %eax, %ss
	mov %eax, %ds
	mov %eax, %es
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	call guest_setup
	call main
	call guest_end

	.balign 16
	.globl trap_stubs
trap_stubs:
	.set vector, 0
	.rept 256
	.balign 16
	.if !((vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17))
	push $0
	.endif
	push $vector
	jmp trap_common
	.set vector, vector + 1
	.endr

trap_common:
	pushal
	push %ds
	push %es
	push %fs
	push %gs
	mov $KDS, %eax
	mov %eax, %ds
	mov %eax, %es
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	cld
	push %esp
	call trap
	add $4, %esp
	pop %gs
	pop %fs
	pop %es
	pop %ds
	popal
	add $8, %esp
	iret

/* int attempt(void (*function)(void), uint32_t argument) */
	.globl attempt, attempt_leave
attempt:
	movl $NONE, caught /* its vector */
	push %ebx
	push %esi
	push %edi
	push %ebp
	pushf
	pushl attempt_esp
	mov %esp, attempt_esp
	mov 28(%esp), %ecx
	mov 32(%esp), %eax
	call *%ecx
	mov $NONE, %eax
attempt_end:
	popl attempt_esp
	popf
	pop %ebp
	pop %edi
	pop %esi
	pop %ebx
	ret

/* _Noreturn void attempt_leave(int vector): out of trap(), whatever the stack and the segments are. */
attempt_leave:
	mov 4(%esp), %eax
	mov $KDS, %ecx
	mov %ecx, %ss
	mov attempt_esp, %esp
	jmp attempt_end

/* By IRET: EAX points to struct user_entry / struct v86. */
	.globl user_enter, v86_enter, user_return
user_enter:
	pushl 16(%eax)
	pushl 12(%eax)
	pushl 8(%eax)
	pushl 4(%eax)
	pushl (%eax)
	mov $UDS, %ecx
	mov %ecx, %ds
	mov %ecx, %es
	mov %ecx, %fs
	mov %ecx, %gs
	mov 20(%eax), %eax
	iret
v86_enter:
	lea (%eax), %esi
	mov $9, %ecx
	sub $36, %esp
	mov %esp, %edi
	rep movsl
	mov (%esi), %eax
	mov 4(%esi), %ebx
	mov 8(%esi), %ecx
	mov 12(%esi), %edx
	iret
user_return:
	int $VECTOR_RETURN
	ud2

	.data
	.balign 4
	.globl boot_info
boot_info:
	.long 0
	.globl attempt_esp
attempt_esp:
	.long 0
boot_gdtr:
	.word 8 * GDT_ENTRIES - 1
	.long gdt

	.bss
	.balign 16
	.skip 32768
boot_stack_end:
	.skip 64 /* what reads a longer frame than there is */
