package criu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Types of requests (criu_req_type).
const (
	reqDump    = 1
	reqRestore = 2
	reqPreDump = 4
	reqNotify  = 6
)

// A work is one request under way.
type work struct {
	o      Options
	kind   uint64
	socket int
	said   bytes.Buffer
	cause  error // why we refused to go on
	killed int   // the first process, when what was restored was killed
	files  []*os.File
}

// run starts criu, tells it one request and answers what it asks.
func run(ctx context.Context, kind uint64, verb string, o Options) (pid int, err error) {
	path, err := Find()
	if err != nil {
		return 0, err
	}
	if o.Work == "" {
		o.Work = o.Images
	}
	if o.Log == "" {
		o.Log = verb + ".log"
	}
	w := &work{o: o, kind: kind}
	defer func() {
		for _, f := range w.files {
			f.Close()
		}
	}()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socketpair", err)
	}
	w.socket = pair[0]
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "criu")
	cmd := exec.CommandContext(ctx, path, "swrk", "3")
	cmd.Stdout, cmd.Stderr = &w.said, &w.said
	cmd.ExtraFiles = []*os.File{theirs}
	request, err := w.request(cmd)
	if err == nil {
		err = cmd.Start()
	}
	theirs.Close()
	if err != nil {
		return 0, fmt.Errorf("criu %s: %w", verb, err)
	}
	pid, err = w.converse(request)
	if w.killed > 0 {
		cmd.Process.Kill() // it would wait for processes that are no more
		unix.Wait4(w.killed, nil, 0, nil)
	}
	werr := cmd.Wait()
	switch {
	case w.cause != nil:
		return 0, w.cause
	case err != nil:
		return 0, w.explain(verb, err)
	case werr != nil && kind != reqRestore: // a restore's has children that are not its own
		return 0, w.explain(verb, werr)
	}
	return pid, nil
}

// pass gives a file to criu and returns its number there.
func (w *work) pass(cmd *exec.Cmd, f *os.File) int {
	cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	return 2 + len(cmd.ExtraFiles)
}

// directory opens one for criu, which finds it among the files of whoever made the socket: of this process.
func (w *work) directory(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, err
	}
	w.files = append(w.files, f)
	return int(f.Fd()), nil
}

// cgroupModes are criu's numbers (criu_cg_mode).
var cgroupModes = map[string]uint64{"": 0, "none": 1, "props": 2, "soft": 3, "full": 4, "strict": 5}

const cloneNewNet = 0x40000000

// request is the message that begins it: criu_req with criu_opts.
func (w *work) request(cmd *exec.Cmd) (message, error) {
	o := &w.o
	var m message
	images, err := w.directory(o.Images)
	if err != nil {
		return nil, err
	}
	work, err := w.directory(o.Work)
	if err != nil {
		return nil, err
	}
	mode, ok := cgroupModes[o.Cgroups]
	if !ok {
		return nil, fmt.Errorf("cgroup mode %q is not one of soft, full, strict", o.Cgroups)
	}
	m.number(1, uint64(images))
	if o.Pid > 0 {
		m.number(2, uint64(o.Pid))
	}
	m.number(9, 2) // log: errors and warnings, as much as says why
	m.text(10, o.Log)
	m.flag(12, true) // ask at each stage
	m.word(13, o.Root)
	m.word(14, o.Parent)
	m.number(17, uint64(work))
	for _, f := range []struct {
		field int
		on    bool
	}{{3, o.LeaveRunning}, {4, o.ExternalUnixSockets}, {5, o.TCPEstablished}, {7, o.ShellJob}, {8, o.FileLocks}, {15, o.TrackMemory},
		{16, o.AutoDedup}, {18, o.Linked}, {24, o.Cgroups != ""}, {26, w.kind == reqRestore}, {48, o.LazyPages}, {50, o.Terminal != nil}, {52, o.TCPClose}} {
		m.flag(f.field, f.on)
	}
	if o.PageServer != "" {
		if err := pageServer(&m, o.PageServer); err != nil {
			return nil, err
		}
	}
	for _, f := range o.Files {
		var x message
		x.text(1, f.Key)
		x.number(2, uint64(w.pass(cmd, f.File)))
		m.bytes(27, x)
	}
	for controller, path := range o.CgroupRoot {
		var x message
		x.word(1, controller)
		x.text(2, path)
		m.bytes(25, x)
	}
	m.number(34, mode)
	if o.GhostLimit > 0 {
		m.number(35, uint64(o.GhostLimit))
	}
	for _, e := range o.External {
		m.text(37, e)
	}
	if o.EmptyNetwork {
		m.number(38, cloneNewNet)
	}
	for _, j := range o.Join {
		var x message
		x.text(1, j[0])
		x.text(2, j[1])
		m.bytes(39, x)
	}
	m.word(51, o.Config)
	m.word(53, o.LSMProfile)
	m.word(56, o.LSMMountContext)
	var req message
	req.number(1, w.kind)
	req.bytes(2, m)
	return req, nil
}

func pageServer(m *message, text string) error {
	address, port, err := net.SplitHostPort(text)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || address == "" {
		return fmt.Errorf("page server %q: want ADDRESS:PORT", text)
	}
	var x message
	x.text(1, address)
	x.number(2, n)
	m.bytes(11, x)
	return nil
}

// An answer is one that criu sent (criu_resp).
type answer struct {
	kind    uint64
	success bool
	pid     int // of a restore, or a notice
	script  string
	text    string
	file    *os.File
}

func (a *answer) read(m message) error {
	var bad error
	err := m.fields(func(field int, v uint64, b []byte) {
		switch field {
		case 1:
			a.kind = v
		case 2:
			a.success = v != 0
		case 4:
			bad = errors.Join(bad, message(b).fields(func(field int, v uint64, _ []byte) {
				if field == 1 {
					a.pid = int(int32(v))
				}
			}))
		case 5:
			bad = errors.Join(bad, message(b).fields(func(field int, v uint64, b []byte) {
				switch field {
				case 1:
					a.script = string(b)
				case 2:
					a.pid = int(int32(v))
				}
			}))
		case 9:
			a.text = string(b)
		}
	})
	return errors.Join(err, bad)
}

// receive waits for one answer, and the descriptor that may be with it.
func (w *work) receive() (*answer, error) {
	buf, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	for {
		n, on, _, _, err := unix.Recvmsg(w.socket, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvmsg", err)
		}
		if n == 0 {
			return nil, errors.New("it ended without an answer")
		}
		a := new(answer)
		if messages, err := unix.ParseSocketControlMessage(oob[:on]); err == nil {
			for i := range messages {
				if fds, err := unix.ParseUnixRights(&messages[i]); err == nil && len(fds) > 0 {
					a.file = os.NewFile(uintptr(fds[0]), "terminal")
				}
			}
		}
		return a, a.read(buf[:n])
	}
}

// converse answers what criu asks until it has done.
func (w *work) converse(request message) (int, error) {
	if err := unix.Sendto(w.socket, request, unix.MSG_NOSIGNAL, nil); err != nil {
		return 0, os.NewSyscallError("send", err)
	}
	pid := 0
	for {
		a, err := w.receive()
		if err != nil {
			return 0, err
		}
		if a.kind != reqNotify {
			a.file.Close()
			if !a.success {
				return 0, errors.New(a.text)
			}
			return max(pid, a.pid), nil
		}
		if a.pid > 0 { // not every stage names it
			pid = a.pid
		}
		a.pid = pid
		err = w.stage(a)
		a.file.Close()
		if err != nil && w.cause == nil {
			w.cause = err
		}
		if w.killed > 0 {
			return 0, err
		}
		var m message
		m.number(1, reqNotify)
		m.number(3, map[bool]uint64{true: 1}[err == nil])
		if err := unix.Sendto(w.socket, m, unix.MSG_NOSIGNAL, nil); err != nil {
			return 0, os.NewSyscallError("send", err)
		}
	}
}

// stage does what a caller wants done at one.
func (w *work) stage(a *answer) error {
	o := &w.o
	switch a.script {
	case "orphan-pts-master":
		if a.file == nil || o.Terminal == nil {
			return errors.New("criu has a terminal for nobody")
		}
		return o.Terminal(a.file)
	case "setup-namespaces":
		if o.PrepareNetwork != nil {
			return o.PrepareNetwork(a.pid)
		}
	case "pre-resume":
		// The stage before, post-restore, could be refused, but is before credentials and filters are restored. This one cannot: kill.
		if o.Frozen == nil {
			return nil
		}
		if a.pid <= 0 {
			return errors.New("criu does not say which process it restored")
		}
		if err := o.Frozen(a.pid); err != nil {
			killTree(a.pid)
			w.killed = a.pid
			return err
		}
	case "status-ready":
		if o.StatusFD != nil {
			_, err := o.StatusFD.Write([]byte{0})
			return err
		}
	case "post-dump":
		if o.Dumped != nil {
			return o.Dumped()
		}
	}
	return nil
}

// explain says why it failed by the first error of the log.
func (w *work) explain(verb string, err error) error {
	log := filepath.Join(w.o.Work, w.o.Log)
	data, rerr := os.ReadFile(log)
	reason := firstError(string(data))
	if rerr != nil || reason == "no reason given" {
		reason = firstError(w.said.String())
	}
	if reason == "no reason given" {
		reason = err.Error()
		// One that could not even begin says so in words of its own.
		if said := strings.TrimSpace(w.said.String()); rerr != nil && said != "" {
			reason = said[strings.LastIndexByte(said, '\n')+1:]
		}
	}
	return &hinted{fmt.Errorf("criu %s: %s", verb, reason), fmt.Sprintf("its log is %s; \"criu check\" says whether it works on this kernel", log)}
}
