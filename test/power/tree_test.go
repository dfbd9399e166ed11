package power

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A node is a file of a tree, as the page cache has it, and what of a regular
// file is on the disk.
type node struct {
	number         uint64
	mode, uid, gid uint32
	links          uint32
	mtime          uint64
	data           []byte
	target         string           // of a symbolic link
	entries        map[string]*node // of a directory
	parent         *node            // of a directory
	kept           []byte           // of a regular file, at its last fsync
	synced         bool             // kept is something
}

func (n *node) isDir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

// A treeOp is one change, by the numbers of the nodes it is about.
type treeOp struct {
	kind     opKind
	dir, to  uint64 // directories
	name, as string
	node     uint64 // what is made or changed
	mode     uint32
	uid, gid uint32
	off      int64
	data     []byte
	target   string
	time     uint64
}

type opKind int

const (
	opMake opKind = iota // node, in dir as name; without a name it has none yet
	opLink
	opUnlink
	opRename
	opExchange
	opOwner // mode, uid, gid
	opWrite
	opTruncate // to off
	opSync     // of node
	opSyncAll
)

// ofData says which operations wait for the sync of their own file; the others
// are the directory tree's, whose order a journal keeps.
func (k opKind) ofData() bool { return k == opWrite || k == opTruncate }
func (k opKind) isSync() bool { return k == opSync || k == opSyncAll }

// A tree is a file system in memory.
type tree struct{ nodes map[uint64]*node }

const rootNumber = 1

func newTree() *tree {
	root := &node{number: rootNumber, mode: syscall.S_IFDIR | 0o755, links: 2, entries: map[string]*node{}}
	root.parent = root
	return &tree{map[uint64]*node{rootNumber: root}}
}

// apply does op, which was possible when it was recorded. In a tree that has
// lost some operations it may not be: then it does nothing.
func (t *tree) apply(op treeOp) {
	dir, n := t.nodes[op.dir], t.nodes[op.node]
	switch op.kind {
	case opMake:
		n = &node{number: op.node, mode: op.mode, uid: op.uid, gid: op.gid, target: op.target, mtime: op.time}
		if n.isDir() {
			n.entries, n.parent, n.links = map[string]*node{}, dir, 1
		}
		t.nodes[op.node] = n
		if op.name != "" && dir != nil {
			dir.entries[op.name] = n
			n.links++
		}
	case opLink:
		if dir != nil && n != nil {
			dir.entries[op.name] = n
			n.links++
		}
	case opUnlink:
		if dir != nil {
			dir.remove(op.name)
		}
	case opRename:
		to := t.nodes[op.to]
		if dir == nil || to == nil || dir.entries[op.name] == nil {
			return
		}
		moved := dir.entries[op.name]
		if to.entries[op.as] == moved {
			return
		}
		to.remove(op.as)
		delete(dir.entries, op.name)
		to.entries[op.as] = moved
		if moved.isDir() {
			moved.parent = to
		}
	case opExchange:
		if to := t.nodes[op.to]; dir != nil && to != nil {
			a, b := dir.entries[op.name], to.entries[op.as]
			if a != nil && b != nil {
				dir.entries[op.name], to.entries[op.as] = b, a
				if a.isDir() {
					a.parent = to
				}
				if b.isDir() {
					b.parent = dir
				}
			}
		}
	default:
		t.change(n, op)
	}
}

func (n *node) remove(name string) {
	if old := n.entries[name]; old != nil {
		old.links--
		if old.isDir() {
			old.links = 0
		}
		delete(n.entries, name)
	}
}

// change does what is about one file.
func (t *tree) change(n *node, op treeOp) {
	if op.kind == opSyncAll {
		for _, n := range t.nodes {
			n.kept, n.synced = n.data, true
		}
		return
	}
	if n == nil {
		return
	}
	switch op.kind {
	case opOwner:
		n.mode, n.uid, n.gid = op.mode, op.uid, op.gid
	case opWrite:
		// What was kept stays as it was: bytes are never changed in place.
		grown := make([]byte, max(len(n.data), int(op.off)+len(op.data)))
		copy(grown, n.data)
		copy(grown[op.off:], op.data)
		n.data, n.mtime = grown, op.time
	case opTruncate:
		size := make([]byte, op.off)
		copy(size, n.data)
		n.data, n.mtime = size, op.time
	case opSync:
		n.kept, n.synced = n.data, true
	}
}

// cut returns what a power cut after some of the operations may leave. The
// tree of names is a journal's: it is as it was at the last sync of anything, or
// at a moment since. The bytes of a file are those of its own last sync; share,
// from 0 to 1, is how much else has come to the disk by chance.
func cut(log []treeOp, share float64, random *rand.Rand) *tree {
	upTo := len(log)
	for upTo > 0 && !log[upTo-1].kind.isSync() {
		upTo--
	}
	upTo += int(share * float64(len(log)-upTo))
	t := newTree()
	for i, op := range log {
		if i < upTo || op.kind.ofData() {
			t.apply(op)
		}
	}
	reached := map[uint64]*node{}
	t.nodes[rootNumber].reach(reached)
	t.nodes = reached
	for _, n := range reached {
		if n.mode&syscall.S_IFMT == syscall.S_IFREG && !(n.synced && bytes.Equal(n.kept, n.data)) {
			n.data = n.survives(share, random)
		}
	}
	return t
}

func (n *node) reach(seen map[uint64]*node) {
	if seen[n.number] == nil {
		seen[n.number] = n
		for _, e := range n.entries {
			e.reach(seen)
		}
	}
}

// survives is what is left of a file that was written since its last sync.
func (n *node) survives(share float64, random *rand.Rand) []byte {
	switch {
	case share == 1:
		return n.data
	case share == 0 || random.IntN(3) == 0:
		return n.kept // nothing of it, and of a new file its name alone
	case random.IntN(2) == 0:
		return make([]byte, len(n.data)) // its size, but not its bytes
	}
	torn := append([]byte{}, n.data...) // the front of it
	clear(torn[random.IntN(len(torn)+1)/sectorSize*sectorSize:])
	return torn
}

// attr fills in what stat tells; base tells the trees of one mount apart.
func (n *node) attr(base uint64, a *fuse.Attr) {
	*a = fuse.Attr{Ino: base | n.number, Mode: n.mode, Nlink: n.links, Size: uint64(len(n.data)), Mtime: n.mtime, Ctime: n.mtime, Atime: n.mtime, Blksize: pageSize}
	a.Uid, a.Gid = n.uid, n.gid
	a.Blocks = (a.Size + 511) / 512
	if n.target != "" {
		a.Size = uint64(len(n.target))
	}
	if n.isDir() {
		a.Nlink = 2
	}
}

func (n *node) names() []string {
	var out []string
	for name := range maps.Keys(n.entries) {
		out = append(out, name)
	}
	return out
}
