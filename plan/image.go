package plan

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Where the parts of an image are loaded. The interpreters know planAddr.
const (
	codeAddr = 0x200000
	planAddr = 0x400000
	opSize   = 72
)

// layout writes the ops and their data for the address base.
func (p *Plan) layout(out []byte, base uint64) []byte {
	le := binary.LittleEndian
	data := base + uint64(len(p.steps)*opSize)
	for i := range p.steps {
		s := &p.steps[i]
		out = le.AppendUint32(out, s.nr)
		out = append(out, s.flags, s.keep)
		out = le.AppendUint16(out, s.skip)
		for j, a := range s.args {
			if s.ptr&(1<<j) != 0 {
				a += data
			}
			out = le.AppendUint64(out, a)
		}
		out = append(out, s.ref[:]...)
		out = append(out, 0, 0)
		for _, e := range s.ok {
			out = le.AppendUint16(out, e)
		}
	}
	at := len(out)
	out = append(out, p.data...)
	for _, off := range p.relocs {
		w := out[at+int(off):]
		le.PutUint64(w, le.Uint64(w)+data)
	}
	return out
}

// Image returns the plan as the smallest executable that runs it: one
// segment with the interpreter, one with the steps and their data, both read-only.
func (p *Plan) Image() ([]byte, error) {
	const headers = 64 + 3*56
	code := interpCode()
	size := len(p.steps)*opSize + len(p.data)
	if size > 64<<20 {
		return nil, fmt.Errorf("plan image: %d bytes are too many", size)
	}
	le := binary.LittleEndian
	out := make([]byte, elfAlign, elfAlign+size)
	copy(out, "\x7fELF\x02\x01\x01")
	le.PutUint16(out[16:], 2) // ET_EXEC
	le.PutUint16(out[18:], elfMachine)
	le.PutUint32(out[20:], 1)
	le.PutUint64(out[24:], codeAddr+headers)
	le.PutUint64(out[32:], 64)
	le.PutUint16(out[52:], 64)
	le.PutUint16(out[54:], 56)
	le.PutUint16(out[56:], 3)
	segment := func(i int, typ, flags uint32, off, addr, size uint64) {
		ph := out[64+i*56:]
		le.PutUint32(ph, typ)
		le.PutUint32(ph[4:], flags)
		for j, v := range []uint64{off, addr, addr, size, size, elfAlign} {
			le.PutUint64(ph[8+8*j:], v)
		}
	}
	segment(0, 1, 5, 0, codeAddr, uint64(headers+len(code)))
	segment(1, 1, 4, elfAlign, planAddr, uint64(size))
	segment(2, 0x6474e551, 6, 0, 0, 0) // PT_GNU_STACK: not executable
	copy(out[headers:], code)
	return p.layout(out, planAddr), nil
}

// Memfd returns the image in a sealed, executable memory file, which is
// close-on-exec.
func (p *Plan) Memfd() (*os.File, error) {
	image, err := p.Image()
	if err != nil {
		return nil, err
	}
	return SealedMemfd("plan", image)
}

// SealedMemfd returns a close-on-exec memory file with the given content,
// which may be executed and never changed again.
func SealedMemfd(name string, content []byte) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3 every memfd is executable
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("make memory file %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		f.Close()
		return nil, fmt.Errorf("write memory file: %w", err)
	}
	seals := unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal memory file %s: %w", name, err)
	}
	return f, nil
}
