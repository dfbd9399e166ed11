package plan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A Builder collects the steps of a plan. Its methods never fail; what cannot
// be expressed is remembered and returned by Plan.
type Builder struct {
	p       Plan
	free    []uint8 // slots whose descriptor was closed
	next    uint8   // lowest slot never used
	ids     int
	subject string
	strings map[string]uint32
	err     error
}

// NewBuilder returns an empty Builder.
func NewBuilder() *Builder {
	return &Builder{
		p: Plan{
			steps: make([]Step, 0, 512), data: make([]byte, 8, 8192), // offset 0 is nil
			phases: []string{""},
		},
		next: 1, strings: make(map[string]uint32, 64),
	}
}

// Plan returns the finished plan. The Builder must not be used after it.
func (b *Builder) Plan() (*Plan, error) {
	if b.err != nil {
		return nil, fmt.Errorf("build plan: %w", b.err)
	}
	if len(b.p.steps) == 0 {
		return nil, errors.New("build plan: no steps")
	}
	return &b.p, nil
}

// Phase names the part of the work that the following steps belong to.
func (b *Builder) Phase(name string) {
	b.p.phases = append(b.p.phases, name)
	b.subject = ""
	if len(b.p.phases) > 250 {
		b.fail(errors.New("too many phases"))
	}
}

// Subject says what the following steps are about, such as "mount proc on /proc".
func (b *Builder) Subject(s string) { b.subject = s }

// Len returns the number of steps so far.
func (b *Builder) Len() int { return len(b.p.steps) }

func (b *Builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Inherit adds a file that the process is started with. f may be nil; then
// whoever launches the plan supplies it.
func (b *Builder) Inherit(name string, f *os.File) FD {
	b.p.files, b.p.names = append(b.p.files, f), append(b.p.names, name)
	return FirstFile + FD(len(b.p.files)-1)
}

// A word is an argument of a system call.
type word struct {
	v   uint64
	ptr bool
	fd  bool
}

func num[T ~int | ~int32 | ~int64 | ~uint32 | ~uint64 | ~uintptr](v T) word {
	return word{v: uint64(v)}
}

func (f FD) word() word { return word{v: uint64(int64(f)), fd: true} }

// str stores a string with its terminating zero.
func (b *Builder) str(s string) word {
	if strings.IndexByte(s, 0) >= 0 {
		b.fail(fmt.Errorf("string %q holds a zero byte", s))
		return word{}
	}
	if off, ok := b.strings[s]; ok {
		return word{v: uint64(off), ptr: true}
	}
	off := uint32(len(b.p.data))
	b.p.data = append(append(b.p.data, s...), 0)
	b.strings[s] = off
	return word{v: uint64(off), ptr: true}
}

func (b *Builder) align() uint32 {
	for len(b.p.data)%8 != 0 {
		b.p.data = append(b.p.data, 0)
	}
	return uint32(len(b.p.data))
}

// bytes stores raw memory, aligned for any type.
func (b *Builder) bytes(p []byte) word {
	off := b.align()
	b.p.data = append(b.p.data, p...)
	return word{v: uint64(off), ptr: true}
}

// structure stores 64-bit words, some of them pointers.
func (b *Builder) structure(words ...word) word {
	off := b.align()
	for _, w := range words {
		if w.ptr && w.v != 0 {
			b.p.relocs = append(b.p.relocs, uint32(len(b.p.data)))
		}
		b.p.data = binary.NativeEndian.AppendUint64(b.p.data, w.v)
	}
	return word{v: uint64(off), ptr: true}
}

// strs stores a vector of strings, ended by a nil pointer.
func (b *Builder) strs(v []string) word {
	w := make([]word, 0, len(v)+1)
	for _, s := range v {
		w = append(w, b.str(s))
	}
	return b.structure(append(w, word{})...)
}

// A Call is a step just added, for what is said of it afterwards.
type Call struct {
	b *Builder
	i int
}

func (c Call) step() *Step { return &c.b.p.steps[c.i] }

// Accept lets errnos count as success. A step whose result is kept must then
// be followed by a skip, since there is no result. At most four.
func (c Call) Accept(errnos ...unix.Errno) Call {
	s := c.step()
	for _, e := range errnos {
		for i := range s.ok {
			if s.ok[i] == 0 {
				s.ok[i] = uint16(e)
				break
			}
			if i == len(s.ok)-1 {
				c.b.fail(errors.New("too many accepted errnos"))
			}
		}
	}
	return c
}

// SkipOnErrno ends a block begun at this step: an accepted errno jumps to the next step to be added.
func (c Call) SkipOnErrno() { c.skip(flagSkipErrno) }

// SkipOnSuccess makes success jump to the next step to be added.
func (c Call) SkipOnSuccess() { c.skip(flagSkipSuccess) }

// SkipOnNonzero makes a result other than 0 jump to the next step to be added.
func (c Call) SkipOnNonzero() { c.skip(flagSkipNonzero) }

func (c Call) skip(flag uint8) {
	s, n := c.step(), len(c.b.p.steps)-c.i-1
	if s.flags&(flagSkipErrno|flagSkipSuccess|flagSkipNonzero) != 0 && int(s.skip) != n {
		c.b.fail(errors.New("a step skips to two places"))
	}
	if n > 0xffff {
		c.b.fail(errors.New("skip too long"))
	}
	s.flags |= flag
	s.skip = uint16(n)
}

// call adds a system call.
func (b *Builder) call(nr uint32, args ...word) Call {
	s := Step{nr: nr, phase: uint8(len(b.p.phases) - 1), subject: b.subject}
	for i, a := range args {
		s.args[i] = a.v
		if a.ptr {
			s.ptr |= 1 << i
		}
		if a.fd {
			s.fdarg |= 1 << i
			if f := FD(int64(a.v)); f.isResult() {
				s.ref[i] = f.slot()
			}
		}
	}
	b.p.steps = append(b.p.steps, s)
	return Call{b, len(b.p.steps) - 1}
}

// result lets the call's result be used by later steps.
func (c Call) result() FD {
	b := c.b
	var slot uint8
	if n := len(b.free); n > 0 {
		slot, b.free = b.free[n-1], b.free[:n-1]
	} else if slot = b.next; slot < maxSlot {
		b.next++
	} else {
		b.fail(errors.New("too many open descriptors"))
	}
	b.ids++
	f := resultBit | FD(b.ids)<<8 | FD(slot)
	s := c.step()
	s.keep, s.result = slot, f
	return f
}

// again makes the call store its result where f already is: two ways to the same descriptor.
func (c Call) again(f FD) {
	s := c.step()
	s.keep, s.result = f.slot(), f
}

func (b *Builder) release(f FD) {
	if f.isResult() {
		b.free = append(b.free, f.slot())
	}
}

// scratch is the address of the scratch buffer.
func scratch() (w word) { return word{v: uint64(int64(resultBit | slotScratch)), fd: true} }
