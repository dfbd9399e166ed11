package plan

import (
	"golang.org/x/sys/unix"
)

// Openat opens path relative to dir.
func (b *Builder) Openat(dir FD, path string, flags int) (FD, Call) {
	c := b.call(unix.SYS_OPENAT, dir.word(), b.str(path), num(flags), num(0))
	return c.result(), c
}

// Openat2 opens path relative to dir as how and resolve say.
func (b *Builder) Openat2(dir FD, path string, flags, resolve uint64) (FD, Call) {
	c := b.openat2(dir, path, flags, resolve)
	return c.result(), c
}

// Openat2Again opens like Openat2 and stores the descriptor where f is: for a
// second attempt after the first was skipped over.
func (b *Builder) Openat2Again(f, dir FD, path string, flags, resolve uint64) Call {
	c := b.openat2(dir, path, flags, resolve)
	c.again(f)
	return c
}

// Openat2Create makes the file path, also where a link leads, and opens it.
func (b *Builder) Openat2Create(dir FD, path string, mode uint32, resolve uint64) FD {
	how := b.constant(unix.O_CREAT|unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, uint64(mode), resolve)
	return b.call(unix.SYS_OPENAT2, dir.word(), b.str(path), how, num(24)).result()
}

func (b *Builder) openat2(dir FD, path string, flags, resolve uint64) Call {
	how := b.constant(flags, 0, resolve)
	return b.call(unix.SYS_OPENAT2, dir.word(), b.str(path), how, num(24))
}

// constant stores words that hold no pointers, once for each value.
func (b *Builder) constant(v ...uint64) word {
	key := make([]byte, 1, 1+8*len(v)) // a leading zero byte: never equal to a string
	w := make([]word, len(v))
	for i, x := range v {
		key = append(key, byte(x), byte(x>>8), byte(x>>16), byte(x>>24), byte(x>>32), byte(x>>40), byte(x>>48), byte(x>>56))
		w[i].v = x
	}
	if off, ok := b.strings[string(key)]; ok {
		return word{v: uint64(off), ptr: true}
	}
	p := b.structure(w...)
	b.strings[string(key)] = uint32(p.v)
	return p
}

// Close closes f.
func (b *Builder) Close(f FD) Call {
	c := b.call(unix.SYS_CLOSE, f.word())
	b.release(f)
	return c
}

// Write writes data to f in one call.
func (b *Builder) Write(f FD, data string) Call {
	return b.call(unix.SYS_WRITE, f.word(), b.str(data), num(len(data)))
}

// WriteFile opens, writes and closes path.
func (b *Builder) WriteFile(dir FD, path, data string) {
	f, _ := b.Openat(dir, path, unix.O_WRONLY|unix.O_CLOEXEC)
	b.Write(f, data)
	b.Close(f)
}

// Mkdirat makes a directory.
func (b *Builder) Mkdirat(dir FD, path string, mode uint32) Call {
	return b.call(unix.SYS_MKDIRAT, dir.word(), b.str(path), num(mode))
}

// Mknodat makes a file of any kind; mode holds the kind too.
func (b *Builder) Mknodat(dir FD, path string, mode uint32, dev uint64) Call {
	return b.call(unix.SYS_MKNODAT, dir.word(), b.str(path), num(mode), num(dev))
}

// Symlinkat makes path a symbolic link to target.
func (b *Builder) Symlinkat(target string, dir FD, path string) Call {
	return b.call(unix.SYS_SYMLINKAT, b.str(target), dir.word(), b.str(path))
}

// Fchownat changes the owner of path itself, not of what a link points to.
func (b *Builder) Fchownat(dir FD, path string, uid, gid uint32) Call {
	return b.call(unix.SYS_FCHOWNAT, dir.word(), b.str(path), num(uid), num(gid), num(unix.AT_SYMLINK_NOFOLLOW))
}

// Fsetxattr sets an attribute of what f is open on.
func (b *Builder) Fsetxattr(f FD, name, value string) Call {
	return b.call(unix.SYS_FSETXATTR, f.word(), b.str(name), b.str(value), num(len(value)), num(0))
}

// Fchown changes the owner of what f is open on.
func (b *Builder) Fchown(f FD, uid, gid uint32) Call {
	return b.call(unix.SYS_FCHOWN, f.word(), num(uid), num(gid))
}

// Dup3 makes to, a known number, a copy of f; cloexec marks it close-on-exec.
func (b *Builder) Dup3(f, to FD, cloexec bool) Call {
	flags := 0
	if cloexec {
		flags = unix.O_CLOEXEC
	}
	return b.call(unix.SYS_DUP3, f.word(), to.word(), num(flags))
}

// Cloexec marks f close-on-exec.
func (b *Builder) Cloexec(f FD) Call {
	return b.call(unix.SYS_FCNTL, f.word(), num(unix.F_SETFD), num(unix.FD_CLOEXEC))
}

// MoveReport moves the report pipe to the descriptor to.
func (b *Builder) MoveReport(to FD) {
	c := b.Dup3(ReportFD, to, true)
	c.step().keep = slotReport
}

// CloseRange closes the descriptors from first to last (inclusive; ^uint32(0) for all).
func (b *Builder) CloseRange(first, last uint32) Call {
	return b.call(unix.SYS_CLOSE_RANGE, num(first), num(last), num(0))
}

// CloexecRange marks the descriptors from first to last close-on-exec.
func (b *Builder) CloexecRange(first, last uint32) Call {
	return b.call(unix.SYS_CLOSE_RANGE, num(first), num(last), num(unix.CLOSE_RANGE_CLOEXEC))
}

// Fchdir changes the working directory to f.
func (b *Builder) Fchdir(f FD) Call { return b.call(unix.SYS_FCHDIR, f.word()) }

// Chdir changes the working directory.
func (b *Builder) Chdir(path string) Call { return b.call(unix.SYS_CHDIR, b.str(path)) }

// Fstatfs writes what file system f is on to the scratch buffer; its first word is the type.
func (b *Builder) Fstatfs(f FD) Call { return b.call(unix.SYS_FSTATFS, f.word(), scratch()) }

// Fstat writes f's status to the scratch buffer.
func (b *Builder) Fstat(f FD) Call { return b.call(unix.SYS_FSTAT, f.word(), scratch()) }

// Deny fails with errno when the word at off of the scratch buffer, masked, equals value.
func (b *Builder) Deny(off int, mask, value uint64, errno unix.Errno) Call {
	return b.call(callCheck, scratch(), num(off), num(mask), num(value), num(int(errno)), num(0))
}

// Getcwd writes the working directory's path to the scratch buffer. One that
// cannot be reached from the root begins with "(unreachable)".
func (b *Builder) Getcwd() Call { return b.call(unix.SYS_GETCWD, scratch(), num(ScratchSize)) }

// Require fails with errno unless the word at off of the scratch buffer, masked, equals value.
func (b *Builder) Require(off int, mask, value uint64, errno unix.Errno) Call {
	return b.call(callCheck, scratch(), num(off), num(mask), num(value), num(int(errno)), num(1))
}

// Read reads up to n bytes to the scratch buffer.
func (b *Builder) Read(f FD, n int) Call {
	return b.call(unix.SYS_READ, f.word(), scratch(), num(n))
}

// Created tells the reader of the report pipe that the plan waits.
func (b *Builder) Created() Call {
	return b.call(unix.SYS_WRITE, word{v: uint64(int64(resultBit | slotReport)), fd: true}, b.constant(created, 0), num(16))
}

// SendFD sends the descriptor with the known number fd over a unix socket,
// with text as the message's bytes.
func (b *Builder) SendFD(socket, fd FD, text string) Call {
	return b.sendFD(socket, fd, b.structure(b.str(text), num(len(text))))
}

func (b *Builder) sendFD(socket, fd FD, iov word) Call {
	if fd.isResult() {
		panic("bug: SendFD of a result: its number is not known")
	}
	cmsg := b.structure(num(20), num(uint64(unix.SOL_SOCKET)|unix.SCM_RIGHTS<<32), num(uint64(uint32(fd))))
	msg := b.structure(num(0), num(0), iov, num(1), cmsg, num(24), num(0))
	return b.call(unix.SYS_SENDMSG, socket.word(), msg, num(0))
}

// mapAddr is where a plan maps a file: an address that no image, no stack and no Go heap is at.
const mapAddr = 0x70000000

// MapFile maps the first size bytes of f, to be sent by SendFDMapped: what whoever
// launched the plan has written to it until then.
func (b *Builder) MapFile(f FD, size int) Call {
	return b.call(unix.SYS_MMAP, num(mapAddr), num(size), num(unix.PROT_READ), num(unix.MAP_SHARED|unix.MAP_FIXED_NOREPLACE), f.word(), num(0))
}

// SendFDMapped is SendFD with the size bytes that MapFile mapped.
func (b *Builder) SendFDMapped(socket, fd FD, size int) Call {
	return b.sendFD(socket, fd, b.structure(num(mapAddr), num(size)))
}

// PipeSize asks for the size of the pipe f; of anything else it fails with EBADF.
func (b *Builder) PipeSize(f FD) Call {
	return b.call(unix.SYS_FCNTL, f.word(), num(unix.F_GETPIPE_SZ), num(0))
}

// Ioctl does an ioctl whose argument is a number.
func (b *Builder) Ioctl(f FD, req uint, arg int) Call {
	return b.call(unix.SYS_IOCTL, f.word(), num(uint64(req)), num(arg))
}

// IoctlFD does an ioctl that returns a descriptor.
func (b *Builder) IoctlFD(f FD, req uint, arg int) (FD, Call) {
	c := b.Ioctl(f, req, arg)
	return c.result(), c
}

// IoctlData does an ioctl whose argument points to data.
func (b *Builder) IoctlData(f FD, req uint, data []byte) Call {
	return b.call(unix.SYS_IOCTL, f.word(), num(uint64(req)), b.bytes(data))
}

// Faccessat asks whether the process may use path as mode says (X_OK…).
func (b *Builder) Faccessat(dir FD, path string, mode uint32) Call {
	return b.call(unix.SYS_FACCESSAT2, dir.word(), b.str(path), num(mode), num(unix.AT_EACCESS))
}

// Socket makes a socket.
func (b *Builder) Socket(domain, typ, proto int) (FD, Call) {
	c := b.call(unix.SYS_SOCKET, num(domain), num(typ), num(proto))
	return c.result(), c
}
