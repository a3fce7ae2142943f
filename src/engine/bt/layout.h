/* SPDX-License-Identifier: MIT */
/* Where translated code finds things: offsets from RSP, which points behind struct bt_state while it runs, to the delta table that begins there.
 * Shared by C and assembly; bt.c checks each against the struct. */
#pragma once

#define BT_STATE_SIZE 0x144000
#define BT_JUMPS (-0x144000) /* host addresses by a hash of RIP, user code; then supervisor code */
#define BT_SECONDS (-0x44000) /* the same by another hash, of addresses whose place there is taken */
#define BT_RETURNS (-0x4000)  /* host addresses behind calls by a hash of RSP, user code; then supervisor code */
#define BT_RETURN_RIPS (-0x2000) /* and the guest's return addresses, of code for any address */

/* Farther away */
#define BT_OVERWRITTEN (-2920) /* what stood where an indirect call has pushed its return address, 64-bit code */
#define BT_RETURN_MASKS (-2912) /* PEXT masks of RSP: the index in BT_RETURNS, 64-bit and other code */
#define BT_ASTRAY (-2896)    /* entry of enter.S; and how often it was gone to */
#define BT_ASTRAYS (-2888)
#define BT_SECOND_MASK (-2880) /* PEXT mask of a CRC32: the index in BT_SECONDS */
#define BT_SUPERVISOR (-2872) /* code is the supervisor's */
#define BT_UNKNOWN (-2864)   /* entry of enter.S */
#define BT_POPF_MASK (-2856) /* flags that POPF sets and that are not arithmetic */
#define BT_NEAR (-2848)      /* by bits 15 to 8 of an address, for the last 0, 1, ... 8 times 256 bytes of a page: 0, if it is among them */
#define BT_PASSES (-544)     /* how often a loop with streams goes round: so many times several rounds, then so many */
#define BT_ROUNDS (-536)
#define BT_GROUP (-528)      /* host addresses of groups: group.c */
#define BT_FS_PLAIN (-464)   /* 32-bit code: 0: accesses through the segment are for exec functions */
#define BT_GS_PLAIN (-456)
#define BT_COUNT (-448)
#define BT_QUICK (-440)      /* entry of enter.S */
#define BT_PAGE (-432)       /* linear address of the page that a block for any address runs at */
#define BT_FPU_PAGE (-424)   /* the same, when the instruction that FIP tells of ran */
#define BT_POLL (-416)
#define BT_UNALIGNED (-408)  /* for 2, 4, 8 bytes */
#define BT_LOW_MASK (-384)   /* PEXT masks of the low 1, 2, 3 bits */
#define BT_OFFSET_MASK (-360) /* the low 12 bits */
#define BT_CROSS_MASK (-352) /* bit 12 */
#define BT_TARGET (-344)     /* where a resume goes */
#define BT_ARGUMENT (-336)   /* RCX as it was when code left */
#define BT_ADDRESS (-328)    /* R15 as it was: a linear address, or a jump's target */
#define BT_SITE (-320)       /* the instruction that last made an indirect jump */
#define BT_SAVED (-312)      /* a value for which there is no register */
#define BT_RSP (-304)        /* what RSP is, for the present rights */
#define BT_C_STACK (-296)
#define BT_CORE (-288)
#define BT_XSAVE (-280)
#define BT_MXCSR (-272)      /* the guest's, to be loaded; next to it: whether it is in the processor */
#define BT_MXCSR_LIVE (-268)
#define BT_AVX (-264)        /* the upper halves are the guest's too */
#define BT_AFLAGS (-256)     /* arithmetic flags in the form of x86_core.aflags */
#define BT_IF (-248)         /* RFLAGS.IF and AC, in their places */
#define BT_AC (-240)
#define BT_RFLAGS (-232)     /* RFLAGS as PUSHF stores it, without these and the arithmetic flags */
#define BT_ARITH_MASK (-224)
#define BT_NO_EVENT (-216)   /* 0: an interrupt or NMI waits */
#define BT_RSPS (-208)       /* what BT_RSP is with AC clear, and set */
#define BT_FPU (-192)        /* entry of enter.S */
#define BT_FPU_LIVE (-184)   /* the guest's x87 and MMX state is in the processor */
#define BT_FPU_LAST (-176)   /* the x87 instruction that FIP, FOP and FDP tell of, and where its operand was */
#define BT_FPU_OPERAND (-168)
#define BT_PAGE_MASK16 (-160) /* as BT_PAGE_MASK, for 16 bytes and bits 46 to 12: user code only */
#define BT_LOW_MASK16 (-152)
#define BT_UNALIGNED16 (-144)
#define BT_FPU_LAST_MEMORY (-136) /* the last of them that had an operand in memory */

/* Within reach of an 8-bit displacement: what hot code uses. Between them and RSP is room for one return address. */
#define BT_RUN_MASK (-128)
#define BT_HOT (-120)        /* entry of enter.S */
#define BT_PAGE_MASK (-112)  /* PEXT masks: page number and low 0, 1, 2, 3 bits, see table.c */
#define BT_SPILL (-80)       /* the three guest registers that have no host register */
#define BT_FS_BASE (-56)
#define BT_GS_BASE (-48)
#define BT_LINK (-40)        /* entries of enter.S */
#define BT_EXEC (-32)
#define BT_MISS (-24)
#define BT_DISPATCH (-16)

#define BT_JUMP_BITS 16
#define BT_SECOND_BITS 14
#define BT_RETURN_BITS 9
