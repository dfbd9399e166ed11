package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/snapshot"
)

// settleMounts turns the user's mounts, the image's volumes and the defaults
// into the container's list: volumes have names and exist, sources are there.
func (e *Engine) settleMounts(ctx context.Context, r *record) error {
	o := &r.Options
	r.Mounts = slices.Clone(o.Mounts)
	if err := e.settleVolumesFrom(ctx, r); err != nil {
		return err
	}
	taken := func(dst string) bool {
		return slices.ContainsFunc(r.Mounts, func(m Mount) bool { return m.Destination == dst })
	}
	for _, m := range e.o.Defaults.Volumes {
		if !taken(m.Destination) {
			r.Mounts = append(r.Mounts, m)
		}
	}
	for _, dst := range slices.Sorted(maps.Keys(r.Image.Volumes)) {
		dst = path.Clean("/" + dst)
		if dst == "/" || taken(dst) || o.ImageVolume == "ignore" {
			continue
		}
		m := Mount{Type: "volume", Destination: dst, Anonymous: true, Image: true}
		if o.ImageVolume == "tmpfs" {
			m = Mount{Type: "tmpfs", Destination: dst, Image: true}
		}
		r.Mounts = append(r.Mounts, m)
	}
	noted := false
	for i := range r.Mounts {
		m := &r.Mounts[i]
		if err := refuseDestination(m); err != nil {
			return err
		}
		switch m.Type {
		case "bind":
			if err := settleBind(m); err != nil {
				return err
			}
		case "image":
			if _, err := e.image(ctx, PullRequest{Name: m.Source, Quiet: o.Quiet}); err != nil {
				return fmt.Errorf("mount image %s: %w", m.Source, err)
			}
		case "artifact":
			if _, _, err := e.artifactBlobs(ctx, m); err != nil {
				return fmt.Errorf("validating artifact volume %q: %w", m.Source, err)
			}
		case "volume":
			if m.Anonymous && m.Source == "" {
				m.Source = newID()
			}
			if !noted {
				noted = true
				if err := e.noteUnfinished(r); err != nil {
					return err
				}
			}
		}
	}
	for i := range r.Mounts {
		if m := &r.Mounts[i]; m.Type == "volume" {
			name, err := e.ensureVolume(ctx, *m, r)
			if err != nil {
				return err
			}
			m.Source = name
		}
	}
	return nil
}

// refuseDestination keeps everything but the kernel's own off /proc and /sys:
// what lies there decides what a process is told about itself (RT-03).
func refuseDestination(m *Mount) error {
	for _, dir := range []string{"/proc", "/sys"} {
		if m.Destination != dir && !strings.HasPrefix(m.Destination, dir+"/") {
			continue
		}
		if m.Type == "bind" && (m.Source == dir || strings.HasPrefix(m.Source, dir+"/")) {
			continue
		}
		return fmt.Errorf("mount on %s: nothing but the host's own %s may lie in %s", m.Destination, dir, dir)
	}
	return nil
}

func settleBind(m *Mount) error {
	_, err := os.Stat(m.Source)
	if errors.Is(err, fs.ErrNotExist) && m.CreateSource {
		err = os.MkdirAll(m.Source, 0o755)
	}
	if err != nil {
		return fmt.Errorf("bind mount %s: %w", m.Source, err)
	}
	return nil
}

// ourOptions are those that the runtime does not know.
var ourOptions = []string{"z", "Z", "U", "O", "copy", "nocopy", "nocreate", "upperdir", "workdir", "consistency"}

// runtimeMounts are r's mounts as the runtime mounts them. tree is the
// container's own file system where a volume is to be filled from it.
func (e *Engine) runtimeMounts(ctx context.Context, r *record) ([]oci.Mount, error) {
	var out []oci.Mount
	if r.bare() {
		return nil, nil // they are for the members
	}
	for i := range r.Mounts {
		m := &r.Mounts[i]
		var more []oci.Mount
		var err error
		switch m.Type {
		case "bind":
			more, err = e.bindMount(ctx, r, m, m.Source)
		case "volume":
			more, err = e.volumeMount(ctx, r, m)
		case "glob":
			more, err = e.globMounts(ctx, r, m)
		case "image":
			more, err = e.imageMount(ctx, r, m, mountPin(r, i))
		case "artifact":
			more, err = e.artifactMounts(ctx, r, m)
		case "tmpfs", "ramfs", "devpts":
			more = []oci.Mount{{Destination: m.Destination, Type: m.Type, Source: m.Type, Options: tmpfsOptions(m)}}
		default:
			err = fmt.Errorf("mount type %q is not known", m.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("mount on %s: %w", m.Destination, err)
		}
		out = append(out, more...)
	}
	return out, nil
}

func tmpfsOptions(m *Mount) []string {
	out := []string{"rprivate"}
	if m.Type == "devpts" {
		return append(out, m.Options...)
	}
	for _, pair := range [][2]string{{"nosuid", "suid"}, {"nodev", "dev"}} {
		if !m.has(pair[1]) && !m.has(pair[0]) {
			out = append(out, pair[0])
		}
	}
	if m.Type == "tmpfs" && !m.has("notmpcopyup") && !m.has("tmpcopyup") {
		out = append(out, "tmpcopyup")
	}
	for _, opt := range m.Options {
		if opt != "notmpcopyup" && opt != "U" {
			out = append(out, opt)
		}
	}
	return out
}

// volumeMount mounts a volume. Of a part of one it is the open file that gets
// labels and owners and is mounted, not what its path leads to by then; only
// another runtime, an overlay and ids of one's own need the path.
func (e *Engine) volumeMount(ctx context.Context, r *record, m *Mount) ([]oci.Mount, error) {
	before := len(r.parts)
	dir, err := e.mountVolume(ctx, m.Source, m, r)
	if err != nil {
		return nil, err
	}
	if len(r.parts) == before || r.Runtime != "" || m.has("O") {
		return e.bindMount(ctx, r, m, dir)
	}
	part, src := r.parts[before], dir
	if info, err := part.Stat(); err == nil && info.IsDir() {
		src = descriptorPath(part) + "/."
	}
	out, err := e.bindMount(ctx, r, m, src)
	if err != nil {
		return nil, err
	}
	if out[0].Source = descriptorPath(part); len(out[0].UIDMappings) > 0 {
		out[0].Source = dir
	}
	return out, nil
}

// descriptorPath leads this process, and nobody else, to an open file.
func descriptorPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// bindMount mounts the host's src for m.
func (e *Engine) bindMount(ctx context.Context, r *record, m *Mount, src string) ([]oci.Mount, error) {
	if m.has("O") {
		return e.overlayMount(r, m, src)
	}
	if m.has("U") {
		if err := e.chownSource(r, src); err != nil {
			return nil, err
		}
	}
	if err := e.relabel(r, m, src); err != nil {
		return nil, err
	}
	out := oci.Mount{Destination: m.Destination, Type: "bind", Source: src}
	recursive, propagation := "rbind", "rprivate"
	for _, o := range m.Options {
		key, value, _ := strings.Cut(o, "=")
		switch {
		case slices.Contains(ourOptions, key):
		case key == "bind" || key == "rbind":
			recursive = key
		case mountOptionGroup[key] == "propagation":
			propagation = key
		case key == "idmap":
			if value != "" {
				return nil, fmt.Errorf("option idmap=%s: maps of one's own are not known; idmap alone takes the container's", value)
			}
			out.UIDMappings, out.GIDMappings = r.UIDMap, r.GIDMap
		default:
			out.Options = append(out.Options, o)
		}
	}
	out.Options = append([]string{recursive, propagation}, out.Options...)
	return []oci.Mount{out}, nil
}

// overlayMount puts a layer of the container's own above src: writes do not
// reach it.
func (e *Engine) overlayMount(r *record, m *Mount, src string) ([]oci.Mount, error) {
	name := "overlay-" + strings.ReplaceAll(strings.Trim(m.Destination, "/"), "/", "-")
	upper, hasUpper := m.option("upperdir")
	work, hasWork := m.option("workdir")
	if hasUpper != hasWork {
		return nil, errors.New("options upperdir and workdir go together")
	}
	if !hasUpper {
		upper, work = filepath.Join(r.dir, name, "upper"), filepath.Join(r.dir, name, "work")
		// Each start begins with what src holds.
		if err := os.RemoveAll(filepath.Join(r.dir, name)); err != nil {
			return nil, err
		}
		if err := makeUpper(upper, work, src); err != nil {
			return nil, err
		}
	}
	for _, p := range []string{src, upper, work} {
		if strings.ContainsAny(p, ":,\\") {
			return nil, fmt.Errorf("path %q holds a character that overlay options cannot", p)
		}
	}
	return []oci.Mount{{Destination: m.Destination, Type: "overlay", Source: "overlay", Options: append([]string{
		"lowerdir=" + src, "upperdir=" + upper, "workdir=" + work, "rprivate"}, snapshot.OverlayOptions(e.o.Rootless)...)}}, nil
}

// makeUpper makes the directories of a layer above src. The merged tree shows
// the owner and mode of the topmost, so they are those of src.
func makeUpper(upper, work, src string) error {
	var st unix.Stat_t
	if err := unix.Stat(src, &st); err != nil {
		return fmt.Errorf("look at %s: %w", src, err)
	}
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil // the mount says what is wrong
	}
	if err := unix.Chown(upper, int(st.Uid), int(st.Gid)); err != nil && err != unix.EINVAL { // an owner that the user's ids do not have
		return fmt.Errorf("give the layer above %s its owner: %w", src, err)
	}
	return unix.Chmod(upper, st.Mode&0o7777)
}

// globMounts binds each match into the destination.
func (e *Engine) globMounts(ctx context.Context, r *record, m *Mount) ([]oci.Mount, error) {
	matches, err := filepath.Glob(m.Source)
	if err != nil {
		return nil, err
	}
	if len(matches) == 0 {
		return nil, fmt.Errorf("no file matches %s", m.Source)
	}
	var out []oci.Mount
	for _, src := range matches {
		one := *m
		one.Type, one.Destination = "bind", path.Join(m.Destination, path.Base(src))
		more, err := e.bindMount(ctx, r, &one, src)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// imageMount mounts another image's files, read-only, or with rw under a layer
// that is the container's own.
func (e *Engine) imageMount(ctx context.Context, r *record, m *Mount, pin string) ([]oci.Mount, error) {
	if m.SubPath != "" {
		return nil, errors.New("a part of an image cannot be mounted; mount the whole")
	}
	img, err := e.image(ctx, PullRequest{Name: m.Source, Policy: "never"})
	if err != nil {
		return nil, err
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return nil, err
	}
	store, err := e.Images()
	if err != nil {
		return nil, err
	}
	if err := store.EnsureLayers(ctx, img); err != nil {
		return nil, err
	}
	var chain oci.Digest
	if n := len(img.Layers); n > 0 {
		chain = img.Layers[n-1].Chain
	}
	if chain != "" {
		if err := snaps.Pin(ctx, pin, chain); err != nil {
			return nil, err
		}
	}
	mounts, err := snaps.ViewMounts(chain)
	if err != nil {
		return nil, err
	}
	for i := range mounts {
		mounts[i].Destination = m.Destination
		if mounts[i], err = e.labelView(r, mounts[i]); err != nil {
			return nil, err
		}
		if mounts[i].Type == "bind" {
			mounts[i].Options = append(mounts[i].Options, "rprivate")
		}
	}
	if m.has("rw") {
		return nil, errors.New("an image is mounted read-only")
	}
	return mounts, nil
}

// chownSource gives a source to the container's user, for option U. Links are
// changed themselves, and nothing is followed.
func (e *Engine) chownSource(r *record, src string) error {
	for _, dir := range []string{"/", "/etc", "/usr", "/home", "/var", "/bin", "/sbin", "/lib", "/lib64", "/boot", "/dev", "/root", "/run", "/opt", "/srv"} {
		if path.Clean(src) == dir {
			return fmt.Errorf("option U: %s belongs to the host", src)
		}
	}
	uid, gid := hostID(r.UIDMap, r.User.UID), hostID(r.GIDMap, r.User.GID)
	root, err := os.OpenRoot(src)
	if err != nil {
		return os.Lchown(src, uid, gid)
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return root.Lchown(name, uid, gid)
	})
}

// hostID is what an id of the container is outside; 0 for one that is not
// mapped is not wanted, so it stays itself.
func hostID(m []oci.LinuxIDMapping, id uint32) int {
	for _, r := range m {
		if id >= r.ContainerID && id-r.ContainerID < r.Size {
			return int(r.HostID + id - r.ContainerID)
		}
	}
	return int(id)
}

// makeOverlay makes the directories of the throw-away layer above a rootfs.
func (e *Engine) makeOverlay(r *record) error {
	dir := filepath.Join(r.dir, "rootfs")
	if err := makeUpper(filepath.Join(dir, "upper"), filepath.Join(dir, "work"), r.Options.Rootfs); err != nil {
		return fmt.Errorf("make layer above %s: %w", r.Options.Rootfs, err)
	}
	return nil
}

// rootMounts are the mounts that make the container's root; nil when its
// rootfs is used as it is.
func (e *Engine) rootMounts(r *record) ([]oci.Mount, error) {
	mounts, err := e.plainRoot(r)
	if err != nil || len(mounts) == 0 || mounts[0].Type != "overlay" {
		return mounts, err
	}
	mounts = slices.Clone(mounts)
	mounts[0].Options = append(slices.Clone(mounts[0].Options), e.contextOption(r)...)
	return mounts, nil
}

// plainRoot is rootMounts without a label.
func (e *Engine) plainRoot(r *record) ([]oci.Mount, error) {
	o := &r.Options
	switch {
	case o.Rootfs != "" && !o.RootfsOverlay:
		return nil, nil
	case o.Rootfs != "":
		if strings.ContainsAny(o.Rootfs+r.dir, ":,\\") {
			return nil, fmt.Errorf("rootfs %q: its path holds a character that overlay options cannot", o.Rootfs)
		}
		dir := filepath.Join(r.dir, "rootfs")
		return []oci.Mount{{Type: "overlay", Source: "overlay", Options: append([]string{
			"lowerdir=" + o.Rootfs, "upperdir=" + filepath.Join(dir, "upper"), "workdir=" + filepath.Join(dir, "work")}, snapshot.OverlayOptions(e.o.Rootless)...)}}, nil
	case r.bare():
		return bareRoot(), nil
	case r.made != nil:
		return r.made, nil
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return nil, err
	}
	mounts, err := snaps.Mounts(r.ID)
	if errors.Is(err, fs.ErrNotExist) && r.Chain != "" {
		// A layer below is missing, or a power cut may have damaged it: it is
		// made again of the image's blobs, if those are here.
		if rerr := e.restoreLayers(context.Background(), r.ImageID); rerr == nil {
			return snaps.Mounts(r.ID)
		}
	}
	return mounts, err
}
