package engine

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hull/image"
	"hull/layer"
)

// VolumeImport unpacks a tar archive, compressed or not, into a volume. One that
// is empty and that nobody uses has all of it or nothing, whatever cuts the
// import off; another says meanwhile that it has a part.
func (e *Engine) VolumeImport(ctx context.Context, name string, r io.Reader) error {
	v, l, err := e.openVolume(ctx, name)
	if err != nil {
		return err
	}
	defer l.Release()
	if err := e.importVolume(ctx, v, r); err != nil {
		return fmt.Errorf("import into volume %s: %w", v.Name, err)
	}
	return nil
}

func (e *Engine) importVolume(ctx context.Context, v *Volume, r io.Reader) error {
	z, _, err := image.Decompress(e.codec(), r)
	if err != nil {
		return err
	}
	defer z.Close()
	into, err := e.importDir(v)
	if err != nil {
		return err
	}
	root, err := os.Open(into)
	if err != nil {
		return err
	}
	defer root.Close()
	aside := into != v.Mountpoint
	if !aside {
		v.Importing = true
		if err := e.saveVolume(v); err != nil {
			return err
		}
	}
	err = layer.Apply(ctx, root, z, layer.ApplyOptions{Plain: true})
	if err == nil {
		err = unix.Syncfs(int(root.Fd()))
	}
	if err == nil && aside {
		err = unix.Rename(into, v.Mountpoint) // os.Rename refuses a directory as target
	}
	if err != nil {
		if aside {
			os.RemoveAll(into)
		}
		return err
	}
	// What was put there by hand is not to be covered by an image's files (VOL-03).
	v.NeedsCopyUp, v.Importing = false, false
	return e.saveVolume(v)
}

// importDir is where an import into a volume, whose lock is held, is unpacked:
// beside an empty one that nobody uses, with its owner, mode and label. Options
// may be of the directory that is there, such as a limit.
func (e *Engine) importDir(v *Volume) (string, error) {
	entries, err := os.ReadDir(v.Mountpoint)
	if err != nil || len(entries) > 0 || v.Driver != "local" || len(v.Options) > 0 || mounted(v.Mountpoint) || len(e.volumeHolds(v.Name)) > 0 {
		return v.Mountpoint, err
	}
	var st unix.Stat_t
	if err := unix.Stat(v.Mountpoint, &st); err != nil {
		return "", err
	}
	dir := filepath.Join(e.volumeDir(v.Name), copyDir)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	err = os.Mkdir(dir, 0o700)
	if err == nil {
		err = os.Chown(dir, int(st.Uid), int(st.Gid))
	}
	if err == nil {
		err = unix.Chmod(dir, st.Mode&0o7777)
	}
	if err == nil {
		err = e.labelShared(dir)
	}
	return dir, err
}
