package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Intents are the several-step changes that are under way below a root.
type Intents struct {
	dir     string
	durable bool
}

// An Intent says what a process is about to do. It stands until Done, also
// when that process dies.
type Intent struct {
	Kind    string          `json:"kind"`
	Owner   ProcessID       `json:"owner"`
	Boot    string          `json:"boot"`
	Payload json.RawMessage `json:"payload,omitempty"`

	name string
	set  *Intents
}

// OpenIntents returns the intents kept in dir, which is made when it is first
// needed. durable says that they must outlive a power cut.
func OpenIntents(dir string, durable bool) *Intents { return &Intents{dir, durable} }

// Begin records that the caller is about to do what payload describes.
func (s *Intents) Begin(kind string, payload any) (*Intent, error) {
	i := &Intent{Kind: kind, Owner: Self(), Boot: BootID(), set: s}
	i.name = kind + "-" + strconv.Itoa(i.Owner.Pid) + "-" + strconv.FormatUint(tmpCount.Add(1), 10) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := i.Update(payload); err != nil {
		return nil, fmt.Errorf("begin %s: %w", kind, err)
	}
	return i, nil
}

// Update replaces what the intent describes.
func (i *Intent) Update(payload any) error {
	p, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	i.Payload = p
	data, err := json.Marshal(i)
	if err != nil {
		return err
	}
	err = WriteFile(i.set.dir, i.name, data, 0o600, i.set.durable)
	if errors.Is(err, ErrNotExist) {
		if err := os.MkdirAll(i.set.dir, 0o700); err != nil {
			return err
		}
		err = WriteFile(i.set.dir, i.name, data, 0o600, i.set.durable)
	}
	return err
}

// Decode puts what the intent describes into payload.
func (i *Intent) Decode(payload any) error {
	if err := json.Unmarshal(i.Payload, payload); err != nil {
		return fmt.Errorf("read intent %s: %w", i.name, err)
	}
	return nil
}

// Done ends the intent: the change is complete, or undone. It is not synced:
// an intent that comes back after a power cut is completed once more, which
// must do no harm.
func (i *Intent) Done() error {
	err := os.Remove(filepath.Join(i.set.dir, i.name))
	if err != nil && !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("end intent %s: %w", i.name, err)
	}
	return nil
}

// Pending returns the intents whose owner is dead, oldest first as far as the
// clock tells. It costs one directory read when there are none. A record that
// cannot be read is passed over and reported together with the rest.
func (s *Intents) Pending() ([]*Intent, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list intents: %w", err)
	}
	var pending []*Intent
	var bad []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			continue
		}
		data, err := ReadFile(filepath.Join(s.dir, e.Name()))
		if errors.Is(err, ErrNotExist) {
			continue
		}
		i := &Intent{name: e.Name(), set: s}
		if err == nil {
			err = json.Unmarshal(data, i)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("read intent %s: %w", e.Name(), err))
			continue
		}
		if i.Boot != BootID() || !i.Owner.Alive() {
			pending = append(pending, i)
		}
	}
	return pending, errors.Join(bad...)
}
