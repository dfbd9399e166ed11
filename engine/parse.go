package engine

import (
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ParseDevice parses the value of --device: HOST[:CONTAINER][:ACCESS], ACCESS
// of the letters r, w and m; none means all.
func ParseDevice(spec string) (Device, error) {
	d := Device{Access: "rwm"}
	parts := strings.Split(spec, ":")
	if len(parts) > 3 || parts[0] == "" {
		return Device{}, fmt.Errorf("parse device %q: want HOST[:CONTAINER][:ACCESS]", spec)
	}
	d.Host, d.Container = parts[0], parts[0]
	for i, p := range parts[1:] {
		switch {
		case strings.HasPrefix(p, "/"):
			if i > 0 {
				return Device{}, fmt.Errorf("parse device %q: access %q is not of r, w and m", spec, p)
			}
			d.Container = p
		case p != "" && strings.Trim(p, "rwm") == "" && len(p) <= 3:
			d.Access = p
		default:
			return Device{}, fmt.Errorf("parse device %q: access %q is not of r, w and m", spec, p)
		}
	}
	return d, nil
}

// ParseUlimit parses the value of --ulimit: NAME=SOFT[:HARD], or "host".
func ParseUlimit(spec string) (Ulimit, error) {
	if spec == "host" {
		return Ulimit{Name: "host"}, nil
	}
	name, value, ok := strings.Cut(spec, "=")
	name = strings.TrimPrefix(strings.ToLower(name), "rlimit_")
	if _, known := rlimits[name]; !ok || !known {
		return Ulimit{}, fmt.Errorf("parse ulimit %q: want NAME=SOFT[:HARD] with a name that the kernel has", spec)
	}
	soft, hard, two := strings.Cut(value, ":")
	u := Ulimit{Name: name}
	var err error
	if u.Soft, err = parseLimit(soft); err == nil {
		if u.Hard = u.Soft; two {
			u.Hard, err = parseLimit(hard)
		}
	}
	if err != nil {
		return Ulimit{}, fmt.Errorf("parse ulimit %q: %w", spec, err)
	}
	if u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard) {
		return Ulimit{}, fmt.Errorf("parse ulimit %q: the soft limit is above the hard one", spec)
	}
	return u, nil
}

func parseLimit(s string) (int64, error) {
	if s == "unlimited" {
		return -1, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < -1 {
		return 0, fmt.Errorf("%q is not a limit", s)
	}
	return n, nil
}

// ParseRate parses --device-read-bps and its like: PATH:RATE; with bytes, RATE
// may have a unit.
func ParseRate(spec string, bytes bool) (Rate, error) {
	p, v, ok := strings.Cut(spec, ":")
	if !ok || !strings.HasPrefix(p, "/dev/") {
		return Rate{}, fmt.Errorf("parse rate %q: want /dev/NAME:RATE", spec)
	}
	if bytes {
		n, err := ParseSize(v)
		if err != nil || n < 0 {
			return Rate{}, fmt.Errorf("parse rate %q: %q is not a size", spec, v)
		}
		return Rate{p, uint64(n)}, nil
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return Rate{}, fmt.Errorf("parse rate %q: %q is not a number", spec, v)
	}
	return Rate{p, n}, nil
}

// ParseWeight parses --blkio-weight-device: PATH:WEIGHT, 10 to 1000.
func ParseWeight(spec string) (Weight, error) {
	p, v, ok := strings.Cut(spec, ":")
	n, err := strconv.ParseUint(v, 10, 16)
	if !ok || err != nil || !strings.HasPrefix(p, "/dev/") || n < 10 || n > 1000 {
		return Weight{}, fmt.Errorf("parse weight %q: want /dev/NAME:WEIGHT with a weight from 10 to 1000", spec)
	}
	return Weight{p, uint16(n)}, nil
}

// ParseCapability parses NAME or CAP_NAME, in any case, and returns CAP_NAME.
func ParseCapability(name string) (string, error) {
	c := strings.ToUpper(name)
	if !strings.HasPrefix(c, "CAP_") {
		c = "CAP_" + c
	}
	if !slices.Contains(allCapabilities, c) {
		return "", fmt.Errorf("capability %q is not known", name)
	}
	return c, nil
}

// ParseSize parses a number of bytes with an optional unit b k m g t p (powers
// of 1024; "kb" and "kib" are the same).
func ParseSize(s string) (int64, error) {
	t := strings.ToLower(strings.TrimSpace(s))
	digits := strings.TrimRight(t, "bikmgtp ")
	shift, unit := 0, strings.TrimSpace(t[len(digits):])
	switch strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i") {
	case "":
	case "k":
		shift = 10
	case "m":
		shift = 20
	case "g":
		shift = 30
	case "t":
		shift = 40
	case "p":
		shift = 50
	default:
		return 0, fmt.Errorf("parse size %q: unit %q is not known", s, unit)
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		if n > math.MaxInt64>>shift || n < math.MinInt64>>shift {
			return 0, fmt.Errorf("parse size %q: too large", s)
		}
		return n << shift, nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f)*float64(int64(1)<<shift) >= math.MaxInt64 {
		return 0, fmt.Errorf("parse size %q: not a number of bytes", s)
	}
	return int64(f * float64(int64(1)<<shift)), nil
}

// ParseNetwork parses the values of --network. mode is what is not the name of
// a network: none, host, private, container:NAME, ns:PATH, pasta[:…],
// slirp4netns[:…], or "bridge" when attach has networks or the word alone.
func ParseNetwork(specs []string) (mode string, attach []NetworkAttach, err error) {
	for _, spec := range specs {
		name, opts, _ := strings.Cut(spec, ":")
		switch name {
		case "none", "host", "private", "container", "ns", "pasta", "slirp4netns", "pod":
			if len(specs) > 1 {
				return "", nil, fmt.Errorf("parse network %q: cannot be combined with another network", spec)
			}
			if (name == "container" || name == "ns") && opts == "" {
				return "", nil, fmt.Errorf("parse network %q: %s: needs a value", spec, name)
			}
			if (name == "none" || name == "host" || name == "private") && opts != "" {
				return "", nil, fmt.Errorf("parse network %q: mode %s takes no options", spec, name)
			}
			return spec, nil, nil
		}
		if name == "" {
			return "", nil, fmt.Errorf("parse network %q: no name", spec)
		}
		a := NetworkAttach{Name: name}
		if name == "bridge" || name == "default" {
			a.Name = ""
		}
		for _, o := range splitOptions(opts) {
			if err := a.set(o); err != nil {
				return "", nil, fmt.Errorf("parse network %q: %w", spec, err)
			}
		}
		attach = append(attach, a)
	}
	if attach != nil {
		mode = "bridge"
	}
	return mode, attach, nil
}

// set takes one KEY=VALUE after a network's name.
func (a *NetworkAttach) set(option string) error {
	k, v, _ := strings.Cut(option, "=")
	if v == "" {
		return fmt.Errorf("option %q needs a value", k)
	}
	switch k {
	case "ip", "ip6":
		if ip, err := netip.ParseAddr(v); err != nil || k == "ip6" && !ip.Is6() {
			return fmt.Errorf("%s=%s is no such address", k, v)
		}
		a.IPs = append(a.IPs, v)
	case "mac":
		a.MAC = v
	case "alias":
		a.Aliases = append(a.Aliases, v)
	case "interface_name", "interface":
		a.Interface = v
	case "host_interface_name":
		a.HostInterface = v
	case "mode":
		return errors.New("option mode belongs to network create")
	default:
		return fmt.Errorf("option %q is not alias, ip, ip6, mac, interface_name or host_interface_name", k)
	}
	return nil
}

// ParseSecret parses the value of --secret: NAME[,type=mount|env][,target=…]
// [,uid=N][,gid=N][,mode=OCTAL].
func ParseSecret(spec string) (Secret, error) {
	fields, err := csv.NewReader(strings.NewReader(spec)).Read()
	if err != nil || fields[0] == "" {
		return Secret{}, fmt.Errorf("parse secret %q: want NAME[,KEY=VALUE…]", spec)
	}
	s := Secret{Mode: 0o444}
	for i, f := range fields {
		k, v, has := strings.Cut(f, "=")
		if i == 0 && !has {
			s.Name = f
			continue
		}
		var n uint64
		switch k {
		case "source":
			s.Name = v
		case "type":
			if v != "mount" && v != "env" {
				err = errors.New("type is neither mount nor env")
			}
			s.Env = v == "env"
		case "target":
			s.Target = v
		case "uid":
			n, err = strconv.ParseUint(v, 10, 32)
			s.UID = uint32(n)
		case "gid":
			n, err = strconv.ParseUint(v, 10, 32)
			s.GID = uint32(n)
		case "mode":
			n, err = strconv.ParseUint(v, 8, 32)
			s.Mode = uint32(n)
		default:
			err = fmt.Errorf("key %q is not known", k)
		}
		if err != nil {
			return Secret{}, fmt.Errorf("parse secret %q: %w", spec, err)
		}
	}
	return s, nil
}

// ParseFilters groups KEY=VALUE and KEY!=VALUE.
func ParseFilters(specs []string) (Filters, error) {
	f := Filters{}
	for _, s := range specs {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("parse filter %q: want KEY=VALUE", s)
		}
		f[k] = append(f[k], v)
	}
	return f, nil
}

// ParseSignal knows names with and without SIG, numbers, and RTMIN+n, RTMAX-n.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("parse signal %q: not one from 1 to 64", s)
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n, ok := signals[name]; ok {
		return n, nil
	}
	if rest, ok := strings.CutPrefix(name, "RTMIN"); ok {
		if n, err := strconv.Atoi(strings.TrimPrefix(rest, "+")); rest == "" || err == nil && n >= 0 && n <= 30 {
			return syscall.Signal(34 + n), nil
		}
	}
	if rest, ok := strings.CutPrefix(name, "RTMAX"); ok {
		if n, err := strconv.Atoi(rest); rest == "" || err == nil && n <= 0 && n >= -30 {
			return syscall.Signal(64 + n), nil
		}
	}
	return 0, fmt.Errorf("parse signal %q: no such signal", s)
}

var signals = map[string]syscall.Signal{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8, "KILL": 9,
	"USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CLD": 17,
	"CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26,
	"PROF": 27, "WINCH": 28, "IO": 29, "POLL": 29, "PWR": 30, "SYS": 31,
}

// rlimits are the kernel's, in the order of their numbers.
var rlimits = map[string]int{
	"cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7, "memlock": 8,
	"as": 9, "locks": 10, "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14, "rttime": 15,
}

// validName is the grammar of names of containers, volumes and networks:
// a letter or digit, then letters, digits, _ . and -.
func validName(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return true
}
