/* SPDX-License-Identifier: MIT */
/* Calls into the slow halves that preserve every register but RAX.
 *
 * An exec function that calls C anywhere has to save registers on its fast path too, for the sake of a path that one access in a thousand
 * takes. So mem.h calls the slow halves through these thunks, from an asm statement that clobbers nothing: the compiler sees
 * a leaf function. What longjmps out of one needs no care, the saved registers are then dead. Exec functions are compiled
 * without a red zone, since the compiler does not see the call. */

.macro THUNK name
	.globl \name\()_thunk
	.hidden \name\()_thunk
	.type \name\()_thunk, @function
	.p2align 4
\name\()_thunk:
	push %rbp
	mov %rsp, %rbp
	push %rcx
	push %rdx
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	sub $256, %rsp
	and $-16, %rsp
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps %xmm\n, 16*\n(%rsp)
	.endr
	cld
	call \name
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps 16*\n(%rsp), %xmm\n
	.endr
	lea -64(%rbp), %rsp
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rdx
	pop %rcx
	pop %rbp
	ret
	.size \name\()_thunk, . - \name\()_thunk
.endm

	.text
	THUNK x86_load_slow
	THUNK x86_store_slow
	THUNK x86_load_wide
	THUNK x86_store_wide
	THUNK x86_address_checked
	THUNK x86_stack_address_checked
	THUNK x86_jump_checked
	THUNK x87_pending

	.section .note.GNU-stack, "", @progbits
