package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"hull/image"
	"hull/layer"
	"hull/oci"
	"hull/seccomp"
	"hull/state"
)

// Bundle makes a directory that any OCI runtime can run: rootfs with the
// image's files, unpacked anew, and config.json as a container of the options
// would have it. It is the conversion of image-spec conversion.md and depends
// on nothing of the store afterwards. dir must not exist, or be empty.
func (e *Engine) Bundle(ctx context.Context, dir string, o CreateOptions) error {
	if o.Rootfs != "" {
		return errors.New("make bundle: it needs an image")
	}
	if err := o.validate(); err != nil {
		return err
	}
	img, err := e.image(ctx, PullRequest{Name: o.Image, Policy: o.Pull, Platform: o.Platform, Quiet: o.Quiet})
	if err != nil {
		return err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	if err := e.unpackBundle(ctx, img, rootfs); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	spec, err := e.bundleSpec(ctx, img, rootfs, o)
	if err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	data, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	return state.WriteFile(dir, "config.json", append(data, '\n'), 0o644, false)
}

// unpackBundle applies the image's layers one above the other.
func (e *Engine) unpackBundle(ctx context.Context, img image.Image, rootfs string) error {
	store, err := e.Images()
	if err != nil {
		return err
	}
	root, err := os.Open(rootfs)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, l := range img.Layers {
		r, err := store.OpenLayer(ctx, l)
		if err != nil {
			return err
		}
		err = layer.Apply(ctx, root, io.Reader(r), layer.ApplyOptions{})
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// bundleSpec is the spec of a container of the options over rootfs.
func (e *Engine) bundleSpec(ctx context.Context, img image.Image, rootfs string, o CreateOptions) (*oci.Spec, error) {
	r := &record{Version: recordVersion, ID: newID(), Name: o.Name, Created: time.Now(), Options: o, transient: true}
	r.Options.Env = resolveEnv(o)
	r.dir = e.containerRun(r.ID)
	r.fromImage(img)
	r.Options.Rootfs = rootfs
	if r.Options.Hostname == "" {
		r.Options.Hostname = "hull"
	}
	if err := e.settleUser(ctx, r); err != nil {
		return nil, err
	}
	if _, err := commandLine(r); err != nil {
		return nil, err
	}
	f, err := e.dryFacts(r)
	if err != nil {
		return nil, err
	}
	// Only an image's own layers and what the kernel has: nothing of this
	// engine's directories, and a filter that other runtimes can compile.
	f.RootPath, f.Cgroup, f.Files = "rootfs", "", nil
	if f.Seccomp != nil {
		caps, err := capabilitySet(&r.Options, f.Defaults.Capabilities, nil)
		if err != nil {
			return nil, err
		}
		f.Seccomp = seccomp.Default(caps, runtime.GOARCH)
	}
	spec, err := newSpec(r, f)
	if err != nil {
		return nil, err
	}
	spec.Annotations = bundleAnnotations(img)
	return spec, nil
}

// bundleAnnotations are those that image-spec conversion.md derives from an
// image's config; an image's labels are not among what changes anything here.
func bundleAnnotations(img image.Image) map[string]string {
	a := map[string]string{
		"org.opencontainers.image.os":           img.Config.OS,
		"org.opencontainers.image.architecture": img.Config.Architecture,
	}
	if img.Config.Author != "" {
		a["org.opencontainers.image.author"] = img.Config.Author
	}
	if !img.Created.IsZero() {
		a["org.opencontainers.image.created"] = img.Created.UTC().Format(time.RFC3339Nano)
	}
	if s := img.Config.Config.StopSignal; s != "" {
		a["org.opencontainers.image.stopSignal"] = s
	}
	var ports []string
	for p := range img.Config.Config.ExposedPorts {
		ports = append(ports, p)
	}
	if len(ports) > 0 {
		a["org.opencontainers.image.exposedPorts"] = strings.Join(slices.Sorted(slices.Values(ports)), ",")
	}
	return a
}
