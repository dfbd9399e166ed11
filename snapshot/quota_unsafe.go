package snapshot

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A snapshot's size is limited by a project quota: files below a directory
// belong to the project of that directory, and xfs and ext4 count what a
// project has, where they are mounted with prjquota.

// fsxattr is struct fsxattr of linux/fs.h.
type fsxattr struct {
	xflags, extsize, nextents, projid, cowextsize uint32
	_                                             [8]byte
}

// diskQuota is struct fs_disk_quota of linux/dqblk_xfs.h; blocks have 512 bytes.
type diskQuota struct {
	version, flags                             int8
	fieldmask                                  uint16
	id                                         uint32
	blockHard, blockSoft, inodeHard, inodeSoft uint64
	blocks, inodes                             uint64
	inodeTimer, blockTimer                     int32
	inodeWarns, blockWarns                     uint16
	_                                          [4]byte
	rtHard, rtSoft, rtBlocks                   uint64
	rtTimer                                    int32
	rtWarns                                    uint16
	_                                          [10]byte
}

const (
	fsGetXattr  = 0x801c581f
	fsSetXattr  = 0x401c5820
	projInherit = 0x200

	projectQuota = 2
	getQuota     = 0x5803<<8 | projectQuota
	setLimit     = 0x5804<<8 | projectQuota
	fieldInodes  = 1 << 1
	fieldBlocks  = 1 << 3
)

// projectsFrom are where the numbers of snapshots' projects begin: what an
// administrator chose himself is below.
const projectsFrom = 1 << 30

func getFsxattr(dir *os.File) (fsxattr, error) {
	var x fsxattr
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), fsGetXattr, uintptr(unsafe.Pointer(&x))); errno != 0 {
		return x, errno
	}
	return x, nil
}

func setProject(dir *os.File, id uint32) error {
	x, err := getFsxattr(dir)
	if err != nil {
		return err
	}
	x.projid, x.xflags = id, x.xflags|projInherit
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), fsSetXattr, uintptr(unsafe.Pointer(&x))); errno != 0 {
		return errno
	}
	return nil
}

func quotactl(dir *os.File, cmd uintptr, id uint32, q *diskQuota) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, dir.Fd(), cmd, uintptr(id), uintptr(unsafe.Pointer(q)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// A Limit bounds what a directory holds; 0 is no bound.
type Limit struct{ Bytes, Inodes int64 }

func setProjectLimit(dir *os.File, id uint32, l Limit) error {
	q := diskQuota{version: 1, flags: projectQuota, fieldmask: fieldBlocks | fieldInodes, id: id,
		blockHard: uint64(l.Bytes+511) / 512, inodeHard: uint64(l.Inodes)}
	return quotactl(dir, setLimit, id, &q)
}

// LimitDirectory gives the directory path, which is empty, and what will be
// below it a project of its own with that limit. name tells it from others.
// Unlimit it when it is removed.
func LimitDirectory(path, name string, l Limit) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	h := fnv.New32a()
	h.Write([]byte(name))
	id := projectsFrom | h.Sum32()>>2
	for range 1000 {
		var q diskQuota
		err = quotactl(dir, getQuota, id, &q)
		if err == unix.ENOENT || err == nil && q.blockHard == 0 && q.inodeHard == 0 && q.blocks == 0 {
			break
		}
		if err != nil {
			return noQuota(path, err)
		}
		id = projectsFrom | (id + 1) // another snapshot has it
	}
	if err := setProjectLimit(dir, id, l); err != nil {
		return noQuota(path, err)
	}
	if err := setProject(dir, id); err != nil {
		return errors.Join(noQuota(path, err), setProjectLimit(dir, id, Limit{}))
	}
	return nil
}

func noQuota(path string, err error) error {
	if errors.Is(err, unix.EPERM) {
		return &hintError{fmt.Errorf("size=: set a project quota: %w", err), "only root limits the size of directories; a tmpfs (--tmpfs, --mount type=tmpfs,tmpfs-size=) has a size for users too"}
	}
	return &hintError{fmt.Errorf("size=: the file system of %s has no project quota: %w", path, err),
		"keep the store on xfs, or ext4 made with -O project,quota, mounted with prjquota"}
}

// ProjectOf is the project that LimitDirectory gave a directory, 0 for none.
func ProjectOf(path string) uint32 {
	dir, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer dir.Close()
	x, err := getFsxattr(dir)
	if err != nil || x.xflags&projInherit == 0 || x.projid < projectsFrom {
		return 0
	}
	return x.projid
}

// Unlimit forgets the limit of a project that has no files any more, on the
// file system of path.
func Unlimit(path string, id uint32) error {
	if id == 0 {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return setProjectLimit(dir, id, Limit{})
}
