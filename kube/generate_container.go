package kube

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"hull/engine"
)

// container is one member of the pod.
func (g *generator) container(m engine.Description) (Container, error) {
	o := &m.Options
	if o.Rootfs != "" {
		return Container{}, fmt.Errorf("it has a directory for a root instead of an image")
	}
	c := Container{Name: strings.TrimPrefix(m.Name, g.p.Name+"-"), Image: m.Image, Args: o.Command, WorkingDir: o.WorkingDir, TTY: o.Terminal, Stdin: o.Interactive}
	if o.Entrypoint != nil {
		c.Command = *o.Entrypoint
	}
	for _, kv := range o.Env {
		k, v, _ := strings.Cut(kv, "=")
		c.Env = append(c.Env, Env{Name: k, Value: strings.ReplaceAll(v, "$(", "$$(")})
	}
	for _, s := range o.Secrets {
		g.secret(&c, s)
	}
	if o.StopSignal != "" {
		c.Lifecycle = &Lifecycle{StopSignal: o.StopSignal}
	}
	g.pod.Spec.HostPID = g.pod.Spec.HostPID || o.PidNS == "host"
	g.pod.Spec.HostIPC = g.pod.Spec.HostIPC || o.IpcNS == "host"
	g.resources(&c, o)
	g.security(&c, o)
	g.health(&c, o.Health)
	for _, mount := range m.Mounts {
		g.mount(&c, mount)
	}
	g.annotate(&c, o)
	return c, nil
}

// secret is a Secret that is in the store.
func (g *generator) secret(c *Container, s engine.Secret) {
	if s.Env {
		c.Env = append(c.Env, Env{Name: firstOf(s.Target, s.Name), ValueFrom: &EnvFunc{Secret: &KeyRef{Name: s.Name, Key: s.Name}}})
		return
	}
	name, mode := "secret-"+s.Name, int(s.Mode)
	dst := firstOf(s.Target, s.Name)
	if !path.IsAbs(dst) {
		dst = path.Join("/run/secrets", dst)
	}
	g.addVolume(Volume{Name: name, Secret: &FileSource{SecretName: s.Name, Items: []KeyPath{{s.Name, path.Base(dst), &mode}}}})
	c.Mounts = append(c.Mounts, Mount{Name: name, Path: dst, SubPath: path.Base(dst), ReadOnly: true})
}

func (g *generator) addVolume(v Volume) {
	if !slices.ContainsFunc(g.pod.Spec.Volumes, func(o Volume) bool { return o.Name == v.Name }) {
		g.pod.Spec.Volumes = append(g.pod.Spec.Volumes, v)
	}
}

func (g *generator) resources(c *Container, o *engine.CreateOptions) {
	r := Resources{Limits: map[string]string{}, Requests: map[string]string{}}
	if o.Resources.Memory > 0 {
		r.Limits["memory"] = quantity(o.Resources.Memory)
	}
	if n := o.Resources.MemoryReservation; n > 0 {
		r.Requests["memory"] = quantity(n)
	}
	cpus := o.Resources.CPUs
	if cpus == 0 && o.Resources.CPUQuota > 0 {
		cpus = float64(o.Resources.CPUQuota) / float64(max(o.Resources.CPUPeriod, 1))
		if o.Resources.CPUPeriod == 0 {
			cpus = float64(o.Resources.CPUQuota) / 100000
		}
	}
	if cpus > 0 {
		r.Limits["cpu"] = strconv.FormatInt(int64(cpus*1000+0.5), 10) + "m"
	}
	if len(r.Limits)+len(r.Requests) > 0 {
		c.Resources = &r
	}
}

// quantity is bytes in the largest unit that says them exactly.
func quantity(n int64) string {
	for _, u := range []struct {
		size   int64
		suffix string
	}{{1 << 30, "Gi"}, {1 << 20, "Mi"}, {1 << 10, "Ki"}} {
		if n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

func (g *generator) security(c *Container, o *engine.CreateOptions) {
	s := Security{}
	yes, no := true, false
	if o.ReadOnly {
		s.ReadOnlyRoot = &yes
	}
	if o.Privileged {
		s.Privileged = &yes
	}
	if len(o.CapAdd)+len(o.CapDrop) > 0 {
		s.Capabilities = &Capabilities{Add: o.CapAdd, Drop: o.CapDrop}
	}
	user, group, _ := strings.Cut(o.User, ":")
	if n, err := strconv.ParseInt(user, 10, 64); err == nil {
		s.RunAsUser = &n
	} else if user != "" {
		g.warn("container %s: user %s has no number, which Kubernetes wants; the image's user is left", c.Name, user)
	}
	if n, err := strconv.ParseInt(group, 10, 64); err == nil {
		s.RunAsGroup = &n
	}
	for _, opt := range o.SecurityOpt {
		key, value, _ := strings.Cut(strings.Replace(opt, ":", "=", 1), "=")
		switch {
		case key == "no-new-privileges":
			s.AllowEscalation = &no
		case key == "unmask" && strings.EqualFold(value, "all"):
			s.ProcMount = "Unmasked"
		case key == "seccomp" && value == "unconfined":
			s.Seccomp = &Profile{Type: "Unconfined"}
		case key == "apparmor" && value == "unconfined":
			s.AppArmor = &Profile{Type: "Unconfined"}
		case key == "apparmor":
			s.AppArmor = &Profile{Type: "Localhost", Localhost: value}
		case key == "label":
			kind, v, _ := strings.Cut(value, ":")
			if s.SELinux == nil {
				s.SELinux = &SELinux{}
			}
			for _, part := range []struct {
				kind string
				to   *string
			}{{"user", &s.SELinux.User}, {"role", &s.SELinux.Role}, {"type", &s.SELinux.Type}, {"level", &s.SELinux.Level}} {
				if part.kind == kind {
					*part.to = v
				}
			}
		default:
			g.warn("container %s: security option %s cannot be said", c.Name, opt)
		}
	}
	if s != (Security{}) {
		c.SecurityContext = &s
	}
}

// health is a check as a probe. What the image brings is not said.
func (g *generator) health(c *Container, h *engine.Health) {
	if h == nil || h.Disable || len(h.Test) < 2 {
		return
	}
	p := &Probe{Period: seconds(h.Interval), Timeout: seconds(h.Timeout), InitialDelay: seconds(h.StartPeriod), Failure: h.Retries}
	p.Exec = &struct {
		Command []string `yaml:"command"`
	}{h.Test[1:]}
	if h.Test[0] == "CMD-SHELL" {
		p.Exec.Command = append([]string{"sh", "-c"}, h.Test[1:]...)
	}
	if h.OnFailure == "restart" || h.OnFailure == "kill" {
		c.Liveness = p
	} else {
		c.Readiness = p
	}
}

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

func (g *generator) mount(c *Container, m engine.Mount) {
	vm := Mount{Path: m.Destination, ReadOnly: slices.Contains(m.Options, "ro"), SubPath: m.SubPath}
	var v Volume
	switch m.Type {
	case "bind":
		v.HostPath = &struct {
			Path string `yaml:"path"`
			Type string `yaml:"type,omitempty"`
		}{Path: m.Source}
		vm.Name = strings.Trim(strings.Map(dns, m.Source), "-") + "-host"
	case "volume":
		v.Claim = &struct {
			Name     string `yaml:"claimName"`
			ReadOnly bool   `yaml:"readOnly,omitempty"`
		}{Name: m.Source}
		vm.Name = strings.Trim(strings.Map(dns, m.Source), "-") + "-pvc"
		g.claims[m.Source] = true
	case "tmpfs":
		v.EmptyDir = &struct {
			Medium string `yaml:"medium,omitempty"`
			Size   string `yaml:"sizeLimit,omitempty"`
		}{Medium: "Memory"}
		for _, o := range m.Options {
			if size, ok := strings.CutPrefix(o, "size="); ok {
				v.EmptyDir.Size = strings.ToUpper(size)
				if strings.TrimLeft(size, "0123456789") != "" {
					v.EmptyDir.Size += "i"
				}
			}
		}
		vm.Name = strings.Trim(strings.Map(dns, c.Name+m.Destination), "-") + "-tmpfs"
	case "image":
		v.Image = &struct {
			Reference  string `yaml:"reference"`
			PullPolicy string `yaml:"pullPolicy,omitempty"`
		}{Reference: m.Source}
		vm.Name = strings.Trim(strings.Map(dns, m.Source), "-") + "-image"
	default:
		g.warn("container %s: mount of type %s on %s cannot be said", c.Name, m.Type, m.Destination)
		return
	}
	v.Name = vm.Name
	g.addVolume(v)
	c.Mounts = append(c.Mounts, vm)
}

// dns are the characters of a name in Kubernetes.
func dns(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
		return r
	case r >= 'A' && r <= 'Z':
		return r + 'a' - 'A'
	}
	return '-'
}

// annotate says by annotations what Kubernetes has no field for.
func (g *generator) annotate(c *Container, o *engine.CreateOptions) {
	set := func(word, value string) {
		switch {
		case value == "":
		case g.o.Own:
			g.pod.Metadata.Annotations["io.podman.annotations."+word+"/"+c.Name] = value
		default:
			g.warn("container %s: %s cannot be said; --podman-only says it by an annotation", c.Name, word)
		}
	}
	var ulimits []string
	for _, u := range o.Ulimits {
		ulimits = append(ulimits, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	set("ulimit", strings.Join(ulimits, ","))
	set("cpuset", o.Resources.CPUSetCPUs)
	set("memory-nodes", o.Resources.CPUSetMems)
	set("volumes-from", strings.Join(o.VolumesFrom, ";"))
	if o.Resources.PidsLimit != nil {
		set("pids-limit", strconv.FormatInt(*o.Resources.PidsLimit, 10))
	}
	if o.Init {
		set("init", "TRUE")
	}
	if v := o.Labels["io.containers.autoupdate"]; v != "" {
		g.pod.Metadata.Annotations["io.containers.autoupdate/"+c.Name] = v
	}
	for _, d := range o.Devices {
		g.mount(c, engine.Mount{Type: "bind", Source: d.Host, Destination: firstOf(d.Container, d.Host)})
	}
}
