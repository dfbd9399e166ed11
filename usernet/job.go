package usernet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"hull/network"
)

// fdNetns is the namespace, for a job.
const fdNetns = 5

// Times of a job's program.
const (
	programReady  = 15 * time.Second
	programEnd    = time.Second
	programSteady = 10 * time.Second
	programTries  = 5 // starts of one that does not stay as long
)

// A program is the one that a job is about.
type program struct {
	job   network.Job
	child *exec.Cmd
	ended chan struct{} // closed when the child has ended
}

// runJob starts the program and stays until nobody needs it. This process is
// in a mount namespace of its own, so what it mounts ends with it.
func runJob(text string) error {
	var j network.Job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	for _, fd := range []int{fdLock, fdReady, fdNetns} {
		unix.CloseOnExec(fd)
	}
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, unix.SIGTERM, unix.SIGINT)
	if err := place(j); err != nil {
		return err
	}
	p := &program{job: j}
	if err := p.start(); err != nil {
		return err
	}
	defer p.stop()
	ready := os.NewFile(fdReady, "ready")
	if _, err := ready.Write([]byte{1}); err != nil {
		return err // whoever started this has left
	}
	ready.Close()
	unneeded, err := watchNeed(j.Record, nil)
	if err != nil {
		return err
	}
	for again := 0; ; again++ {
		since := time.Now()
		select {
		case <-quit:
			return nil
		case err := <-unneeded:
			return err
		case <-p.ended:
		}
		// Somebody killed it: its containers have their network again at once.
		if time.Since(since) > programSteady {
			again = 0
		}
		if again == programTries {
			return fmt.Errorf("%s ended: %s", p.job.Argv[0], p.child.ProcessState)
		}
		if err := p.start(); err != nil {
			return err
		}
	}
}

// place lays the job's directory out: a program is told where the namespace is
// by a path that stays good when it gives up its privileges.
func place(j network.Job) error {
	if err := unix.Mount("tmpfs", j.Dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700,size=64k"); err != nil {
		return &os.PathError{Op: "mount tmpfs on", Path: j.Dir, Err: err}
	}
	netns := filepath.Join(j.Dir, "netns")
	if err := os.WriteFile(netns, nil, 0o600); err != nil {
		return err
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fdNetns), netns, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "bind the network namespace to", Path: netns, Err: err}
	}
	return nil
}

// start starts the program and returns when it is ready.
func (p *program) start() error {
	var said io.ReadCloser
	p.child = exec.Command(p.job.Argv[0], p.job.Argv[1:]...)
	p.child.Stdout, p.child.Stderr = os.Stderr, os.Stderr
	p.child.SysProcAttr = childDies()
	if p.job.ReadyFD == 0 {
		path := filepath.Join(p.job.Dir, "ready")
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
			return &os.PathError{Op: "make fifo", Path: path, Err: err}
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0) // does not wait for a writer
		if err != nil {
			return err
		}
		said = f
	} else {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer w.Close()
		p.child.ExtraFiles = append(make([]*os.File, p.job.ReadyFD-3), w)
		said = r
	}
	defer said.Close()
	if err := startTied(p.child); err != nil {
		return err
	}
	p.ended = make(chan struct{})
	go func(c *exec.Cmd, ended chan struct{}) { c.Wait(); close(ended) }(p.child, p.ended)
	first := make(chan error, 1)
	go func() {
		_, err := said.Read(make([]byte, 1))
		first <- err
	}()
	select {
	case err := <-first:
		if err == nil {
			err = p.forward()
		}
		if err != nil {
			p.stop()
		}
		return err
	case <-p.ended:
		return fmt.Errorf("%s ended: %s", filepath.Base(p.job.Argv[0]), p.child.ProcessState)
	case <-time.After(programReady):
		p.stop()
		return fmt.Errorf("%s is not ready in time", filepath.Base(p.job.Argv[0]))
	}
}

// stop ends the program and waits: its ports are free afterwards.
func (p *program) stop() {
	for _, s := range []os.Signal{unix.SIGTERM, unix.SIGKILL} {
		_ = p.child.Process.Signal(s)
		select {
		case <-p.ended:
			return
		case <-time.After(programEnd):
		}
	}
}

// forward tells a slirp4netns of the published ports.
func (p *program) forward() error {
	for _, m := range p.job.Forward {
		for i := range max(1, int(m.Range)) {
			host := "0.0.0.0"
			if m.HostIP.IsValid() {
				host = m.HostIP.String()
			}
			err := p.ask(map[string]any{"execute": "add_hostfwd", "arguments": map[string]any{
				"proto": m.Protocol, "host_addr": host, "host_port": int(m.HostPort) + i,
				"guest_addr": p.job.Guest.String(), "guest_port": int(m.ContainerPort) + i,
			}})
			if err != nil {
				return fmt.Errorf("publish %s: %w", m, err)
			}
		}
	}
	return nil
}

// ask sends one request to the program's socket.
func (p *program) ask(request any) error {
	c, err := net.Dial("unix", filepath.Join(p.job.Dir, "api"))
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(programReady))
	if err := json.NewEncoder(c).Encode(request); err != nil {
		return err
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(c, 4<<10))
	if err != nil {
		return err
	}
	var reply struct {
		Error *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal(bytes.TrimRight(answer, "\x00\n "), &reply); err != nil {
		return fmt.Errorf("read the answer %q: %w", answer, err)
	}
	if reply.Error != nil {
		return errors.New(reply.Error.Desc)
	}
	return nil
}
