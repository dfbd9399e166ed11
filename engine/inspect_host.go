package engine

import (
	"fmt"
	"os"
	"strings"

	"hull/oci"
)

// An InspectHost is HostConfig of an inspected container: what was asked of
// the host.
type InspectHost struct {
	Binds                []string
	CgroupManager        string
	CgroupMode           string
	ContainerIDFile      string
	LogConfig            InspectLog
	NetworkMode          string
	PortBindings         map[string][]InspectPort
	RestartPolicy        InspectRestart
	AutoRemove           bool
	AutoRemoveImage      bool
	Annotations          map[string]string
	VolumeDriver         string
	VolumesFrom          []string
	CapAdd               []string
	CapDrop              []string
	DNS                  []string `json:"Dns"`
	DNSOptions           []string `json:"DnsOptions"`
	DNSSearch            []string `json:"DnsSearch"`
	ExtraHosts           []string
	GroupAdd             []string
	IpcMode              string
	Cgroup               string
	Cgroups              string
	OomScoreAdj          int
	PidMode              string
	Privileged           bool
	PublishAllPorts      bool
	ReadonlyRootfs       bool
	SecurityOpt          []string
	Tmpfs                map[string]string
	UTSMode              string
	UsernsMode           string
	IDMappings           *InspectIDs `json:",omitempty"`
	ShmSize              int64
	Runtime              string
	CPUShares            uint64 `json:"CpuShares"`
	Memory               int64
	NanoCPUs             int64 `json:"NanoCpus"`
	CgroupParent         string
	BlkioWeight          uint16
	BlkioWeightDevice    []Weight
	BlkioDeviceReadBps   []Rate
	BlkioDeviceWriteBps  []Rate
	BlkioDeviceReadIOps  []Rate
	BlkioDeviceWriteIOps []Rate
	CPUPeriod            uint64 `json:"CpuPeriod"`
	CPUQuota             int64  `json:"CpuQuota"`
	CPURealtimePeriod    uint64 `json:"CpuRealtimePeriod"`
	CPURealtimeRuntime   int64  `json:"CpuRealtimeRuntime"`
	CpusetCpus           string
	CpusetMems           string
	Devices              []InspectDevice
	MemoryReservation    int64
	MemorySwap           int64
	MemorySwappiness     int64
	OomKillDisable       bool
	Init                 bool `json:",omitempty"`
	PidsLimit            int64
	Ulimits              []Ulimit
	CgroupConf           map[string]string
}

// An InspectLog is the log's driver, file and bounds.
type InspectLog struct {
	Type   string
	Config map[string]string
	Path   string
	Tag    string
	Size   string
}

// An InspectRestart is the restart policy.
type InspectRestart struct {
	Name              string
	MaximumRetryCount uint
}

// InspectIDs are the maps of a user namespace, CONTAINER:HOST:SIZE.
type InspectIDs struct{ UidMap, GidMap []string }

// An InspectDevice is one --device.
type InspectDevice struct{ PathOnHost, PathInContainer, CgroupPermissions string }

func fileExists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (e *Engine) inspectHost(r *record) InspectHost {
	o := &r.Options
	res := &o.Resources
	policy, retries, _ := parseRestart(o.Restart)
	h := InspectHost{
		Binds: []string{}, CgroupManager: e.CgroupManager(), CgroupMode: firstOf(o.CgroupNS, "private"), ContainerIDFile: o.CIDFile,
		LogConfig:    InspectLog{Type: e.logDriver(r), Path: e.logPath(r), Size: "0B", Config: nil},
		NetworkMode:  firstOf(o.NetworkMode, "bridge"),
		PortBindings: map[string][]InspectPort{}, RestartPolicy: InspectRestart{firstOf(policy, "no"), retries}, AutoRemove: o.AutoRemove, AutoRemoveImage: o.AutoRemoveImage,
		Annotations: o.Annotations, VolumesFrom: o.VolumesFrom, CapAdd: orEmpty(o.CapAdd), CapDrop: orEmpty(o.CapDrop),
		DNS: orEmpty(o.DNS), DNSOptions: orEmpty(o.DNSOptions), DNSSearch: orEmpty(o.DNSSearch), ExtraHosts: orEmpty(o.AddHosts), GroupAdd: orEmpty(o.GroupAdd),
		IpcMode: firstOf(o.IpcNS, "shareable"), Cgroups: "default", PidMode: firstOf(o.PidNS, "private"), Privileged: o.Privileged, PublishAllPorts: o.PublishAll,
		ReadonlyRootfs: o.ReadOnly, SecurityOpt: orEmpty(o.SecurityOpt), Tmpfs: map[string]string{}, UTSMode: firstOf(o.UtsNS, "private"), UsernsMode: o.UserNS,
		ShmSize: o.ShmSize, Runtime: "oci", CPUShares: res.CPUShares, Memory: res.Memory, NanoCPUs: int64(res.CPUs * 1e9), CgroupParent: o.CgroupParent,
		BlkioWeight: res.BlkioWeight, BlkioWeightDevice: res.BlkioWeightDevice, BlkioDeviceReadBps: res.DeviceReadBps, BlkioDeviceWriteBps: res.DeviceWriteBps,
		BlkioDeviceReadIOps: res.DeviceReadIOps, BlkioDeviceWriteIOps: res.DeviceWriteIOps, CPUPeriod: res.CPUPeriod, CPUQuota: res.CPUQuota,
		CPURealtimePeriod: res.CPURTPeriod, CPURealtimeRuntime: res.CPURTRuntime, CpusetCpus: res.CPUSetCPUs, CpusetMems: res.CPUSetMems,
		MemoryReservation: res.MemoryReservation, MemorySwap: res.MemorySwap, OomKillDisable: res.OOMKillDisable, Init: o.Init, PidsLimit: defaultPidsLimit,
		Ulimits: o.Ulimits, CgroupConf: res.Unified, Devices: []InspectDevice{},
	}
	if h.ShmSize == 0 {
		h.ShmSize = defaultShmSize
	}
	if res.PidsLimit != nil {
		h.PidsLimit = *res.PidsLimit
	}
	if res.MemorySwappiness != nil {
		h.MemorySwappiness = *res.MemorySwappiness
	}
	if res.Memory > 0 && res.MemorySwap == 0 {
		h.MemorySwap = 2 * res.Memory
	}
	if res.CPUs != 0 && h.CPUPeriod == 0 {
		h.CPUPeriod, h.CPUQuota = 100000, int64(res.CPUs*100000)
	}
	if o.OOMScoreAdj != nil {
		h.OomScoreAdj = *o.OOMScoreAdj
	}
	for _, d := range o.Devices {
		h.Devices = append(h.Devices, InspectDevice{d.Host, firstOf(d.Container, d.Host), firstOf(d.Access, "rwm")})
	}
	for _, m := range r.Mounts {
		switch m.Type {
		case "tmpfs":
			h.Tmpfs[m.Destination] = strings.Join(m.Options, ",")
		case "bind", "volume":
			h.Binds = append(h.Binds, m.Source+":"+m.Destination+":"+strings.Join(append([]string{"rw"}, m.Options...), ","))
		}
	}
	for port, list := range e.inspectNetworks(r, &runState{}).Ports {
		if list != nil {
			h.PortBindings[port] = list
		}
	}
	if len(r.UIDMap) > 0 {
		h.IDMappings = &InspectIDs{UidMap: mapWords(r.UIDMap), GidMap: mapWords(r.GIDMap)}
	}
	return h
}

func mapWords(m []oci.LinuxIDMapping) []string {
	var out []string
	for _, r := range m {
		out = append(out, fmt.Sprintf("%d:%d:%d", r.ContainerID, r.HostID, r.Size))
	}
	return out
}
