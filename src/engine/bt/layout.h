/* SPDX-License-Identifier: MIT */
/* Where translated code finds things: offsets from RSP, which points to struct bt_state while it runs. Shared by C and assembly;
 * state.c checks each against the struct. */
#pragma once

/* Within reach of an 8-bit displacement: what hot code uses. */
#define BT_RUN_MASK 0
#define BT_COUNT 8
#define BT_PAGE_MASK 16      /* PEXT masks: page number and low 0, 1, 2, 3 bits, see table.c */
#define BT_SPILL 48          /* the three guest registers that have no host register */
#define BT_FS_BASE 72
#define BT_GS_BASE 80
#define BT_JUMP_MASK 88
#define BT_EXEC 96           /* entries of enter.S */
#define BT_MISS 104
#define BT_DISPATCH 112
#define BT_POLL 120
/* Farther away */
#define BT_LINK 128
#define BT_UNALIGNED 136     /* for 2, 4, 8 bytes */
#define BT_LOW_MASK 160      /* PEXT masks of the low 1, 2, 3 bits */
#define BT_OFFSET_MASK 184   /* the low 12 bits */
#define BT_CROSS_MASK 192    /* bit 12 */
#define BT_TARGET 200        /* where a resume goes */
#define BT_ARGUMENT 208      /* RCX as it was when code left */
#define BT_ADDRESS 216       /* R15 as it was: a linear address, or a jump's target */
#define BT_SITE 224          /* the instruction that last made an indirect jump */
#define BT_SAVED 232         /* a value for which there is no register */
#define BT_TABLE 240         /* base of the delta table for the present rights */
#define BT_C_STACK 248
#define BT_CORE 256
#define BT_XSAVE 264
#define BT_MXCSR 272         /* the guest's, to be loaded; next to it: whether it is in the processor */
#define BT_MXCSR_LIVE 276
#define BT_AVX 280           /* the upper halves are the guest's too */
#define BT_AFLAGS 288         /* arithmetic flags in the form of x86_core.aflags */
#define BT_IF 296            /* RFLAGS.IF and AC, in their places */
#define BT_AC 304
#define BT_RFLAGS 312        /* RFLAGS as PUSHF stores it, without these and the arithmetic flags */
#define BT_ARITH_MASK 320
#define BT_NO_EVENT 328      /* 0: an interrupt or NMI waits */
#define BT_TABLES 336        /* what BT_TABLE is with AC clear, and set */
#define BT_FPU 352           /* entry of enter.S */
#define BT_FPU_LIVE 360      /* the guest's x87 and MMX state is in the processor */
#define BT_FPU_LAST 368      /* the x87 instruction that FIP, FOP and FDP tell of, and where its operand was */
#define BT_FPU_OPERAND 376
#define BT_PAGE_MASK16 384   /* as BT_PAGE_MASK, for 16 bytes and bits 46 to 12: user code only */
#define BT_LOW_MASK16 392
#define BT_UNALIGNED16 400
#define BT_FPU_LAST_MEMORY 408 /* the last of them that had an operand in memory */
#define BT_JUMPS 448         /* host addresses by low bits of RIP, user code; then supervisor code */

#define BT_JUMP_BITS 14
