/* SPDX-License-Identifier: MIT */
/* Entries of all 256 vectors, and the two ways to run code that may fault: attempt() in ring 0, user_call() in ring 3. */
#include "lib/asm.h"

	.text
	.balign 16
	.globl trap_stubs
trap_stubs:
	.set vector, 0
	.rept 256
	.balign 16
	/* #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC, #SX have an error code; for the others a zero takes its place. */
	.if !((vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30))
	push $0
	.endif
	push $vector
	jmp trap_common
	.set vector, vector + 1
	.endr

trap_common:
	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	cld
	mov %rsp, %rdi
	call trap
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	.globl trap_iret
trap_iret:
	iretq

/* int attempt(void (*function)(void *), void *argument): NONE, or the vector that ended it. trap() comes back to attempt_end. */
	.globl attempt, attempt_end
attempt:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	pushfq
	push attempt_rsp(%rip)
	mov %rsp, attempt_rsp(%rip)
	sub $8, %rsp
	mov %rdi, %rax
	mov %rsi, %rdi
	call *%rax
	add $8, %rsp
	mov $NONE, %eax
attempt_end:
	pop attempt_rsp(%rip)
	popfq
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

/* void user_enter(struct user_entry *): by IRETQ into ring 3; what comes back comes through trap(). */
	.globl user_enter
user_enter:
	pushq 32(%rdi)
	pushq 24(%rdi)
	pushq 16(%rdi)
	pushq 8(%rdi)
	pushq (%rdi)
	mov 40(%rdi), %rdi
	iretq

	.globl user_return
user_return:
	int $VECTOR_RETURN
	ud2

	.data
	.balign 8
	.globl attempt_rsp
attempt_rsp:
	.quad 0
