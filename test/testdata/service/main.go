// A service that speaks to systemd: "notify LINE..." sends its arguments to
// $NOTIFY_SOCKET, one message each, and stays; "listen" says what it got and
// answers one connection on descriptor 3.
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if args[0] == "listen" {
		fmt.Println(os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDNAMES"), os.Getpid())
		l, err := net.FileListener(os.NewFile(3, "socket"))
		if err != nil {
			return err
		}
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c, "hello")
		c.Close()
		return err
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"})
	if err != nil {
		return err
	}
	for _, text := range args[1:] {
		if text == "watchdog" {
			text = "STATUS=watchdog " + os.Getenv("WATCHDOG_USEC")
		}
		if _, err := c.Write([]byte(text)); err != nil {
			return err
		}
	}
	time.Sleep(time.Minute)
	return nil
}
