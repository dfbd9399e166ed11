package plan

const (
	elfMachine = 183     // EM_AARCH64
	elfAlign   = 0x10000 // the largest page size
	// interpEnd is the brk instruction after the interpreter's last.
	interpEnd = "\x40\x8b\x27\xd4"
)
