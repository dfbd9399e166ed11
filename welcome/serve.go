package welcome

import (
	"bytes"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Port is where serve listens.
const Port = 8080

// maxRequest is the largest head of a request that is read, in bytes.
const maxRequest = 16 << 10

// Main is the program. It returns the process's exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 0:
		if Text(stdout, Report()) != nil {
			return 1
		}
		return 0
	case len(args) == 1 && args[0] == "serve":
		// As the first process of a container it gets only signals that it
		// handles.
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
		go func() { <-stop; os.Exit(0) }()
		fd, err := listen(Port)
		if err == nil {
			io.WriteString(stdout, "serving on port "+strconv.Itoa(Port)+"\n")
			err = serve(fd)
		}
		io.WriteString(stderr, "welcome: "+err.Error()+"\n")
		return 1
	}
	io.WriteString(stderr, "usage: welcome [serve]\n")
	return 2
}

// listen listens on all addresses, IPv4's through IPv6 where there is any.
func listen(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	var address unix.Sockaddr = &unix.SockaddrInet6{Port: port}
	if err != nil {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		address = &unix.SockaddrInet4{Port: port}
	} else {
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if err != nil {
		return -1, err
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err = unix.Bind(fd, address); err == nil {
		err = unix.Listen(fd, 64)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// serve answers one connection after the other; each has a few seconds.
func serve(fd int) error {
	for {
		c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			answer(c)
			unix.Close(c)
		case unix.EINTR, unix.ECONNABORTED, unix.EAGAIN:
		default:
			return err
		}
	}
}

func answer(fd int) {
	wait := unix.Timeval{Sec: 3}
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait)
	head := make([]byte, 0, 4096)
	for !bytes.Contains(head, []byte("\r\n\r\n")) && !bytes.Contains(head, []byte("\n\n")) {
		if len(head) >= maxRequest {
			return
		}
		buf := make([]byte, 4096)
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return
		}
		head = append(head, buf[:n]...)
	}
	out := respond(head)
	for len(out) > 0 {
		n, err := unix.Write(fd, out)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		out = out[n:]
	}
	unix.Shutdown(fd, unix.SHUT_WR)
}

// respond makes the answer to a request's head.
func respond(head []byte) []byte {
	status, body := "200 OK", ""
	method, _, _ := bytes.Cut(head, []byte(" "))
	switch string(method) {
	case "GET", "HEAD":
		body = Page(Report())
	default:
		status, body = "405 Method Not Allowed", "only GET and HEAD\n"
	}
	h := "HTTP/1.1 " + status + "\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: " + strconv.Itoa(len(body)) +
		"\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
	if string(method) == "HEAD" {
		body = ""
	}
	return []byte(h + body)
}
