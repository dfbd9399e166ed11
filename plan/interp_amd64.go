package plan

const (
	elfMachine = 62     // EM_X86_64
	elfAlign   = 0x1000 // the largest page size
	// interpEnd follows the interpreter's last instruction.
	interpEnd = "\xef\xcd\xab\x89\x67\x45\x23\x01"
)
