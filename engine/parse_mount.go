package engine

import (
	"encoding/csv"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// ParseVolume parses the value of -v: [SOURCE:]DESTINATION[:OPTIONS]. A source
// that begins with / or . is a path of the host, relative ones from the
// working directory; any other is a volume's name. A backslash keeps a colon
// from being a separator.
func ParseVolume(spec string) (Mount, error) {
	parts := splitColons(spec)
	m := Mount{Type: "volume"}
	switch len(parts) {
	case 1:
		m.Destination, m.Anonymous = parts[0], true
	case 2:
		// "/dst:ro" cannot be meant: a destination is absolute.
		m.Source, m.Destination = parts[0], parts[1]
	case 3:
		m.Source, m.Destination = parts[0], parts[1]
		m.Options = splitOptions(parts[2])
	default:
		return Mount{}, fmt.Errorf("parse volume %q: more than three fields", spec)
	}
	if len(parts) > 1 {
		switch {
		case m.Source == "":
			return Mount{}, fmt.Errorf("parse volume %q: the source is empty", spec)
		case m.Source[0] == '/' || m.Source[0] == '.':
			abs, err := filepath.Abs(m.Source)
			if err != nil {
				return Mount{}, fmt.Errorf("parse volume %q: %w", spec, err)
			}
			m.Type, m.Source = "bind", abs
		case !validName(m.Source):
			return Mount{}, fmt.Errorf("parse volume %q: %q is neither a path nor a volume's name", spec, m.Source)
		}
	}
	if err := m.check(); err != nil {
		return Mount{}, fmt.Errorf("parse volume %q: %w", spec, err)
	}
	return m, nil
}

// splitColons cuts at colons that no backslash precedes.
func splitColons(s string) []string {
	var parts []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == ':':
			b.WriteByte(':')
			i++
		case s[i] == ':':
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(s[i])
		}
	}
	return append(parts, b.String())
}

func splitOptions(s string) []string {
	var out []string
	for o := range strings.SplitSeq(s, ",") {
		if o = strings.TrimSpace(o); o != "" {
			out = append(out, o)
		}
	}
	return out
}

// check makes the destination clean and refuses options that no mount of this
// type has: an option that is not understood must not be dropped, it may have
// been meant to protect.
func (m *Mount) check() error {
	if !path.IsAbs(m.Destination) {
		return fmt.Errorf("destination %q is not an absolute path", m.Destination)
	}
	m.Destination = path.Clean(m.Destination)
	if m.Destination == "/" {
		return fmt.Errorf("destination is the root itself")
	}
	if strings.ContainsRune(m.Destination+m.Source, 0) {
		return fmt.Errorf("a path holds a NUL byte")
	}
	title, digest := m.has("title"), m.has("digest")
	if m.Type == "artifact" && title && digest {
		return errors.New("cannot specify both digest and title")
	}
	if name, ok := m.option("name"); m.Type == "artifact" && ok && (strings.Contains(name, "/") || name == "" || name == "." || name == "..") {
		return fmt.Errorf("name %q is no file's name", name)
	}
	groups := map[string]string{}
	for _, o := range m.Options {
		key, _, _ := strings.Cut(o, "=")
		if !mountOptionAllowed(m.Type, key) {
			return fmt.Errorf("option %q is not one of a %s mount", o, m.Type)
		}
		if g := mountOptionGroup[key]; g != "" {
			if was := groups[g]; was != "" && was != key {
				return fmt.Errorf("options %q and %q exclude each other", was, key)
			}
			groups[g] = key
		}
	}
	return nil
}

// mountOptionGroup names options of which one alone may be said.
var mountOptionGroup = map[string]string{
	"ro": "access", "rw": "access", "rro": "access", "O": "access",
	"suid": "suid", "nosuid": "suid", "dev": "dev", "nodev": "dev", "exec": "exec", "noexec": "exec",
	"z": "label", "Z": "label",
	"shared": "propagation", "rshared": "propagation", "slave": "propagation", "rslave": "propagation",
	"private": "propagation", "rprivate": "propagation", "unbindable": "propagation", "runbindable": "propagation",
	"bind": "bind", "rbind": "bind", "copy": "copy", "nocopy": "copy",
	"tmpcopyup": "tmpcopy", "notmpcopyup": "tmpcopy",
}

const commonMountOptions = " ro rw suid nosuid dev nodev exec noexec U " +
	"private rprivate shared rshared slave rslave unbindable runbindable "

// mountOptions are those a type has besides the common ones.
var mountOptions = map[string]string{
	"bind":   " rro z Z O bind rbind idmap upperdir workdir nosymfollow noatime relatime strictatime ",
	"volume": " rro z Z O copy nocopy idmap upperdir workdir nocreate bind rbind nosymfollow noatime relatime strictatime ",
	"tmpfs":  " size mode nr_inodes nr_blocks uid gid tmpcopyup notmpcopyup noatime relatime strictatime mpol huge ",
	"ramfs":  " size mode tmpcopyup notmpcopyup noatime relatime strictatime ",
	"devpts": " uid gid mode max ptmxmode newinstance ",
	"image":  " ",
	// Not the common ones: see mountOptionAllowed.
	"artifact": " ro title digest name ",
	"glob":     " rro z Z bind rbind idmap noatime relatime strictatime ",
	"cgroup":   " ",
}

func mountOptionAllowed(typ, key string) bool {
	key = " " + key + " "
	return typ != "artifact" && strings.Contains(commonMountOptions, key) || strings.Contains(mountOptions[typ], key)
}

// ParseTmpfs parses the value of --tmpfs: DESTINATION[:OPTIONS].
func ParseTmpfs(spec string) (Mount, error) {
	dst, opts, _ := strings.Cut(spec, ":")
	m := Mount{Type: "tmpfs", Destination: dst, Options: splitOptions(opts)}
	if err := m.check(); err != nil {
		return Mount{}, fmt.Errorf("parse tmpfs %q: %w", spec, err)
	}
	return m, nil
}

// ParseMount parses the value of --mount: type=TYPE,KEY[=VALUE],… as comma
// separated values with CSV's quotes.
func ParseMount(spec string) (Mount, error) {
	fields, err := csv.NewReader(strings.NewReader(spec)).Read()
	if err != nil {
		return Mount{}, fmt.Errorf("parse mount %q: %w", spec, err)
	}
	m := Mount{Type: "volume"}
	for _, f := range fields { // the type decides what the other keys mean
		if k, v, _ := strings.Cut(f, "="); k == "type" {
			m.Type = v
		}
	}
	if _, ok := mountOptions[m.Type]; !ok || m.Type == "cgroup" {
		return Mount{}, fmt.Errorf("parse mount %q: type %q is not known", spec, m.Type)
	}
	for _, f := range fields {
		key, value, has := strings.Cut(f, "=")
		if err := m.setKey(key, value, has); err != nil {
			return Mount{}, fmt.Errorf("parse mount %q: %w", spec, err)
		}
	}
	if m.Destination == "" && m.Type != "glob" {
		return Mount{}, fmt.Errorf("parse mount %q: target= is missing", spec)
	}
	if m.Destination == "" {
		return Mount{}, fmt.Errorf("parse mount %q: a glob needs a target directory", spec)
	}
	switch {
	case m.Type == "volume" && m.Source == "":
		m.Anonymous = true
	case (m.Type == "bind" || m.Type == "glob" || m.Type == "image" || m.Type == "artifact") && m.Source == "":
		return Mount{}, fmt.Errorf("parse mount %q: source= is missing", spec)
	case m.Type == "bind" || m.Type == "glob":
		if m.Source, err = filepath.Abs(m.Source); err != nil {
			return Mount{}, fmt.Errorf("parse mount %q: %w", spec, err)
		}
	case m.Type == "volume" && !validName(m.Source):
		return Mount{}, fmt.Errorf("parse mount %q: %q is not a volume's name", spec, m.Source)
	}
	if err := m.check(); err != nil {
		return Mount{}, fmt.Errorf("parse mount %q: %w", spec, err)
	}
	return m, nil
}

func (m *Mount) setKey(key, value string, has bool) error {
	add := func(o string) { m.Options = append(m.Options, o) }
	flag := func(yes, no string) error {
		on := true
		if has {
			var err error
			if on, err = strconv.ParseBool(value); err != nil {
				return fmt.Errorf("%s=%q is neither true nor false", key, value)
			}
		}
		if on {
			add(yes)
		} else if no != "" {
			add(no)
		}
		return nil
	}
	switch key {
	case "type", "consistency":
	case "src", "source":
		m.Source = value
	case "dst", "dest", "destination", "target":
		m.Destination = value
	case "subpath", "volume-subpath", "image-subpath":
		m.SubPath = value
	case "ro", "readonly":
		return flag("ro", "rw")
	case "rw", "readwrite":
		return flag("rw", "ro")
	case "bind-propagation":
		add(value)
	case "bind-nonrecursive", "nonrecursive":
		return flag("bind", "rbind")
	case "relabel":
		switch value {
		case "shared":
			add("z")
		case "private":
			add("Z")
		default:
			return fmt.Errorf("relabel=%q is neither shared nor private", value)
		}
	case "U", "chown":
		return flag("U", "")
	case "idmap":
		if has {
			add("idmap=" + value)
		} else {
			add("idmap")
		}
	case "tmpfs-size", "size":
		add("size=" + value)
	case "tmpfs-mode", "mode":
		add("mode=" + value)
	case "volume-nocopy":
		return flag("nocopy", "copy")
	case "volume-driver":
		m.VolumeDriver = value
	case "volume-label":
		k, v, _ := strings.Cut(value, "=")
		m.VolumeLabels = put(m.VolumeLabels, k, v)
	case "volume-opt":
		k, v, _ := strings.Cut(value, "=")
		m.VolumeOptions = put(m.VolumeOptions, k, v)
	default:
		if has {
			add(key + "=" + value)
		} else {
			add(key)
		}
	}
	return nil
}

func put(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	return m
}

// has says whether option o was said.
func (m *Mount) has(o string) bool {
	_, ok := m.option(o)
	return ok
}

// option returns the value of key=value, "" for a bare key.
func (m *Mount) option(key string) (string, bool) {
	for _, o := range m.Options {
		if k, v, _ := strings.Cut(o, "="); k == key {
			return v, true
		}
	}
	return "", false
}
