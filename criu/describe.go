package criu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/state"
)

// A Description is of a dump: what of the container is not in it.
type Description struct {
	Version int
	Streams []Stream
	Mounts  []Mount
	// Net, IPC, UTS and Pid say that these namespaces were another's.
	Net, IPC, UTS, Pid bool
}

// A Stream is one of the first process's first three descriptors, by criu's name for what it was open on.
type Stream struct {
	FD  int
	Key string
}

// A Mount is one of which only the place is in the dump: what comes there is said by the container that is restored.
type Mount struct{ Place, Key string }

const (
	descriptionVersion = 1
	// DescriptionFile is a Description among the files of a dump.
	DescriptionFile = "hull.json"
	netKey          = "hullnet"
	pidKey          = "hullpid"
)

// DescribeOptions say what of a container is another's.
type DescribeOptions struct {
	// Net, IPC, UTS and Pid are namespaces that were made by somebody else.
	Net, IPC, UTS, Pid bool
	// Shared are places of mounts that are another container's.
	Shared []string
	// Sockets allows streams that are sockets.
	Sockets bool
}

// Describe looks at a container's first process.
func Describe(pid int, o DescribeOptions) (Description, error) {
	p := strconv.Itoa(pid)
	d := Description{Version: descriptionVersion, Net: o.Net, IPC: o.IPC, UTS: o.UTS, Pid: o.Pid}
	mounts, err := mountLines(p)
	if err != nil {
		return d, err
	}
	hosts, err := mountLines("self")
	if err != nil {
		return d, err
	}
	if d.Mounts, err = foreignMounts(mounts, hosts, o.Shared); err != nil {
		return d, err
	}
	for fd := range 3 {
		key, err := describeStream(p, fd, mounts, o.Sockets)
		if err != nil {
			return d, err
		}
		if key != "" {
			d.Streams = append(d.Streams, Stream{fd, key})
		}
	}
	return d, nil
}

// externals are the options for a dump of pid.
func (d *Description) externals(pid int) ([]string, error) {
	var out []string
	for _, m := range d.Mounts {
		out = append(out, "mnt["+m.Place+"]:"+m.Key)
	}
	for _, n := range []struct {
		on        bool
		kind, key string
	}{{d.Net, "net", netKey}, {d.Pid, "pid", pidKey}} {
		var st unix.Stat_t
		if !n.on {
			continue
		}
		if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, n.kind), &st); err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("%s[%d]:%s", n.kind, st.Ino, n.key))
	}
	for _, s := range d.Streams {
		if strings.HasPrefix(s.Key, "file[") {
			out = append(out, s.Key)
		}
	}
	return out, nil
}

// describeStream says what a stream is open on: a pipe, or a file of the host; "" of one that is closed or the container's own.
func describeStream(pid string, fd int, mounts []mountLine, sockets bool) (string, error) {
	path := fmt.Sprintf("/proc/%s/fd/%d", pid, fd)
	to, err := os.Readlink(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	switch {
	case strings.HasPrefix(to, "pipe:["):
		return to, nil
	case strings.HasPrefix(to, "socket:["):
		if sockets {
			return "", nil
		}
		return "", fmt.Errorf("descriptor %d is a socket of whoever started the container", fd)
	case !strings.HasPrefix(to, "/"):
		return "", nil
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/%s/fdinfo/%d", pid, fd))
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", err
	}
	for line := range strings.Lines(string(info)) {
		text, ok := strings.CutPrefix(line, "mnt_id:")
		if !ok {
			continue
		}
		id := strings.TrimSpace(text)
		n, err := strconv.Atoi(id)
		if err != nil || slices.ContainsFunc(mounts, func(m mountLine) bool { return m.id == id }) {
			return "", err
		}
		return fmt.Sprintf("file[%x:%x]", n, st.Ino), nil
	}
	return "", nil
}

// Write keeps d beside a dump, which it makes whole: it comes last.
func (d *Description) Write(dir string) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return state.WriteFile(dir, DescriptionFile, data, 0o600, true)
}

// Read reads what belongs to a dump. The error of a directory without one satisfies errors.Is(err, fs.ErrNotExist).
func Read(dir string) (*Description, error) {
	data, err := state.ReadFile(filepath.Join(dir, DescriptionFile))
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	d, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	return d, nil
}

// decode reads a Description, which may come from anywhere: its words become options of criu.
func decode(data []byte) (*Description, error) {
	d := new(Description)
	if err := json.Unmarshal(data, d); err != nil {
		return nil, err
	}
	if d.Version != descriptionVersion {
		return nil, fmt.Errorf("it is of version %d, which this program does not know", d.Version)
	}
	for i, m := range d.Mounts {
		if !filepath.IsAbs(m.Place) || filepath.Clean(m.Place) != m.Place || strings.ContainsAny(m.Place, "\n\x00") || m.Key != fmt.Sprintf("m%d", i) {
			return nil, fmt.Errorf("mount %q on %q", m.Key, m.Place)
		}
	}
	for _, s := range d.Streams {
		if s.FD < 0 || s.FD > 2 || !validStream(s.Key) {
			return nil, fmt.Errorf("descriptor %d of %q", s.FD, s.Key)
		}
	}
	return d, nil
}

// validStream accepts pipe:[N] and file[N:N].
func validStream(key string) bool {
	rest, ok := strings.CutPrefix(key, "pipe:[")
	if !ok {
		if rest, ok = strings.CutPrefix(key, "file["); !ok {
			return false
		}
	}
	number, end := strings.CutSuffix(rest, "]")
	return end && number != "" && strings.Trim(number, "0123456789abcdef:") == ""
}
