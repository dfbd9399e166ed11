package engine

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// notifyPath is where a container finds the service manager's socket.
const notifyPath = "/run/notify/notify.sock"

// notifySocket is the socket of the service manager that started the engine,
// to be given to the container; "" when there is none or it is not to have it.
func notifySocket(o *CreateOptions) string {
	path := os.Getenv("NOTIFY_SOCKET")
	if o.SdNotify != "" || !strings.HasPrefix(path, "/") {
		return ""
	}
	if st, err := os.Stat(path); err != nil || st.Mode()&os.ModeSocket == 0 {
		return ""
	}
	return path
}

// notifyStarted tells the service manager which process to watch, and, unless
// the program says so itself, that it is ready. A manager that does not listen
// is no reason to fail.
func notifyStarted(o *CreateOptions, monitorPid int) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" || o.SdNotify == "ignore" {
		return
	}
	text := fmt.Sprintf("MAINPID=%d\n", monitorPid)
	if o.SdNotify == "conmon" {
		text += "READY=1\n"
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(text))
}
