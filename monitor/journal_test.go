package monitor

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Lines become entries of the journal's native protocol, whatever bytes they
// have; a journal that is away holds nothing up, and what was lost is told.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	listen := func() *net.UnixConn {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := listen()
	w, err := openLog(&Config{LogDriver: LogJournald, LogPath: path, LogTag: "CONTAINER_NAME=c\n"})
	if err != nil {
		t.Fatal(err)
	}
	read := func() string {
		t.Helper()
		b := make([]byte, 4096)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	w.write(FrameStdout, []byte("a\x01b\nrest"))
	for _, want := range []string{
		"CONTAINER_NAME=c\nPRIORITY=6\nMESSAGE\n\x03\x00\x00\x00\x00\x00\x00\x00a\x01b\n",
		"CONTAINER_NAME=c\nPRIORITY=6\nCONTAINER_PARTIAL_MESSAGE=true\nMESSAGE\n\x04\x00\x00\x00\x00\x00\x00\x00rest\n",
	} {
		if got := read(); got != want {
			t.Errorf("entry %q, want %q", got, want)
		}
	}
	c.Close()
	w.write(FrameStderr, []byte("gone\n"))
	if w.lost != 4 {
		t.Errorf("%d bytes lost, want 4", w.lost)
	}
	os.Remove(path)
	c = listen()
	defer c.Close()
	w.write(FrameStderr, []byte("back\n"))
	if got := read(); !strings.HasSuffix(got, "hull: 4 bytes of output were lost: the journal took none\n") {
		t.Errorf("entry %q", got)
	}
	if got := read(); got != "CONTAINER_NAME=c\nPRIORITY=3\nMESSAGE\n\x04\x00\x00\x00\x00\x00\x00\x00back\n" {
		t.Errorf("entry %q", got)
	}
}
