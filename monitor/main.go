package monitor

import (
	"encoding/binary"
	"errors"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hull/inroot"
)

// Files in a container's run directory.
const (
	// AttachSocket is the stream socket that clients connect to.
	AttachSocket = "attach"
	// ExitFile holds "CODE UNIXNANO\n" once the container has exited.
	ExitFile = "exit"
	// ReportFile holds the plan's report when a start failed after the
	// container had been created (Config.Wait).
	ReportFile = "report"
)

// Descriptors that Start gives to the monitor.
const (
	configFD = 3
	syncFD   = 4
	attachFD = 5
)

// Messages on the sync pipe, each followed by what is said here.
const (
	syncCreated = 'P' // pid, eight bytes: the process exists and waits
	syncStarted = 'S' // pid, eight bytes: the program runs
	syncFailed  = 'F' // the plan's report as it came
	syncError   = 'E' // text: the monitor itself could not do it
)

var errNoReport = errors.New("plan ended without a report")

// Main is the monitor. It returns the process's exit status.
func Main() int {
	for fd := configFD; fd <= attachFD; fd++ {
		unix.CloseOnExec(fd)
	}
	s := &server{sync: syncFD, report: -1, console: -1, master: -1, out: [2]int{-1, -1}, stdin: -1, listen: -1, pidfd: -1, hold: -1}
	started, err := s.start()
	if err != nil {
		s.say(syncError, []byte(err.Error()))
		return 125
	}
	if !started {
		return 125
	}
	if err := s.loop(); err != nil {
		return 125
	}
	s.notify.drain()
	if s.finish() {
		sweep(s.left)
		return 0
	}
	return s.become(s.cfg.Cleanup, s.cfg.Env)
}

// sweep removes the trees that a cleaner left. What cannot be removed is of no
// use to anybody and bears this process's number: the next collection takes it.
func sweep(left string) {
	for path := range strings.SplitSeq(left, "\x00") {
		i := strings.LastIndexByte(path, '/')
		if i <= 0 {
			continue
		}
		dir, err := unix.Open(path[:i], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			inroot.RemoveAllAt(dir, path[i+1:])
			unix.Close(dir)
		}
	}
}

// endings are the signals of a session's or a machine's end.
var endings = []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT}

// become executes the clean-up in the monitor's place.
func (s *server) become(argv, env []string) int {
	if len(argv) == 0 {
		return 0
	}
	for _, sig := range endings {
		signal.Reset(sig)
	}
	for _, c := range s.clients {
		closeFD(&c.fd)
	}
	restoreOOMScore(s.oomScore)
	unix.Exec(argv[0], argv, env)
	return 125
}

// start does everything up to the loop. started is false when the plan failed,
// of which the engine was told.
func (s *server) start() (started bool, err error) {
	// What needs no configuration is done while the engine makes it.
	unix.Setsid() // fails only for a leader, which is then alone already
	if s.cfg, err = s.readConfig(); err != nil {
		return false, err
	}
	if s.log, err = openLog(s.cfg); err != nil {
		return false, &stepError{"open log " + s.cfg.LogPath, err}
	}
	if s.listen, err = listen(s.cfg.RunDir); err != nil {
		return false, &stepError{"listen in " + s.cfg.RunDir, err}
	}
	if s.cfg.Attached {
		unix.SetNonblock(attachFD, true)
		s.clients = append(s.clients, &client{fd: attachFD, flags: s.cfg.AttachFlags})
	}
	if s.cfg.Reaper {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return false, &stepError{"become a reaper", err}
		}
	}
	listenToSignals()
	if s.cfg.MemoryEvents != "" {
		s.oom = newOOMWatch(s.cfg.MemoryEvents)
	}
	if err := s.launch(); err != nil {
		return false, err
	}
	// The monitor outlives the signals of a session's end; its container
	// decides. Not before the launch, for the container would inherit it; and
	// not by a handler, for the runtime would keep three threads for it.
	for _, sig := range endings {
		signal.Ignore(sig)
	}
	for s.report >= 0 && s.pidfd < 0 {
		if err := s.readReport(); err != nil {
			return false, nil
		}
	}
	closeFD(&s.hold)
	s.oomScore = setOOMScore(s.cfg.OOMScoreAdj)
	s.started = time.Now()
	s.notify.begin()
	return true, nil
}

// A stepError is fmt.Errorf("step: %w") without fmt, which the monitor's binary does not link.
type stepError struct {
	step  string
	cause error
}

func (e *stepError) Error() string { return e.step + ": " + e.cause.Error() }
func (e *stepError) Unwrap() error { return e.cause }

// readConfig receives what this monitor is for: the configuration, and with
// it the plan and the plan's files.
func (s *server) readConfig() (*Config, error) {
	defer unix.Close(configFD)
	var data []byte
	buf := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	for {
		n, oobn, flags, _, err := unix.Recvmsg(configFD, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err == nil && flags&unix.MSG_CTRUNC != 0 {
			err = errConfig
		}
		if err == nil && oobn > 0 {
			err = s.takeFiles(oob[:oobn])
		}
		if err != nil {
			return nil, &stepError{"read configuration", err}
		}
		if n == 0 {
			break
		}
		data = append(data, buf[:n]...)
	}
	if len(data) == 0 {
		return nil, errUnused
	}
	c, err := DecodeConfig(data)
	want := 1
	if err == nil {
		want += c.PlanFiles
		if c.NamesDir != "" {
			want += 2
		}
		if c.NotifyTo != "" {
			want++
		}
		if c.Hold {
			want++
		}
		if len(s.files) != want {
			err = errConfig
		}
	}
	if err == nil && c.Hold {
		s.hold, s.files = s.files[want-1], s.files[:want-1]
		want--
	}
	if err == nil && c.NotifyTo != "" {
		s.notify, err = newNotifier(s.files[want-1], c.NotifyTo)
		s.files = s.files[:want-1]
		want--
	}
	if err == nil && c.NamesDir != "" {
		s.names, s.files = newNameServer(c, s.files[want-2], s.files[want-1]), s.files[:want-2]
	}
	return c, err
}

// maxFiles is how many descriptors one message carries.
const maxFiles = 253

// errUnused is the end of a monitor that nobody needed.
var errUnused = errors.New("not used")

func (s *server) takeFiles(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return err
		}
		s.files = append(s.files, fds...)
	}
	return nil
}

// listen makes the attach socket. The path of a socket is short, so it is
// bound from inside its directory.
func listen(dir string) (int, error) {
	if err := unix.Chdir(dir); err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	unix.Unlink(AttachSocket)
	unix.Fchmod(fd, 0o600) // bind makes the file with the socket's mode
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: AttachSocket}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, unix.Listen(fd, 16)
}

// launch executes the plan.
func (s *server) launch() error {
	null, err := openRetry(unix.AT_FDCWD, "/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &stepError{"open /dev/null", err}
	}
	theirs := []int{null, null, null, -1, null}
	report, err := pipe(&s.report, 0)
	if err != nil {
		return &stepError{"make report pipe", err}
	}
	theirs[3] = report
	if err := s.stdio(theirs, null); err != nil {
		return err
	}
	above := len(theirs) + len(s.files)
	for _, fd := range s.files {
		above = max(above, fd)
	}
	theirs = append(theirs, s.files[1:]...)
	// The plan's number must be none that the plan's files get, nor one that
	// ForkExec moves them by way of.
	image, err := unix.FcntlInt(uintptr(s.files[0]), unix.F_DUPFD_CLOEXEC, above+len(theirs)+8)
	if err != nil {
		return &stepError{"execute plan", err}
	}
	defer unix.Close(image)
	files := make([]uintptr, len(theirs))
	for i, fd := range theirs {
		files[i] = uintptr(fd)
	}
	s.helper, err = syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(image), []string{"hull-plan"}, &syscall.ProcAttr{Files: files})
	for _, fd := range theirs {
		if fd > 2 && fd != null {
			unix.Close(fd)
		}
	}
	unix.Close(null)
	unix.Close(s.files[0])
	if err != nil {
		return &stepError{"execute plan", err}
	}
	return nil
}

// stdio makes the container's standard descriptors, theirs[0:3] and the
// console socket theirs[4], and the monitor's ends.
func (s *server) stdio(theirs []int, null int) (err error) {
	if s.cfg.LogDriver == LogPassthrough {
		theirs[0], theirs[1], theirs[2] = 0, 1, 2
		return nil
	}
	if s.cfg.Terminal {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return &stepError{"make console socket", err}
		}
		s.console, theirs[4] = pair[0], pair[1]
		return nil
	}
	if s.cfg.OpenStdin {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			return &stepError{"make standard input", err}
		}
		theirs[0], s.stdin = fds[0], fds[1]
		unix.SetNonblock(s.stdin, true)
	}
	for i := range s.out {
		if theirs[1+i], err = pipe(&s.out[i], unix.O_NONBLOCK); err != nil {
			return &stepError{"make standard output", err}
		}
	}
	return nil
}

// pipe makes a pipe, keeps the reading end with the given flags and returns
// the other.
func pipe(r *int, flags int) (w int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return -1, err
	}
	if flags&unix.O_NONBLOCK != 0 {
		unix.SetNonblock(fds[0], true)
	}
	*r = fds[0]
	return fds[1], nil
}

// readReport reads what the plan says. A failed start is an error; the engine
// has been told of it then.
func (s *server) readReport() error {
	n, err := read(s.report, s.buf[:256])
	if err != nil {
		return err
	}
	s.said = append(s.said, s.buf[:n]...)
	pid, created, failed := parseReport(s.said)
	if s.pidfd < 0 && !s.exited && pid != nil {
		s.pid = int(binary.NativeEndian.Uint64(pid))
		if s.pidfd, err = unix.PidfdOpen(s.pid, 0); err != nil {
			return err
		}
		unix.Wait4(s.helper, nil, 0, nil)
	}
	if s.cfg.Wait && pid != nil && created && !s.created {
		s.created = true
		s.say(syncCreated, pid)
	}
	if n > 0 {
		return nil
	}
	closeFD(&s.report)
	if pid != nil && !failed {
		if !s.created {
			s.say(syncStarted, pid)
		}
		closeFD(&s.sync)
		return nil
	}
	if s.created {
		return writeRecord(s.cfg.RunDir, ReportFile, s.said, false)
	}
	if len(s.said) == 0 {
		s.say(syncError, []byte(errNoReport.Error()))
	} else {
		s.say(syncFailed, s.said)
	}
	if s.pidfd >= 0 {
		unix.Wait4(s.pid, nil, 0, nil)
	}
	unix.Unlink(s.cfg.RunDir + "/" + AttachSocket)
	return errNoReport
}

func (s *server) say(kind byte, p []byte) {
	if s.sync >= 0 {
		writeAll(s.sync, append([]byte{kind}, p...))
	}
}

// takeTerminal receives the master of the container's pseudo-terminal.
func (s *server) takeTerminal() {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(s.console, s.buf[:1], oob, unix.MSG_CMSG_CLOEXEC)
	if err == unix.EINTR {
		return
	}
	closeFD(&s.console)
	if err != nil || n == 0 {
		return
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return
	}
	unix.SetNonblock(fds[0], true)
	s.master, s.out[0] = fds[0], fds[0]
	if s.cfg.OpenStdin {
		s.stdin = fds[0]
	}
}

// setOOMScore makes the monitor a late victim. It comes after the start, so
// that the container does not inherit it; lowering it needs CAP_SYS_RESOURCE.
// It returns what was there, for the clean-up, which may start the container
// again; nil when nothing was changed.
func setOOMScore(n int) (before []byte) {
	if n == 0 {
		return nil
	}
	fd, err := openRetry(unix.AT_FDCWD, "/proc/self/oom_score_adj", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	buf := make([]byte, 16)
	got, err := unix.Pread(fd, buf, 0)
	if err != nil || got <= 0 {
		return nil
	}
	if _, err := unix.Write(fd, strconv.AppendInt(nil, int64(n), 10)); err != nil {
		return nil
	}
	return buf[:got]
}

func restoreOOMScore(before []byte) {
	if before == nil {
		return
	}
	if fd, err := openRetry(unix.AT_FDCWD, "/proc/self/oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		unix.Write(fd, before)
		unix.Close(fd)
	}
}
