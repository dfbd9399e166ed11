#include "textflag.h"

// The interpreter of a plan's image. It runs as a process of its own, without
// Go: image.go copies its bytes out of this binary. It may not call, and may
// not refer to data; everything is relative to two registers.
//
//	BX   current op, 72 bytes: nr u32, flags u8, keep u8, skip u16, a [6]u64,
//	     ref [6]u8, pad u16, ok [4]u16; the first is at planAddr
//	R12  256 result words on the stack, then the scratch buffer
//	R15  number of the current op
//
// An argument whose ref is not 0 is replaced by that result.
#define ARG(i, reg) \
	MOVQ	(8+8*i)(BX), reg; \
	MOVBQZX	(56+i)(BX), R13; \
	MOVQ	(R12)(R13*8), R14; \
	TESTQ	R13, R13; \
	CMOVQNE	R14, reg

TEXT ·interp(SB),NOSPLIT|NOFRAME,$0-0
	MOVQ	SP, R12
	SUBQ	$8192, R12
	ANDQ	$~63, R12
	MOVQ	R12, SP
	MOVQ	$3, AX
	MOVQ	AX, (255*8)(R12)
	LEAQ	(256*8)(R12), AX
	MOVQ	AX, (254*8)(R12)
	MOVQ	$0x400000, BX
	XORQ	R15, R15
loop:
	ARG(0, DI)
	ARG(1, SI)
	ARG(2, DX)
	ARG(3, R10)
	ARG(4, R8)
	ARG(5, R9)
	MOVL	0(BX), AX
	CMPL	AX, $0xff00
	JEQ	check
	CMPL	AX, $0xff01
	JEQ	reap
	SYSCALL
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	MOVBQZX	5(BX), R13
	MOVQ	AX, (R12)(R13*8)
	MOVBQZX	4(BX), R13
	TESTQ	$1, R13
	JNE	fork
	TESTQ	$4, R13
	JNE	skip
	TESTQ	$8, R13
	JEQ	next
	TESTQ	AX, AX
	JNE	skip
next:
	ADDQ	$72, BX
	INCQ	R15
	JMP	loop
skip:
	MOVWQZX	6(BX), R13
	ADDQ	R13, R15
	IMULQ	$72, R13
	ADDQ	R13, BX
	JMP	next
failed:
	NEGQ	AX
	CMPQ	AX, $4	// EINTR
	JEQ	loop
	CMPW	64(BX), AX
	JEQ	accepted
	CMPW	66(BX), AX
	JEQ	accepted
	CMPW	68(BX), AX
	JEQ	accepted
	CMPW	70(BX), AX
	JEQ	accepted
report:
	BTSQ	$32, R15	// failureBit: not a pid
	MOVQ	R15, (256*8)(R12)
	MOVQ	AX, (257*8)(R12)
	MOVQ	$1, AX	// write
	MOVQ	(255*8)(R12), DI
	LEAQ	(256*8)(R12), SI
	MOVQ	$16, DX
	SYSCALL
	MOVQ	$231, AX	// exit_group
	MOVQ	$255, DI
	SYSCALL
accepted:
	MOVBQZX	4(BX), R13
	TESTQ	$2, R13
	JNE	skip
	JMP	next
fork:
	TESTQ	AX, AX
	JEQ	next
	MOVQ	AX, (256*8)(R12)
	MOVQ	$1, AX	// write
	MOVQ	(255*8)(R12), DI
	LEAQ	(256*8)(R12), SI
	MOVQ	$8, DX
	SYSCALL
	MOVQ	$231, AX	// exit_group
	XORQ	DI, DI
	SYSCALL

	// check: the word at DI+SI, masked by DX, against R10: fail with errno R8
	// when it is equal (R9 0) or different (R9 1).
check:
	MOVQ	(DI)(SI*1), AX
	ANDQ	DX, AX
	XORQ	R13, R13
	CMPQ	AX, R10
	SETEQ	R13
	CMPQ	R13, R9
	JEQ	next
	MOVQ	R8, AX
	JMP	report

	// reap: DI is the child, SI points to the set of all signals.
reap:
	MOVQ	DI, R13
	MOVQ	SI, R14
wait:
	MOVQ	R14, DI
	XORQ	SI, SI
	XORQ	DX, DX
	MOVQ	$8, R10
	MOVQ	$128, AX	// rt_sigtimedwait
	SYSCALL
	CMPQ	AX, $17	// SIGCHLD
	JEQ	collect
	TESTQ	AX, AX
	JLE	wait
	MOVQ	R13, DI
	MOVQ	AX, SI
	MOVQ	$62, AX	// kill
	SYSCALL
	JMP	wait
collect:
	MOVQ	$-1, DI
	LEAQ	(256*8)(R12), SI
	MOVQ	$1, DX	// WNOHANG
	XORQ	R10, R10
	MOVQ	$61, AX	// wait4
	SYSCALL
	TESTQ	AX, AX
	JLE	wait
	CMPQ	AX, R13
	JNE	collect
	MOVL	(256*8)(R12), DI
	MOVQ	DI, AX
	ANDQ	$127, AX
	JEQ	exited
	LEAQ	128(AX), DI
	JMP	exit
exited:
	SHRQ	$8, DI
	ANDQ	$255, DI
exit:
	MOVQ	$231, AX	// exit_group
	SYSCALL
	MOVQ	$0x0123456789abcdef, AX	// end mark

DATA ·interpAddr(SB)/8, $·interp(SB)
GLOBL ·interpAddr(SB), RODATA, $8
