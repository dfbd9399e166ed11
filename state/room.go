package state

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// What large writes leave free: a twentieth of the file system, but no more
// than a gigabyte, so that the machine goes on (STO-05).
const (
	reserveShare = 20
	maxReserve   = 1 << 30
)

// A RoomError reports a file system that is nearly full. It is unix.ENOSPC to
// errors.Is.
type RoomError struct{ Left, Reserve uint64 } // bytes

func (e *RoomError) Error() string {
	return fmt.Sprintf("no space left: %d bytes are free, and %d stay in reserve", e.Left, e.Reserve)
}

func (e *RoomError) Unwrap() error { return unix.ENOSPC }

// Hint is the cure.
func (e *RoomError) Hint() string { return "make room: hull system prune removes what is not used" }

// CheckRoom returns a RoomError when the file system that f is on is nearly full.
func CheckRoom(f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("look at the room on a file system: %w", err)
	}
	unit := uint64(st.Bsize)
	if reserve := min(st.Blocks*unit/reserveShare, maxReserve); st.Bavail*unit < reserve {
		return &RoomError{st.Bavail * unit, reserve}
	}
	return nil
}
