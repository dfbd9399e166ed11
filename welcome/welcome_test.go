package welcome

import (
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReportTellsTheTruth(t *testing.T) {
	var b strings.Builder
	if code := Main(nil, &b, io.Discard); code != 0 {
		t.Fatalf("Main() = %d", code)
	}
	ns, _ := os.Readlink("/proc/self/ns/mnt")
	for _, want := range []string{"pid" + strings.Repeat(" ", 1), strconv.Itoa(os.Getpid()), ns, "Namespaces", "seccomp"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("report lacks %q:\n%s", want, b.String())
		}
	}
}

func TestCapabilities(t *testing.T) {
	for hex, want := range map[string]string{"0": "none", "1": "1: chown", "21": "2: chown kill", "1ffffffffff": "all 41", "x": "-"} {
		if got := capabilities(hex); got != want {
			t.Errorf("capabilities(%s) = %q, want %q", hex, got, want)
		}
	}
}

func TestPageEscapes(t *testing.T) {
	page := Page([]Section{{"A", "B", []Line{{"<i>", "<script>\x1b"}}}})
	if strings.Contains(page, "<script>") || strings.Contains(page, "\x1b") || !strings.Contains(page, "&lt;script&gt;?") {
		t.Errorf("Page = %q", page)
	}
}

func TestServe(t *testing.T) {
	fd, err := listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := 0
	switch a := sa.(type) {
	case *unix.SockaddrInet6:
		port = a.Port
	case *unix.SockaddrInet4:
		port = a.Port
	}
	go serve(fd)
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":  "200 OK",
		"HEAD / HTTP/1.0\r\n\r\n":            "200 OK",
		"POST / HTTP/1.1\r\nHost: x\r\n\r\n": "405 Method",
	} {
		c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, request)
		answer, _ := io.ReadAll(c)
		c.Close()
		if !strings.Contains(string(answer), want) {
			t.Errorf("%q answered %.60q, want %q", request, answer, want)
		}
		if strings.HasPrefix(request, "GET") && !strings.Contains(string(answer), "Namespaces") {
			t.Error("the page has no report")
		}
	}
}
