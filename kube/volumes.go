package kube

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hull/engine"
)

// volume settles what a volume of the pod is; mounts use it by its name.
func (c *podCompiler) volume(v *Volume) error {
	var m engine.Mount
	switch {
	case v.HostPath != nil:
		if err := c.hostPath(v); err != nil {
			return err
		}
		m = engine.Mount{Type: "bind", Source: v.HostPath.Path, Options: []string{"rbind"}}
	case v.EmptyDir != nil && v.EmptyDir.Medium == "Memory":
		m = engine.Mount{Type: "tmpfs"}
		if v.EmptyDir.Size != "" {
			n, err := ParseQuantity(v.EmptyDir.Size)
			if err != nil {
				return err
			}
			m.Options = []string{"size=" + strconv.FormatInt(int64(n), 10)}
		}
	case v.EmptyDir != nil:
		m = engine.Mount{Type: "volume", Source: c.pod.Metadata.Name + "-" + v.Name}
		c.work.Volumes = append(c.work.Volumes, VolumeWork{Options: engine.VolumeCreateOptions{Name: m.Source, Labels: c.volumeLabels(), Ignore: true}})
	case v.Claim != nil:
		m = engine.Mount{Type: "volume", Source: v.Claim.Name}
		if v.Claim.ReadOnly {
			m.Options = []string{"ro"}
		}
		if !slices.ContainsFunc(c.work.Volumes, func(w VolumeWork) bool { return w.Options.Name == m.Source }) {
			c.work.Volumes = append(c.work.Volumes, VolumeWork{Options: engine.VolumeCreateOptions{Name: m.Source, Ignore: true}})
		}
	case v.ConfigMap != nil:
		values, err := c.configMap(v.ConfigMap.Name, v.ConfigMap.Optional)
		if err != nil {
			return err
		}
		return c.fileVolume(v.Name, v.ConfigMap, values)
	case v.Secret != nil:
		values, err := c.secret(firstOf(v.Secret.SecretName, v.Secret.Name), v.Secret.Optional)
		if err != nil {
			return err
		}
		return c.fileVolume(v.Name, v.Secret, values)
	case v.Image != nil:
		m = engine.Mount{Type: "image", Source: v.Image.Reference}
	default:
		return errors.New("it is of a kind that does not exist here: hostPath, emptyDir, persistentVolumeClaim, configMap, secret and image do")
	}
	c.volumes[v.Name] = m
	return nil
}

// PodLabel is on volumes that are a pod's own: they go with it.
const PodLabel = "hull.kube.pod"

func (c *podCompiler) volumeLabels() map[string]string {
	return map[string]string{PodLabel: c.pod.Metadata.Name}
}

// fileVolume is a volume whose files are keys of a ConfigMap or Secret.
func (c *podCompiler) fileVolume(name string, s *FileSource, values map[string][]byte) error {
	if values == nil && s.Optional {
		c.missing[name] = true
		return nil
	}
	mode := 0o644
	if s.Mode != nil {
		mode = *s.Mode
	}
	items := s.Items
	if items == nil {
		for _, key := range sorted(values) {
			items = append(items, KeyPath{Key: key, Path: key})
		}
	}
	w := VolumeWork{Options: engine.VolumeCreateOptions{Name: c.pod.Metadata.Name + "-" + name, Labels: c.volumeLabels(), Ignore: true}, Replace: true}
	for _, item := range items {
		data, ok := values[item.Key]
		switch {
		case !ok && s.Optional:
			continue
		case !ok:
			return fmt.Errorf("it has no key %s", item.Key)
		case !filepath.IsLocal(item.Path):
			return fmt.Errorf("path %q leaves the volume", item.Path)
		}
		f := File{Path: item.Path, Mode: uint32(mode), Data: data}
		if item.Mode != nil {
			f.Mode = uint32(*item.Mode)
		}
		w.Files = append(w.Files, f)
	}
	c.work.Volumes = append(c.work.Volumes, w)
	c.volumes[name] = engine.Mount{Type: "volume", Source: w.Options.Name, Options: []string{"nocopy"}}
	return nil
}

// hostPath checks a path of the host by its type, or notes what is to be made.
func (c *podCompiler) hostPath(v *Volume) error {
	p := v.HostPath.Path
	if !path.IsAbs(p) {
		return fmt.Errorf("hostPath %q is not absolute", p)
	}
	kinds := map[string]func(os.FileMode) bool{
		"Directory": os.FileMode.IsDir, "File": os.FileMode.IsRegular,
		"Socket":      func(m os.FileMode) bool { return m&os.ModeSocket != 0 },
		"CharDevice":  func(m os.FileMode) bool { return m&os.ModeCharDevice != 0 },
		"BlockDevice": func(m os.FileMode) bool { return m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0 },
	}
	switch t := v.HostPath.Type; t {
	case "":
	case "DirectoryOrCreate":
		c.out.Dirs = append(c.out.Dirs, p)
	case "FileOrCreate":
		c.out.Files = append(c.out.Files, p)
	default:
		fits, ok := kinds[t]
		if !ok {
			return fmt.Errorf("hostPath type %q is not known", t)
		}
		st, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("hostPath: %w", err)
		}
		if !fits(st.Mode()) {
			return fmt.Errorf("hostPath %s is no %s", p, t)
		}
	}
	return nil
}

// mounts are a container's volumeMounts. A device of the host becomes one of
// the container.
func (c *podCompiler) mounts(k *Container, o *engine.CreateOptions, env *environment) error {
	for _, vm := range k.Mounts {
		m, ok := c.volumes[vm.Name]
		if !ok {
			if c.missing[vm.Name] {
				continue
			}
			return fmt.Errorf("volumeMount %s: the pod has no volume of that name", vm.Name)
		}
		if vm.SubPathExpr != "" {
			vm.SubPath = env.expand(vm.SubPathExpr)
		}
		m.Destination, m.Options = vm.Path, slices.Clone(m.Options)
		if !path.IsAbs(vm.Path) || strings.Contains(vm.Path, ":") {
			return fmt.Errorf("volumeMount %s: mountPath %q is not an absolute path without colons", vm.Name, vm.Path)
		}
		if vm.ReadOnly {
			m.Options = append(m.Options, "ro")
		}
		switch vm.Propagation {
		case "", "None":
		case "HostToContainer":
			m.Options = append(m.Options, "rslave")
		case "Bidirectional":
			m.Options = append(m.Options, "rshared")
		default:
			return fmt.Errorf("volumeMount %s: mountPropagation %q is not known", vm.Name, vm.Propagation)
		}
		if vm.SubPath != "" {
			if !filepath.IsLocal(vm.SubPath) {
				return fmt.Errorf("volumeMount %s: subPath %q leaves the volume", vm.Name, vm.SubPath)
			}
			if m.Type == "bind" {
				m.Source, m.CreateSource = filepath.Join(m.Source, vm.SubPath), true
			} else {
				m.SubPath = vm.SubPath
			}
		}
		if st, err := os.Stat(m.Source); m.Type == "bind" && err == nil && st.Mode()&os.ModeDevice != 0 {
			o.Devices = append(o.Devices, engine.Device{Host: m.Source, Container: m.Destination, Access: "rwm"})
			continue
		}
		o.Mounts = append(o.Mounts, m)
	}
	return nil
}
