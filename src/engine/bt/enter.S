/* SPDX-License-Identifier: MIT */
/* The boundary between C and translated code: the only place where guest registers move between struct x86_core and the processor.
 *
 * In translated code RSP points behind struct bt_state; RCX and R15 are scratch; guest RCX is in R10 and guest RSP in R11; guest R10, R11 and R15
 * are in memory; the others are where they always are, as are flags (but DF, which stays clear) and vector registers. Nothing here
 * touches the flags of the guest before they are saved or after they are loaded. */
#include "engine/bt/layout.h"

/* In struct x86_xsave, which is the processor's own layout. The general registers are the first in struct x86_core. */
#define XSAVE_XMM 160
#define XSAVE_YMM 576

	.text

/* void bt_enter(struct bt_state *, void *host) */
	.globl bt_enter
	.type bt_enter, @function
bt_enter:
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	sub $8, %rsp
	lea BT_STATE_SIZE(%rdi), %rbx
	mov %rsp, BT_C_STACK(%rbx)
	mov %rsi, %rax

/* RBX: behind struct bt_state, in any of its views; RAX: where to go on. */
resume:
	mov BT_RSP(%rbx), %rsp
	mov %rax, BT_TARGET(%rsp)
	cmpl $0, BT_MXCSR_LIVE(%rsp)
	jne 1f
	ldmxcsr BT_MXCSR(%rsp)
	movl $1, BT_MXCSR_LIVE(%rsp)
1:	mov BT_XSAVE(%rsp), %rax
	/* Upper halves that are zero must be so by VZEROUPPER: else the processor takes them for values, which each SSE instruction has to wait for. */
	cmpq $0, BT_AVX(%rsp)
	je 2f
	vmovaps XSAVE_YMM(%rax), %xmm0
	.irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vorps XSAVE_YMM + 16*\n(%rax), %xmm0, %xmm0
	.endr
	vptest %xmm0, %xmm0
	jnz 4f
	vzeroupper
2:	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps XSAVE_XMM + 16*\n(%rax), %xmm\n
	.endr
	jmp 3f
4:	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps XSAVE_XMM + 16*\n(%rax), %xmm\n
	vinsertf128 $1, XSAVE_YMM + 16*\n(%rax), %ymm\n, %ymm\n
	.endr
3:
resume_general:
	mov BT_CORE(%rsp), %rcx
	mov 8*10(%rcx), %rax
	mov 8*11(%rcx), %rdx
	mov 8*15(%rcx), %rbx
	mov %rax, BT_SPILL(%rsp)
	mov %rdx, BT_SPILL + 8(%rsp)
	mov %rbx, BT_SPILL + 16(%rsp)
	movzwl BT_AFLAGS(%rsp), %eax
	addb $127, %al
	sahf
	mov 8*0(%rcx), %rax
	mov 8*1(%rcx), %r10
	mov 8*2(%rcx), %rdx
	mov 8*3(%rcx), %rbx
	mov 8*4(%rcx), %r11
	mov 8*5(%rcx), %rbp
	mov 8*6(%rcx), %rsi
	mov 8*7(%rcx), %rdi
	mov 8*8(%rcx), %r8
	mov 8*9(%rcx), %r9
	mov 8*12(%rcx), %r12
	mov 8*13(%rcx), %r13
	mov 8*14(%rcx), %r14
	mov BT_ADDRESS(%rsp), %r15 /* where a jump goes to, if it is one */
	jmp *BT_TARGET(%rsp)

resume_quick:
	mov BT_RSP(%rbx), %rsp
	mov %rax, BT_TARGET(%rsp)
	jmp resume_general
	.size bt_enter, . - bt_enter

.macro ENTRY name, function
	.globl \name
	.type \name, @function
	.p2align 4
\name:
	mov %r15, BT_ADDRESS(%rsp)
	lea \function(%rip), %r15
	jmp leave
	.size \name, . - \name
.endm

	ENTRY bt_exec_entry, bt_c_exec
	ENTRY bt_miss_entry, bt_c_miss
	ENTRY bt_segv_entry, bt_c_segv
	ENTRY bt_link_entry, bt_c_link
	ENTRY bt_poll_entry, bt_c_poll
	ENTRY bt_fpu_entry, bt_c_fpu
	ENTRY bt_hot_entry, bt_c_hot

/* Guest registers but vectors, and flags, go to where C code looks for them. R15: the C function, ECX: its second argument. */
.macro SAVE
	mov %r15, BT_TARGET(%rsp)
	mov %rcx, BT_ARGUMENT(%rsp)
	mov BT_CORE(%rsp), %r15
	mov %rax, 8*0(%r15)
	mov %r10, 8*1(%r15)
	mov %rdx, 8*2(%r15)
	mov %rbx, 8*3(%r15)
	mov %r11, 8*4(%r15)
	mov %rbp, 8*5(%r15)
	mov %rsi, 8*6(%r15)
	mov %rdi, 8*7(%r15)
	mov %r8, 8*8(%r15)
	mov %r9, 8*9(%r15)
	mov %r12, 8*12(%r15)
	mov %r13, 8*13(%r15)
	mov %r14, 8*14(%r15)
	lahf
	seto %al
	mov %ax, BT_AFLAGS(%rsp)
	mov BT_SPILL(%rsp), %rax
	mov BT_SPILL + 8(%rsp), %rcx
	mov BT_SPILL + 16(%rsp), %rdx
	mov %rax, 8*10(%r15)
	mov %rcx, 8*11(%r15)
	mov %rdx, 8*15(%r15)
.endm

/* First what leaves vector registers alone; if that does not do it, the other function. */
.macro QUICK name, quick, function
	.globl \name
	.type \name, @function
	.p2align 4
\name:
	mov %r15, BT_ADDRESS(%rsp)
	lea \function(%rip), %r15
	SAVE
	mov %rsp, %rbx
	lea -BT_STATE_SIZE(%rsp), %rdi
	mov BT_ARGUMENT(%rsp), %esi
	mov BT_C_STACK(%rsp), %rsp
	call \quick
	test %rax, %rax
	jnz resume_quick
	mov %rbx, %rsp
	jmp leave_vectors
	.size \name, . - \name
.endm
	QUICK bt_quick_entry, bt_quick, bt_c_exec
	QUICK bt_unknown_entry, bt_quick_dispatch, bt_c_dispatch

/* The first jump table has nothing for the address in R15, or something else: the second one. That is for what is in R15, or goes on to bt_unknown_entry. */
	.globl bt_dispatch_entry
	.type bt_dispatch_entry, @function
	.p2align 4
bt_dispatch_entry:
	mov BT_SUPERVISOR(%rsp), %rcx
	jrcxz 1f
	mov $0, %ecx
	crc32q %r15, %rcx
	pext BT_SECOND_MASK(%rsp), %rcx, %rcx
	jmp *BT_SECONDS + 8 * (1 << BT_SECOND_BITS)(%rsp,%rcx,8)
1:	mov $0, %ecx
	crc32q %r15, %rcx
	pext BT_SECOND_MASK(%rsp), %rcx, %rcx
	jmp *BT_SECONDS(%rsp,%rcx,8)
	.size bt_dispatch_entry, . - bt_dispatch_entry

/* A return to the address in R15 went where another one was meant: by the first jump table, as any jump. */
	.globl bt_astray_entry
	.type bt_astray_entry, @function
	.p2align 4
bt_astray_entry:
	mov BT_ASTRAYS(%rsp), %rcx
	lea 1(%rcx), %rcx
	mov %rcx, BT_ASTRAYS(%rsp)
	mov BT_SUPERVISOR(%rsp), %rcx
	jrcxz 1f
	mov $0, %ecx
	crc32q %r15, %rcx
	movzwl %cx, %ecx
	jmp *BT_JUMPS + 8 * (1 << BT_JUMP_BITS)(%rsp,%rcx,8)
1:	mov $0, %ecx
	crc32q %r15, %rcx
	movzwl %cx, %ecx
	jmp *BT_JUMPS(%rsp,%rcx,8)
	.size bt_astray_entry, . - bt_astray_entry

	.p2align 4
leave:
	SAVE
leave_vectors:
	mov BT_XSAVE(%rsp), %rax
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps %xmm\n, XSAVE_XMM + 16*\n(%rax)
	.endr
	cmpq $0, BT_AVX(%rsp)
	je 1f
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vextractf128 $1, %ymm\n, XSAVE_YMM + 16*\n(%rax)
	.endr
	vzeroupper
1:	mov %rsp, %rbx
	lea -BT_STATE_SIZE(%rsp), %rdi
	mov BT_ARGUMENT(%rsp), %esi
	mov BT_TARGET(%rsp), %rax
	mov BT_C_STACK(%rbx), %rsp
	call *%rax
	test %rax, %rax
	jnz resume
	add $8, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	ret

/* Called from the out-of-line half of an access whose table entry is empty or whose address, in R15, is not aligned. RCX: the
 * delta, or 0: a miss, or an access that crosses the page. No flags are touched. */
.macro UNALIGNED size, low
	.globl bt_unaligned\size
	.type bt_unaligned\size, @function
	.p2align 4
bt_unaligned\size:
	pext \low + 8(%rsp), %r15, %rcx
	jrcxz 1f
	pext BT_OFFSET_MASK + 8(%rsp), %r15, %rcx
	lea \size - 1(%rcx), %rcx
	pext BT_CROSS_MASK + 8(%rsp), %rcx, %rcx
	jrcxz 2f
	mov $0, %ecx
1:	ret
2:	pext BT_PAGE_MASK + 8(%rsp), %r15, %rcx
	mov 8(%rsp,%rcx,8), %rcx
	ret
	.size bt_unaligned\size, . - bt_unaligned\size
.endm
	UNALIGNED 2, BT_LOW_MASK
	UNALIGNED 4, BT_LOW_MASK + 8
	UNALIGNED 8, BT_LOW_MASK + 16
	UNALIGNED 16, BT_LOW_MASK16

	.section .note.GNU-stack, "", @progbits
