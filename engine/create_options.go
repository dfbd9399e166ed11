package engine

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"hull/monitor"
	"hull/network"
)

func storageSize(opts []string) (int64, error) {
	for _, o := range opts {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "size":
			return ParseSize(value)
		default:
			return 0, fmt.Errorf("storage option %q is not known", o)
		}
	}
	return 0, nil
}

// resolveEnv settles what of the engine's environment goes to the container:
// it must not change with who starts it later.
func resolveEnv(o CreateOptions) []string {
	var env envList
	if o.EnvHost {
		for _, kv := range os.Environ() {
			env.set(kv)
		}
	}
	if o.HTTPProxy {
		for _, k := range []string{"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY"} {
			if v, ok := os.LookupEnv(k); ok {
				env.set(k + "=" + v)
			}
		}
	}
	for _, spec := range o.Env {
		k, _, has := strings.Cut(spec, "=")
		prefix, wild := strings.CutSuffix(k, "*")
		switch {
		case has:
			env.set(spec)
		case wild:
			for _, kv := range os.Environ() {
				if strings.HasPrefix(kv, prefix) {
					env.set(kv)
				}
			}
		default:
			if v, ok := os.LookupEnv(k); ok {
				env.set(k + "=" + v)
			}
		}
	}
	return env
}

// validate refuses what cannot be meant, before anything is made.
func (o *CreateOptions) validate() error {
	if o.Name != "" && !validName(o.Name) {
		return fmt.Errorf("container name %q: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*", o.Name)
	}
	if o.Name != "" && len(o.Name) == 64 && isHex(o.Name) {
		return fmt.Errorf("container name %q looks like an ID", o.Name)
	}
	policy, _, err := parseRestart(o.Restart)
	if err != nil {
		return err
	}
	if o.AutoRemove && policy != "" && policy != "no" {
		return fmt.Errorf("--rm and --restart=%s exclude each other", policy)
	}
	if o.AutoRemoveImage && o.Rootfs != "" {
		return errors.New("--rmi needs an image")
	}
	if o.StopSignal != "" {
		if _, err := ParseSignal(o.StopSignal); err != nil {
			return err
		}
	}
	if strings.ContainsAny(o.Hostname, "\n\r\x00: \t") || len(o.Hostname) > 64 {
		return fmt.Errorf("host name %q is not one", o.Hostname)
	}
	for _, k := range []string{"hull.", "io.hull."} {
		for l := range o.Annotations {
			if strings.HasPrefix(l, k) {
				return fmt.Errorf("annotation %q: the prefix is the engine's", l)
			}
		}
	}
	if o.WorkingDir != "" && !path.IsAbs(o.WorkingDir) {
		return fmt.Errorf("working directory %q is not an absolute path", o.WorkingDir)
	}
	switch o.LogDriver {
	case "", "k8s-file", "json-file", "none", "passthrough", "passthrough-tty":
	case monitor.LogJournald:
		if err := journalThere(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("log driver %q is not one of k8s-file, json-file, journald, none, passthrough, passthrough-tty", o.LogDriver)
	}
	if o.LogDriver == "passthrough" && o.Terminal {
		return errors.New("log driver passthrough and a terminal exclude each other; there is passthrough-tty")
	}
	word, _, _ := strings.Cut(o.NetworkMode, ":")
	switch word {
	case network.OutsidePasta, network.OutsideSlirp:
		if _, err := network.ParseOutside(o.NetworkMode); err != nil {
			return err
		}
		fallthrough
	case "host", "none", "container":
		if o.IP != "" || o.IP6 != "" || o.MAC != "" || len(o.NetworkAliases) > 0 {
			return fmt.Errorf("addresses and aliases need a network; --network %s has none", o.NetworkMode)
		}
	}
	switch o.Cgroups {
	case "", "enabled", "disabled", "no-conmon", "split":
	default:
		return fmt.Errorf("cgroups mode %q is not known", o.Cgroups)
	}
	switch o.ImageVolume {
	case "", "anonymous", "bind", "tmpfs", "ignore":
	default:
		return fmt.Errorf("image volume mode %q is not one of anonymous, tmpfs, ignore", o.ImageVolume)
	}
	seen := map[string]bool{}
	for _, m := range o.Mounts {
		if seen[m.Destination] && m.Type != "glob" {
			return fmt.Errorf("%s: duplicate mount destination", m.Destination)
		}
		seen[m.Destination] = true
	}
	return nil
}

// parseRestart parses a restart policy; on-failure may have a number.
func parseRestart(s string) (policy string, retries uint, err error) {
	policy, n, has := strings.Cut(s, ":")
	switch policy {
	case "", "no", "never", "always", "unless-stopped":
		if has {
			return "", 0, fmt.Errorf("restart policy %q: only on-failure has a number", s)
		}
		if policy == "never" {
			policy = "no"
		}
		return policy, 0, nil
	case "on-failure":
		if has {
			if _, err := fmt.Sscanf(n, "%d", &retries); err != nil {
				return "", 0, fmt.Errorf("restart policy %q: %q is not a number", s, n)
			}
		}
		return policy, retries, nil
	}
	return "", 0, fmt.Errorf("restart policy %q is not one of no, always, on-failure, unless-stopped", s)
}
