package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hull/cgroup"
	"hull/oci"
)

// bare says that the container is an infra container without an image: its
// plan ends in a wait instead of a program, and it has no files.
func (r *record) bare() bool { return r.Infra && r.Options.Image == "" && r.Options.Rootfs == "" }

// bareRoot is the root file system of such a container.
func bareRoot() []oci.Mount {
	return []oci.Mount{{Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec", "mode=0755", "size=64k", "nr_inodes=16"}}}
}

// settlePod makes a container a member of the pod it names: what the pod
// shares is the infra container's. Of "new:NAME" the pod is made first, with
// what the container asked of its network; made says so.
func (e *Engine) settlePod(ctx context.Context, r *record) (made bool, err error) {
	o := &r.Options
	if o.infraOf != nil {
		p := o.infraOf
		r.Pod, r.Infra, r.PodGroup = p.ID, true, e.podGroup(p)
		o.infraOf = nil
		return false, nil
	}
	if o.Pod == "" {
		if o.InitCtr != "" {
			return false, errors.New("must specify pod value with init-ctr")
		}
		return false, nil
	}
	name, fresh := strings.CutPrefix(o.Pod, "new:")
	if fresh {
		if name, err = e.newPodOf(ctx, o, name); err != nil {
			return false, err
		}
		o.Pod = name
	}
	p, err := e.openPod(name)
	if err != nil {
		return false, err
	}
	if err := e.joinPod(r, p); err != nil {
		if fresh {
			e.removeNewPod(ctx, p.ID)
		}
		return false, fmt.Errorf("join pod %s: %w", p.Name, err)
	}
	return fresh, nil
}

// newPodOf makes the pod of --pod new:NAME: the container's network is the
// pod's.
func (e *Engine) newPodOf(ctx context.Context, o *CreateOptions, name string) (string, error) {
	in := CreateOptions{
		NetworkMode: o.NetworkMode, Networks: o.Networks, NetworkAliases: o.NetworkAliases, IP: o.IP, IP6: o.IP6, MAC: o.MAC,
		Publish: o.Publish, DNS: o.DNS, DNSSearch: o.DNSSearch, DNSOptions: o.DNSOptions, AddHosts: o.AddHosts, HostsFile: o.HostsFile, NoHosts: o.NoHosts,
		Hostname: o.Hostname,
	}
	id, err := e.PodCreate(ctx, PodOptions{Name: name, Infra: in, CreateCommand: o.CreateCommand})
	if err != nil {
		return "", err
	}
	o.NetworkMode, o.Networks, o.NetworkAliases, o.IP, o.IP6, o.MAC, o.Publish = "", nil, nil, "", "", "", nil
	o.DNS, o.DNSSearch, o.DNSOptions, o.AddHosts, o.HostsFile, o.NoHosts, o.Hostname = nil, nil, nil, nil, "", false, ""
	return id, nil
}

// removeNewPod removes a pod whose first container could not be made.
func (e *Engine) removeNewPod(ctx context.Context, id string) {
	if _, err := e.PodRemove(context.WithoutCancel(ctx), id, PodRemoveOptions{Force: true}); err != nil {
		e.warn("%v", err)
	}
}

// joinPod settles a member's options by its pod's.
func (e *Engine) joinPod(r *record, p *podRecord) error {
	o := &r.Options
	r.Pod, r.PodGroup = p.ID, e.podGroup(p)
	o.Restart = firstOf(o.Restart, p.Options.Restart)
	if o.AutoRemove && o.Restart != "no" {
		o.Restart = ""
	}
	if p.Infra == "" {
		return nil
	}
	infra, err := e.loadRecord(p.Infra)
	if err != nil {
		return err
	}
	join := "container:" + p.Infra
	shares := p.shares()
	if slices.Contains(shares, "net") {
		if err := refuseNetwork(o); err != nil {
			return err
		}
		o.NetworkMode, o.Networks = join, nil
	}
	if slices.Contains(shares, "uts") && (o.UtsNS == "" || o.UtsNS == "private") {
		if o.Hostname != "" {
			return errors.New("invalid config provided: cannot set hostname when joining the pod UTS namespace: invalid configuration")
		}
		o.UtsNS = join
	}
	if slices.Contains(shares, "user") {
		if o.UserNS != "" || len(o.UIDMap) > 0 || len(o.GIDMap) > 0 {
			return errors.New("--userns and --pod cannot be set together")
		}
		o.UserNS = join
	}
	for _, n := range []struct {
		kind string
		mode *string
	}{{"ipc", &o.IpcNS}, {"pid", &o.PidNS}, {"cgroup", &o.CgroupNS}} {
		if slices.Contains(shares, n.kind) && *n.mode == "" {
			*n.mode = join
		}
	}
	r.Depends = append(r.Depends, p.Infra)
	inherit(o, infra)
	return nil
}

// refuseNetwork refuses what only the pod can have.
func refuseNetwork(o *CreateOptions) error {
	why := ""
	switch {
	case len(o.Publish) > 0 || o.PublishAll:
		why = "published or exposed ports must be defined when the pod is created"
	case len(o.Networks) > 0 || len(o.NetworkAliases) > 0 || o.IP != "" || o.IP6 != "" || o.MAC != "":
		why = "networks must be defined when the pod is created"
	case o.NetworkMode != "" && o.NetworkMode != "pod" && o.NetworkMode != "bridge":
		why = "networks must be defined when the pod is created"
	case len(o.AddHosts) > 0:
		why = "extra host entries must be specified on the pod"
	case len(o.DNS) > 0 || len(o.DNSSearch) > 0 || len(o.DNSOptions) > 0:
		why = "name servers must be specified on the pod"
	default:
		return nil
	}
	return fmt.Errorf("invalid config provided: %s: network cannot be configured when it is shared with a pod", why)
}

// inherit gives a member the pod's volumes, devices and security options; its
// own of the same place count before them.
func inherit(o *CreateOptions, infra *record) {
	in := &infra.Options
	o.Mounts = slices.Clone(o.Mounts)
	for _, m := range infra.Mounts {
		if m.Image || slices.ContainsFunc(o.Mounts, func(own Mount) bool { return own.Destination == m.Destination }) {
			continue
		}
		m.Anonymous = false // it goes with the pod
		o.Mounts = append(o.Mounts, m)
	}
	if !infra.bare() {
		return
	}
	o.Devices = append(slices.Clone(in.Devices), o.Devices...)
	o.GPUs = append(slices.Clone(in.GPUs), o.GPUs...)
	o.SecurityOpt = append(slices.Clone(in.SecurityOpt), o.SecurityOpt...)
	if o.ShmSizeSystemd == 0 {
		o.ShmSizeSystemd = in.ShmSizeSystemd
	}
}

// settleVolumesFrom adds the mounts of the containers of --volumes-from.
func (e *Engine) settleVolumesFrom(ctx context.Context, r *record) error {
	o := &r.Options
	for _, spec := range o.VolumesFrom {
		name, opts, _ := strings.Cut(spec, ":")
		from, _, err := e.open(ctx, name)
		if err != nil {
			return fmt.Errorf("volumes from %s: %w", name, err)
		}
		for _, m := range from.Mounts {
			if m.Type != "bind" && m.Type != "volume" && m.Type != "tmpfs" || slices.ContainsFunc(r.Mounts, func(own Mount) bool { return own.Destination == m.Destination }) {
				continue
			}
			m.Anonymous, m.Image, m.Options = false, false, slices.Clone(m.Options)
			for _, opt := range splitOptions(opts) {
				switch opt {
				case "ro", "rw":
					m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" || o == "rw" })
					m.Options = append(m.Options, opt)
				case "z", "Z":
					m.Options = append(m.Options, opt)
				default:
					return fmt.Errorf("volumes from %s: option %q is none of ro, rw, z", name, opt)
				}
			}
			r.Mounts = append(r.Mounts, m)
		}
	}
	return nil
}

// limitPod makes the pod's cgroup with its limits, before the first member's.
func (e *Engine) limitPod(ctx context.Context, r *record) error {
	if r.PodGroup == "" || !r.Infra {
		return nil
	}
	p, err := e.loadPod(r.Pod)
	if err != nil {
		return err
	}
	none := int64(-1)
	res, err := linuxResources(&p.Options.Resources, &none)
	if err != nil {
		return err
	}
	res.Pids = nil
	if res.Memory == nil && res.CPU == nil && res.BlockIO == nil {
		return nil // it is made on the way to the first member's
	}
	host, err := cgroup.LookUp()
	if err != nil {
		return err
	}
	if _, err := host.Create(ctx, podGroupPath(r.PodGroup), res, cgroup.Options{Rootless: e.o.Rootless, Warn: e.o.Warn}); err != nil {
		return fmt.Errorf("limit pod %s: %w", p.Name, err)
	}
	return nil
}

// removePodGroup removes the pod's cgroup, when nobody is in it.
func (e *Engine) removePodGroup(p *podRecord) {
	path := podGroupPath(e.podGroup(p))
	if path == "" {
		return
	}
	host, err := cgroup.LookUp()
	if err != nil {
		return
	}
	if g, err := host.Open(path); err == nil {
		if pids, err := g.Pids(); err == nil && len(pids) == 0 {
			_ = g.Remove()
		}
	}
}

// podHosts notes a member's name in the hosts file that all of its pod see, or
// takes it out: each is at 127.0.0.1 for the others.
func (e *Engine) podHosts(r *record, there bool) error {
	id, ok := strings.CutPrefix(r.Options.NetworkMode, "container:")
	if !ok || r.Pod == "" || r.Options.NoHosts {
		return nil
	}
	l, err := e.lock(context.Background(), "hosts", r.Pod)
	if err != nil {
		return err
	}
	defer l.Release()
	file := filepath.Join(e.containerRun(id), "hosts")
	line := "127.0.0.1\t" + r.Name + "\n"
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) || err == nil && strings.Contains(string(data), line) == there {
		return nil
	}
	if err == nil {
		text := string(data) + line
		if !there {
			text = strings.ReplaceAll(string(data), line, "")
		}
		err = rewrite(file, []byte(text))
	}
	if err != nil {
		return fmt.Errorf("note the name in the pod's hosts file: %w", err)
	}
	return nil
}

// podOfInfra guards an infra container, which goes only with its pod: "" says
// that id is none, or that the pod is being removed.
func (e *Engine) podOfInfra(id string, o RemoveOptions) (string, error) {
	r, err := e.loadRecord(id)
	if err != nil || !r.Infra || o.withPod || !e.podExists(r.Pod) {
		return "", nil
	}
	if !o.Depend {
		return "", hint(fmt.Errorf("container %s is the infra container of pod %s and cannot be removed without removing the pod: %w", r.Name, e.podName(r), ErrInUse),
			"hull pod rm %s", e.podName(r))
	}
	return r.Pod, nil
}

// podName is the name of a member's pod.
func (e *Engine) podName(r *record) string {
	if r.Pod == "" {
		return ""
	}
	p, err := e.loadPod(r.Pod)
	if err != nil {
		return ""
	}
	return p.Name
}

// podTest is the filter pod=NAME or ID.
func (e *Engine) podTest(v string) (containerTest, error) {
	id := v
	if p, err := e.openPod(v); err == nil {
		id = p.ID
	}
	return func(r *record, _ *runState) bool { return r.Pod != "" && strings.HasPrefix(r.Pod, id) }, nil
}

// leavePod takes what a pod gave out of the options of a member's clone, which
// joins pod, or the same when that is "".
func (r *record) leavePod(o *CreateOptions, pod string) {
	if r.Pod == "" {
		o.Pod = pod
		return
	}
	o.Pod = firstOf(pod, r.Pod)
	for _, mode := range []*string{&o.NetworkMode, &o.UtsNS, &o.IpcNS, &o.PidNS, &o.CgroupNS, &o.UserNS} {
		if id, ok := strings.CutPrefix(*mode, "container:"); ok && slices.Contains(r.Depends, id) {
			*mode = ""
		}
	}
}

// joinHostname: in another container's uts namespace, its name is this one's.
func (e *Engine) joinHostname(r *record, f *specFacts, w *fileWriter) error {
	id, ok := strings.CutPrefix(r.Options.UtsNS, "container:")
	if !ok {
		return nil
	}
	other, err := e.loadRecord(id)
	if err != nil {
		return err
	}
	f.JoinedHostname = containerHostname(other, specFacts{HostHostname: hostHostname()})
	if file := filepath.Join(e.containerRun(id), "hostname"); !r.Options.NoHostname && !w.taken["/etc/hostname"] && fileExists(file) {
		w.files["/etc/hostname"] = file
	}
	return nil
}

// sharedPorts are the ports that r has not published in this run: those asked
// for, or of a member of a pod its pod's.
func (e *Engine) sharedPorts(r *record) []PortMapping {
	id, ok := strings.CutPrefix(r.Options.NetworkMode, "container:")
	if !ok || r.Pod == "" {
		return r.Options.Publish
	}
	infra, err := e.loadRecord(id)
	if err != nil {
		return nil
	}
	if s, err := e.loadState(infra); err == nil && len(s.Ports) > 0 {
		return s.Ports
	}
	return infra.Options.Publish
}
