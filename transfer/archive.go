package transfer

import (
	"context"
	"fmt"
	"os"
	"strings"

	"hull/image"
	"hull/oci"
)

// transports are the kinds of places and how package image calls their format.
var transports = map[string]string{
	"docker":         "",
	"dir":            image.DockerDir,
	"oci":            image.OCIDir,
	"oci-archive":    image.OCIArchive,
	"docker-archive": image.DockerArchive,
	"docker-daemon":  "", // no file
}

// splitTransport cuts the transport off a name; one without is docker's. A host
// may be called "dir" with a port: what follows the colon then is a number.
func splitTransport(name string) (transport, rest string) {
	if r, ok := strings.CutPrefix(name, "docker://"); ok {
		return "docker", r
	}
	if i := strings.IndexByte(name, ':'); i > 0 {
		if _, ok := transports[name[:i]]; ok && name[:i] != "docker" {
			return name[:i], name[i+1:]
		}
	}
	return "docker", name
}

// splitPath cuts PATH[:REFERENCE]; the path of dir: has no reference.
func splitPath(transport, s string) (path, ref string) {
	if transport == "dir" {
		return s, ""
	}
	path, ref, _ = strings.Cut(s, ":")
	return path, ref
}

// pullArchive loads what a file or directory holds.
func (t *Transfer) pullArchive(ctx context.Context, transport, rest string, o PullOptions) ([]Pulled, error) {
	if transport == daemonTransport {
		return t.pullDaemon(ctx, rest)
	}
	path, only := splitPath(transport, rest)
	if path == "" {
		return nil, fmt.Errorf("pull %s:%s: no path", transport, rest)
	}
	if err := t.admitPath(transport, path); err != nil {
		return nil, fmt.Errorf("pull %s:%s: %w", transport, rest, err)
	}
	t.notify(Event{Kind: Signatures})
	loaded, err := t.Images.Load(ctx, image.Source{Path: path}, image.LoadOptions{
		Format: transports[transport], Only: only, Platform: complete(o.Platform),
	})
	if err != nil {
		return nil, fmt.Errorf("pull %s:%s: %w", transport, rest, err)
	}
	t.notify(Event{Kind: Manifest})
	t.notify(Event{Kind: Storing})
	var all []Pulled
	for _, l := range loaded {
		p := Pulled{Image: l.Image, Digest: l.Image.Manifest}
		if len(l.Names) > 0 {
			p.Ref = l.Names[0]
		}
		all = append(all, p)
	}
	return all, nil
}

// pushArchive writes an image to a file or directory.
func (t *Transfer) pushArchive(ctx context.Context, transport, rest string, img image.Image, o PushOptions) (oci.Digest, error) {
	if transport == daemonTransport {
		return t.pushDaemon(ctx, rest, img)
	}
	path, ref := splitPath(transport, rest)
	if path == "" {
		return "", fmt.Errorf("push to %s:%s: no path", transport, rest)
	}
	item := image.SaveItem{Image: img}
	if ref != "" {
		r, err := oci.ParseReference(ref)
		if err != nil {
			return "", err
		}
		item.Names = []oci.Reference{r.Normalized().Tagged()}
	}
	so := image.SaveOptions{Format: transports[transport], Compress: o.Compress}
	t.notify(Event{Kind: Signatures})
	if transport == "dir" || transport == "oci" {
		if err := t.Images.SaveDir(ctx, path, item, so); err != nil {
			return "", fmt.Errorf("push to %s:%s: %w", transport, rest, err)
		}
		t.notify(Event{Kind: Manifest})
		return img.Manifest, nil
	}
	// A file that is there already stays when writing fails.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", fmt.Errorf("push to %s:%s: %w", transport, rest, err)
	}
	err = t.Images.Save(ctx, f, []image.SaveItem{item}, so)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(path)
		return "", fmt.Errorf("push to %s:%s: %w", transport, rest, err)
	}
	t.notify(Event{Kind: Manifest})
	return img.Manifest, nil
}
