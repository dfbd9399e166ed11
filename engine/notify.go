package engine

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// notifyPath is where a container finds the socket on which it tells the
// service manager how it is; its monitor passes that on.
const notifyPath = "/run/notify/notify.sock"

// notifySocket is that socket's name in the container's run directory.
const notifySocket = "notify.sock"

// An activation is what a service manager gave this process for the container
// that it starts: see sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
type activation struct {
	Notify   string // the service manager's socket; "" when the container may not speak to it
	Watchdog string // microseconds within which the container must show that it lives
	Listen   int    // how many sockets it opened: descriptors 3, 4, …
	Names    string // of these, with colons between
}

// activated looks up what this process was given.
func activated(o *CreateOptions) activation {
	var a activation
	if socket := os.Getenv("NOTIFY_SOCKET"); o.SdNotify == "" && notifyAddress(socket) {
		a.Notify = socket
		if pid := os.Getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
			a.Watchdog = os.Getenv("WATCHDOG_USEC")
		}
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	pid, said := os.LookupEnv("LISTEN_PID")
	if err != nil || n < 1 || said && pid != strconv.Itoa(os.Getpid()) {
		return a
	}
	for fd := 3; fd < 3+n; fd++ {
		if _, err := os.Stat("/proc/self/fd/" + strconv.Itoa(fd)); err != nil {
			return a
		}
	}
	a.Listen, a.Names = n, os.Getenv("LISTEN_FDNAMES")
	return a
}

// notifyAddress says whether s is the address of a socket: a path, or @ and an
// abstract name.
func notifyAddress(s string) bool {
	if strings.HasPrefix(s, "@") {
		return len(s) > 1
	}
	st, err := os.Stat(s)
	return strings.HasPrefix(s, "/") && err == nil && st.Mode()&os.ModeSocket != 0
}

// listenNotify makes the socket on which a container speaks to its monitor.
// Whoever has it mounted may write to it: the directory is 0700.
func listenNotify(dir string) (*os.File, error) {
	f, err := bindSocket(dir, notifySocket, unix.SOCK_DGRAM, 0o666)
	if err != nil {
		return nil, fmt.Errorf("make the socket for notifications: %w", err)
	}
	return f, nil
}

// bindSocket makes a socket in a directory, in place of one of an earlier run.
// The path of a socket is short, so it is bound by way of its directory.
func bindSocket(dir, name string, kind int, mode uint32) (*os.File, error) {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	path := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), name)
	_ = unix.Unlink(path)
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = unix.Chmod(path, mode)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// notifyStarted tells the service manager which process to watch, and, when
// nobody else is to say so, that it is ready. A manager that does not listen
// is no reason to fail.
func notifyStarted(o *CreateOptions, monitorPid int) {
	if o.SdNotify == "ignore" {
		return
	}
	text := "MAINPID=" + strconv.Itoa(monitorPid) + "\n"
	if o.SdNotify == "conmon" {
		text += "READY=1\n"
	}
	notify(text)
}

// notifyHealthy tells it when a container has become healthy.
func notifyHealthy(o *CreateOptions) {
	if o.SdNotify == "healthy" {
		notify("READY=1\n")
	}
}

func notify(text string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(text))
}
