package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// With btrfs each directory is a subvolume: a copy of one is made at once,
// whatever it holds, and shares the blocks.

// The requests of linux/btrfs.h.
const (
	btrfsSubvolCreate = 0x5000940e
	btrfsSnapDestroy  = 0x5000940f
	btrfsSnapCreateV2 = 0x50009417
)

// btrfsArgs is struct btrfs_ioctl_vol_args.
type btrfsArgs struct {
	fd   int64
	name [4088]byte
}

// btrfsArgsV2 is struct btrfs_ioctl_vol_args_v2.
type btrfsArgsV2 struct {
	fd             int64
	transid, flags uint64
	unused         [4]uint64
	name           [4040]byte
}

// btrfsIoctl asks the directory above path. Preconditions: arg points to the
// structure that req takes, and lives on.
func btrfsIoctl(path string, req uintptr, arg unsafe.Pointer) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), req, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

func btrfsCreate(path string) error {
	var a btrfsArgs
	copy(a.name[:len(a.name)-1], filepath.Base(path))
	if err := btrfsIoctl(path, btrfsSubvolCreate, unsafe.Pointer(&a)); err != nil {
		return fmt.Errorf("make subvolume: %w", err)
	}
	return unix.Chmod(path, 0o700)
}

func btrfsClone(path, below string) error {
	src, err := os.Open(below)
	if err != nil {
		return err
	}
	defer src.Close()
	a := btrfsArgsV2{fd: int64(src.Fd())}
	copy(a.name[:len(a.name)-1], filepath.Base(path))
	if err := btrfsIoctl(path, btrfsSnapCreateV2, unsafe.Pointer(&a)); err != nil {
		return fmt.Errorf("make snapshot of subvolume %s: %w", below, err)
	}
	return nil
}

// btrfsDestroy fails where a container made subvolumes of its own, and for a
// user on a file system without user_subvol_rm_allowed.
func btrfsDestroy(path string) {
	var a btrfsArgs
	copy(a.name[:len(a.name)-1], filepath.Base(path))
	_ = btrfsIoctl(path, btrfsSnapDestroy, unsafe.Pointer(&a))
}

func btrfsUsable(dir string) error {
	magic, err := fileSystemOf(dir)
	if err != nil {
		return err
	}
	if magic != magicBtrfs {
		return &hintError{fmt.Errorf("driver btrfs: %s is not on a btrfs file system", dir), "take another store by --root, or another driver"}
	}
	return nil
}
