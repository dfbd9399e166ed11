package kube

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"hull/engine"
	"hull/network"
)

// PlayOptions are what the command line says of all pods. The zero value is the
// text alone.
type PlayOptions struct {
	Annotations        map[string]string
	Networks           []string // as engine.ParseNetwork takes them
	IP, MAC            string   // of the first pod
	Publish            []engine.PortMapping
	PublishAll         bool // also ports without a hostPort
	UserNS             string
	LogDriver          string
	LogOpts            []string
	NoHosts            bool
	NoHostname         bool
	NoPodPrefix        bool
	SeccompProfileRoot string
	Quiet              bool
	// Secret reads a secret of the engine's store: keys and values.
	Secret func(name string) (map[string][]byte, error)
	// NonRoot says whether an image's own user is not root.
	NonRoot func(image string) (bool, error)
}

// Work is what a text asks the engine for.
type Work struct {
	Volumes []VolumeWork
	Pods    []PodWork
}

// VolumeWork is a volume to make, and what it holds besides.
type VolumeWork struct {
	Options engine.VolumeCreateOptions
	Files   []File
	Replace bool // its files are those of a ConfigMap or Secret, and made anew
}

// A File of a volume.
type File struct {
	Path string
	Mode uint32
	Data []byte
}

// PodWork is a pod and its containers, in the order in which they are made.
type PodWork struct {
	Options    engine.PodOptions
	Containers []engine.CreateOptions
	// Made are directories and files of the host that must be there.
	Dirs, Files []string
	Deadline    time.Duration // 0: none
}

// podCompiler is one pod under way.
type podCompiler struct {
	objects *Objects
	o       *PlayOptions
	pod     *Pod
	work    *Work
	out     PodWork
	volumes map[string]engine.Mount // by name; without destination
	missing map[string]bool         // volumes of optional sources that are not there
}

// Compile says what an engine is to be asked for.
func Compile(objects *Objects, o PlayOptions) (*Work, error) {
	w := &Work{}
	for _, c := range objects.Claims {
		w.Volumes = append(w.Volumes, claimVolume(&c))
	}
	names := map[string]bool{}
	for i := range objects.Pods {
		p := &objects.Pods[i]
		if names[p.Metadata.Name] {
			return nil, fmt.Errorf("pod %s is there twice", p.Metadata.Name)
		}
		names[p.Metadata.Name] = true
		c := &podCompiler{objects: objects, o: &o, pod: p, work: w, volumes: map[string]engine.Mount{}, missing: map[string]bool{}}
		if err := c.compile(i == 0); err != nil {
			return nil, fmt.Errorf("pod %s: %w", p.Metadata.Name, err)
		}
		w.Pods = append(w.Pods, c.out)
	}
	return w, nil
}

// claimVolume is the local volume that a claim gets; annotations say more.
func claimVolume(c *Claim) VolumeWork {
	v := engine.VolumeCreateOptions{Name: c.Metadata.Name, Labels: c.Metadata.Labels, Options: map[string]string{}, Ignore: true}
	for key, option := range map[string]string{"type": "type", "device": "device", "mount-options": "o"} {
		if s := c.Metadata.Annotations["volume.podman.io/"+key]; s != "" {
			v.Options[option] = s
		}
	}
	v.Driver = c.Metadata.Annotations["volume.podman.io/driver"]
	return VolumeWork{Options: v}
}

func (c *podCompiler) compile(first bool) error {
	s := &c.pod.Spec
	if len(s.Containers) == 0 {
		return errors.New("it has no containers")
	}
	for k, v := range c.o.Annotations {
		if c.pod.Metadata.Annotations == nil {
			c.pod.Metadata.Annotations = map[string]string{}
		}
		c.pod.Metadata.Annotations[k] = v
	}
	if err := c.podOptions(first); err != nil {
		return err
	}
	for i := range s.Volumes {
		if err := c.volume(&s.Volumes[i]); err != nil {
			return fmt.Errorf("volume %s: %w", s.Volumes[i].Name, err)
		}
	}
	c.out.Deadline = time.Duration(s.ActiveDeadline) * time.Second
	for _, list := range []struct {
		init       bool
		containers []Container
	}{{true, s.InitContainers}, {false, s.Containers}} {
		for i := range list.containers {
			k := &list.containers[i]
			o, err := c.container(k, list.init && k.RestartPolicy != "Always")
			if err != nil {
				return fmt.Errorf("container %s: %w", k.Name, err)
			}
			c.out.Containers = append(c.out.Containers, o)
		}
	}
	return nil
}

// podOptions are the pod and what its infra container is to be.
func (c *podCompiler) podOptions(first bool) error {
	s, m := &c.pod.Spec, &c.pod.Metadata
	p := engine.PodOptions{Name: m.Name, Labels: m.Labels, ExitPolicy: "stop", Share: []string{"ipc", "net", "uts"}}
	in := &p.Infra
	if p.Restart = restartPolicy(s.RestartPolicy); p.Restart == "" {
		return fmt.Errorf("restartPolicy %q is not one of Always, OnFailure, Never", s.RestartPolicy)
	}
	if s.ShareProcesses {
		p.Share = append(p.Share, "pid")
	}
	if in.Hostname = s.Hostname; in.Hostname == "" && !c.o.NoHostname {
		in.Hostname = m.Name
	}
	if s.HostNetwork {
		in.NetworkMode, in.Hostname = "host", s.Hostname
		if s.Hostname == "" {
			p.Share = slices.DeleteFunc(p.Share, func(n string) bool { return n == "uts" })
		}
	}
	if s.HostIPC {
		p.Share = slices.DeleteFunc(p.Share, func(n string) bool { return n == "ipc" })
	}
	if len(c.o.Networks) > 0 {
		var err error
		if in.NetworkMode, in.Networks, err = engine.ParseNetwork(c.o.Networks); err != nil {
			return err
		}
	}
	if first {
		in.IP, in.MAC = c.o.IP, c.o.MAC
	}
	in.UserNS = firstOf(c.o.UserNS, m.Annotations["io.podman.annotations.userns"])
	if s.HostUsers != nil && !*s.HostUsers && in.UserNS == "" {
		in.UserNS = "auto"
	}
	in.NoHosts = c.o.NoHosts
	for _, a := range s.HostAliases {
		for _, h := range a.Hostnames {
			in.AddHosts = append(in.AddHosts, h+":"+a.IP)
		}
	}
	if d := s.DNSConfig; d != nil {
		in.DNS, in.DNSSearch = d.Nameservers, d.Searches
		for _, opt := range d.Options {
			if opt.Value != "" {
				opt.Name += ":" + opt.Value
			}
			in.DNSOptions = append(in.DNSOptions, opt.Name)
		}
	}
	if x := s.SecurityContext; x != nil {
		for _, ctl := range x.Sysctls {
			in.Sysctls = append(in.Sysctls, ctl.Name+"="+ctl.Value)
		}
	}
	if err := c.ports(in); err != nil {
		return err
	}
	c.out.Options = p
	return nil
}

// ports are those with a hostPort, or all, and those of the command line, which
// replace what is on the same port of the pod.
func (c *podCompiler) ports(in *engine.CreateOptions) error {
	in.Publish = slices.Clone(c.o.Publish)
	if c.pod.Spec.HostNetwork {
		return nil
	}
	for _, k := range slices.Concat(c.pod.Spec.InitContainers, c.pod.Spec.Containers) {
		for _, p := range k.Ports {
			if p.HostPort == 0 && !c.o.PublishAll {
				continue
			}
			host := p.HostPort
			if host == 0 {
				host = p.ContainerPort
			}
			proto := strings.ToLower(firstOf(p.Protocol, "tcp"))
			maps, err := network.ParsePorts([]string{strings.TrimPrefix(fmt.Sprintf("%s:%d:%d/%s", bracketed(p.HostIP), host, p.ContainerPort, proto), ":")})
			if err != nil {
				return err
			}
			same := func(o engine.PortMapping) bool {
				return o.ContainerPort == maps[0].ContainerPort && o.Protocol == maps[0].Protocol
			}
			if !slices.ContainsFunc(c.o.Publish, same) {
				in.Publish = append(in.Publish, maps...)
			}
		}
	}
	return nil
}

func bracketed(ip string) string {
	if strings.Contains(ip, ":") {
		return "[" + ip + "]"
	}
	return ip
}

func restartPolicy(s string) string {
	switch s {
	case "", "Always":
		return "always"
	case "OnFailure":
		return "on-failure"
	case "Never":
		return "no"
	}
	return ""
}

// container is one container's options.
func (c *podCompiler) container(k *Container, init bool) (engine.CreateOptions, error) {
	s := &c.pod.Spec
	o := engine.CreateOptions{Image: k.Image, Pod: c.pod.Metadata.Name, Name: c.pod.Metadata.Name + "-" + k.Name, Quiet: c.o.Quiet,
		WorkingDir: k.WorkingDir, Terminal: k.TTY, Interactive: k.Stdin, LogDriver: c.o.LogDriver, LogOpts: c.o.LogOpts,
		Labels: maps.Clone(c.pod.Metadata.Labels), Annotations: maps.Clone(c.pod.Metadata.Annotations), Restart: restartPolicy(firstOf(k.RestartPolicy, s.RestartPolicy)), HTTPProxy: true}
	if c.o.NoPodPrefix {
		o.Name = k.Name
	}
	switch {
	case k.Name == "":
		return o, errors.New("it has no name")
	case k.Image == "":
		return o, errors.New("it has no image")
	}
	if init {
		o.InitCtr, o.Restart = firstOf(c.pod.Metadata.Annotations["io.podman.annotations.init.container.type"], "once"), "no"
	}
	switch k.PullPolicy {
	case "":
		if o.Pull = "missing"; latest(k.Image) {
			o.Pull = "newer"
		}
	case "Always":
		o.Pull = "always"
	case "IfNotPresent":
		o.Pull = "missing"
	case "Never":
		o.Pull = "never"
	default:
		return o, fmt.Errorf("imagePullPolicy %q is not one of Always, IfNotPresent, Never", k.PullPolicy)
	}
	if s.GraceSeconds != nil {
		o.StopTimeout = s.GraceSeconds
	}
	if k.Lifecycle != nil {
		o.StopSignal = k.Lifecycle.StopSignal
	}
	if s.HostPID {
		o.PidNS = "host"
	}
	if s.HostIPC {
		o.IpcNS = "host"
	}
	env, err := c.environment(k)
	if err != nil {
		return o, err
	}
	o.Env = env.list()
	if len(k.Command) > 0 {
		entry := env.expandAll(k.Command)
		o.Entrypoint = &entry
	}
	o.Command = env.expandAll(k.Args)
	for _, do := range []func(*Container, *engine.CreateOptions) error{c.resources, c.security, c.probes, c.annotations, func(k *Container, o *engine.CreateOptions) error { return c.mounts(k, o, env) }} {
		if err := do(k, &o); err != nil {
			return o, err
		}
	}
	return o, nil
}

// latest says whether an image's tag is one that moves, and of a registry.
func latest(image string) bool {
	if strings.Contains(image, "@") || strings.HasPrefix(image, "localhost/") {
		return false
	}
	_, tag, has := strings.Cut(path.Base(image), ":")
	return !has || tag == "latest"
}

func (c *podCompiler) resources(k *Container, o *engine.CreateOptions) error {
	if k.Resources == nil {
		return nil
	}
	for _, q := range []struct {
		from map[string]string
		key  string
		set  func(v float64)
	}{
		{k.Resources.Limits, "memory", func(v float64) { o.Resources.Memory = int64(v) }},
		{k.Resources.Limits, "cpu", func(v float64) { o.Resources.CPUs = v }},
		{k.Resources.Requests, "memory", func(v float64) { o.Resources.MemoryReservation = int64(v) }},
	} {
		text, ok := q.from[q.key]
		if !ok {
			continue
		}
		v, err := ParseQuantity(text)
		if err != nil {
			return fmt.Errorf("resources: %s: %w", q.key, err)
		}
		q.set(v)
	}
	if r := &o.Resources; r.Memory > 0 && r.MemoryReservation > r.Memory {
		return errors.New("resources: more memory is requested than the limit allows")
	}
	return nil
}

// annotations are podman's own words for what Kubernetes has no field for:
// io.podman.annotations.WORD, or WORD/CONTAINER.
func (c *podCompiler) annotations(k *Container, o *engine.CreateOptions) error {
	get := func(word string) string {
		a := c.pod.Metadata.Annotations
		return firstOf(a["io.podman.annotations."+word+"/"+k.Name], a["io.podman.annotations."+word])
	}
	if v := get("ulimit"); v != "" {
		for _, spec := range strings.Split(v, ",") {
			u, err := engine.ParseUlimit(spec)
			if err != nil {
				return err
			}
			o.Ulimits = append(o.Ulimits, u)
		}
	}
	o.Resources.CPUSetCPUs, o.Resources.CPUSetMems = get("cpuset"), get("memory-nodes")
	if v := get("pids-limit"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fmt.Errorf("annotation pids-limit: %w", err)
		}
		o.Resources.PidsLimit = &n
	}
	if v := get("volumes-from"); v != "" {
		o.VolumesFrom = strings.Split(v, ";")
	}
	o.Init = get("init") == "TRUE" || get("init") == "true"
	if v := get("label"); v != "" {
		o.SecurityOpt = append(o.SecurityOpt, "label="+v)
	}
	for _, word := range []string{"seccomp", "apparmor"} {
		if v := get(word); v != "" {
			o.SecurityOpt = append(o.SecurityOpt, word+"="+v)
		}
	}
	if v := c.pod.Metadata.Annotations["io.containers.autoupdate/"+k.Name]; v != "" || c.pod.Metadata.Annotations["io.containers.autoupdate"] != "" {
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels["io.containers.autoupdate"] = firstOf(v, c.pod.Metadata.Annotations["io.containers.autoupdate"])
	}
	return nil
}

func firstOf(s ...string) string {
	for _, x := range s {
		if x != "" {
			return x
		}
	}
	return ""
}
