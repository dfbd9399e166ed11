package monitor

import "encoding/binary"

// What a plan says on its report pipe; package plan, which this binary cannot
// afford, has the words: a message whose first word is small is the pid, any
// other has a second word. They come in any order, since the two halves of the
// plan's fork do not wait for each other.
const (
	smallestTag = 1 << 32
	tagCreated  = ^uint64(0)
)

// parseReport reads what has come so far. pid is its eight bytes, nil while
// unknown; failed says that a step failed.
func parseReport(said []byte) (pid []byte, created, failed bool) {
	for len(said) >= 8 {
		first := binary.NativeEndian.Uint64(said)
		if first < smallestTag {
			pid, said = said[:8], said[8:]
			continue
		}
		if len(said) < 16 {
			break
		}
		if first == tagCreated {
			created = true
		} else {
			failed = true
		}
		said = said[16:]
	}
	return pid, created, failed
}
