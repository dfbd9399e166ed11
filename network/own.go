package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hull/state"
)

// ownDevice is the interface of a container that has a stack of its own, as
// slirp4netns made customary; a pasta chooses by itself.
const ownDevice = "tap0"

// setupOwn gives a container's namespace an outside of its own, which nobody
// shares: no bridge, no packet filter.
func (m *Manager) setupOwn(ctx context.Context, o SetupOptions) (_ Status, err error) {
	if len(o.Networks) > 0 {
		return Status{}, errors.New("a container with a network stack of its own joins no networks")
	}
	out := *o.Own
	if out.Program == "" {
		out = m.outside()
	}
	if out.Program == OutsidePasta && !m.o.Rootless {
		return Status{}, ErrRootPasta
	}
	w := &owning{m: m, o: o, rec: record{Container: o.ContainerID, Name: o.ContainerName}}
	defer func() {
		w.close()
		if err != nil {
			_ = m.forget(w.rec)
		}
	}()
	if err := w.reserve(); err != nil {
		return Status{}, err
	}
	if err := m.writeRecord(w.rec); err != nil {
		return Status{}, err
	}
	if err := w.start(ctx, out); err != nil {
		return Status{}, fmt.Errorf("start %s for container %s: %w", out.Program, short(o.ContainerID), err)
	}
	if err := m.writeRecord(w.rec); err != nil {
		return Status{}, err
	}
	if len(w.held) > 0 && m.o.Helper != "" {
		if err := w.proxy(); err != nil {
			return Status{}, err
		}
		if err := m.writeRecord(w.rec); err != nil {
			return Status{}, err
		}
	}
	return Status{Networks: w.rec.Networks, Ports: w.rec.Ports}, nil
}

// outside is the program that rootless containers use when nothing is said.
func (m *Manager) outside() Outside {
	o := m.o.Outside
	if o.Program == "" {
		o.Program = OutsideHull
	}
	return o
}

// An owning is one setupOwn under way.
type owning struct {
	m    *Manager
	o    SetupOptions
	rec  record
	held []*os.File // the published ports, while somebody here is to have them
}

func (w *owning) close() {
	for _, f := range w.held {
		f.Close()
	}
	w.held = nil
}

// reserve binds the published ports, in the caller's namespace.
func (w *owning) reserve() error {
	for _, p := range w.o.Ports {
		files, port, err := w.m.reserve(p)
		if err != nil {
			return err
		}
		w.held = append(w.held, files...)
		p.HostPort = port
		w.rec.Ports = append(w.rec.Ports, p)
	}
	return nil
}

// start starts the program and writes down what the container has of it.
func (w *owning) start(ctx context.Context, out Outside) error {
	j := Joined{Network: out.Program, ID: out.Program, Driver: out.Program, Interface: ownDevice, Aliases: []string{}}
	host := false // the gateway, whichever it is, is the host's loopback
	var err error
	switch out.Program {
	case OutsideHull:
		j.Network, j.ID = "private", "private" // hull is the name of a network
		j.DNSServer = []netip.Addr{UserDNS}
		err = w.startHull(ctx)
	case OutsideSlirp:
		var s slirp
		if s, err = slirpOptions(append(w.m.o.SlirpOptions, out.Options...)); err != nil {
			return err
		}
		j.DNSServer = []netip.Addr{s.at(3)}
		if s.host {
			j.Gateways = []netip.Addr{s.at(2)}
		}
		err = w.startSlirp(ctx, s)
	case OutsidePasta:
		j.DNSServer = []netip.Addr{pastaDNS}
		options := append(w.m.o.PastaOptions, out.Options...)
		host = slices.Contains(options, "--map-gw")
		err = w.startPasta(ctx, options)
	default:
		err = out.check()
	}
	if err != nil {
		return err
	}
	return inNamespace(w.o.Netns, func() error {
		if err := j.look(); err != nil {
			return err
		}
		if host {
			if err := j.lookGateways(); err != nil {
				return err
			}
		}
		w.rec.Networks = []Joined{j}
		return nil
	})
}

// look fills in the first device that is not the loopback's, as it is in the
// thread's namespace.
func (j *Joined) look() error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Flags&net.FlagLoopback != 0 || l.Flags&net.FlagUp == 0 {
			continue
		}
		j.Interface, j.MAC = l.Name, l.HardwareAddr.String()
		addresses, err := l.Addrs()
		if err != nil {
			return err
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				j.Addresses = append(j.Addresses, p)
			}
		}
		return nil
	}
	return errors.New("no network interface appeared")
}

// lookGateways fills in where the thread's namespace sends what is not its own.
func (j *Joined) lookGateways() error {
	r, err := openRoutes()
	if err != nil {
		return err
	}
	defer r.Close()
	j.Gateways, err = r.gateways()
	return err
}

func (w *owning) startHull(ctx context.Context) error {
	if w.m.o.Helper == "" {
		return errors.New("hull-net is not there")
	}
	record, err := w.m.recordPath(w.rec.Container)
	if err != nil {
		return err
	}
	w.rec.Outside, err = w.m.runOutside(ctx, nil, w.o.Netns, nil, OutsideCommand, "/proc/self/fd/5", record)
	return err
}

func (w *owning) startSlirp(ctx context.Context, s slirp) error {
	path, err := Outside{Program: OutsideSlirp}.find()
	if err != nil {
		return err
	}
	dir, err := w.m.jobDir()
	if err != nil {
		return err
	}
	j := s.job(path, dir, ownDevice)
	if s.handler == OutsideSlirp {
		j.Forward = w.rec.Ports
		w.close() // it binds them itself
	}
	return w.startJob(ctx, j)
}

func (w *owning) startPasta(ctx context.Context, options []string) error {
	path, err := Outside{Program: OutsidePasta}.find()
	if err != nil {
		return err
	}
	dir, err := w.m.jobDir()
	if err != nil {
		return err
	}
	j, err := pastaJob(path, dir, options, nil, w.rec.Ports)
	if err != nil {
		return err
	}
	w.close() // it binds them itself
	return w.startJob(ctx, j)
}

func (w *owning) startJob(ctx context.Context, j Job) (err error) {
	if j.Record, err = w.m.recordPath(w.rec.Container); err != nil {
		return err
	}
	w.rec.Outside, err = w.m.runJob(ctx, nil, w.o.Netns, nil, j)
	return err
}

// proxy starts the process that carries what comes to the published ports. It
// connects from inside, as podman's rootlessport does.
func (w *owning) proxy() error {
	path, err := w.m.recordPath(w.rec.Container)
	if err != nil {
		return err
	}
	netns := "/proc/self/fd/" + strconv.Itoa(3+len(w.held))
	w.rec.Proxy, err = w.m.launchProxy(append(w.held, w.o.Netns), path, netns)
	return err
}

// jobDir is the directory that each job hides for itself.
func (m *Manager) jobDir() (string, error) {
	dir, err := m.bootDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "job")
	return dir, os.MkdirAll(dir, 0o700)
}

// runJob starts hull-net for a job, in a mount namespace of its own.
func (m *Manager) runJob(ctx context.Context, lock, netns, log *os.File, j Job) (state.ProcessID, error) {
	if m.o.Helper == "" {
		return state.ProcessID{}, errors.New("hull-net is not there")
	}
	text, err := j.Encode()
	if err != nil {
		return state.ProcessID{}, err
	}
	return m.runOutside(ctx, lock, netns, log, JobCommand, text)
}

func (m *Manager) lasting(pid int, shared bool) {
	if m.o.Lasting != nil {
		m.o.Lasting(pid, shared)
	}
}

// runOutside starts hull-net and waits until it is ready. What is said of a
// failure comes from the log, a file that is gone afterwards when nil is given.
func (m *Manager) runOutside(ctx context.Context, lock, netns, log *os.File, args ...string) (id state.ProcessID, err error) {
	if log == nil {
		fd, err := unix.MemfdCreate("hull-net log", unix.MFD_CLOEXEC)
		if err != nil {
			return id, os.NewSyscallError("memfd_create", err)
		}
		log = os.NewFile(uintptr(fd), "log")
		defer log.Close()
	}
	r, ready, err := os.Pipe()
	if err != nil {
		return id, err
	}
	defer r.Close()
	if lock == nil {
		lock = ready // any descriptor: nobody asks for it
	}
	c := exec.Command(m.o.Helper, args...)
	c.ExtraFiles = []*os.File{lock, ready, netns}
	c.Stdout, c.Stderr = log, log
	c.Env = []string{"PATH=" + os.Getenv("PATH")}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if args[0] == JobCommand {
		c.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	}
	err = c.Start()
	ready.Close()
	if err != nil {
		return id, err
	}
	id, err = state.IdentifyProcess(c.Process.Pid)
	go c.Wait()
	if err != nil {
		return id, err
	}
	m.lasting(id.Pid, lock != ready)
	if err = awaitReady(ctx, r); err == nil {
		return id, nil
	}
	record{Outside: id}.endOutside()
	text, _ := io.ReadAll(io.NewSectionReader(log, 0, 4<<10))
	if t := strings.TrimSpace(string(text)); t != "" && !errors.Is(err, os.ErrDeadlineExceeded) {
		return id, errors.New(strings.ReplaceAll(strings.TrimPrefix(t, "hull-net: "), "\n", ": "))
	}
	return id, err
}
