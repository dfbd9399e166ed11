package power

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// lazy is a FUSE file system that keeps what was not synced in memory. Its root
// has directories "0", which records, and "1", "2"…, trees that were cut of it.
type lazy struct {
	fuse.RawFileSystem
	dir string
	// calls is a file to which strace writes each syncfs that has ended: the
	// kernel tells a FUSE file system of none.
	calls string

	mu    sync.Mutex
	trees []*tree // guarded by mu, as is all that follows
	log   []treeOp
	next  uint64
	read  int64 // of calls
}

const (
	treeShift = 40 // a node's ID has its tree above its number
	topID     = 1
)

func newLazy(t *testing.T) *lazy {
	t.Helper()
	l := &lazy{RawFileSystem: fuse.NewDefaultRawFileSystem(), dir: t.TempDir(), calls: filepath.Join(t.TempDir(), "syncfs"), trees: []*tree{newTree()}, next: rootNumber + 1}
	server, err := fuse.NewServer(l, l.dir, &fuse.MountOptions{FsName: "lazy", Name: "lazy", DirectMount: true, MaxWrite: 1 << 20, DisableXAttrs: true, DisableReadDirPlus: true})
	if err != nil {
		t.Skipf("no FUSE: %v", err)
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if server.Unmount() != nil {
			if err := unix.Unmount(l.dir, unix.MNT_DETACH); err != nil {
				t.Errorf("unmount: %v", err)
			}
		}
	})
	return l
}

// heed notes the calls of syncfs that have ended. strace lets the caller go on
// only after it has written, so every operation here sees the syncs before it.
func (l *lazy) heed() {
	f, err := os.Open(l.calls)
	if err != nil {
		return
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	n, _ := f.ReadAt(buf, l.read)
	if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
		l.read += int64(i) + 1
		for range bytes.Count(buf[:i+1], []byte(") = 0\n")) {
			l.do(treeOp{kind: opSyncAll})
		}
	}
}

func (l *lazy) do(op treeOp) {
	op.time = uint64(time.Now().Unix())
	l.trees[0].apply(op)
	l.log = append(l.log, op)
}

func (l *lazy) position() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heed()
	return len(l.log)
}

// add shows a tree and returns its directory.
func (l *lazy) add(t *tree) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trees = append(l.trees, t)
	return filepath.Join(l.dir, strconv.Itoa(len(l.trees)-1))
}

func (l *lazy) drop(dir string) {
	n, _ := strconv.Atoi(filepath.Base(dir))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trees[n] = nil
}

// at returns the tree and the node of an ID.
func (l *lazy) at(id uint64) (which int, n *node) {
	which = int(id >> treeShift)
	if which < len(l.trees)+1 && which > 0 && l.trees[which-1] != nil {
		n = l.trees[which-1].nodes[id&(1<<treeShift-1)]
	}
	return which - 1, n
}

// change does op in a tree; only the first is recorded.
func (l *lazy) change(which int, op treeOp) {
	if which == 0 {
		l.do(op)
		return
	}
	l.trees[which].apply(op)
}

func (l *lazy) entry(which int, n *node, out *fuse.EntryOut) {
	base := uint64(which+1) << treeShift
	out.NodeId, out.Generation = base|n.number, 1
	n.attr(base, &out.Attr)
}

func (l *lazy) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.NodeId == topID {
		which, err := strconv.Atoi(name)
		if err != nil || which >= len(l.trees) || l.trees[which] == nil {
			return fuse.ENOENT
		}
		l.entry(which, l.trees[which].nodes[rootNumber], out)
		return fuse.OK
	}
	which, dir := l.at(h.NodeId)
	if dir == nil || !dir.isDir() {
		return fuse.ENOENT
	}
	n := dir.entries[name]
	if name == ".." {
		n = dir.parent
	}
	if n == nil {
		return fuse.ENOENT
	}
	l.entry(which, n, out)
	return fuse.OK
}

func (l *lazy) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in.NodeId == topID {
		out.Attr = fuse.Attr{Ino: topID, Mode: fuse.S_IFDIR | 0o755, Nlink: 2}
		return fuse.OK
	}
	which, n := l.at(in.NodeId)
	if n == nil {
		return fuse.ENOENT
	}
	n.attr(uint64(which+1)<<treeShift, &out.Attr)
	return fuse.OK
}

func (l *lazy) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heed()
	which, n := l.at(in.NodeId)
	if n == nil {
		return fuse.ENOENT
	}
	op := treeOp{kind: opOwner, node: n.number, mode: n.mode, uid: n.uid, gid: n.gid}
	if mode, ok := in.GetMode(); ok {
		op.mode = n.mode&syscall.S_IFMT | mode&0o7777
	}
	if uid, ok := in.GetUID(); ok {
		op.uid = uid
	}
	if gid, ok := in.GetGID(); ok {
		op.gid = gid
	}
	if op.mode != n.mode || op.uid != n.uid || op.gid != n.gid {
		l.change(which, op)
	}
	if size, ok := in.GetSize(); ok {
		l.change(which, treeOp{kind: opTruncate, node: n.number, off: int64(size)})
	}
	if mtime, ok := in.GetMTime(); ok {
		n.mtime = uint64(mtime.Unix())
	}
	n.attr(uint64(which+1)<<treeShift, &out.Attr)
	return fuse.OK
}

// make is what Create, Mkdir, Mknod and Symlink have in common.
func (l *lazy) make(h *fuse.InHeader, name string, op treeOp, out *fuse.EntryOut) fuse.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heed()
	which, dir := l.at(h.NodeId)
	switch {
	case dir == nil:
		return fuse.EPERM
	case dir.entries[name] != nil:
		return fuse.Status(syscall.EEXIST)
	}
	op.kind, op.dir, op.name, op.node, op.uid, op.gid = opMake, dir.number, name, l.next, h.Uid, h.Gid
	l.next++
	l.change(which, op)
	l.entry(which, l.trees[which].nodes[op.node], out)
	return fuse.OK
}

func (l *lazy) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return l.make(&in.InHeader, name, treeOp{mode: syscall.S_IFDIR | in.Mode&^in.Umask&0o7777}, out)
}

func (l *lazy) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return l.make(&in.InHeader, name, treeOp{mode: in.Mode &^ in.Umask}, out)
}

func (l *lazy) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return l.make(h, name, treeOp{mode: syscall.S_IFLNK | 0o777, target: target}, out)
}

func (l *lazy) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return l.make(&in.InHeader, name, treeOp{mode: syscall.S_IFREG | in.Mode&^in.Umask&0o7777}, &out.EntryOut)
}

func (l *lazy) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, n := l.at(h.NodeId)
	if n == nil {
		return nil, fuse.ENOENT
	}
	return []byte(n.target), fuse.OK
}

func (l *lazy) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heed()
	which, dir := l.at(in.NodeId)
	_, n := l.at(in.Oldnodeid)
	if dir == nil || n == nil {
		return fuse.ENOENT
	}
	if dir.entries[name] != nil {
		return fuse.Status(syscall.EEXIST)
	}
	l.change(which, treeOp{kind: opLink, dir: dir.number, name: name, node: n.number})
	l.entry(which, n, out)
	return fuse.OK
}

func (l *lazy) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return l.unlink(h, name, false)
}

func (l *lazy) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return l.unlink(h, name, true)
}

func (l *lazy) unlink(h *fuse.InHeader, name string, isDir bool) fuse.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heed()
	which, dir := l.at(h.NodeId)
	switch {
	case dir == nil || dir.entries[name] == nil:
		return fuse.ENOENT
	case isDir && len(dir.entries[name].entries) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	l.change(which, treeOp{kind: opUnlink, dir: dir.number, name: name})
	return fuse.OK
}

func (l *lazy) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heed()
	which, dir := l.at(in.NodeId)
	_, into := l.at(in.Newdir)
	if dir == nil || into == nil || dir.entries[from] == nil {
		return fuse.ENOENT
	}
	op := treeOp{kind: opRename, dir: dir.number, name: from, to: into.number, as: to}
	there := into.entries[to]
	switch {
	case in.Flags&unix.RENAME_EXCHANGE != 0:
		if op.kind = opExchange; there == nil {
			return fuse.ENOENT
		}
	case in.Flags&unix.RENAME_WHITEOUT != 0:
		return fuse.EINVAL
	case there != nil && in.Flags&unix.RENAME_NOREPLACE != 0:
		return fuse.Status(syscall.EEXIST)
	case there != nil && len(there.entries) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	l.change(which, op)
	return fuse.OK
}

func (l *lazy) Open(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	which, n := l.at(in.NodeId)
	if n == nil {
		return fuse.ENOENT
	}
	if in.Flags&syscall.O_TRUNC != 0 && len(n.data) > 0 {
		l.heed()
		l.change(which, treeOp{kind: opTruncate, node: n.number})
	}
	return fuse.OK
}

func (l *lazy) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, n := l.at(in.NodeId)
	if n == nil {
		return nil, fuse.EIO
	}
	// Bytes are never changed in place, so they may be sent later.
	data := n.data[min(int(in.Offset), len(n.data)):]
	return fuse.ReadResultData(data[:min(len(data), len(buf))]), fuse.OK
}

func (l *lazy) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heed()
	which, n := l.at(in.NodeId)
	if n == nil {
		return 0, fuse.EIO
	}
	l.change(which, treeOp{kind: opWrite, node: n.number, off: int64(in.Offset), data: slices.Clone(data)})
	return uint32(len(data)), fuse.OK
}

func (l *lazy) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heed()
	if which, n := l.at(in.NodeId); n != nil {
		l.change(which, treeOp{kind: opSync, node: n.number})
	}
	return fuse.OK
}

func (l *lazy) FsyncDir(c <-chan struct{}, in *fuse.FsyncIn) fuse.Status { return l.Fsync(c, in) }

func (l *lazy) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (l *lazy) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, dir := l.at(in.NodeId)
	if dir == nil {
		return fuse.OK // of the top nobody asks
	}
	names := dir.names()
	slices.Sort(names)
	for i := int(in.Offset); i < len(names); i++ {
		n := dir.entries[names[i]]
		if !out.AddDirEntry(fuse.DirEntry{Name: names[i], Mode: n.mode, Ino: n.number, Off: uint64(i) + 1}) {
			break
		}
	}
	return fuse.OK
}

func (l *lazy) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{Blocks: 1 << 20, Bfree: 1 << 19, Bavail: 1 << 19, Files: 1 << 20, Ffree: 1 << 19, Bsize: pageSize, Frsize: pageSize, NameLen: 255}
	return fuse.OK
}
