package engine

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"hull/format"
	"hull/network"
)

// State of a pod, by podman's words.
const (
	PodCreated  = "Created"
	PodRunning  = "Running"
	PodPaused   = "Paused"
	PodDegraded = "Degraded" // some run, others do not
	PodStopped  = "Stopped"  // some have ended, none runs
	PodExited   = "Exited"   // all have ended
	PodErrored  = "Error"
)

// podState sums up the states of a pod's containers.
func podState(list []member) string {
	count := map[string]int{}
	for _, m := range list {
		switch m.s.Status {
		case StatusExited, StatusStopped:
			count[PodStopped]++
		case StatusRunning, StatusStopping:
			count[PodRunning]++
		case StatusPaused:
			count[PodPaused]++
		case StatusCreated, StatusConfigured, StatusInitialized:
			count[PodCreated]++
		default:
			count[PodErrored]++
		}
	}
	switch n := len(list); {
	case n == 0:
		return PodCreated
	case count[PodRunning] == n:
		return PodRunning
	case count[PodRunning] > 0:
		return PodDegraded
	case count[PodPaused] == n:
		return PodPaused
	case count[PodStopped] == n:
		return PodExited
	case count[PodStopped] > 0:
		return PodStopped
	case count[PodErrored] > 0:
		return PodErrored
	}
	return PodCreated
}

// A PodEntry is a pod in PodList, with the JSON names of podman pod ps.
type PodEntry struct {
	Cgroup     string
	Containers []PodEntryContainer
	Created    time.Time
	ID         string `json:"Id"`
	InfraID    string `json:"InfraId"`
	Name       string
	Namespace  string
	Networks   []string
	Status     string
	Labels     map[string]string
	Restart    string `json:"-"`
}

// A PodEntryContainer is one container of such a pod.
type PodEntryContainer struct {
	ID           string `json:"Id"`
	Names        string
	Status       string
	RestartCount uint
}

// PodList returns pods, the newest first.
func (e *Engine) PodList(ctx context.Context, f Filters) ([]PodEntry, error) {
	all, err := e.pods()
	if err != nil {
		return nil, err
	}
	by := map[string][]member{}
	records, err := e.records()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.Pod == "" || r.Incomplete {
			continue
		}
		s, err := e.state(r)
		if err != nil {
			return nil, err
		}
		by[r.Pod] = append(by[r.Pod], member{r, s})
	}
	out := []PodEntry{}
	for _, p := range slices.Backward(all) {
		infraFirst(by[p.ID])
		entry := e.podEntry(p, by[p.ID])
		ok, err := e.podMatches(&entry, f)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, entry)
		}
	}
	return out, nil
}

func (e *Engine) podEntry(p *podRecord, list []member) PodEntry {
	entry := PodEntry{
		Cgroup: path.Dir(firstOf(e.shownPodGroup(p), "/hull/x")), Created: p.Created, ID: p.ID, InfraID: p.Infra, Name: p.Name, Networks: []string{},
		Status: podState(list), Labels: p.Options.Labels, Containers: []PodEntryContainer{}, Restart: p.Options.Restart,
	}
	for _, m := range list {
		entry.Containers = append(entry.Containers, PodEntryContainer{ID: m.r.ID, Names: m.r.Name, Status: shownStatus(m.s), RestartCount: m.s.Restarts})
		if m.r.Infra && m.r.usesNetwork(e) {
			for _, n := range m.r.networks() {
				entry.Networks = append(entry.Networks, n.Name)
			}
		}
	}
	return entry
}

// shownStatus is the state that users know.
func shownStatus(s *runState) string {
	if s.Status == StatusStopped {
		return StatusExited
	}
	return s.Status
}

// podMatches holds a pod against filters; values of one key are alternatives.
func (e *Engine) podMatches(p *PodEntry, f Filters) (bool, error) {
	for key, values := range f {
		if key == "label" || key == "label!" {
			for _, v := range values {
				if hasLabel(p.Labels, v) != (key == "label") {
					return false, nil
				}
			}
			continue
		}
		any := false
		for _, v := range values {
			ok, err := p.matches(key, v)
			if err != nil {
				return false, err
			}
			any = any || ok
		}
		if !any {
			return false, nil
		}
	}
	return true, nil
}

func (p *PodEntry) matches(key, v string) (bool, error) {
	some := func(t func(PodEntryContainer) bool) bool { return slices.ContainsFunc(p.Containers, t) }
	switch key {
	case "id":
		return strings.HasPrefix(p.ID, v), nil
	case "name":
		return nameMatches(p.Name, v), nil
	case "status":
		if !slices.Contains([]string{"created", "running", "paused", "degraded", "stopped", "exited", "error", "dead"}, strings.ToLower(v)) {
			return false, fmt.Errorf("%s is not a valid pod status", v)
		}
		return strings.EqualFold(p.Status, v), nil
	case "network":
		return slices.Contains(p.Networks, v), nil
	case "ctr-ids":
		return some(func(c PodEntryContainer) bool { return strings.HasPrefix(c.ID, v) }), nil
	case "ctr-names":
		return some(func(c PodEntryContainer) bool { return nameMatches(c.Names, v) }), nil
	case "ctr-number":
		return fmt.Sprint(len(p.Containers)) == v, nil
	case "ctr-status":
		if _, err := statusTest(v); err != nil {
			return false, err
		}
		return some(func(c PodEntryContainer) bool { return c.Status == v || v == "stopped" && c.Status == StatusExited }), nil
	case "until":
		t, err := format.ParseTime(time.Now(), v)
		return err == nil && p.Created.Before(t), err
	}
	return false, fmt.Errorf("%q is an invalid pod filter", key)
}

// A PodInspect is everything about a pod, with the JSON names of podman pod inspect.
type PodInspect struct {
	ID               string `json:"Id"`
	Name             string
	Namespace        string `json:",omitempty"`
	Created          time.Time
	CreateCommand    []string `json:",omitempty"`
	ExitPolicy       string
	State            string
	Hostname         string
	Labels           map[string]string `json:",omitempty"`
	CreateCgroup     bool
	CgroupParent     string `json:",omitempty"`
	CgroupPath       string `json:",omitempty"`
	CreateInfra      bool
	InfraContainerID string          `json:",omitempty"`
	InfraConfig      *PodInfraConfig `json:",omitempty"`
	SharedNamespaces []string        `json:",omitempty"`
	NumContainers    int
	Containers       []PodInspectContainer `json:",omitempty"`

	CPUPeriod           uint64          `json:"cpu_period,omitempty"`
	CPUQuota            int64           `json:"cpu_quota,omitempty"`
	CPUShares           uint64          `json:"cpu_shares,omitempty"`
	CPUSetCPUs          string          `json:"cpuset_cpus,omitempty"`
	CPUSetMems          string          `json:"cpuset_mems,omitempty"`
	MemoryLimit         int64           `json:"memory_limit,omitempty"`
	MemorySwap          int64           `json:"memory_swap,omitempty"`
	BlkioWeight         uint16          `json:"blkio_weight,omitempty"`
	BlkioWeightDevice   []Weight        `json:"blkio_weight_device,omitempty"`
	BlkioDeviceReadBps  []Rate          `json:"device_read_bps,omitempty"`
	BlkioDeviceWriteBps []Rate          `json:"device_write_bps,omitempty"`
	Mounts              []InspectMount  `json:"mounts,omitempty"`
	Devices             []InspectDevice `json:"devices,omitempty"`
	VolumesFrom         []string        `json:"volumes_from,omitempty"`
	SecurityOpts        []string        `json:"security_opt,omitempty"`
	RestartPolicy       string          `json:"RestartPolicy,omitempty"`
	LockNumber          int             `json:"-"`
}

// A PodInfraConfig is what the infra container was made of.
type PodInfraConfig struct {
	PortBindings       map[string][]InspectPort
	HostNetwork        bool
	StaticIP           string
	StaticMAC          string
	NoManageResolvConf bool
	DNSServer          []string
	DNSSearch          []string
	DNSOption          []string
	NoManageHosts      bool
	HostAdd            []string
	HostsFile          string `json:",omitempty"`
	Networks           []string
	NetworkOptions     map[string][]string
	CPUPeriod          uint64 `json:"cpu_period,omitempty"`
	CPUQuota           int64  `json:"cpu_quota,omitempty"`
	CPUSetCPUs         string `json:"cpuset_cpus,omitempty"`
	PidNS              string `json:"pid_ns,omitempty"`
	UserNS             string `json:"userns,omitempty"`
	UtsNS              string `json:"uts_ns,omitempty"`
}

// A PodInspectContainer is one container of an inspected pod.
type PodInspectContainer struct {
	ID    string `json:"Id"`
	Name  string
	State string
}

// PodInspect returns everything about a pod.
func (e *Engine) PodInspect(ctx context.Context, name string) (*PodInspect, error) {
	p, err := e.openPod(name)
	if err != nil {
		return nil, err
	}
	list, err := e.members(p.ID)
	if err != nil {
		return nil, err
	}
	o, res := &p.Options, &p.Options.Resources
	out := &PodInspect{
		ID: p.ID, Name: p.Name, Created: p.Created, CreateCommand: o.CreateCommand, ExitPolicy: firstOf(o.ExitPolicy, "continue"), State: podState(list),
		Labels: o.Labels, CreateCgroup: !o.NoShareParent, CgroupPath: e.shownPodGroup(p), CreateInfra: !o.NoInfra, InfraContainerID: p.Infra,
		SharedNamespaces: p.shares(), NumContainers: len(list), CPUPeriod: res.CPUPeriod, CPUQuota: res.CPUQuota, CPUShares: res.CPUShares,
		CPUSetCPUs: res.CPUSetCPUs, CPUSetMems: res.CPUSetMems, MemoryLimit: res.Memory, MemorySwap: res.MemorySwap, BlkioWeight: res.BlkioWeight,
		BlkioWeightDevice: res.BlkioWeightDevice, BlkioDeviceReadBps: res.DeviceReadBps, BlkioDeviceWriteBps: res.DeviceWriteBps,
		VolumesFrom: o.Infra.VolumesFrom, SecurityOpts: o.Infra.SecurityOpt, RestartPolicy: o.Restart,
	}
	if out.CgroupPath != "" {
		out.CgroupParent = path.Dir(out.CgroupPath)
	}
	if res.CPUs != 0 {
		out.CPUPeriod, out.CPUQuota = 100000, int64(res.CPUs*100000)
	}
	for _, m := range list {
		out.Containers = append(out.Containers, PodInspectContainer{m.r.ID, m.r.Name, shownStatus(m.s)})
		if m.r.Infra {
			e.inspectInfra(out, m)
		}
	}
	return out, nil
}

func (e *Engine) inspectInfra(out *PodInspect, m member) {
	o := &m.r.Options
	out.Hostname = containerHostname(m.r, specFacts{})
	c := &PodInfraConfig{
		HostNetwork: o.NetworkMode == "host", StaticIP: o.IP, StaticMAC: o.MAC, NoManageResolvConf: slices.Contains(o.DNS, "none"),
		DNSServer: o.DNS, DNSSearch: o.DNSSearch, DNSOption: o.DNSOptions, NoManageHosts: o.NoHosts, HostAdd: o.AddHosts, HostsFile: o.HostsFile,
		CPUPeriod: out.CPUPeriod, CPUQuota: out.CPUQuota, CPUSetCPUs: out.CPUSetCPUs,
		PidNS: firstOf(o.PidNS, "private"), UserNS: firstOf(o.UserNS, "host"), UtsNS: firstOf(o.UtsNS, "private"),
	}
	if m.r.usesNetwork(e) {
		for _, n := range m.r.networks() {
			c.Networks = append(c.Networks, firstOf(n.Name, network.DefaultName))
		}
	}
	c.PortBindings = map[string][]InspectPort{}
	for port, list := range e.inspectNetworks(m.r, m.s).Ports {
		if list != nil {
			c.PortBindings[port] = list
		}
	}
	out.InfraConfig = c
	out.Mounts = e.inspectMounts(m.r)
	for _, d := range o.Devices {
		out.Devices = append(out.Devices, InspectDevice{d.Host, firstOf(d.Container, d.Host), firstOf(d.Access, "rwm")})
	}
}

// PodTop is Top of all running containers of a pod, as one table.
func (e *Engine) PodTop(ctx context.Context, name string, o TopOptions) ([][]string, error) {
	p, err := e.openPod(name)
	if err != nil {
		return nil, err
	}
	list, err := e.members(p.ID)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, m := range list {
		if !m.s.running() {
			continue
		}
		more, err := e.Top(ctx, m.r.ID, o)
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 {
			more = more[1:]
		}
		rows = append(rows, more...)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("pod top can only be used on pods with at least one running container: pod %s is %s: %w", p.Name, strings.ToLower(podState(list)), ErrState)
	}
	return rows, nil
}
