/* SPDX-License-Identifier: MIT */
/* A firmware of our own, from the reset vector on: shadow RAM as a BIOS uses it, that a switch counts from the
 * next instruction on, SMRAM, and a reset that finds the ROM again. 82441FX datasheet, section 3.2.18 (PAM),
 * 3.2.21 (SMRAM). Says what holds on port E9h. */
	.code16

PAM0 = 0x59
PAM1 = 0x5a
SMRAM = 0x72
BUS = 0x00                     /* PAM: reads and writes go to the bus, so reads to the ROM */
READ = 0x10                    /* of PAM0: reads go to RAM */
WRITE = 0x20
CONSOLE = 0xe9
EXIT = 0xf4
CMOS = 0x70
PORT_92 = 0x92
KEYBOARD = 0x60                /* data; + 4: command */
PHASE = 0x50                   /* CMOS byte: 0 after power on, 1 after the reset that we ask for */
FLAT = 8

/* A byte into a register of the host bridge; \at is a constant. AX, DX are lost. */
.macro bridge at, value
	movl	$0x80000000 | (\at & 0xfc), %eax
	movw	$0xcf8, %dx
	outl	%eax, %dx
	movw	$0xcfc + (\at & 3), %dx
	movb	$\value, %al
	outb	%al, %dx
.endm

/* One result, by the flags: \condition is a jump. */
.macro check condition, name
	\condition 8f
	movw	$7f, %si
	call	print
	jmp	fail
8:	movw	$9f, %si
	call	print
	jmp	6f
7:	.asciz	"not ok \name\n"
9:	.asciz	"ok \name\n"
6:
.endm

	.globl	start
start:
	cli
	cld
	movw	%cs, %ax
	movw	%ax, %ds
	movw	%ax, %es
	xorw	%ax, %ax
	movw	%ax, %ss
	movw	$0x7000, %sp
	movb	$PHASE, %al
	outb	%al, $CMOS
	inb	$CMOS + 1, %al
	testb	%al, %al
	jnz	after_reset

	movb	$0x77, variable
	cmpb	$0x55, variable
	check	je, "ROM is not written"

	/* The copy: read from ROM, written to RAM, in one segment. */
	bridge	PAM0, WRITE
	xorw	%si, %si
	xorw	%di, %di
	movw	$0x4000, %cx
	rep movsl
	cmpb	$0x55, variable
	check	je, "while RAM is written, ROM is read"
	incb	variable               /* reads 55h from ROM, writes 56h to RAM */
	cmpb	$0x55, variable
	check	je, "an instruction that reads and writes does both at the right place"
	addb	$1, variable
	movw	$variable, %di
	movb	$0x56, %al
	stosb
	bridge	PAM0, READ + WRITE
	cmpb	$0x56, variable
	check	je, "RAM has what was written"
	lock incb variable
	cmpb	$0x57, variable
	check	je, "RAM is read and written"
	bridge	PAM0, READ
	movb	$0, variable
	cmpb	$0x57, variable
	check	je, "RAM is read, and protected"

	/* RAM has another instruction than ROM behind the switch, on one straight line. */
	bridge	PAM0, READ + WRITE
	movb	$2, to_rom + 1
	movb	$4, to_ram + 1
	bridge	PAM0, BUS
to_rom:	movb	$1, %bl                /* 2 in RAM */
	bridge	PAM0, READ + WRITE
to_ram:	movb	$3, %bh                /* 4 in RAM */
	cmpw	$0x0401, %bx
	check	je, "a switch counts from the next instruction on"
	call	string_switch
	check	je, "also when a string instruction makes it"

	/* The same page again, many times: what was decoded of one kind is not run as the other. */
	movw	$300, %cx
	xorw	%bp, %bp
again:	bridge	PAM0, BUS
	call	which
	bridge	PAM0, READ + WRITE
	movb	$10, which + 2
	call	which
	loop	again
	cmpw	$300 * 11, %bp
	check	je, "and three hundred times"

	/* A20: ES:10h is 1 MiB, DS:0 is 0. */
	pushw	%ds
	movw	$0xffff, %ax
	movw	%ax, %es
	xorw	%ax, %ax
	movw	%ax, %ds
	movl	$0x11111111, 0x500
	movl	$0x22222222, %es:0x510
	cmpl	$0x11111111, 0x500
	movb	$0x00, %al
	outb	%al, $PORT_92
	jne	a20_bad
	cmpl	$0x11111111, %es:0x510
	jne	a20_bad
	movl	$0x33333333, %es:0x510
	lock incb 0x501
	cmpl	$0x33333433, 0x500
	jne	a20_bad
	cmpl	$0x33333433, %es:0x510
	jne	a20_bad
	movb	$0xd1, %al             /* the keyboard controller opens the gate */
	outb	%al, $KEYBOARD + 4
	movb	$0xdf, %al
	outb	%al, $KEYBOARD
	cmpl	$0x22222222, %es:0x510
	jne	a20_bad
	movb	$0xd1, %al             /* and closes it */
	outb	%al, $KEYBOARD + 4
	movb	$0xdd, %al
	outb	%al, $KEYBOARD
	cmpl	$0x33333433, %es:0x510
	jne	a20_bad
	movb	$0x02, %al
	outb	%al, $PORT_92
	cmpl	$0x22222222, %es:0x510
a20_bad:
	popw	%ds
	check	je, "with A20 off, memory wraps at 1 MiB"

	/* Code where a card's ROM would be. */
	movw	$0xc000, %ax
	movw	%ax, %es
	cmpb	$0xff, %es:0
	check	je, "there is no card"
	bridge	PAM1, 0x03
	movl	$0xcb1234b8, %es:0     /* mov $0x1234, %ax; lret */
	lcall	$0xc000, $0
	cmpw	$0x1234, %ax
	check	je, "code runs at C0000h"
	bridge	PAM1, BUS
	cmpb	$0xff, %es:0
	check	je, "and is gone"

	movw	$0xa000, %ax
	movw	%ax, %es
	movb	$0x66, %es:0
	bridge	SMRAM, 0x4a
	movb	$0x67, %es:0
	bridge	SMRAM, 0x0a
	cmpb	$0x67, %es:0
	check	jne, "SMRAM closes"
	bridge	SMRAM, 0x4a
	cmpb	$0x67, %es:0
	check	je, "SMRAM opens"
	bridge	SMRAM, 0x02

	/* The ROM at its own place, through a segment that keeps its limit when protected mode is left. */
	lgdtl	gdt_pointer
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	movw	$FLAT, %bx
	movw	%bx, %fs
	andb	$0xfe, %al
	movl	%eax, %cr0
	movl	$0xffff0000 + variable, %ebx
	movb	$0, %fs:(%ebx)
	cmpb	$0x55, %fs:(%ebx)
	check	je, "the ROM below 4 GiB"
	movl	$0xf0000 + variable, %ebx
	movb	$0x31, %fs:(%ebx)
	cmpb	$0x31, variable
	check	je, "and its shadow below 1 MiB"

	/* RAM says at the reset vector that this fails; ROM does not. */
	movw	$0xf000, %ax
	movw	%ax, %es
	movb	$0xe9, %es:0xfff0
	movw	$fail - 0xfff3, %es:0xfff1
	movb	$PHASE, %al
	outb	%al, $CMOS
	movb	$1, %al
	outb	%al, $CMOS + 1
	movw	$0xcf9, %dx
	movb	$0x02, %al
	outb	%al, %dx
	movb	$0x06, %al
	outb	%al, %dx
1:	hlt
	jmp	1b

after_reset:
	movb	$0x77, variable
	cmpb	$0x55, variable
	check	je, "after a reset there is the ROM"
	bridge	PAM0, READ
	cmpb	$0x31, variable
	check	je, "and RAM behind it as it was"
	xorb	%al, %al
	outb	%al, $EXIT
1:	hlt
	jmp	1b

fail:	movb	$1, %al
	outb	%al, $EXIT
1:	hlt
	jmp	1b

/* OUTSB with a count: the second byte is read through the map that the first one made. ZF: it was. */
string_switch:
	movb	$READ, switches + 1     /* in RAM; ROM says to read and write it */
	bridge	PAM0, READ + WRITE
	movw	$switches, %si
	movw	$2, %cx
	rep outsb                       /* the bus; then what ROM has: all to RAM */
	movw	$0xcfd, %dx
	inb	%dx, %al
	cmpb	$READ + WRITE, %al
	ret

which:	addw	$1, %bp                 /* 10 in RAM */
	ret

print:	movb	%cs:(%si), %al
	incw	%si
	testb	%al, %al
	jz	1f
	outb	%al, $CONSOLE
	jmp	print
1:	ret

variable:
	.byte	0x55
switches:
	.byte	BUS, READ + WRITE
	.balign	8
gdt:	.quad	0, 0x00cf93000000ffff
gdt_pointer:
	.word	. - gdt - 1
	.long	0xf0000 + gdt

	.section .reset, "ax"
	.byte	0xea                    /* ljmp */
	.word	start, 0xf000
	.fill	11, 1, 0xff
