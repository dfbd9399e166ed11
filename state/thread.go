package state

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// OnLostThread runs f on a thread that ends with it, for calls that change the
// thread for good, as joining a mount namespace does. It is never the process's
// first thread: that one cannot end, and /proc/self would show what it has
// become.
func OnLostThread(f func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// As long as this goroutine holds the first thread, the next gets another.
			OnLostThread(f)
			runtime.UnlockOSThread()
			close(done)
			return
		}
		defer close(done)
		f()
	}()
	<-done
}
