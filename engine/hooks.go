package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"hull/oci"
	"hull/ociruntime"
)

// A hookFile is one file of a hooks directory, in the form that is known as
// oci-hooks(5).
type hookFile struct {
	Version string   `json:"version"`
	Hook    oci.Hook `json:"hook"`
	When    struct {
		Always        *bool             `json:"always"`
		Annotations   map[string]string `json:"annotations"`
		Commands      []string          `json:"commands"`
		HasBindMounts *bool             `json:"hasBindMounts"`
	} `json:"when"`
	Stages []string `json:"stages"`
}

// hooks are those of the hook directories whose conditions hold. A file of a
// later directory replaces one of the same name.
func (e *Engine) hooks(r *record) (*oci.Hooks, error) {
	files := map[string]string{}
	for _, dir := range e.o.Hooks {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read hooks: %w", err)
		}
		for _, d := range entries {
			if strings.HasSuffix(d.Name(), ".json") {
				files[d.Name()] = filepath.Join(dir, d.Name())
			}
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	out := &oci.Hooks{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data, err := os.ReadFile(files[name])
		if err != nil {
			return nil, fmt.Errorf("read hook: %w", err)
		}
		var h hookFile
		if err := json.Unmarshal(data, &h); err != nil {
			return nil, fmt.Errorf("read hook %s: %w", files[name], err)
		}
		if h.Version != "1.0.0" {
			return nil, fmt.Errorf("read hook %s: version %q is not known", files[name], h.Version)
		}
		ok, err := h.applies(r)
		if err != nil {
			return nil, fmt.Errorf("read hook %s: %w", files[name], err)
		}
		if !ok {
			continue
		}
		if err := h.add(out); err != nil {
			return nil, fmt.Errorf("read hook %s: %w", files[name], err)
		}
	}
	return out, nil
}

func (h *hookFile) applies(r *record) (bool, error) {
	if h.When.Always != nil && *h.When.Always {
		return true, nil
	}
	if want := h.When.HasBindMounts; want != nil {
		has := slices.ContainsFunc(r.Mounts, func(m Mount) bool { return m.Type == "bind" })
		if *want && has {
			return true, nil
		}
	}
	args, err := commandLine(r)
	if err != nil {
		return false, err
	}
	for _, pattern := range h.When.Commands {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return false, err
		}
		if re.MatchString(args[0]) {
			return true, nil
		}
	}
	for key, value := range h.When.Annotations {
		k, err := regexp.Compile(key)
		if err != nil {
			return false, err
		}
		v, err := regexp.Compile(value)
		if err != nil {
			return false, err
		}
		for ak, av := range r.Options.Annotations {
			if k.MatchString(ak) && v.MatchString(av) {
				return true, nil
			}
		}
	}
	return false, nil
}

func (h *hookFile) add(to *oci.Hooks) error {
	for _, stage := range h.Stages {
		switch stage {
		case "prestart":
			to.Prestart = append(to.Prestart, h.Hook)
		case "createRuntime":
			to.CreateRuntime = append(to.CreateRuntime, h.Hook)
		case "createContainer":
			to.CreateContainer = append(to.CreateContainer, h.Hook)
		case "startContainer":
			return errors.New("stage startContainer: such a hook runs in the container; make it part of the program")
		case "poststart":
			to.Poststart = append(to.Poststart, h.Hook)
		case "poststop":
			to.Poststop = append(to.Poststop, h.Hook)
		default:
			return fmt.Errorf("stage %q is not known", stage)
		}
	}
	return nil
}

// earlyHooks runs those that see the container's mounts before its root is
// changed, and lets its start go on.
func (t *starting) earlyHooks(ctx context.Context, pid int) error {
	if t.r.Runtime != "" || t.agent == nil && !ociruntime.WaitsEarly(t.spec) {
		return nil // another runtime does it itself
	}
	if err := t.agent.Fill(pid, pid); err != nil {
		return err
	}
	if err := ociruntime.CopyUp(t.spec, t.plan, pid); err != nil {
		return err
	}
	h := t.spec.Hooks
	if h == nil {
		h = new(oci.Hooks)
	}
	s := t.e.hookState(t.r, "creating", pid)
	for _, list := range []struct {
		kind  string
		hooks []oci.Hook
		pid   int
	}{{"prestart", h.Prestart, 0}, {"createRuntime", h.CreateRuntime, 0}, {"createContainer", h.CreateContainer, pid}} {
		if err := ociruntime.RunHooks(ctx, list.kind, list.hooks, s, list.pid, t.e.mountTarget()); err != nil {
			return err
		}
	}
	if _, err := t.control.Write([]byte{1}); err != nil {
		return fmt.Errorf("continue after hooks: %w", err)
	}
	if t.o.wait {
		return nil
	}
	return t.e.awaitProgram(t.r, pid)
}

// lateHooks runs those whose failure changes nothing any more.
func (e *Engine) lateHooks(ctx context.Context, r *record, hooks []oci.Hook, kind string, status oci.ContainerState, pid int) {
	for i := range hooks {
		if err := ociruntime.RunHooks(ctx, kind, hooks[i:i+1], e.hookState(r, status, pid), 0, ""); err != nil {
			e.warn("%v", err)
		}
	}
}

func (e *Engine) hookState(r *record, status oci.ContainerState, pid int) oci.State {
	return oci.State{Version: oci.SpecVersion, ID: r.ID, Status: status, Pid: pid, Bundle: r.dir, Annotations: r.Options.Annotations}
}

// poststop runs the hooks after a container's end.
func (e *Engine) poststop(ctx context.Context, r *record) {
	if len(e.o.Hooks) == 0 {
		return
	}
	h, err := e.hooks(r)
	if err != nil {
		e.warn("%v", err)
	} else if h != nil {
		e.lateHooks(ctx, r, h.Poststop, "poststop", oci.ContainerState("stopped"), 0)
	}
}
