package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"hull/engine"
	"hull/image"
	"hull/oci"
)

// mounts are those of one RUN --mount.
type mounts struct {
	keys      []any // what of them the step's key has
	extra     []engine.Mount
	views     []oci.Mount
	secretEnv []string
	open      map[string]*os.File // sources that are open already, by the name that a view has for them

	later    []func(ctx context.Context) error // done when the step really runs
	releases []func()
}

func (m *mounts) release() {
	for _, f := range slices.Backward(m.releases) {
		f()
	}
	m.releases = nil
}

// prepare makes what only a step that runs needs: secrets, caches, sockets.
func (m *mounts) prepare(ctx context.Context) error {
	for _, f := range m.later {
		if err := f(ctx); err != nil {
			return err
		}
	}
	m.later = nil
	return nil
}

// settle finds out what is mounted, and what of it the key needs.
func (m *mounts) settle(ctx context.Context, st *stage, list []*instructions.Mount) error {
	ssh := 0
	for _, x := range list {
		target := x.Target
		if target != "" {
			if !path.IsAbs(target) {
				target = path.Join("/", st.config.Config.WorkingDir, target)
			}
			target = path.Clean(target)
		}
		var err error
		switch x.Type {
		case instructions.MountTypeBind:
			err = m.bind(ctx, st, x, target)
		case instructions.MountTypeCache:
			err = m.cache(st, x, target)
		case instructions.MountTypeTmpfs:
			var options []string
			if x.SizeLimit > 0 {
				options = append(options, "size="+strconv.FormatInt(x.SizeLimit, 10))
			}
			m.keys = append(m.keys, []any{"tmpfs", target, x.SizeLimit})
			m.extra = append(m.extra, engine.Mount{Type: "tmpfs", Destination: target, Options: options})
		case instructions.MountTypeSecret:
			err = m.secret(st, x, target)
		case instructions.MountTypeSSH:
			err = m.ssh(st, x, target, ssh)
			ssh++
		default:
			err = fmt.Errorf("type %q is not known", x.Type)
		}
		if err != nil {
			return fmt.Errorf("mount %s %s: %w", x.Type, firstOf(target, x.CacheID), err)
		}
	}
	return nil
}

// bind mounts a part of the context, of a stage or of an image.
func (m *mounts) bind(ctx context.Context, st *stage, x *instructions.Mount, target string) error {
	t, err := st.b.treeOf(ctx, st.in, x.From)
	if err != nil {
		return err
	}
	if climbs(x.Source) {
		return fmt.Errorf("source %s leads out of the %s", x.Source, t.name)
	}
	real, err := t.resolve(x.Source, true)
	if err != nil {
		return err
	}
	stat, err := t.lstat(real)
	if err != nil {
		return fmt.Errorf("%s in the %s: %w", x.Source, t.name, err)
	}
	if t.root == nil {
		m.keys = append(m.keys, []any{"empty", target})
		m.extra = append(m.extra, engine.Mount{Type: "tmpfs", Destination: target, Options: readOnly(x.ReadOnly)})
		return nil
	}
	if t.chain != "" {
		m.keys = append(m.keys, []any{"bind", target, x.ReadOnly, t.chain, real})
		m.later = append(m.later, func(context.Context) error {
			view, err := st.b.Snapshots.ViewPath(t.chain, real)
			if err != nil {
				return err
			}
			return m.view(st, t, real, view, target, x.ReadOnly)
		})
		return nil
	}
	w := walker{t: t, c: &copying{word: "RUN"}, dir: false}
	if _, err := w.add(ctx, real, "", path.Base(real), true); err != nil {
		return err
	}
	if err := sum(ctx, w.out); err != nil {
		return err
	}
	m.keys = append(m.keys, []any{"bind", target, x.ReadOnly, w.out})
	m.later = append(m.later, func(ctx context.Context) error {
		view := oci.Mount{Type: "bind", Source: filepath.Join(t.dir, real), Options: []string{"rbind", "ro"}}
		if t.ignore != nil && isDir(stat) {
			if view, err = st.b.filtered(ctx, w.out); err != nil {
				return err
			}
		}
		return m.view(st, t, real, view, target, x.ReadOnly)
	})
	return nil
}

// climbs says whether a relative path is above where it begins. COPY takes such
// a one as docker does, as if it began at the root; a mount refuses it (BLD-08).
func climbs(p string) bool {
	p = path.Clean(p)
	return p == ".." || strings.HasPrefix(p, "../")
}

func readOnly(ro bool) []string {
	if ro {
		return []string{"ro"}
	}
	return nil
}

// filtered is a directory with items only: without what an ignore file leaves out.
func (b *building) filtered(ctx context.Context, items []item) (oci.Mount, error) {
	p := &placing{st: &stage{b: b}, c: &copying{word: "RUN"}, view: &tree{owned: true}, made: map[string]*placed{}, real: map[string]string{}}
	if err := p.place("/", items); err != nil {
		return oci.Mount{}, err
	}
	var l image.Layer
	err := pipeTar(p.writeTo, func(r reader) (err error) {
		l, err = b.Images.AddLayer(ctx, "", r, image.LayerOptions{})
		return err
	})
	if err != nil {
		return oci.Mount{}, err
	}
	return b.Snapshots.ViewPath(l.Chain, "/")
}

// view mounts v, which is what lies at real in t; what is written to one that is
// not read-only is thrown away.
func (m *mounts) view(st *stage, t *tree, real string, v oci.Mount, target string, ro bool) error {
	v.Destination = target
	if ro {
		if v.Type == "bind" {
			v.Options = append(v.Options, "rprivate")
		}
		m.views = append(m.views, v)
		return nil
	}
	tmp, err := st.b.temp("mount")
	if err != nil {
		return err
	}
	stat, err := t.lstat(real)
	if err != nil {
		return err
	}
	if !isDir(stat) {
		file := filepath.Join(tmp, "file")
		if err := t.copyFile(real, file); err != nil {
			return err
		}
		m.views = append(m.views, oci.Mount{Type: "bind", Source: file, Destination: target, Options: []string{"bind", "rw"}})
		return nil
	}
	lower := v.Source
	for _, o := range v.Options {
		if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
			lower = dirs
		}
	}
	if v.Type == "bind" && strings.ContainsAny(lower, `:,\`) { // what ends a directory in the options
		if err := os.Symlink(lower, filepath.Join(tmp, "l")); err != nil {
			return err
		}
		lower = filepath.Join(tmp, "l")
	}
	for _, d := range []string{"u", "w"} {
		if err := os.Mkdir(filepath.Join(tmp, d), 0o755); err != nil {
			return err
		}
	}
	options := []string{"lowerdir=" + lower, "upperdir=" + filepath.Join(tmp, "u"), "workdir=" + filepath.Join(tmp, "w")}
	if slices.Contains(v.Options, "userxattr") {
		options = append(options, "userxattr")
	}
	m.views = append(m.views, oci.Mount{Type: "overlay", Source: "overlay", Destination: target, Options: options})
	return nil
}

// secret mounts a secret's bytes as a file, or sets a variable to them. They
// are no part of the key, and in no record.
func (m *mounts) secret(st *stage, x *instructions.Mount, target string) error {
	id := x.CacheID
	if id == "" {
		id = x.Source
	}
	if id == "" && target != "" {
		id = path.Base(target)
	}
	if id == "" {
		return errors.New("it needs an id or a target")
	}
	if x.Env == nil && target == "" {
		target = "/run/secrets/" + path.Base(id)
	}
	m.keys = append(m.keys, []any{"secret", id, target, x.Env, x.Mode, x.UID, x.GID})
	s, ok := st.b.o.Secrets[id]
	if !ok {
		if x.Required {
			return &hintError{fmt.Errorf("secret %s is required and was not given", id), "give it with --secret id=" + id + ",src=FILE"}
		}
		return nil
	}
	m.later = append(m.later, func(context.Context) error {
		data, err := s.read()
		if err != nil {
			return fmt.Errorf("read secret %s: %w", id, err)
		}
		if x.Env != nil {
			name := *x.Env
			if name == "" {
				name = id
			}
			m.secretEnv = append(m.secretEnv, name+"="+string(data))
		}
		if target == "" {
			return nil
		}
		file, err := st.b.writeTemp("secret", "data", data, os.FileMode(number(x.Mode, 0o400)))
		if err != nil {
			return err
		}
		if err := os.Chown(file, int(number(x.UID, 0)), int(number(x.GID, 0))); err != nil {
			return err
		}
		m.extra = append(m.extra, engine.Mount{Type: "bind", Source: file, Destination: target, Options: []string{"ro", "Z"}})
		return nil
	})
	return nil
}

func (s Secret) read() ([]byte, error) {
	if s.Env != "" {
		v, ok := os.LookupEnv(s.Env)
		if !ok {
			return nil, fmt.Errorf("variable %s is not set", s.Env)
		}
		return []byte(v), nil
	}
	return os.ReadFile(s.File)
}

func number(p *uint64, otherwise uint64) uint64 {
	if p == nil {
		return otherwise
	}
	return *p
}

// writeTemp writes a file of its own directory in the run directory.
func (b *building) writeTemp(what, name string, data []byte, mode os.FileMode) (string, error) {
	dir, err := b.secretTemp(what)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, filepath.Base(name))
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", what, err)
	}
	return file, os.Chmod(file, mode)
}
