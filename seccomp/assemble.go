package seccomp

import (
	"encoding/binary"
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// label is a place in the program, counted from its end.
type label int

// assembler builds a program backwards: cBPF only jumps forward, so every target exists before the jump to it.
type assembler struct {
	p    []unix.SockFilter // the last instruction first
	rets map[uint32]label
}

func (a *assembler) emit(code uint16, k uint32, t, f uint8) label {
	a.p = append(a.p, unix.SockFilter{Code: code, K: k, Jt: t, Jf: f})
	return label(len(a.p))
}

func (a *assembler) load(off uint32) label {
	return a.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, off, 0, 0)
}

func (a *assembler) and(k uint32) label { return a.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, k, 0, 0) }

// ret gives the label of an instruction that returns k.
func (a *assembler) ret(k uint32) label {
	if l, ok := a.rets[k]; ok {
		return l
	}
	l := a.emit(unix.BPF_RET|unix.BPF_K, k, 0, 0)
	a.rets[k] = l
	return l
}

// jump compares the accumulator with k and goes to t or f. Its offsets have 8 bits: farther targets are reached over a trampoline.
func (a *assembler) jump(op uint16, k uint32, t, f label) label {
	if t == f {
		return a.through(t)
	}
	t = a.near(t)
	f = a.near(f)
	return a.emit(unix.BPF_JMP|op|unix.BPF_K, k, uint8(len(a.p)-int(t)), uint8(len(a.p)-int(f)))
}

// near gives l or a trampoline to it that stays reachable after one more instruction.
func (a *assembler) near(l label) label {
	if d := len(a.p) - int(l); d > 253 {
		return a.emit(unix.BPF_JMP|unix.BPF_JA, uint32(d), 0, 0)
	}
	return l
}

// through makes l the next instruction: itself when it is the newest, else a jump.
func (a *assembler) through(l label) label {
	if d := len(a.p) - int(l); d > 0 {
		return a.emit(unix.BPF_JMP|unix.BPF_JA, uint32(d), 0, 0)
	}
	return l
}

// program turns the instructions round.
func (a *assembler) program() []unix.SockFilter {
	slices.Reverse(a.p)
	return a.p
}

// assemble writes the whole filter: tell the ABI, find the number, decide.
func (c *compiler) assemble(use []abi) ([]unix.SockFilter, error) {
	a := &assembler{p: make([]unix.SockFilter, 0, 1024), rets: map[uint32]label{}}
	foreign := a.ret(unix.SECCOMP_RET_KILL_PROCESS)
	hasX32 := slices.ContainsFunc(use, func(b abi) bool { return b.bit == x32Bit })
	next := foreign
	for i := len(use) - 1; i >= 0; i-- { // the native ABI is tested first, so written last
		b := &use[i]
		if b.bit == x32Bit {
			continue // a branch of amd64's
		}
		entry := c.search(a, b, c.perABI[i])
		if b.audit == unix.AUDIT_ARCH_X86_64 {
			x32 := a.ret(retENOSYS)
			if hasX32 {
				j := slices.IndexFunc(use, func(b abi) bool { return b.bit == x32Bit })
				// The tree before is amd64's and falls through to nothing: each path of it ends in a return.
				x32 = c.search(a, &use[j], c.perABI[j])
			}
			entry = a.jump(unix.BPF_JGE, x32Bit, x32, entry)
		}
		a.through(entry)
		entry = a.load(offNr)
		next = a.jump(unix.BPF_JEQ, b.audit, entry, next)
	}
	a.through(next)
	a.load(offArch)
	if len(a.p) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("program has %d instructions, the kernel takes %d", len(a.p), unix.BPF_MAXINSNS)
	}
	return a.program(), nil
}

// leaf is a range of numbers, from its first to the next leaf's, with one verdict.
type leaf struct {
	from uint32
	to   label
}

// search writes the tree over b's numbers; the accumulator holds the number at its entry.
func (c *compiler) search(a *assembler, b *abi, calls []call) label {
	def := a.ret(c.def)
	leaves := make([]leaf, 0, 2*len(calls)+2)
	add := func(from uint32, to label) {
		if n := len(leaves); n > 0 && leaves[n-1].from == from {
			leaves = leaves[:n-1]
		}
		if n := len(leaves); n > 0 && leaves[n-1].to == to {
			return
		}
		leaves = append(leaves, leaf{from, to})
	}
	add(b.bit, def)
	decided := map[string]label{}
	newest := uint32(0)
	for _, k := range calls {
		add(k.nr, c.decide(a, b, k.actions, def, decided))
		add(k.nr+1, def)
		if k.nr&^b.bit < 0xf0000 { // arm's private calls are not new ones
			newest = k.nr
		}
	}
	if !permissive(c.def) && newest > 0 {
		add(newest+1, a.ret(retENOSYS))
	}
	var tree func([]leaf) label
	tree = func(l []leaf) label {
		if len(l) == 1 {
			return l[0].to
		}
		m := len(l) / 2
		low := tree(l[:m])
		high := tree(l[m:])
		return a.jump(unix.BPF_JGE, l[m].from, high, low)
	}
	return tree(leaves)
}

// decide writes the chain of one call's actions; calls with the same chain share it.
func (c *compiler) decide(a *assembler, b *abi, actions []int32, def label, decided map[string]label) label {
	if first := &c.actions[actions[0]]; len(first.args) == 0 {
		return a.ret(first.ret)
	}
	key := make([]byte, 0, 64)
	for _, i := range actions {
		key = binary.LittleEndian.AppendUint32(key, uint32(i))
	}
	if l, ok := decided[string(key)]; ok {
		return l
	}
	otherwise := def
	end := len(actions)
	for i, n := range actions {
		if act := &c.actions[n]; len(act.args) == 0 { // nothing after an unconditional action matters
			otherwise, end = a.ret(act.ret), i
			break
		}
	}
	for i := end - 1; i >= 0; i-- {
		act := &c.actions[actions[i]]
		yes := a.ret(act.ret)
		for j := len(act.args) - 1; j >= 0; j-- {
			yes = a.condition(b, act.args[j], yes, otherwise)
		}
		otherwise = yes
	}
	decided[string(key)] = otherwise
	return otherwise
}

// condition writes the test of one argument.
func (a *assembler) condition(b *abi, arg specs.LinuxSeccompArg, t, f label) label {
	low, high := offArgs+8*uint32(arg.Index), offArgs+8*uint32(arg.Index)+4
	if b.big {
		low, high = high, low
	}
	v, w := arg.Value, arg.ValueTwo
	if b.narrow {
		// Profiles write -1 as 64 bits; a 32-bit program's register shows its low half only.
		v, w = unextend(v), unextend(w)
	}
	vl, vh := uint32(v), uint32(v>>32)
	switch arg.Op {
	case specs.OpEqualTo:
		return a.pair(low, high, vl, vh, t, f)
	case specs.OpNotEqual:
		return a.pair(low, high, vl, vh, f, t)
	case specs.OpMaskedEqual:
		return a.masked(low, high, v, w&v, t, f) // bits that are masked out are not compared, as with libseccomp
	case specs.OpGreaterThan:
		return a.ordered(low, high, unix.BPF_JGT, vl, vh, t, f)
	case specs.OpGreaterEqual:
		return a.ordered(low, high, unix.BPF_JGE, vl, vh, t, f)
	case specs.OpLessThan:
		return a.ordered(low, high, unix.BPF_JGE, vl, vh, f, t)
	default: // OpLessEqual: checkArg let nothing else through
		return a.ordered(low, high, unix.BPF_JGT, vl, vh, f, t)
	}
}

// pair goes to t when both halves are equal.
func (a *assembler) pair(low, high, vl, vh uint32, t, f label) label {
	a.jump(unix.BPF_JEQ, vl, t, f)
	l := a.load(low)
	a.jump(unix.BPF_JEQ, vh, l, f)
	return a.load(high)
}

// masked goes to t when (argument & mask) == v; a half that is masked out is not looked at.
func (a *assembler) masked(low, high uint32, mask, v uint64, t, f label) label {
	half := func(off, m, v uint32, t label) label {
		if m == 0 && v == 0 {
			return t
		}
		a.jump(unix.BPF_JEQ, v, t, f)
		if m != ^uint32(0) {
			a.and(m)
		}
		return a.load(off)
	}
	return half(high, uint32(mask>>32), uint32(v>>32), half(low, uint32(mask), uint32(v), t))
}

// ordered goes to t when argument op v, where op is BPF_JGT or BPF_JGE.
func (a *assembler) ordered(low, high uint32, op uint16, vl, vh uint32, t, f label) label {
	a.jump(op, vl, t, f)
	l := a.load(low)
	n := a.jump(unix.BPF_JEQ, vh, l, f)
	a.jump(unix.BPF_JGT, vh, t, n)
	return a.load(high)
}

// unextend takes the sign extension off a value meant for a 32-bit register.
func unextend(v uint64) uint64 {
	if v>>31 == 1<<33-1 {
		return v & 0xffffffff
	}
	return v
}
