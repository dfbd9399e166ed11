package power

import (
	"maps"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	pageSize   = 4096
	sectorSize = 512
	diskSize   = 400 << 20
)

// pages are what a disk holds, by number. A page is replaced, never changed.
type pages map[int64]*[pageSize]byte

func (p pages) read(buf []byte, off int64) {
	for len(buf) > 0 {
		n := min(len(buf), int(pageSize-off%pageSize))
		if page := p[off/pageSize]; page != nil {
			copy(buf[:n], page[off%pageSize:])
		} else {
			clear(buf[:n])
		}
		buf, off = buf[n:], off+int64(n)
	}
}

func (p pages) write(data []byte, off int64) {
	for len(data) > 0 {
		n := min(len(data), int(pageSize-off%pageSize))
		page := new([pageSize]byte)
		if old := p[off/pageSize]; old != nil && n < pageSize {
			*page = *old
		}
		copy(page[off%pageSize:], data[:n])
		p[off/pageSize] = page
		data, off = data[n:], off+int64(n)
	}
}

// A blockOp is a write, or a flush when it has no data.
type blockOp struct {
	off  int64
	data []byte
}

// blocks is a FUSE file system whose files are disks. The first, "0", records.
type blocks struct {
	fuse.RawFileSystem
	dir string

	mu    sync.Mutex
	disks []pages // by node, less 2; guarded by mu
	log   []blockOp
}

func newBlocks(t *testing.T) *blocks {
	t.Helper()
	b := &blocks{RawFileSystem: fuse.NewDefaultRawFileSystem(), dir: t.TempDir(), disks: []pages{{}}}
	server, err := fuse.NewServer(b, b.dir, &fuse.MountOptions{FsName: "blocks", Name: "blocks", DirectMount: true, MaxWrite: 1 << 20, DisableXAttrs: true})
	if err != nil {
		t.Skipf("no FUSE: %v", err)
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 20 { // a loop device ends a moment after its mount
			if server.Unmount() == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		// Another process made its mount namespace meanwhile, and has copies.
		if err := unix.Unmount(b.dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount the disks: %v", err)
		}
	})
	return b
}

// position is a place in the log.
func (b *blocks) position() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.log)
}

// cut makes a disk as a power cut at that place may leave it: what was flushed,
// and of what was written since a random part, the last of it perhaps torn.
// share is what part of it, from 0 to 1.
func (b *blocks) cut(at int, share float64, random *rand.Rand) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	flushed := at
	for flushed > 0 && b.log[flushed-1].data != nil {
		flushed--
	}
	disk := pages{}
	for i, op := range b.log[:at] {
		switch {
		case i < flushed || random.Float64() < share:
			disk.write(op.data, op.off)
		case share > 0 && random.IntN(4) == 0:
			n := random.IntN(len(op.data)/sectorSize+1) * sectorSize
			disk.write(op.data[:n], op.off)
		}
	}
	b.disks = append(b.disks, disk)
	return filepath.Join(b.dir, strconv.Itoa(len(b.disks)-1))
}

// drop forgets a disk that was made by cut.
func (b *blocks) drop(file string) {
	n, _ := strconv.Atoi(filepath.Base(file))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.disks[n] = nil
}

// forgetLog begins to record now, on what the disk holds.
func (b *blocks) forgetLog() {
	b.mu.Lock()
	defer b.mu.Unlock()
	base := maps.Clone(b.disks[0])
	b.log = nil
	for n, page := range base {
		b.log = append(b.log, blockOp{n * pageSize, page[:]})
	}
	b.log = append(b.log, blockOp{})
}

func (b *blocks) attr(node uint64, a *fuse.Attr) {
	*a = fuse.Attr{Ino: node, Mode: fuse.S_IFREG | 0o600, Nlink: 1, Size: diskSize, Blocks: diskSize / 512}
	if node == 1 {
		a.Mode, a.Nlink, a.Size = fuse.S_IFDIR|0o700, 2, 0
	}
}

func (b *blocks) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	b.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (b *blocks) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	b.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (b *blocks) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	n, err := strconv.Atoi(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || n >= len(b.disks) || b.disks[n] == nil {
		return fuse.ENOENT
	}
	out.NodeId = uint64(n) + 2
	b.attr(out.NodeId, &out.Attr)
	return fuse.OK
}

func (b *blocks) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	buf = buf[:min(int64(len(buf)), max(diskSize-int64(in.Offset), 0))]
	b.disks[in.NodeId-2].read(buf, int64(in.Offset))
	return fuse.ReadResultData(buf), fuse.OK
}

func (b *blocks) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.disks[in.NodeId-2].write(data, int64(in.Offset))
	if in.NodeId == 2 {
		b.log = append(b.log, blockOp{int64(in.Offset), append([]byte{}, data...)})
	}
	return uint32(len(data)), fuse.OK
}

func (b *blocks) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	if in.NodeId == 2 {
		b.log = append(b.log, blockOp{})
	}
	return fuse.OK
}

// mountDisk makes a file system on the recorded disk and mounts it.
func (b *blocks) mountDisk(t *testing.T, kind string) string {
	t.Helper()
	file, dir := filepath.Join(b.dir, "0"), t.TempDir()
	args := map[string][]string{"ext4": {"-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"}, "xfs": {"-q", "-K"}}[kind]
	if out, err := exec.Command("mkfs."+kind, append(args, file)...).CombinedOutput(); err != nil {
		t.Skipf("no %s: %v: %s", kind, err, out)
	}
	if out, err := exec.Command("mount", "-t", kind, "-o", "loop", file, dir).CombinedOutput(); err != nil {
		t.Skipf("mount %s: %v: %s", kind, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	exec.Command("sync", "-f", dir).Run()
	b.forgetLog()
	return dir
}

// flushes counts, for the report.
func (b *blocks) flushes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, op := range b.log {
		if op.data == nil {
			n++
		}
	}
	return n
}
