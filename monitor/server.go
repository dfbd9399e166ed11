package monitor

import (
	"encoding/binary"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	chunk      = 64 << 10    // one read of output or input, at most a frame's
	bigPipe    = 1 << 20     // what a pipe holds whose writer fills it
	pieces     = 8           // reads of output in a row, at most
	maxPending = 1 << 20     // a lossless client may lag so far before the container waits
	maxLag     = 1 << 20     // any other client loses what it lags beyond this
	patience   = time.Second // how long the container waits for a client of FlagYields that takes nothing
	maxClients = 64
	lastWords  = 2000 // milliseconds that clients have to take what is left for them
)

// A server is the state of a running monitor.
type server struct {
	oomScore []byte // the monitor's own before it was made a late victim
	cfg      *Config
	log      *logWriter

	files []int // the plan and its files
	hold  int
	left  string // what a cleaner left to be removed, see sweep

	sync    int // tells Start what became of the plan
	report  int // the plan's own report
	said    []byte
	created bool // said to Start: the process waits

	console int    // the terminal's master arrives here
	master  int    // the terminal, which is also out[0] and stdin
	out     [2]int // standard output and error, or the terminal and -1
	full    [2]int // how often in a row a whole chunk was there
	stdin   int
	input   []byte // for the container, not yet taken
	eof     bool   // its input is to be closed once that is done

	listen  int
	clients []*client
	names   *nameServer // nil: the container asks nobody here
	notify  *notifier   // nil: it speaks to no service manager
	oom     *oomWatch   // nil: its group stays

	helper int // pid of the plan's first process, which only makes the container's
	pid    int
	pidfd  int
	exited bool
	code   int

	started time.Time

	polls []unix.PollFd
	buf   [chunk]byte
}

// loop runs until the container has exited and its output is read.
func (s *server) loop() error {
	for {
		timeout := s.names.wait(s.timeout())
		if s.exited && !s.blocked() {
			timeout = 0
		}
		s.watch()
		n, err := unix.Poll(s.polls, timeout)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		// A report not read to its end may say that there never was a program.
		if s.exited && s.report < 0 && (n == 0 || s.out[0] < 0 && s.out[1] < 0) {
			return nil
		}
		if err := s.handle(); err != nil {
			return err
		}
		s.names.expire()
	}
}

// timeout is how long to wait for the next event, in milliseconds, and ends a
// container whose time is over.
func (s *server) timeout() int {
	wait := s.impatience()
	if s.cfg.Timeout == 0 || s.exited {
		return wait
	}
	left := time.Until(s.started.Add(time.Duration(s.cfg.Timeout) * time.Second))
	if left > 0 {
		return sooner(wait, int(min(left/time.Millisecond+1, 1<<30)))
	}
	if s.pidfd >= 0 {
		unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0)
		s.cfg.Timeout = 0
	}
	return wait
}

// sooner is the shorter of two times to wait, of which -1 is for ever.
func sooner(a, b int) int {
	if a < 0 || b >= 0 && b < a {
		return b
	}
	return a
}

// watch fills s.polls with what there is to wait for.
func (s *server) watch() {
	s.polls = s.polls[:0]
	add := func(fd int, events int16) {
		if fd >= 0 {
			s.polls = append(s.polls, unix.PollFd{Fd: int32(fd), Events: events})
		}
	}
	add(s.report, unix.POLLIN)
	add(s.console, unix.POLLIN)
	if !s.exited {
		add(s.pidfd, unix.POLLIN)
		add(s.listen, unix.POLLIN)
		s.names.watch(add)
		s.notify.watch(add)
		s.oom.watch(add)
	}
	if !s.blocked() {
		add(s.out[0], unix.POLLIN)
		add(s.out[1], unix.POLLIN)
	}
	if len(s.input) > 0 {
		add(s.stdin, unix.POLLOUT) // for a terminal beside its entry as out[0]
	}
	for _, c := range s.clients {
		var events int16
		if len(s.input) < maxPending {
			events |= unix.POLLIN
		}
		if c.queued() > 0 {
			events |= unix.POLLOUT
		}
		add(c.fd, events)
	}
}

func (s *server) handle() error {
	for _, p := range s.polls {
		if p.Revents == 0 {
			continue
		}
		fd := int(p.Fd)
		switch {
		case fd == s.report:
			if err := s.readReport(); err != nil {
				return err
			}
		case fd == s.console:
			s.takeTerminal()
		case fd == s.pidfd:
			s.reap()
		case fd == s.listen:
			s.accept()
		case fd == s.stdin && p.Events&unix.POLLOUT != 0:
			s.feed()
		case fd == s.out[0]:
			s.copyOut(0)
		case fd == s.out[1]:
			s.copyOut(1)
		case s.names.handle(fd, s.buf[:]), s.notify.handle(fd), s.oom.handle(fd):
		default:
			s.serve(fd, p.Revents)
		}
	}
	s.dropGone()
	return nil
}

// copyOut passes output on: as long as whole pieces are there, some at once,
// without asking each time who else has something.
func (s *server) copyOut(i int) {
	for range pieces {
		if s.copyPiece(i) < chunk || s.blocked() {
			return
		}
	}
}

// copyPiece reads one piece of output, hands it to the log and the clients, and
// returns how long it was.
func (s *server) copyPiece(i int) int {
	n, err := read(s.out[i], s.buf[:])
	if err == unix.EAGAIN {
		return 0
	}
	if n == 0 || err != nil { // EIO: the last process has closed the terminal
		if s.out[i] == s.master {
			s.stdin, s.master = -1, -1
		}
		closeFD(&s.out[i])
		return 0
	}
	stream := FrameStdout
	if i == 1 {
		stream = FrameStderr
	}
	s.log.write(stream, s.buf[:n])
	for _, c := range s.clients {
		if c.flags&FlagOutput != 0 {
			c.send(stream, s.buf[:n])
		}
	}
	s.enlarge(i, n)
	return n
}

// enlarge gives the pipe of a container that writes faster than is read more
// room: each time it is full, both sides wait for the other's turn. Others keep
// the kernel's 64 KiB, of which a user may not have any number.
func (s *server) enlarge(i, n int) {
	if n < chunk || s.full[i] < 0 {
		s.full[i] = min(s.full[i], 0)
		return
	}
	if s.full[i]++; s.full[i] == 8 {
		unix.FcntlInt(uintptr(s.out[i]), unix.F_SETPIPE_SZ, bigPipe) // refused: it stays
		s.full[i] = -1
		for _, c := range s.clients {
			unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bigPipe) // root's alone
		}
	}
}

// serve moves bytes of the client at fd.
func (s *server) serve(fd int, revents int16) {
	for _, c := range s.clients {
		if c.fd != fd {
			continue
		}
		if revents&unix.POLLOUT != 0 {
			c.flush()
		}
		if c.fd >= 0 && revents&(unix.POLLIN|unix.POLLHUP|unix.POLLERR) != 0 {
			s.receive(c)
		}
		return
	}
}

func (s *server) receive(c *client) {
	n, err := c.read(s.buf[:])
	if err == unix.EAGAIN {
		return
	}
	if n == 0 || err != nil {
		closeFD(&c.fd)
		return
	}
	c.in = append(c.in, s.buf[:n]...)
	rest := c.in
	for {
		t, payload, left, ok, err := cutFrame(rest)
		if err != nil {
			closeFD(&c.fd)
			return
		}
		if !ok {
			break
		}
		rest = left
		s.obey(c, t, payload)
	}
	c.in = c.in[:copy(c.in, rest)]
}

func (s *server) obey(c *client, t FrameType, payload []byte) {
	switch t {
	case FrameHello:
		if len(payload) == 1 {
			c.flags = Flags(payload[0])
		}
	case FrameStdin:
		if s.stdin >= 0 && !s.eof {
			s.input = append(s.input, payload...)
			s.feed()
		}
	case FrameStdinEOF:
		if s.cfg.StdinOnce && !s.cfg.Terminal {
			s.eof = true
			s.feed()
		}
	case FrameResize:
		if s.master >= 0 && len(payload) == 4 {
			unix.IoctlSetWinsize(s.master, unix.TIOCSWINSZ, &unix.Winsize{
				Row: binary.LittleEndian.Uint16(payload), Col: binary.LittleEndian.Uint16(payload[2:])})
		}
	case FrameCleaned:
		c.done = true
		s.left = string(payload)
	case FrameNames:
		s.serveNames(c, payload)
	}
}

// feed writes what is waiting for the container's input.
func (s *server) feed() {
	for s.stdin >= 0 && len(s.input) > 0 {
		n, err := unix.Write(s.stdin, s.input)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return
		}
		if err != nil { // nobody reads it any more
			s.input = nil
			s.closeStdin()
			return
		}
		s.input = s.input[:copy(s.input, s.input[n:])]
	}
	if s.eof {
		s.closeStdin()
	}
}

func (s *server) closeStdin() {
	if s.stdin != s.master {
		closeFD(&s.stdin)
	}
	s.stdin = -1
}

func (s *server) accept() {
	fd, _, err := unix.Accept4(s.listen, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return
	}
	if len(s.clients) >= maxClients {
		unix.Close(fd)
		return
	}
	c := &client{fd: fd}
	s.clients = append(s.clients, c)
	// Its first frame is there already, and output that is read in this same
	// round may be what it came for.
	s.receive(c)
}

func (s *server) dropGone() {
	kept := s.clients[:0]
	for _, c := range s.clients {
		if c.fd >= 0 {
			kept = append(kept, c)
			continue
		}
		for i := range c.files {
			closeFD(&c.files[i])
		}
	}
	s.clients = kept
}

// reap takes the container's exit status.
func (s *server) reap() {
	s.oom.look()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(s.pid, &ws, 0, nil)
		if err != unix.EINTR {
			break
		}
	}
	s.exited = true
	closeFD(&s.pidfd)
	s.code = exitCode(ws)
}

// exitCode is the shell's: 128 and the signal's number for a killed process.
func exitCode(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// finish records the exit, tells the clients, and reports whether one of them
// has cleaned up.
func (s *server) finish() (cleaned bool) {
	s.names.close()
	record := strconv.AppendInt(nil, int64(s.code), 10)
	record = append(record, ' ')
	record = strconv.AppendInt(record, time.Now().UnixNano(), 10)
	record = append(record, '\n')
	if s.cfg.ExitDir != "" {
		writeRecord(s.cfg.ExitDir, ExitFile, record, true)
	}
	if writeRecord(s.cfg.RunDir, ExitFile, record, false) != nil {
		// There is no room for a file. The text of a link lies in its inode, and
		// without a record whoever cleans up would wait for it.
		unix.Symlink(string(record[:len(record)-1]), s.cfg.RunDir+"/"+ExitFile)
	}
	unix.Unlink(s.cfg.RunDir + "/" + AttachSocket)
	closeFD(&s.listen)

	var code [4]byte
	binary.LittleEndian.PutUint32(code[:], uint32(s.code))
	for _, c := range s.clients {
		c.send(FrameExit, code[:])
	}
	return s.farewell()
}

// farewell waits for a cleaner for as long as it stays connected, and for the
// others until they have read what was sent, but not longer than lastWords.
func (s *server) farewell() bool {
	end := time.Now().Add(lastWords * time.Millisecond)
	for {
		s.dropGone()
		cleaner, busy := false, false
		for _, c := range s.clients {
			if c.done {
				return true
			}
			cleaner = cleaner || c.flags&FlagCleaner != 0
			busy = busy || c.queued() > 0
		}
		left := int(time.Until(end) / time.Millisecond)
		if !cleaner && (!busy || left <= 0) {
			return false
		}
		if cleaner {
			left = -1
		}
		s.polls = s.polls[:0]
		for _, c := range s.clients {
			p := unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN}
			if c.queued() > 0 {
				p.Events |= unix.POLLOUT
			}
			s.polls = append(s.polls, p)
		}
		if _, err := unix.Poll(s.polls, left); err != nil && err != unix.EINTR {
			return false
		}
		for _, p := range s.polls {
			if p.Revents != 0 {
				s.serve(int(p.Fd), p.Revents)
			}
		}
	}
}
