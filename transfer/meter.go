package transfer

import (
	"io"

	"hull/oci"
)

// meter tells how far a blob is, not too often.
type meter struct {
	t       *Transfer
	r       io.Reader
	blob    oci.Digest
	size, n int64
	told    int64
}

// tellEvery is how many bytes pass between two Progress events.
const tellEvery = 512 << 10

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n += int64(n)
	if m.n-m.told >= tellEvery || err != nil {
		m.told = m.n
		m.t.notify(Event{Kind: Progress, Blob: m.blob, Size: m.size, Current: m.n})
	}
	return n, err
}
