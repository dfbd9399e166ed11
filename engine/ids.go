package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hull/oci"
	"hull/userns"
)

// settleIDs chooses the container's id maps. None means that it shares the
// engine's user namespace.
func (e *Engine) settleIDs(ctx context.Context, r *record) error {
	o := &r.Options
	if o.UserNS == "" && len(o.UIDMap) == 0 && len(o.GIDMap) == 0 && o.SubUIDName == "" && !o.Privileged {
		o.UserNS = e.o.Defaults.UserNS
	}
	word, rest, _ := strings.Cut(o.UserNS, ":")
	var err error
	switch word {
	case "", "host", "private":
		if len(o.UIDMap) == 0 && len(o.GIDMap) == 0 && o.SubUIDName == "" && o.SubGIDName == "" {
			if word == "private" {
				return errors.New("user namespace private: give it maps by --uidmap, or let them be chosen by --userns auto")
			}
			return nil
		}
		if word == "host" {
			return errors.New("--userns host and id maps exclude each other")
		}
		err = e.explicitMaps(r)
	case "auto":
		err = e.autoMaps(ctx, r, splitOptions(rest))
	case "keep-id":
		err = e.keepIDMaps(r, splitOptions(rest))
	case "nomap":
		err = e.nomapMaps(r)
	case "container":
		other, lerr := e.loadRecord(rest)
		if lerr != nil {
			return lerr
		}
		r.UIDMap, r.GIDMap = other.UIDMap, other.GIDMap
		return nil
	case "ns":
		r.UIDMap, err = readMap(rest, "uid_map")
		if err == nil {
			r.GIDMap, err = readMap(rest, "gid_map")
		}
	default:
		return fmt.Errorf("user namespace %q is not known", o.UserNS)
	}
	if err != nil {
		return fmt.Errorf("user namespace: %w", err)
	}
	return nil
}

// readMap reads the map of the user namespace in /proc/PID/ns/user.
func readMap(path, file string) ([]oci.LinuxIDMapping, error) {
	dir := filepath.Dir(filepath.Dir(path))
	if !strings.HasPrefix(dir, "/proc/") {
		return nil, fmt.Errorf("the maps of %s cannot be told: give /proc/PID/ns/user", path)
	}
	return parseMap(filepath.Join(dir, file))
}

func parseMap(file string) ([]oci.LinuxIDMapping, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []oci.LinuxIDMapping
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) != 3 {
			continue
		}
		var n [3]uint64
		for i := range w {
			if n[i], err = strconv.ParseUint(w[i], 10, 32); err != nil {
				return nil, err
			}
		}
		out = append(out, oci.LinuxIDMapping{ContainerID: uint32(n[0]), HostID: uint32(n[1]), Size: uint32(n[2])})
	}
	return out, nil
}

// explicitMaps are --uidmap and --gidmap, or the ranges of a user in
// /etc/subuid and /etc/subgid.
func (e *Engine) explicitMaps(r *record) (err error) {
	o := &r.Options
	if r.UIDMap, err = subordinateMap("/etc/subuid", o.SubUIDName); err != nil {
		return err
	}
	if r.GIDMap, err = subordinateMap("/etc/subgid", firstOf(o.SubGIDName, o.SubUIDName)); err != nil {
		return err
	}
	if len(o.UIDMap) > 0 {
		if r.UIDMap, err = parseMappings(o.UIDMap); err != nil {
			return err
		}
	}
	if len(o.GIDMap) > 0 {
		if r.GIDMap, err = parseMappings(o.GIDMap); err != nil {
			return err
		}
	}
	if len(r.UIDMap) == 0 {
		r.UIDMap = slices.Clone(r.GIDMap)
	}
	if len(r.GIDMap) == 0 {
		r.GIDMap = slices.Clone(r.UIDMap)
	}
	return nil
}

func subordinateMap(file, name string) ([]oci.LinuxIDMapping, error) {
	if name == "" {
		return nil, nil
	}
	ranges, err := userns.Subordinate(file, name, -1)
	if err != nil {
		return nil, err
	}
	if len(ranges) == 0 {
		return nil, hint(fmt.Errorf("%s has no range of %s", file, name), "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", name)
	}
	var out []oci.LinuxIDMapping
	next := uint32(0)
	for _, g := range ranges {
		out = append(out, oci.LinuxIDMapping{ContainerID: next, HostID: g.First, Size: g.Size})
		next += g.Size
	}
	return out, nil
}

// parseMappings parses CONTAINER:HOST[:SIZE] and refuses overlaps, which the
// kernel would answer with no more than EINVAL.
func parseMappings(specs []string) ([]oci.LinuxIDMapping, error) {
	var out []oci.LinuxIDMapping
	for _, s := range specs {
		f := strings.Split(s, ":")
		if len(f) == 2 {
			f = append(f, "1")
		}
		var n [3]uint64
		var err error
		for i := range f {
			if len(f) != 3 {
				break
			}
			if n[i], err = strconv.ParseUint(f[i], 10, 32); err != nil {
				break
			}
		}
		if len(f) != 3 || err != nil || n[2] == 0 || n[0]+n[2] > 1<<32-1 || n[1]+n[2] > 1<<32-1 {
			return nil, fmt.Errorf("map %q: want CONTAINER:HOST:SIZE", s)
		}
		m := oci.LinuxIDMapping{ContainerID: uint32(n[0]), HostID: uint32(n[1]), Size: uint32(n[2])}
		for _, old := range out {
			if overlap(old.ContainerID, m.ContainerID, old.Size, m.Size) || overlap(old.HostID, m.HostID, old.Size, m.Size) {
				return nil, fmt.Errorf("map %q overlaps another", s)
			}
		}
		out = append(out, m)
	}
	if len(out) > 340 {
		return nil, fmt.Errorf("%d maps: the kernel takes 340", len(out))
	}
	return out, nil
}

func overlap(a, b, sizeA, sizeB uint32) bool {
	return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
}

// available is how many ids the engine's own user namespace has, from 0 on.
func available(file string) (uint32, error) {
	own, err := parseMap(file)
	if err != nil {
		return 0, err
	}
	slices.SortFunc(own, func(a, b oci.LinuxIDMapping) int { return int(int64(a.ContainerID) - int64(b.ContainerID)) })
	n := uint32(0)
	for _, m := range own {
		if m.ContainerID != n {
			break
		}
		n += m.Size
	}
	return n, nil
}

// keepIDMaps let the user be himself inside: his id, or the one that is
// asked for, is outside the engine's 0.
func (e *Engine) keepIDMaps(r *record, opts []string) error {
	if !e.o.Rootless {
		// Root's ids are the same inside anyway: what is new is the namespace.
		if len(opts) > 0 {
			return errors.New("keep-id: root has no ids to choose from")
		}
		var err error
		if r.UIDMap, err = parseMap("/proc/self/uid_map"); err == nil {
			r.GIDMap, err = parseMap("/proc/self/gid_map")
		}
		for _, m := range [][]oci.LinuxIDMapping{r.UIDMap, r.GIDMap} {
			for i := range m {
				m[i].HostID = m[i].ContainerID // outside is where this process is
			}
		}
		return err
	}
	uid, gid := userns.HostUID(), hostGID()
	size := uint64(0)
	for _, o := range opts {
		k, v, _ := strings.Cut(o, "=")
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return fmt.Errorf("keep-id: option %q: not a number", o)
		}
		switch k {
		case "uid":
			uid = int(n)
		case "gid":
			gid = int(n)
		case "size":
			size = n
		default:
			return fmt.Errorf("keep-id: option %q is not known", o)
		}
	}
	for _, m := range []struct {
		file string
		id   int
		out  *[]oci.LinuxIDMapping
	}{{"/proc/self/uid_map", uid, &r.UIDMap}, {"/proc/self/gid_map", gid, &r.GIDMap}} {
		n, err := available(m.file)
		if err != nil {
			return err
		}
		if size > 0 {
			n = min(n, uint32(size))
		}
		*m.out = aroundID(uint32(m.id), n)
	}
	if r.Options.User == "" {
		r.Options.User = fmt.Sprintf("%d:%d", uid, gid)
	}
	return nil
}

// aroundID maps id to the engine's 0 and the ids around it to 1, 2, …, n-1.
func aroundID(id, n uint32) []oci.LinuxIDMapping {
	var out []oci.LinuxIDMapping
	below := min(id, n-1)
	if below > 0 {
		out = append(out, oci.LinuxIDMapping{ContainerID: 0, HostID: 1, Size: below})
	}
	out = append(out, oci.LinuxIDMapping{ContainerID: id, HostID: 0, Size: 1})
	if rest := n - 1 - below; rest > 0 {
		out = append(out, oci.LinuxIDMapping{ContainerID: id + 1, HostID: below + 1, Size: rest})
	}
	return out
}

func hostGID() int {
	own, err := parseMap("/proc/self/gid_map")
	if err != nil || len(own) == 0 {
		return os.Getgid()
	}
	return int(own[0].HostID)
}

// nomapMaps leave the user himself out.
func (e *Engine) nomapMaps(r *record) error {
	if !e.o.Rootless {
		return errors.New("nomap: only for users who are not root")
	}
	for _, m := range []struct {
		file string
		out  *[]oci.LinuxIDMapping
	}{{"/proc/self/uid_map", &r.UIDMap}, {"/proc/self/gid_map", &r.GIDMap}} {
		n, err := available(m.file)
		if err != nil {
			return err
		}
		if n < 2 {
			return errors.New("nomap: the user has no other ids")
		}
		*m.out = []oci.LinuxIDMapping{{ContainerID: 0, HostID: 1, Size: n - 1}}
	}
	return nil
}

// How many ids --userns auto gives a container: what its image needs, within
// these bounds.
const minAutoSize, maxAutoSize = 1024, 65536

// autoUser is whose subordinate ids --userns auto gives out.
const autoUser = "containers"
