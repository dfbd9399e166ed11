package plan

import (
	"bytes"
	"unsafe"
)

var interpAddr uintptr // of the machine code in interp_*.s; never called from Go

// interpCode returns the machine code of the interpreter, in this program's text.
func interpCode() []byte {
	code := unsafe.Slice(*(**byte)(unsafe.Pointer(&interpAddr)), 2048)
	return code[:bytes.Index(code, []byte(interpEnd))]
}

// address returns where b is; whoever uses it keeps b alive.
func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
