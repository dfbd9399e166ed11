package engine

import (
	"slices"
	"strings"
)

// Defaults stand in for what CreateOptions leave out; a zero field is the
// built-in default.
type Defaults struct {
	Env          []string
	Ulimits      []Ulimit
	Capabilities []string
	Sysctls      []string
	Annotations  map[string]string
	DNS          []string
	LogDriver    string
	LogSizeMax   int64
	LogPath      string
	PidsLimit    *int64
	ShmSize      int64
	StopTimeout  uint
	Umask        string
	Timezone     string
	Network      string
	// RootlessNetwork is hull, pasta or slirp4netns: what carries the traffic
	// of a user's containers. The options are those programs'.
	RootlessNetwork            string
	PastaOptions, SlirpOptions []string

	IpcNS       string
	PidNS       string
	UtsNS       string
	UserNS      string
	CgroupNS    string
	Cgroups     string
	InitPath    string
	SeccompPath string
	Volumes     []Mount
	ReadOnly    bool
	NoLabels    bool // of SELinux
	NoHosts     bool

	HostsFile      string
	DNSOptions     []string
	DNSSearch      []string
	LogTag         string
	Devices        []Device
	OOMScoreAdj    *int
	EnvHost        bool
	NoHTTPProxy    bool
	Init           bool
	Privileged     bool
	NameAsHostname bool
}

// settle puts into o what d says and the user did not. The other defaults are
// looked up where they are needed: they hold for containers that exist, too.
func (d *Defaults) settle(o *CreateOptions) {
	for _, s := range []struct {
		o *string
		d string
	}{
		{&o.IpcNS, d.IpcNS}, {&o.PidNS, d.PidNS}, {&o.UtsNS, d.UtsNS}, {&o.CgroupNS, d.CgroupNS},
		{&o.Timezone, d.Timezone}, {&o.HostsFile, d.HostsFile},
	} {
		*s.o = firstOf(*s.o, s.d)
	}
	for k, v := range d.Annotations {
		if _, ok := o.Annotations[k]; !ok {
			if o.Annotations == nil {
				o.Annotations = map[string]string{}
			}
			o.Annotations[k] = v
		}
	}
	if o.OOMScoreAdj == nil {
		o.OOMScoreAdj = d.OOMScoreAdj
	}
	if d.LogTag != "" && !slices.ContainsFunc(o.LogOpts, func(s string) bool { return strings.HasPrefix(s, "tag=") }) {
		o.LogOpts = append(o.LogOpts, "tag="+d.LogTag)
	}
	if len(o.DNSOptions) == 0 {
		o.DNSOptions = d.DNSOptions
	}
	if len(o.DNSSearch) == 0 {
		o.DNSSearch = d.DNSSearch
	}
	if d.NameAsHostname && o.Hostname == "" && o.Name != "" {
		o.Hostname = o.Name
	}
	o.Devices = append(slices.Clone(d.Devices), o.Devices...)
	o.ReadOnly = o.ReadOnly || d.ReadOnly
	o.EnvHost = o.EnvHost || d.EnvHost
	o.Init = o.Init || d.Init
	o.Privileged = o.Privileged || d.Privileged
	o.HTTPProxy = o.HTTPProxy && !d.NoHTTPProxy
}
