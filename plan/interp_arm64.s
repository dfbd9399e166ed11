#include "textflag.h"

// The interpreter of a plan's image; see interp_amd64.s.
//
//	R19  current op
//	R20  256 result words on the stack, then the scratch buffer
//	R21  number of the current op
#define ARG(i, reg) \
	MOVD	(8+8*i)(R19), reg; \
	MOVBU	(56+i)(R19), R9; \
	LSL	$3, R9, R10; \
	ADD	R20, R10, R10; \
	MOVD	(R10), R10; \
	CMP	$0, R9; \
	CSEL	NE, R10, reg, reg

TEXT ·interp(SB),NOSPLIT|NOFRAME,$0-0
	MOVD	RSP, R20
	SUB	$8192, R20, R20
	AND	$~63, R20, R20
	MOVD	R20, RSP
	MOVD	$3, R9
	MOVD	R9, (255*8)(R20)
	ADD	$(256*8), R20, R9
	MOVD	R9, (254*8)(R20)
	MOVD	$0x400000, R19
	MOVD	$0, R21
loop:
	ARG(0, R0)
	ARG(1, R1)
	ARG(2, R2)
	ARG(3, R3)
	ARG(4, R4)
	ARG(5, R5)
	MOVWU	0(R19), R8
	MOVD	$0xff00, R9
	CMP	R9, R8
	BEQ	check
	MOVD	$0xff01, R9
	CMP	R9, R8
	BEQ	reap
	SVC
	CMN	$4095, R0
	BCS	failed
	MOVBU	5(R19), R9
	LSL	$3, R9, R9
	ADD	R20, R9, R9
	MOVD	R0, (R9)
	MOVBU	4(R19), R9
	TBNZ	$0, R9, fork
	TBNZ	$2, R9, skip
	TBZ	$3, R9, next
	CBNZ	R0, skip
next:
	ADD	$72, R19, R19
	ADD	$1, R21, R21
	B	loop
skip:
	MOVHU	6(R19), R9
	ADD	R9, R21, R21
	MOVD	$72, R10
	MUL	R10, R9, R9
	ADD	R9, R19, R19
	B	next
failed:
	NEG	R0, R0
	CMP	$4, R0	// EINTR
	BEQ	loop
	MOVHU	64(R19), R9
	CMP	R9, R0
	BEQ	accepted
	MOVHU	66(R19), R9
	CMP	R9, R0
	BEQ	accepted
	MOVHU	68(R19), R9
	CMP	R9, R0
	BEQ	accepted
	MOVHU	70(R19), R9
	CMP	R9, R0
	BEQ	accepted
report:
	ORR	$(1<<32), R21, R21	// failureBit: not a pid
	MOVD	R21, (256*8)(R20)
	MOVD	R0, (257*8)(R20)
	MOVD	(255*8)(R20), R0
	ADD	$(256*8), R20, R1
	MOVD	$16, R2
	MOVD	$64, R8	// write
	SVC
	MOVD	$255, R0
	MOVD	$94, R8	// exit_group
	SVC
accepted:
	MOVBU	4(R19), R9
	TBNZ	$1, R9, skip
	B	next
fork:
	CBZ	R0, next
	MOVD	R0, (256*8)(R20)
	MOVD	(255*8)(R20), R0
	ADD	$(256*8), R20, R1
	MOVD	$8, R2
	MOVD	$64, R8	// write
	SVC
	MOVD	$0, R0
	MOVD	$94, R8	// exit_group
	SVC
check:
	ADD	R1, R0, R0
	MOVD	(R0), R0
	AND	R2, R0, R0
	CMP	R3, R0
	CSET	EQ, R9
	CMP	R5, R9
	BEQ	next
	MOVD	R4, R0
	B	report
reap:
	MOVD	R0, R22
	MOVD	R1, R23
wait:
	MOVD	R23, R0
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$137, R8	// rt_sigtimedwait
	SVC
	CMP	$17, R0	// SIGCHLD
	BEQ	collect
	CMP	$0, R0
	BLE	wait
	MOVD	R0, R1
	MOVD	R22, R0
	MOVD	$129, R8	// kill
	SVC
	B	wait
collect:
	MOVD	$-1, R0
	ADD	$(256*8), R20, R1
	MOVD	$1, R2	// WNOHANG
	MOVD	$0, R3
	MOVD	$260, R8	// wait4
	SVC
	CMP	$0, R0
	BLE	wait
	CMP	R22, R0
	BNE	collect
	MOVWU	(256*8)(R20), R0
	AND	$127, R0, R9
	CBZ	R9, exited
	ADD	$128, R9, R0
	B	exit
exited:
	LSR	$8, R0, R0
	AND	$255, R0, R0
exit:
	MOVD	$94, R8	// exit_group
	SVC
	BRK	$0x3c5a	// end mark

DATA ·interpAddr(SB)/8, $·interp(SB)
GLOBL ·interpAddr(SB), RODATA, $8
