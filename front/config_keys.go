package front

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hull/engine"
	"hull/network"
	"hull/remote"
)

// configKeys are the keys of containers.conf that mean something here.
var configKeys = map[string]func(c *Config, v any) error{
	"containers.annotations":                mapOf(func(c *Config) *map[string]string { return &c.Defaults.Annotations }),
	"containers.base_hosts_file":            text(func(c *Config) *string { return &c.Defaults.HostsFile }),
	"containers.cgroupns":                   text(func(c *Config) *string { return &c.Defaults.CgroupNS }),
	"containers.cgroups":                    text(func(c *Config) *string { return &c.Defaults.Cgroups }),
	"containers.container_name_as_hostname": flag(func(c *Config) *bool { return &c.Defaults.NameAsHostname }),
	"containers.default_capabilities":       parsed(engine.ParseCapability, func(c *Config) *[]string { return &c.Defaults.Capabilities }),
	"containers.default_sysctls":            list(func(c *Config) *[]string { return &c.Defaults.Sysctls }),
	"containers.default_ulimits":            parsed(engine.ParseUlimit, func(c *Config) *[]engine.Ulimit { return &c.Defaults.Ulimits }),
	"containers.devices":                    parsed(engine.ParseDevice, func(c *Config) *[]engine.Device { return &c.Defaults.Devices }),
	"containers.dns_options":                list(func(c *Config) *[]string { return &c.Defaults.DNSOptions }),
	"containers.dns_searches":               list(func(c *Config) *[]string { return &c.Defaults.DNSSearch }),
	"containers.dns_servers":                list(func(c *Config) *[]string { return &c.Defaults.DNS }),
	"containers.env":                        list(func(c *Config) *[]string { return &c.Defaults.Env }),
	"containers.env_host":                   flag(func(c *Config) *bool { return &c.Defaults.EnvHost }),
	"containers.http_proxy":                 notFlag(func(c *Config) *bool { return &c.Defaults.NoHTTPProxy }),
	"containers.init":                       flag(func(c *Config) *bool { return &c.Defaults.Init }),
	"containers.init_path":                  text(func(c *Config) *string { return &c.Defaults.InitPath }),
	"containers.ipcns":                      text(func(c *Config) *string { return &c.Defaults.IpcNS }),
	"containers.label":                      setLabel,
	"containers.log_driver":                 text(func(c *Config) *string { return &c.Defaults.LogDriver }),
	"containers.log_path":                   text(func(c *Config) *string { return &c.Defaults.LogPath }),
	"containers.log_size_max":               number(func(c *Config) *int64 { return &c.Defaults.LogSizeMax }),
	"containers.log_tag":                    text(func(c *Config) *string { return &c.Defaults.LogTag }),
	"containers.mounts":                     parsed(engine.ParseMount, func(c *Config) *[]engine.Mount { return &c.Defaults.Volumes }),
	"containers.netns":                      text(func(c *Config) *string { return &c.Defaults.Network }),
	"containers.no_hosts":                   flag(func(c *Config) *bool { return &c.Defaults.NoHosts }),
	"containers.oom_score_adj":              setOOMScore,
	"containers.pidns":                      text(func(c *Config) *string { return &c.Defaults.PidNS }),
	"containers.pids_limit":                 setPidsLimit,
	"containers.privileged":                 flag(func(c *Config) *bool { return &c.Defaults.Privileged }),
	"containers.read_only":                  flag(func(c *Config) *bool { return &c.Defaults.ReadOnly }),
	"containers.seccomp_profile":            text(func(c *Config) *string { return &c.Defaults.SeccompPath }),
	"containers.shm_size":                   setShmSize,
	"containers.tz":                         text(func(c *Config) *string { return &c.Defaults.Timezone }),
	"containers.umask":                      text(func(c *Config) *string { return &c.Defaults.Umask }),
	"containers.userns":                     text(func(c *Config) *string { return &c.Defaults.UserNS }),
	"containers.utsns":                      text(func(c *Config) *string { return &c.Defaults.UtsNS }),
	"containers.volumes":                    parsed(engine.ParseVolume, func(c *Config) *[]engine.Mount { return &c.Defaults.Volumes }),

	"engine.active_service":       text(func(c *Config) *string { return &c.Remote.Default }),
	"engine.cdi_spec_dirs":        list(func(c *Config) *[]string { return &c.CDIDirs }),
	"engine.cgroup_manager":       setCgroupManager,
	"engine.events_logger":        text(func(c *Config) *string { return &c.EventsLogger }),
	"engine.hooks_dir":            list(func(c *Config) *[]string { return &c.HooksDirs }),
	"engine.network_cmd_options":  list(func(c *Config) *[]string { return &c.Defaults.SlirpOptions }),
	"engine.runtimes":             setRuntimes,
	"engine.service_destinations": setDestinations,
	"engine.stop_timeout":         setStopTimeout,

	"farms.default": text(func(c *Config) *string { return &c.Remote.DefaultFarm }),
	"farms.list":    setFarms,

	"network.default_rootless_network_cmd": setRootlessNetwork,
	"network.pasta_options":                list(func(c *Config) *[]string { return &c.Defaults.PastaOptions }),
}

var (
	errString  = errors.New("want a string")
	errBool    = errors.New("want true or false")
	errInteger = errors.New("want an integer")
	errSection = errors.New("want a section")
	errList    = errors.New("want a list of strings")
)

func text(field func(*Config) *string) func(*Config, any) error {
	return func(c *Config, v any) error {
		s, ok := v.(string)
		if !ok {
			return errString
		}
		*field(c) = s
		return nil
	}
}

func flag(field func(*Config) *bool) func(*Config, any) error {
	return func(c *Config, v any) error {
		b, ok := v.(bool)
		if !ok {
			return errBool
		}
		*field(c) = b
		return nil
	}
}

// notFlag is a key whose built-in default is true.
func notFlag(field func(*Config) *bool) func(*Config, any) error {
	return func(c *Config, v any) error {
		b, ok := v.(bool)
		*field(c) = !b
		if !ok {
			return errBool
		}
		return nil
	}
}

func number(field func(*Config) *int64) func(*Config, any) error {
	return func(c *Config, v any) error {
		n, ok := v.(int64)
		if !ok {
			return errInteger
		}
		*field(c) = n
		return nil
	}
}

// stringsOf reads a list, in which {append=true} keeps what an earlier file
// said.
func stringsOf(v any) (items []string, keep bool, err error) {
	l, ok := v.([]any)
	if !ok {
		return nil, false, errList
	}
	items = []string{}
	for _, x := range l {
		switch x := x.(type) {
		case string:
			items = append(items, x)
		case map[string]any:
			b, ok := x["append"].(bool)
			if !ok || len(x) != 1 {
				return nil, false, errList
			}
			keep = b
		default:
			return nil, false, errList
		}
	}
	return items, keep, nil
}

func list(field func(*Config) *[]string) func(*Config, any) error {
	return parsed(func(s string) (string, error) { return s, nil }, field)
}

func parsed[T any](parse func(string) (T, error), field func(*Config) *[]T) func(*Config, any) error {
	return func(c *Config, v any) error {
		items, keep, err := stringsOf(v)
		if err != nil {
			return err
		}
		var out []T
		if keep {
			out = *field(c)
		}
		for _, s := range items {
			x, err := parse(s)
			if err != nil {
				return err
			}
			out = append(out, x)
		}
		*field(c) = out
		return nil
	}
}

func mapOf(field func(*Config) *map[string]string) func(*Config, any) error {
	return func(c *Config, v any) error {
		items, keep, err := stringsOf(v)
		if err != nil {
			return err
		}
		m := map[string]string{}
		if keep {
			maps.Copy(m, *field(c))
		}
		for _, s := range items {
			k, v, ok := strings.Cut(s, "=")
			if !ok {
				return fmt.Errorf("%q: want NAME=VALUE", s)
			}
			m[k] = v
		}
		*field(c) = m
		return nil
	}
}

func setOOMScore(c *Config, v any) error {
	n, ok := v.(int64)
	if !ok || n < -1000 || n > 1000 {
		return errors.New("want a number from -1000 to 1000")
	}
	score := int(n)
	c.Defaults.OOMScoreAdj = &score
	return nil
}

func setPidsLimit(c *Config, v any) error {
	n, ok := v.(int64)
	if !ok {
		return errInteger
	}
	c.Defaults.PidsLimit = &n
	return nil
}

func setStopTimeout(c *Config, v any) error {
	n, ok := v.(int64)
	if !ok || n < 0 {
		return errors.New("want a number of seconds")
	}
	c.Defaults.StopTimeout = uint(n)
	return nil
}

func setShmSize(c *Config, v any) (err error) {
	s, ok := v.(string)
	if !ok {
		return errString
	}
	c.Defaults.ShmSize, err = engine.ParseSize(s)
	return err
}

func setRuntimes(c *Config, v any) error {
	m, ok := v.(map[string]any)
	if !ok {
		return errSection
	}
	if c.Runtimes == nil {
		c.Runtimes = map[string][]string{}
	}
	for name, paths := range m {
		items, _, err := stringsOf(paths)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		c.Runtimes[name] = items
	}
	return nil
}

func setDestinations(c *Config, v any) error {
	m, ok := v.(map[string]any)
	if !ok {
		return errSection
	}
	if c.Remote.Connections == nil {
		c.Remote.Connections = map[string]remote.Destination{}
	}
	for name, v := range m {
		keys, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: %w", name, errSection)
		}
		var d remote.Destination
		for key, field := range map[string]*string{"uri": &d.URI, "identity": &d.Identity} {
			if v, has := keys[key]; has {
				if *field, ok = v.(string); !ok {
					return fmt.Errorf("%s.%s: %w", name, key, errString)
				}
			}
		}
		c.Remote.Connections[name] = d
	}
	return nil
}

func setFarms(c *Config, v any) error {
	m, ok := v.(map[string]any)
	if !ok {
		return errSection
	}
	if c.Remote.Farms == nil {
		c.Remote.Farms = map[string][]string{}
	}
	for name, list := range m {
		items, keep, err := stringsOf(list)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if keep {
			items = append(slices.Clone(c.Remote.Farms[name]), items...)
		}
		c.Remote.Farms[name] = items
	}
	return nil
}

func setRootlessNetwork(c *Config, v any) error {
	s, ok := v.(string)
	switch {
	case !ok:
		return errString
	case s != "" && s != network.OutsideHull && s != network.OutsidePasta && s != network.OutsideSlirp:
		return errors.New("want pasta, slirp4netns or hull")
	}
	c.Defaults.RootlessNetwork = s
	return nil
}

// setLabel: false makes containers without labels of SELinux.
func setLabel(c *Config, v any) error {
	on, ok := v.(bool)
	if !ok {
		return errBool
	}
	c.Defaults.NoLabels = !on
	return nil
}

func setCgroupManager(c *Config, v any) error {
	s, ok := v.(string)
	if !ok || s != engine.ManagerSystemd && s != engine.ManagerCgroupfs {
		return errors.New("want systemd or cgroupfs")
	}
	c.CgroupManager = s
	return nil
}
