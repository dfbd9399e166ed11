package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"hull/network"
	"hull/oci"
)

// A ContainerInspect is everything about a container, with the JSON names of
// podman container inspect.
type ContainerInspect struct {
	ID              string `json:"Id"`
	Created         time.Time
	Path            string
	Args            []string
	State           InspectState
	Image           string
	ImageDigest     string
	ImageName       string
	Rootfs          string
	Pod             string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	StaticDir       string
	OCIConfigPath   string `json:",omitempty"`
	OCIRuntime      string
	ConmonPidFile   string
	PidFile         string
	Name            string
	RestartCount    uint
	Driver          string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	EffectiveCaps   []string
	BoundingCaps    []string
	ExecIDs         []string
	GraphDriver     InspectDriver
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      int64  `json:",omitempty"`
	Mounts          []InspectMount
	Dependencies    []string
	NetworkSettings InspectNetworks
	Namespace       string
	IsInfra         bool
	IsService       bool
	Config          InspectConfig
	HostConfig      InspectHost
}

// An InspectState is State of an inspected container.
type InspectState struct {
	OciVersion     string
	Status         string
	Running        bool
	Paused         bool
	Restarting     bool
	OOMKilled      bool
	Dead           bool
	Pid            int
	ConmonPid      int `json:",omitempty"`
	ExitCode       int
	Error          string
	StartedAt      time.Time
	FinishedAt     time.Time
	Health         *InspectHealth `json:",omitempty"`
	CgroupPath     string
	StoppedByUser  bool
	CheckpointedAt time.Time
	RestoredAt     time.Time
}

// An InspectHealth is what health checks have seen.
type InspectHealth struct {
	Status        string
	FailingStreak int
	Log           []HealthEntry
}

// An InspectDriver tells how the root file system is kept.
type InspectDriver struct {
	Name string
	Data map[string]string
}

// An InspectMount is one mount of a container.
type InspectMount struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string
	Mode        string
	Options     []string
	RW          bool
	Propagation string
	SubPath     string `json:",omitempty"`
}

// An InspectPort is one address that a port is published on.
type InspectPort struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// InspectNetworks are a container's addresses; those of the first network are
// at the top as well.
type InspectNetworks struct {
	InspectAddress
	Bridge                 string
	SandboxID              string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	Ports                  map[string][]InspectPort
	SandboxKey             string
	Networks               map[string]InspectNetwork `json:",omitempty"`
}

// An InspectAddress is the address of one interface.
type InspectAddress struct {
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	MacAddress          string
}

// An InspectNetwork is a container in one network.
type InspectNetwork struct {
	InspectAddress
	NetworkID  string
	DriverOpts map[string]string
	IPAMConfig *struct{}
	Links      []string
	Aliases    []string
}

// An InspectConfig is what the image's configuration would say.
type InspectConfig struct {
	Hostname       string
	Domainname     string
	User           string
	AttachStdin    bool
	AttachStdout   bool
	AttachStderr   bool
	Tty            bool
	OpenStdin      bool
	StdinOnce      bool
	Env            []string
	Cmd            []string
	Image          string
	Volumes        map[string]struct{}
	WorkingDir     string
	Entrypoint     []string
	Labels         map[string]string
	Annotations    map[string]string
	StopSignal     string
	Healthcheck    *oci.Healthcheck    `json:",omitempty"`
	ExposedPorts   map[string]struct{} `json:",omitempty"`
	CreateCommand  []string
	Umask          string
	Timezone       string `json:",omitempty"`
	Secrets        []Secret
	StopTimeout    uint
	Passwd         bool
	OnBuild        []string
	SystemdMode    bool
	HealthcheckLog string `json:"HealthcheckLogDestination,omitempty"`
}

// Inspect returns everything about a container; size asks for the bytes too.
func (e *Engine) Inspect(ctx context.Context, name string, size bool) (*ContainerInspect, error) {
	r, s, err := e.open(ctx, name)
	if err != nil {
		return nil, err
	}
	args, err := commandLine(r)
	if err != nil {
		return nil, err
	}
	c := &ContainerInspect{
		ID: r.ID, Created: r.Created, Path: args[0], Args: args[1:], Image: r.ImageID, ImageDigest: string(r.ImageDigest),
		ImageName: r.ImageName, Rootfs: r.Options.Rootfs, StaticDir: r.dir, OCIRuntime: runtimeName(r), PidFile: r.Options.PidFile, ConmonPidFile: r.Options.ConmonPidFile,
		Name: r.Name, Pod: r.Pod, IsInfra: r.Infra, RestartCount: s.Restarts, ExecIDs: []string{}, Dependencies: orEmpty(r.Depends),
		State: e.inspectState(r, s), Config: e.inspectConfig(r), HostConfig: e.inspectHost(r),
	}
	if r.Labels != nil {
		c.ProcessLabel, c.MountLabel = r.Labels.Process, r.Labels.Mount
	}
	c.AppArmorProfile = e.appArmorProfile(&r.Options)
	run := e.containerRun(r.ID)
	for _, f := range []struct {
		name string
		to   *string
	}{{"resolv.conf", &c.ResolvConfPath}, {"hostname", &c.HostnamePath}, {"hosts", &c.HostsPath}} {
		if fileExists(run + "/" + f.name) {
			*f.to = run + "/" + f.name
		}
	}
	bounding, err := capabilitySet(&r.Options, e.o.Defaults.Capabilities, nil)
	if err != nil {
		return nil, err
	}
	c.BoundingCaps, c.EffectiveCaps = orEmpty(bounding), orEmpty(bounding)
	if r.User.UID != 0 {
		c.EffectiveCaps = []string{}
	}
	e.inspectDriver(r, c)
	c.Mounts = e.inspectMounts(r)
	c.NetworkSettings = e.inspectNetworks(r, s)
	if size {
		if z := e.size(ctx, r.ID); z != nil {
			c.SizeRw, c.SizeRootFs = &z.RwSize, z.RootFsSize
		}
	}
	return c, nil
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (e *Engine) inspectState(r *record, s *runState) InspectState {
	st := InspectState{
		OciVersion: oci.SpecVersion, Status: s.Status, Running: s.Status == StatusRunning || s.Status == StatusStopping || s.Status == StatusPaused,
		Paused: s.Status == StatusPaused, OOMKilled: s.OOMKilled, Pid: s.Pid, ConmonPid: s.Monitor, ExitCode: s.ExitCode, Error: s.Error,
		StartedAt: s.StartedAt, FinishedAt: s.FinishedAt, CgroupPath: s.Cgroup, StoppedByUser: s.Stopped,
		CheckpointedAt: checkpointed(r), RestoredAt: s.RestoredAt,
	}
	if s.Status == StatusStopped {
		st.Status = StatusExited
	}
	if !s.running() {
		st.Pid, st.ConmonPid = 0, 0
	}
	if s.Health != "" {
		st.Health = e.inspectHealth(r, s)
	}
	return st
}

func (e *Engine) inspectConfig(r *record) InspectConfig {
	o := &r.Options
	entry, cmd := r.Image.Entrypoint, r.Image.Cmd
	if o.Entrypoint != nil {
		entry, cmd = *o.Entrypoint, nil
	}
	if len(o.Command) > 0 {
		cmd = o.Command
	}
	f := specFacts{Defaults: e.o.Defaults}
	hostname := containerHostname(r, f)
	c := InspectConfig{
		Hostname: hostname, Domainname: o.Domainname, User: firstOf(o.User, r.Image.User), Tty: o.Terminal, OpenStdin: o.Interactive,
		AttachStdin: slices.Contains(o.Attach, "stdin"), AttachStdout: slices.Contains(o.Attach, "stdout"), AttachStderr: slices.Contains(o.Attach, "stderr"),
		Env: environment(r, f, hostname), Cmd: orEmpty(cmd), Image: firstOf(r.ImageName, o.Rootfs), WorkingDir: workingDir(r), Entrypoint: orEmpty(entry),
		Labels: e.labels(r), Annotations: o.Annotations, StopSignal: r.stopSignal(),
		CreateCommand: orEmpty(o.CreateCommand), Umask: firstOf(o.Umask, "0022"), Timezone: o.Timezone, Secrets: o.Secrets,
		StopTimeout: 10, Passwd: o.Passwd == nil || *o.Passwd, OnBuild: r.Image.OnBuild, SystemdMode: systemdMode(r), Healthcheck: inspectHealthcheck(r),
	}
	if !strings.HasPrefix(c.StopSignal, "SIG") {
		c.StopSignal = "SIG" + c.StopSignal
	}
	if o.StopTimeout != nil {
		c.StopTimeout = *o.StopTimeout
	}
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	for port, protos := range exposedPorts(r) {
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		for _, p := range protos {
			c.ExposedPorts[fmt.Sprintf("%d/%s", port, p)] = struct{}{}
		}
	}
	if len(r.Image.Volumes) > 0 {
		c.Volumes = maps.Clone(r.Image.Volumes)
	}
	return c
}

func (e *Engine) inspectHealth(r *record, s *runState) *InspectHealth {
	out := &InspectHealth{Status: s.Health, FailingStreak: s.Streak, Log: []HealthEntry{}}
	if h, ok := r.health(); ok {
		if log, err := e.readHealthLog(r, &h); err != nil {
			e.warn("%v", err)
		} else if log != nil {
			out.Log = log
		}
	}
	return out
}

func inspectHealthcheck(r *record) *oci.Healthcheck {
	h := r.Options.Health
	if h == nil {
		return r.Image.Healthcheck
	}
	if h.Disable {
		return nil
	}
	return &oci.Healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
}

func (e *Engine) inspectDriver(r *record, c *ContainerInspect) {
	snaps, err := e.Snapshots()
	if err != nil || r.Options.Rootfs != "" {
		return
	}
	c.Driver = snaps.Driver()
	c.GraphDriver = InspectDriver{Name: c.Driver, Data: map[string]string{}}
	mounts, err := snaps.Mounts(r.ID)
	if err != nil {
		return
	}
	for _, opt := range mounts[0].Options {
		switch k, v, _ := strings.Cut(opt, "="); k {
		case "lowerdir":
			c.GraphDriver.Data["LowerDir"] = v
		case "upperdir":
			c.GraphDriver.Data["UpperDir"] = v
		case "workdir":
			c.GraphDriver.Data["WorkDir"] = v
		}
	}
}

func (e *Engine) inspectMounts(r *record) []InspectMount {
	out := []InspectMount{}
	for _, m := range r.Mounts {
		i := InspectMount{Type: m.Type, Source: m.Source, Destination: m.Destination, RW: !m.has("ro"), Options: []string{}, Propagation: "rprivate", SubPath: m.SubPath}
		for _, opt := range m.Options {
			switch opt {
			case "ro", "rw":
			case "z", "Z":
				i.Mode = opt
			case "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable":
				i.Propagation = opt
			default:
				i.Options = append(i.Options, opt)
			}
		}
		if m.Type == "volume" {
			i.Name, i.Driver = m.Source, firstOf(m.VolumeDriver, "local")
			i.Source = e.volumeDir(m.Source) + "/_data"
		}
		if m.Type == "bind" && len(i.Options) == 0 {
			i.Options = []string{"rbind"}
		}
		if m.Type == "tmpfs" {
			i.Propagation = ""
		}
		out = append(out, i)
	}
	return out
}

func (e *Engine) inspectNetworks(r *record, s *runState) InspectNetworks {
	n := InspectNetworks{Ports: map[string][]InspectPort{}, Networks: map[string]InspectNetwork{}}
	for port, protos := range exposedPorts(r) {
		for _, p := range protos {
			n.Ports[fmt.Sprintf("%d/%s", port, p)] = nil
		}
	}
	ports := s.Ports
	if len(ports) == 0 {
		ports = r.Options.Publish
	}
	for _, p := range ports {
		ip := "0.0.0.0"
		if p.HostIP.IsValid() {
			ip = p.HostIP.String()
		}
		for i := range max(p.Range, 1) {
			key := fmt.Sprintf("%d/%s", p.ContainerPort+i, firstOf(p.Protocol, "tcp"))
			n.Ports[key] = append(n.Ports[key], InspectPort{ip, strconv.Itoa(int(p.HostPort + i))})
		}
	}
	if s.Pid != 0 && s.running() {
		n.SandboxKey = fmt.Sprintf("/proc/%d/ns/net", s.Pid)
	}
	for _, j := range s.Networks {
		a := inspectAddress(j)
		if n.MacAddress == "" {
			n.InspectAddress = a
		}
		n.Networks[j.Network] = InspectNetwork{InspectAddress: a, NetworkID: j.ID, Links: nil, Aliases: append(slices.Clone(j.Aliases), r.ID[:12])}
	}
	if len(n.Networks) == 0 {
		mode := r.Options.NetworkMode
		if mode == "" || mode == "bridge" {
			mode = network.DefaultName
		}
		n.Networks[mode] = InspectNetwork{NetworkID: mode}
	}
	return n
}

func inspectAddress(j network.Joined) InspectAddress {
	a := InspectAddress{MacAddress: j.MAC}
	for _, p := range j.Addresses {
		if p.Addr().Is4() {
			a.IPAddress, a.IPPrefixLen = p.Addr().String(), p.Bits()
		} else {
			a.GlobalIPv6Address, a.GlobalIPv6PrefixLen = p.Addr().String(), p.Bits()
		}
	}
	for _, g := range j.Gateways {
		if g.Is4() {
			a.Gateway = g.String()
		} else {
			a.IPv6Gateway = g.String()
		}
	}
	return a
}
