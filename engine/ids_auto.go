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

// autoMaps choose a range of ids that no other container has or will get.
func (e *Engine) autoMaps(ctx context.Context, r *record, opts []string) error {
	size := uint64(0)
	var uids, gids []string
	for _, o := range opts {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "size":
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil || n == 0 {
				return fmt.Errorf("auto: size %q is not a number of ids", v)
			}
			size = n
		case "uidmapping":
			uids = append(uids, v)
		case "gidmapping":
			gids = append(gids, v)
		default:
			return fmt.Errorf("auto: option %q is not known", o)
		}
	}
	if size == 0 {
		n, err := e.autoSize(r)
		if err != nil {
			return err
		}
		size = uint64(n)
	}
	pool, err := e.autoPool()
	if err != nil {
		return err
	}
	first, err := e.takeRange(ctx, r.ID, pool, uint32(size))
	if err != nil {
		return err
	}
	auto := []oci.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: uint32(size)}}
	for _, m := range []struct {
		said []string
		out  *[]oci.LinuxIDMapping
	}{{uids, &r.UIDMap}, {gids, &r.GIDMap}} {
		own, err := parseMappings(m.said)
		if err != nil {
			return err
		}
		*m.out = append(own, withoutIDs(auto, own)...)
	}
	return nil
}

// autoSize is one more than the highest id that the container's files name and
// its user is; nobody, whose id is high by custom, does not count.
func (e *Engine) autoSize(r *record) (uint32, error) {
	high := uint64(0)
	take := func(id string) {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil && n < maxAutoSize {
			high = max(high, n)
		}
	}
	for id := range strings.SplitSeq(firstOf(r.Options.User, r.Image.User), ":") {
		take(id)
	}
	for _, g := range r.Options.GroupAdd {
		take(g)
	}
	if r.Chain != "" {
		snaps, err := e.Snapshots()
		if err != nil {
			return 0, err
		}
		root, err := snaps.ViewTree(r.Chain)
		if err != nil {
			return 0, err
		}
		defer root.Close()
		files, err := userFiles(root)
		if err != nil {
			return 0, err
		}
		for _, file := range [][]byte{files.Passwd, files.Group} {
			for line := range strings.Lines(string(file)) {
				f := strings.Split(strings.TrimSpace(line), ":")
				if len(f) < 3 || f[0] == "nobody" || f[0] == "nogroup" {
					continue
				}
				take(f[2])
				if len(f) > 4 { // passwd
					take(f[3])
				}
			}
		}
	}
	return uint32(min(max(high+1, minAutoSize), maxAutoSize)), nil
}

// withoutIDs leaves out of maps the container's ids that own has.
func withoutIDs(maps, own []oci.LinuxIDMapping) []oci.LinuxIDMapping {
	for _, o := range own {
		var left []oci.LinuxIDMapping
		for _, m := range maps {
			if !overlap(m.ContainerID, o.ContainerID, m.Size, o.Size) {
				left = append(left, m)
				continue
			}
			if o.ContainerID > m.ContainerID {
				left = append(left, oci.LinuxIDMapping{ContainerID: m.ContainerID, HostID: m.HostID, Size: o.ContainerID - m.ContainerID})
			}
			if end, oend := m.ContainerID+m.Size, o.ContainerID+o.Size; oend < end {
				left = append(left, oci.LinuxIDMapping{ContainerID: oend, HostID: m.HostID + oend - m.ContainerID, Size: end - oend})
			}
		}
		maps = left
	}
	return maps
}

func (e *Engine) autoPool() ([]userns.Range, error) {
	if e.o.Rootless {
		n, err := available("/proc/self/uid_map")
		if err != nil {
			return nil, err
		}
		if n < 2 {
			return nil, errors.New("auto: the user has no other ids")
		}
		return []userns.Range{{First: 1, Size: n - 1}}, nil
	}
	pool, err := userns.Subordinate("/etc/subuid", autoUser, -1)
	if err != nil {
		return nil, err
	}
	if len(pool) == 0 {
		return nil, hint(fmt.Errorf("auto: /etc/subuid has no range of the user %q", autoUser),
			"echo %s:2147483647:2147483648 | tee -a /etc/subuid /etc/subgid", autoUser)
	}
	return pool, nil
}

// The ranges that are given out are links in one directory, FIRST-SIZE with
// the container's ID as text: they are seen without reading any record.
func (e *Engine) rangesDir() string { return filepath.Join(e.o.Root, "id-ranges") }

func (e *Engine) takeRange(ctx context.Context, id string, pool []userns.Range, size uint32) (uint32, error) {
	l, err := e.lock(ctx, "id", "ranges")
	if err != nil {
		return 0, err
	}
	defer l.Release()
	if err := os.MkdirAll(e.rangesDir(), 0o700); err != nil {
		return 0, err
	}
	taken, err := e.ranges()
	if err != nil {
		return 0, err
	}
	for _, p := range pool {
		at := uint64(p.First)
		for _, t := range taken {
			if overlap(uint32(at), t.First, size, t.Size) {
				at = uint64(t.First) + uint64(t.Size)
			}
		}
		if at+uint64(size) > uint64(p.First)+uint64(p.Size) {
			continue
		}
		name := fmt.Sprintf("%d-%d", at, size)
		if err := os.Symlink(id, filepath.Join(e.rangesDir(), name)); err != nil {
			return 0, err
		}
		return uint32(at), nil
	}
	return 0, fmt.Errorf("auto: no %d ids are left", size)
}

// ranges are those given out, lowest first.
func (e *Engine) ranges() ([]userns.Range, error) {
	entries, err := os.ReadDir(e.rangesDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []userns.Range
	for _, d := range entries {
		a, b, _ := strings.Cut(d.Name(), "-")
		first, err1 := strconv.ParseUint(a, 10, 32)
		size, err2 := strconv.ParseUint(b, 10, 32)
		if err1 == nil && err2 == nil {
			out = append(out, userns.Range{First: uint32(first), Size: uint32(size)})
		}
	}
	slices.SortFunc(out, func(a, b userns.Range) int { return int(int64(a.First) - int64(b.First)) })
	return out, nil
}

// releaseIDs gives the container's ranges back.
func (e *Engine) releaseIDs(ctx context.Context, r *record) error {
	if r.Created.IsZero() || strings.HasPrefix(r.Options.UserNS, "auto") {
		entries, err := os.ReadDir(e.rangesDir())
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("release ids: %w", err)
		}
		for _, d := range entries {
			file := filepath.Join(e.rangesDir(), d.Name())
			if owner, err := os.Readlink(file); err == nil && owner == r.ID {
				if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
					return fmt.Errorf("release ids: %w", err)
				}
			}
		}
	}
	return nil
}
