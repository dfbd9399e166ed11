package engine

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hull/format"
	"hull/network"
)

// List returns containers, the newest first. It takes no lock and changes nothing.
func (e *Engine) List(ctx context.Context, o ListOptions) ([]PsEntry, error) {
	match, err := e.containerFilter(ctx, o.Filters)
	if err != nil {
		return nil, err
	}
	all, err := e.records()
	if err != nil {
		return nil, err
	}
	slices.Reverse(all)
	byState := len(o.Filters["status"]) > 0 || len(o.Filters["exited"]) > 0
	var out []PsEntry
	all = slices.DeleteFunc(all, func(r *record) bool { return r.Incomplete || r.Step })
	states, errs := make([]*runState, len(all)), make([]error, len(all))
	each(len(all), func(i int) { states[i], errs[i] = e.state(all[i]) })
	for i, r := range all {
		s := states[i]
		if errs[i] != nil {
			e.warn("%v", errs[i])
			continue
		}
		if !o.All && !byState && o.Last <= 0 && !s.running() || !match(r, s) {
			continue
		}
		out = append(out, e.psEntry(r, s))
		if o.Namespaces && s.Pid > 0 && s.running() {
			out[len(out)-1].Namespaces = psNamespaces(s.Pid)
		}
		if o.Last > 0 && len(out) == o.Last {
			break
		}
	}
	if o.Size {
		for i := range out {
			out[i].Size = e.size(ctx, out[i].ID)
		}
	}
	return out, nil
}

// few is how many objects are read by one goroutine: to begin others costs more.
const few = 64

// each calls do with every number below n, many of them at once.
func each(n int, do func(i int)) {
	if n <= few {
		for i := range n {
			do(i)
		}
		return
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	wg.Wait()
}

// size measures a container; nil when it cannot be told.
func (e *Engine) size(ctx context.Context, id string) *PsSize {
	r, err := e.loadRecord(id)
	if err != nil || r.Options.Rootfs != "" {
		return nil
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return nil
	}
	own, _, err := snaps.Usage(ctx, id)
	if err != nil {
		return nil
	}
	size := &PsSize{RwSize: own, RootFsSize: own}
	if images, err := e.Images(); err == nil {
		if img, err := images.Resolve(ctx, r.ImageID); err == nil {
			size.RootFsSize += img.Size
		}
	}
	return size
}

func (e *Engine) psEntry(r *record, s *runState) PsEntry {
	args, _ := commandLine(r)
	p := PsEntry{
		AutoRemove: r.Options.AutoRemove, Command: args, CreatedTime: r.Created, Created: r.Created.Unix(),
		CreatedAt: r.Created.Format(time.RFC3339Nano), ID: r.ID, Image: r.ImageName, ImageID: r.ImageID,
		Labels: e.labels(r), Names: []string{r.Name}, Pid: s.Pid, Ports: s.Ports, Restarts: s.Restarts,
		ExitCode: int32(s.ExitCode), Pod: r.Pod, PodName: e.podName(r), IsInfra: r.Infra, State: s.Status, Health: s.Health, Networks: []string{}, Mounts: []string{},
	}
	if p.Image == "" {
		p.Image = r.Options.Rootfs
	}
	p.Exited = s.Status == StatusExited || s.Status == StatusStopped
	if !s.StartedAt.IsZero() {
		p.StartedAt = s.StartedAt.Unix()
	}
	if !s.FinishedAt.IsZero() {
		p.ExitedAt = s.FinishedAt.Unix()
	}
	if p.State == StatusStopped {
		p.State = StatusExited
	}
	p.Status = statusText(s, time.Now())
	for _, m := range r.Mounts {
		p.Mounts = append(p.Mounts, m.Destination)
	}
	for _, n := range r.Options.Networks {
		p.Networks = append(p.Networks, n.Name)
	}
	for _, j := range s.Networks {
		if !slices.Contains(p.Networks, j.Network) {
			p.Networks = append(p.Networks, j.Network)
		}
	}
	slices.Sort(p.Networks)
	if len(p.Ports) == 0 {
		p.Ports = e.sharedPorts(r)
	}
	p.ExposedPorts = exposedPorts(r)
	return p
}

// labels are the image's under the user's.
func (e *Engine) labels(r *record) map[string]string {
	out := make(map[string]string, len(r.Image.Labels)+len(r.Options.Labels))
	for k, v := range r.Image.Labels {
		out[k] = v
	}
	for k, v := range r.Options.Labels {
		out[k] = v
	}
	return out
}

// exposedPorts are those of EXPOSE and --expose by number.
func exposedPorts(r *record) map[uint16][]string {
	out := map[uint16][]string{}
	add := func(text string) {
		ports, proto, _ := strings.Cut(text, "/")
		if proto == "" {
			proto = "tcp"
		}
		first, last, isRange := strings.Cut(ports, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		for ; err == nil && a <= b; a++ {
			out[uint16(a)] = append(out[uint16(a)], proto)
		}
	}
	for p := range r.Image.ExposedPorts {
		add(p)
	}
	for _, p := range r.Options.Expose {
		add(p)
	}
	return out
}

func psNamespaces(pid int) PsNamespaces {
	ns := func(kind string) string {
		var buf [64]byte
		n, err := unix.Readlink("/proc/"+strconv.Itoa(pid)+"/ns/"+kind, buf[:])
		if err != nil {
			return ""
		}
		_, id, _ := strings.Cut(string(buf[:n]), "[")
		return strings.TrimSuffix(id, "]")
	}
	return PsNamespaces{MNT: ns("mnt"), Cgroup: ns("cgroup"), IPC: ns("ipc"), NET: ns("net"), PIDNS: ns("pid"), UTS: ns("uts"), User: ns("user")}
}

// statusText is the STATUS of ps.
func statusText(s *runState, now time.Time) string {
	switch s.Status {
	case StatusRunning, StatusStopping:
		text := "Up " + since(now, s.StartedAt)
		if s.Health != "" {
			text += " (" + s.Health + ")"
		}
		return text
	case StatusPaused:
		return "Up " + since(now, s.StartedAt) + " (Paused)"
	case StatusExited, StatusStopped:
		return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, since(now, s.FinishedAt))
	case StatusInitialized:
		return "Initialized"
	case StatusRemoving:
		return "Removal In Progress"
	}
	return "Created"
}

// since is a duration as the peers say it.
func since(now, then time.Time) string {
	if then.IsZero() {
		return "an unknown time"
	}
	d := now.Sub(then)
	plural := func(n int, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return strconv.Itoa(n) + " " + unit + "s"
	}
	switch s, m, h := int(d.Seconds()), int(d.Minutes()), int(d.Hours()+0.5); {
	case s < 1:
		return "Less than a second"
	case s < 60:
		return plural(s, "second")
	case m == 1:
		return "About a minute"
	case m < 60:
		return plural(m, "minute")
	case h == 1:
		return "About an hour"
	case h < 48:
		return plural(h, "hour")
	case h < 24*14:
		return plural(h/24, "day")
	case h < 24*60:
		return plural(h/24/7, "week")
	case h < 24*365*2:
		return plural(h/24/30, "month")
	default:
		return plural(h/24/365, "year")
	}
}

// containerFilter makes one question of all filters: values of one key are
// alternatives, except labels, of which all must hold.
func (e *Engine) containerFilter(ctx context.Context, f Filters) (func(*record, *runState) bool, error) {
	var tests []func(*record, *runState) bool
	for key, values := range f {
		one, err := e.containerTest(ctx, key)
		if err != nil {
			return nil, err
		}
		var alternatives []func(*record, *runState) bool
		for _, v := range values {
			t, err := one(v)
			if err != nil {
				return nil, err
			}
			alternatives = append(alternatives, t)
		}
		all := key == "label" || key == "label!" || key == "annotation"
		tests = append(tests, func(r *record, s *runState) bool {
			for _, t := range alternatives {
				if t(r, s) != all {
					return !all
				}
			}
			return all
		})
	}
	return func(r *record, s *runState) bool {
		for _, t := range tests {
			if !t(r, s) {
				return false
			}
		}
		return true
	}, nil
}

type containerTest = func(*record, *runState) bool

// containerTest returns how a value of a key becomes a test.
func (e *Engine) containerTest(ctx context.Context, key string) (func(value string) (containerTest, error), error) {
	simple := func(t func(r *record, s *runState, v string) bool) func(string) (containerTest, error) {
		return func(v string) (containerTest, error) {
			return func(r *record, s *runState) bool { return t(r, s, v) }, nil
		}
	}
	switch key {
	case "id":
		return simple(func(r *record, _ *runState, v string) bool { return strings.HasPrefix(r.ID, v) }), nil
	case "name":
		return simple(func(r *record, _ *runState, v string) bool { return nameMatches(r.Name, v) }), nil
	case "label":
		return simple(func(r *record, _ *runState, v string) bool { return hasLabel(e.labels(r), v) }), nil
	case "label!":
		return simple(func(r *record, _ *runState, v string) bool { return !hasLabel(e.labels(r), v) }), nil
	case "annotation":
		return simple(func(r *record, _ *runState, v string) bool { return hasLabel(r.Options.Annotations, v) }), nil
	case "status":
		return statusTest, nil
	case "exited":
		return func(v string) (containerTest, error) {
			code, err := strconv.Atoi(v)
			if err != nil {
				return nil, fmt.Errorf("invalid filter exited=%s: not an exit code", v)
			}
			return func(_ *record, s *runState) bool {
				return (s.Status == StatusExited || s.Status == StatusStopped) && s.ExitCode == code
			}, nil
		}, nil
	case "ancestor":
		return simple(func(r *record, _ *runState, v string) bool {
			name, _, _ := strings.Cut(r.ImageName, ":")
			return strings.HasPrefix(r.ImageID, v) || r.ImageName == v || name == v || path.Base(name) == v || path.Base(r.ImageName) == v
		}), nil
	case "before", "since", "until":
		return e.timeTest(ctx, key), nil
	case "volume":
		return simple(func(r *record, _ *runState, v string) bool {
			return slices.ContainsFunc(r.Mounts, func(m Mount) bool { return m.Destination == v || m.Source == v })
		}), nil
	case "network":
		return simple(func(r *record, s *runState, v string) bool {
			return slices.ContainsFunc(s.Networks, func(j network.Joined) bool { return j.Network == v }) || r.Options.NetworkMode == v || slices.ContainsFunc(r.Options.Networks, func(n NetworkAttach) bool { return n.Name == v })
		}), nil
	case "pod":
		return e.podTest, nil
	case "health":
		return simple(func(_ *record, s *runState, v string) bool { return s.Health == v || v == "none" && s.Health == "" }), nil
	case "restart-policy":
		return simple(func(r *record, _ *runState, v string) bool { p, _, _ := parseRestart(r.Options.Restart); return p == v }), nil
	case "should-start-on-boot":
		return simple(func(r *record, s *runState, v string) bool {
			return r.startsAtBoot(s) == (v == "true")
		}), nil
	case "command":
		return simple(func(r *record, _ *runState, v string) bool {
			args, _ := commandLine(r)
			return len(args) > 0 && (args[0] == v || filepath.Base(args[0]) == v)
		}), nil
	}
	return nil, fmt.Errorf("%q is an invalid container filter", key)
}

// nameMatches is podman's: a part of the name, or ^ and $ as in a pattern.
func nameMatches(name, want string) bool {
	begin, end := strings.HasPrefix(want, "^"), strings.HasSuffix(want, "$")
	want = strings.TrimSuffix(strings.TrimPrefix(want, "^"), "$")
	switch {
	case begin && end:
		return name == want
	case begin:
		return strings.HasPrefix(name, want)
	case end:
		return strings.HasSuffix(name, want)
	}
	return strings.Contains(name, want)
}

// hasLabel asks for KEY, or KEY=VALUE; * stands for anything in both.
func hasLabel(labels map[string]string, want string) bool {
	key, value, has := strings.Cut(want, "=")
	for k, v := range labels {
		if !wildcard(key, k) {
			continue
		}
		if !has || wildcard(value, v) {
			return true
		}
	}
	return false
}

func wildcard(pattern, s string) bool {
	if !strings.Contains(pattern, "*") {
		return pattern == s
	}
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", "\x01"), strings.ReplaceAll(s, "/", "\x01"))
	return err == nil && ok
}

func statusTest(v string) (containerTest, error) {
	switch v {
	case "created", "configured", "initialized", "running", "paused", "stopping", "removing", "unknown":
	case "exited", "stopped":
		return func(_ *record, s *runState) bool { return s.Status == StatusExited || s.Status == StatusStopped }, nil
	default:
		return nil, fmt.Errorf("%q is not a status of a container", v)
	}
	return func(_ *record, s *runState) bool {
		return s.Status == v || v == "configured" && s.Status == StatusCreated
	}, nil
}

// timeTest compares with the creation of another container, or with a time.
func (e *Engine) timeTest(ctx context.Context, key string) func(string) (containerTest, error) {
	return func(v string) (containerTest, error) {
		if key == "until" {
			t, err := format.ParseTime(time.Now(), v)
			if err != nil {
				return nil, err
			}
			return func(r *record, _ *runState) bool { return r.Created.Before(t) }, nil
		}
		other, _, err := e.open(ctx, v)
		if err != nil {
			return nil, err
		}
		return func(r *record, _ *runState) bool {
			if key == "before" {
				return r.Created.Before(other.Created)
			}
			return r.Created.After(other.Created)
		}, nil
	}
}
