package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hull/state"
)

// PodOptions are everything that can be said about a pod before it exists.
type PodOptions struct {
	// Name is chosen when empty. Replace removes another of that name first.
	Name    string            `json:",omitempty"`
	Replace bool              `json:"-"`
	Labels  map[string]string `json:",omitempty"`
	// Share are the namespaces that members join: net ipc uts pid cgroup user,
	// or none; nil is net, ipc and uts.
	Share []string `json:",omitempty"`
	// NoShareParent leaves members out of the pod's cgroup.
	NoShareParent bool   `json:",omitempty"`
	CgroupParent  string `json:",omitempty"`
	// ExitPolicy is continue (""), or stop: the pod stops with the last of its
	// containers.
	ExitPolicy string `json:",omitempty"`
	// Restart is the policy of members that say none.
	Restart string `json:",omitempty"`
	// NoInfra makes no container to hold the namespaces: members share nothing.
	NoInfra bool `json:",omitempty"`
	// Infra is that container: what is said of the pod's network, ports, hosts,
	// names, volumes, devices, sysctls and ids is said of it. Without an image
	// it is a process of this program's own that waits.
	Infra CreateOptions `json:",omitzero"`
	// Resources limit all members together.
	Resources     Resources `json:",omitzero"`
	CreateCommand []string  `json:",omitempty"`
}

// A podRecord is a pod as it is kept. Its members are the containers whose
// records name it.
type podRecord struct {
	Version int
	ID      string
	Name    string
	Created time.Time
	Options PodOptions
	// Infra is the ID of the container that holds the namespaces.
	Infra string `json:",omitempty"`
	// Incomplete marks a pod that is being created.
	Incomplete bool `json:",omitempty"`
}

// Namespaces that a pod can share.
var podNamespaces = []string{"cgroup", "ipc", "net", "pid", "user", "uts"}

// shares are the pod's shared namespaces, sorted.
func (p *podRecord) shares() []string {
	switch {
	case p.Options.NoInfra:
		return nil
	case p.Options.Share == nil:
		out := []string{"ipc", "net", "uts"}
		if p.ownIDs() {
			out = []string{"ipc", "net", "user", "uts"}
		}
		return out
	}
	out := slices.Clone(p.Options.Share)
	if p.ownIDs() && !slices.Contains(out, "user") {
		out = append(out, "user")
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(s string) bool { return s == "none" || s == "" })
}

// ownIDs says whether the pod was given a user namespace.
func (p *podRecord) ownIDs() bool {
	o := &p.Options.Infra
	return o.UserNS != "" && o.UserNS != "host" || len(o.UIDMap) > 0 || len(o.GIDMap) > 0 || o.SubUIDName != "" || o.SubGIDName != ""
}

func (e *Engine) podsDir() string          { return filepath.Join(e.o.Root, "pods") }
func (e *Engine) podFile(id string) string { return filepath.Join(e.podsDir(), id+".json") }
func (e *Engine) podExists(id string) bool { return fileExists(e.podFile(id)) }
func podNotFound(name string) error {
	return fmt.Errorf("no pod with name or ID %s found: no such pod: %w", name, ErrNotFound)
}

func (e *Engine) loadPod(id string) (*podRecord, error) {
	data, err := os.ReadFile(e.podFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, podNotFound(id)
	}
	p := new(podRecord)
	if err == nil {
		err = json.Unmarshal(data, p)
	}
	if err != nil {
		return nil, fmt.Errorf("read pod %s: %w", id, err)
	}
	if p.Version > recordVersion {
		return nil, fmt.Errorf("read pod %s: its record is of a newer version (%d) of this program", id, p.Version)
	}
	return p, nil
}

func (e *Engine) savePod(p *podRecord) error {
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write pod %s: %w", p.Name, err)
	}
	err = state.WriteFile(e.podsDir(), p.ID+".json", data, 0o600, true)
	if errors.Is(err, fs.ErrNotExist) {
		if err = e.prepareRoot(); err == nil {
			if err = os.MkdirAll(e.podsDir(), 0o700); err == nil {
				err = state.WriteFile(e.podsDir(), p.ID+".json", data, 0o600, true)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("write pod %s: %w", p.Name, err)
	}
	return nil
}

// pods reads every pod's record, oldest first.
func (e *Engine) pods() ([]*podRecord, error) {
	entries, err := state.ReadDir(e.podsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var all []*podRecord
	for _, d := range entries {
		id, ok := strings.CutSuffix(d.Name(), ".json")
		if !ok || len(id) != 64 || !isHex(id) {
			continue
		}
		p, err := e.loadPod(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			e.warn("%v", err)
			continue
		}
		if !p.Incomplete {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *podRecord) int { return a.Created.Compare(b.Created) })
	return all, nil
}

// openPod finds a pod by its name, ID or the beginning of its ID.
func (e *Engine) openPod(name string) (*podRecord, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return nil, podNotFound(name)
	}
	if id, err := os.Readlink(filepath.Join(e.nameDirs()[1], name)); err == nil && e.podExists(id) {
		return e.loadPod(id)
	}
	if len(name) == 64 && e.podExists(name) {
		return e.loadPod(name)
	}
	if !isHex(name) {
		return nil, podNotFound(name)
	}
	all, err := e.pods()
	if err != nil {
		return nil, err
	}
	var found *podRecord
	for _, p := range all {
		if strings.HasPrefix(p.ID, name) {
			if found != nil {
				return nil, fmt.Errorf("pod %q: %w", name, ErrAmbiguous)
			}
			found = p
		}
	}
	if found == nil {
		return nil, podNotFound(name)
	}
	return found, nil
}

// PodExists says whether a pod of that name or ID exists.
func (e *Engine) PodExists(ctx context.Context, name string) (bool, error) {
	_, err := e.openPod(name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// PodLatest returns the ID of the pod that was created last.
func (e *Engine) PodLatest(ctx context.Context) (string, error) {
	all, err := e.pods()
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", fmt.Errorf("latest pod: %w", ErrNotFound)
	}
	return all[len(all)-1].ID, nil
}

// A member is a container of a pod with its state.
type member struct {
	r *record
	s *runState
}

// members are the pod's containers, oldest first; the infra container is the
// first when it has one.
func (e *Engine) members(id string) ([]member, error) {
	all, err := e.records()
	if err != nil {
		return nil, err
	}
	var out []member
	for _, r := range all {
		if r.Pod != id || r.Incomplete {
			continue
		}
		s, err := e.state(r)
		if err != nil {
			return nil, err
		}
		out = append(out, member{r, s})
	}
	infraFirst(out)
	return out, nil
}

// infraFirst puts the infra container before the others, whose order stays.
func infraFirst(list []member) {
	slices.SortStableFunc(list, func(a, b member) int {
		switch {
		case a.r.Infra == b.r.Infra:
			return 0
		case a.r.Infra:
			return -1
		}
		return 1
	})
}

// PodContainers are the IDs of a pod's containers; infra says whether the one
// that holds the namespaces is among them.
func (e *Engine) PodContainers(ctx context.Context, name string, infra bool) ([]string, error) {
	p, err := e.openPod(name)
	if err != nil {
		return nil, err
	}
	list, err := e.members(p.ID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range list {
		if infra || !m.r.Infra {
			ids = append(ids, m.r.ID)
		}
	}
	return ids, nil
}

// podEvent notes what was done to a pod.
func (e *Engine) podEvent(action string, p *podRecord) {
	e.appendEvent(eventRecord{Time: time.Now(), Type: "pod", Action: action, ID: p.ID, Name: p.Name, Attributes: p.Options.Labels})
}
