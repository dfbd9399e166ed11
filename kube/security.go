package kube

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hull/engine"
)

// security is the pod's context under the container's own.
func (c *podCompiler) security(k *Container, o *engine.CreateOptions) error {
	pod, own := c.pod.Spec.SecurityContext, k.SecurityContext
	if pod == nil {
		pod = &PodSecurity{}
	}
	if own == nil {
		own = &Security{}
	}
	if err := c.user(pod, own, o); err != nil {
		return err
	}
	for _, g := range pod.SupplementalGroups {
		o.GroupAdd = append(o.GroupAdd, strconv.FormatInt(g, 10))
	}
	if pod.FSGroup != nil {
		o.GroupAdd = append(o.GroupAdd, strconv.FormatInt(*pod.FSGroup, 10))
	}
	o.ReadOnly, o.Privileged = is(own.ReadOnlyRoot), is(own.Privileged)
	if own.AllowEscalation != nil && !*own.AllowEscalation {
		if o.Privileged {
			return errors.New("securityContext: privileged without allowPrivilegeEscalation cannot be")
		}
		o.SecurityOpt = append(o.SecurityOpt, "no-new-privileges")
	}
	switch own.ProcMount {
	case "", "Default":
	case "Unmasked":
		o.SecurityOpt = append(o.SecurityOpt, "unmask=ALL")
	default:
		return fmt.Errorf("securityContext: procMount %q is not one of Default, Unmasked", own.ProcMount)
	}
	if own.Capabilities != nil {
		o.CapAdd, o.CapDrop = own.Capabilities.Add, own.Capabilities.Drop
	}
	label := own.SELinux
	if label == nil {
		label = pod.SELinux
	}
	if label != nil {
		for _, part := range []Pair{{"user", label.User}, {"role", label.Role}, {"type", label.Type}, {"level", label.Level}} {
			if part.Value != "" {
				o.SecurityOpt = append(o.SecurityOpt, "label="+part.Name+":"+part.Value)
			}
		}
	}
	if own.Seccomp == nil {
		own.Seccomp = pod.Seccomp
	}
	if own.AppArmor == nil {
		own.AppArmor = pod.AppArmor
	}
	return c.profiles(own, o)
}

// profiles are those of seccomp and AppArmor.
func (c *podCompiler) profiles(own *Security, o *engine.CreateOptions) error {
	for _, p := range []struct {
		word    string
		profile *Profile
	}{{"seccomp", own.Seccomp}, {"apparmor", own.AppArmor}} {
		if p.profile == nil {
			continue
		}
		value := p.profile.Localhost
		switch p.profile.Type {
		case "RuntimeDefault":
			continue
		case "Unconfined":
			value = "unconfined"
		case "Localhost":
			if value == "" {
				return fmt.Errorf("securityContext: the %s profile has no localhostProfile", p.word)
			}
			if p.word == "seccomp" {
				if !filepath.IsLocal(value) {
					return fmt.Errorf("securityContext: seccomp profile %q leaves the directory of profiles", value)
				}
				value = filepath.Join(firstOf(c.o.SeccompProfileRoot, "/var/lib/kubelet/seccomp"), value)
			}
		default:
			return fmt.Errorf("securityContext: %s profile type %q is not one of RuntimeDefault, Unconfined, Localhost", p.word, p.profile.Type)
		}
		o.SecurityOpt = append(o.SecurityOpt, p.word+"="+value)
	}
	return nil
}

func (c *podCompiler) user(pod *PodSecurity, own *Security, o *engine.CreateOptions) error {
	uid, gid := own.RunAsUser, own.RunAsGroup
	if uid == nil {
		uid = pod.RunAsUser
	}
	if gid == nil {
		gid = pod.RunAsGroup
	}
	if uid != nil {
		o.User = strconv.FormatInt(*uid, 10)
	}
	if gid != nil {
		o.User = firstOf(o.User, "0") + ":" + strconv.FormatInt(*gid, 10)
	}
	nonRoot := own.RunAsNonRoot
	if nonRoot == nil {
		nonRoot = pod.RunAsNonRoot
	}
	if !is(nonRoot) {
		return nil
	}
	if uid == nil && c.o.NonRoot != nil {
		ok, err := c.o.NonRoot(o.Image)
		if err != nil {
			return fmt.Errorf("securityContext: runAsNonRoot: %w", err)
		}
		if ok {
			return nil
		}
	}
	if uid == nil || *uid == 0 {
		return errors.New("securityContext: runAsNonRoot is set, and the container would run as root")
	}
	return nil
}

func is(b *bool) bool { return b != nil && *b }

// probes become a health check: liveness, or without it readiness, which only
// looks; startup is looked at first.
func (c *podCompiler) probes(k *Container, o *engine.CreateOptions) error {
	main := k.Liveness
	onFailure := "none"
	if main == nil {
		main = k.Readiness
	} else if onFailure = "restart"; o.Restart == "no" {
		onFailure = "kill"
	}
	if main == nil && k.Startup == nil {
		return nil
	}
	h := &engine.Health{Retries: 3, Interval: 10 * time.Second, Timeout: time.Second, OnFailure: onFailure}
	if main == nil {
		main = &Probe{}
		h.Test = []string{"CMD-SHELL", "true"}
	}
	if h.Test == nil {
		test, err := k.test(main)
		if err != nil {
			return err
		}
		h.Test = test
	}
	seconds := func(n int, to *time.Duration) {
		if n > 0 {
			*to = time.Duration(n) * time.Second
		}
	}
	seconds(main.Period, &h.Interval)
	seconds(main.Timeout, &h.Timeout)
	seconds(main.InitialDelay, &h.StartPeriod)
	if main.Failure > 0 {
		h.Retries = main.Failure
	}
	if p := k.Startup; p != nil {
		test, err := k.test(p)
		if err != nil {
			return err
		}
		h.StartupTest, h.StartupInterval, h.StartupTimeout, h.StartupRetries, h.StartupSuccess = test, 10*time.Second, time.Second, 3, 1
		seconds(p.Period, &h.StartupInterval)
		seconds(p.Timeout, &h.StartupTimeout)
		if p.Failure > 0 {
			h.StartupRetries = p.Failure
		}
	}
	o.Health = h
	return nil
}

// test is a probe as a command in the container. Those by network need wget,
// curl or nc in the image.
func (k *Container) test(p *Probe) ([]string, error) {
	switch {
	case p.Exec != nil:
		return append([]string{"CMD"}, p.Exec.Command...), nil
	case p.HTTP != nil:
		port, err := k.port(p.HTTP.Port)
		if err != nil {
			return nil, err
		}
		path := firstOf(p.HTTP.Path, "/")
		if !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
		url := quote(strings.ToLower(firstOf(p.HTTP.Scheme, "http")) + "://" + net.JoinHostPort(firstOf(p.HTTP.Host, "localhost"), port) + path)
		var curl, wget string
		for _, h := range p.HTTP.Headers {
			curl += " -H " + quote(h.Name+": "+h.Value)
			wget += " --header " + quote(h.Name+": "+h.Value)
		}
		return []string{"CMD-SHELL", "if command -v curl >/dev/null; then curl -f -s -k -o /dev/null" + curl + " " + url + "; else wget -q -O /dev/null" + wget + " " + url + "; fi || exit 1"}, nil
	case p.TCP != nil:
		port, err := k.port(p.TCP.Port)
		if err != nil {
			return nil, err
		}
		return []string{"CMD-SHELL", "nc -z " + quote(firstOf(p.TCP.Host, "localhost")) + " " + port + " || exit 1"}, nil
	}
	return nil, errors.New("a probe has none of exec, httpGet, tcpSocket")
}

// port is a number, or the name of one of the container's ports.
func (k *Container) port(s string) (string, error) {
	if _, err := strconv.ParseUint(s, 10, 16); err == nil {
		return s, nil
	}
	for _, p := range k.Ports {
		if p.Name == s {
			return strconv.Itoa(int(p.ContainerPort)), nil
		}
	}
	return "", fmt.Errorf("a probe's port %q is no number and no name of a port", s)
}

// quote is a word of a shell's.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
