package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"hull/oci"
)

// Change applies Containerfile instructions to a config, as import and commit
// take them by --change: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL,
// ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR; also with "=" instead of
// the space, "USER=root".
func Change(c *oci.Image, instructions []string) error {
	for _, in := range instructions {
		in = strings.TrimSpace(in)
		if in == "" {
			continue
		}
		word, rest := in, ""
		if i := strings.IndexAny(in, " \t="); i > 0 {
			word, rest = in[:i], strings.TrimSpace(in[i+1:])
		}
		if err := change(&c.Config, strings.ToUpper(word), rest); err != nil {
			return fmt.Errorf("invalid change %q: %w", in, err)
		}
	}
	return nil
}

func change(c *oci.ImageConfig, word, rest string) error {
	if rest == "" {
		return errors.New("it has no value")
	}
	switch word {
	case "CMD":
		c.Cmd = command(rest)
	case "ENTRYPOINT":
		c.Entrypoint = command(rest)
	case "SHELL":
		list, ok := jsonList(rest)
		if !ok {
			return errors.New("it is not a list of strings in JSON")
		}
		c.Shell = list
	case "ENV":
		return changePairs(rest, func(k, v string) { c.Env = setEnv(c.Env, k, v) })
	case "LABEL":
		return changePairs(rest, func(k, v string) { c.Labels = put(c.Labels, k, v) })
	case "EXPOSE":
		for _, p := range strings.Fields(rest) {
			port, err := exposedPort(p)
			if err != nil {
				return err
			}
			c.ExposedPorts = put(c.ExposedPorts, port, struct{}{})
		}
	case "VOLUME":
		list, ok := jsonList(rest)
		if !ok {
			list = strings.Fields(rest)
		}
		for _, v := range list {
			c.Volumes = put(c.Volumes, v, struct{}{})
		}
	case "USER":
		c.User = rest
	case "WORKDIR":
		if !path.IsAbs(rest) {
			rest = path.Join("/", c.WorkingDir, rest)
		}
		c.WorkingDir = path.Clean(rest)
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "ONBUILD":
		c.OnBuild = append(c.OnBuild, rest)
	case "HEALTHCHECK":
		h, err := healthcheck(rest)
		c.Healthcheck = h
		return err
	default:
		return fmt.Errorf("instruction %s is not one that can change an image", word)
	}
	return nil
}

func put[V any](m map[string]V, k string, v V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[k] = v
	return m
}

// command is a list in JSON, or a line for the shell.
func command(s string) []string {
	if list, ok := jsonList(s); ok {
		return list
	}
	return []string{"/bin/sh", "-c", s}
}

func jsonList(s string) ([]string, bool) {
	if !strings.HasPrefix(s, "[") {
		return nil, false
	}
	list := []string{}
	return list, json.Unmarshal([]byte(s), &list) == nil
}

func setEnv(env []string, k, v string) []string {
	for i, e := range env {
		if strings.HasPrefix(e, k+"=") {
			env[i] = k + "=" + v
			return env
		}
	}
	return append(env, k+"="+v)
}

// changePairs reads K=V words, with quotes as the shell has them, or the old
// form K V.
func changePairs(s string, set func(k, v string)) error {
	words, err := shellWords(s)
	if err != nil {
		return err
	}
	if len(words) > 0 && !strings.Contains(words[0], "=") {
		k, v, _ := strings.Cut(s, " ")
		set(k, strings.TrimSpace(v))
		return nil
	}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return fmt.Errorf("%q is not KEY=VALUE", w)
		}
		set(k, v)
	}
	return nil
}

// shellWords splits at spaces outside of quotes.
func shellWords(s string) ([]string, error) {
	var words []string
	var b strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
			in = true
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				b.WriteByte(c)
			}
		case c == '"' || c == '\'':
			quote, in = c, true
		case c == ' ' || c == '\t':
			if in {
				words = append(words, b.String())
				b.Reset()
				in = false
			}
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if in {
		words = append(words, b.String())
	}
	return words, nil
}

// exposedPort is PORT[/PROTOCOL], or a range.
func exposedPort(s string) (string, error) {
	port, proto, ok := strings.Cut(s, "/")
	if !ok {
		proto = "tcp"
	}
	switch proto = strings.ToLower(proto); proto {
	case "tcp", "udp", "sctp":
	default:
		return "", fmt.Errorf("protocol %q is not tcp, udp or sctp", proto)
	}
	first, last, isRange := strings.Cut(port, "-")
	ends := []string{first}
	if isRange {
		ends = append(ends, last)
	}
	for _, e := range ends {
		if n, err := strconv.ParseUint(e, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("port %q is not a number from 1 to 65535", e)
		}
	}
	return port + "/" + proto, nil
}

// healthcheck is NONE or [--interval=D …] CMD …
func healthcheck(s string) (*oci.Healthcheck, error) {
	h := &oci.Healthcheck{}
	for strings.HasPrefix(s, "--") {
		flag, rest, _ := strings.Cut(s, " ")
		name, value, _ := strings.Cut(flag[2:], "=")
		s = strings.TrimSpace(rest)
		d, derr := time.ParseDuration(value)
		n, nerr := strconv.Atoi(value)
		switch {
		case name == "retries" && nerr == nil && n >= 0:
			h.Retries = n
		case derr != nil || d < 0:
			return nil, fmt.Errorf("health check option %q is not valid", flag)
		case name == "interval":
			h.Interval = d
		case name == "timeout":
			h.Timeout = d
		case name == "start-period":
			h.StartPeriod = d
		case name == "start-interval":
			h.StartInterval = d
		default:
			return nil, fmt.Errorf("health check option %q is not known", flag)
		}
	}
	word, rest, _ := strings.Cut(s, " ")
	rest = strings.TrimSpace(rest)
	switch {
	case strings.EqualFold(word, "NONE") && rest == "":
		h.Test = []string{"NONE"}
	case strings.EqualFold(word, "CMD") && rest != "":
		if list, ok := jsonList(rest); ok {
			h.Test = append([]string{"CMD"}, list...)
		} else {
			h.Test = []string{"CMD-SHELL", rest}
		}
	default:
		return nil, errors.New("want NONE or CMD and a command")
	}
	return h, nil
}

// Words splits a text at spaces outside of quotes, as a shell does.
func Words(s string) ([]string, error) { return shellWords(s) }
