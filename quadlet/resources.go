package quadlet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"hull/passwd"
)

// oneshot is a service that makes something and is done.
func (t *translation) oneshot(remain bool) {
	t.identify()
	if t.unit.last("Service", "Type") == "" {
		t.out.set("Service", "Type", "oneshot")
	}
	if remain && t.unit.last("Service", "RemainAfterExit") == "" {
		t.out.set("Service", "RemainAfterExit", "yes")
	}
}

// Networks.

func (t *translation) network() error {
	remove, err := t.boolean("NetworkDeleteOnStop", false)
	if err != nil {
		return err
	}
	name := t.self.resource
	if remove {
		t.exec("ExecStopPost", t.hull("network", "rm", name))
	}
	return t.create(name, "network", "create", "--ignore")
}

// create is the service of a command that ends in the name of what it makes.
func (t *translation) create(name string, words ...string) error {
	t.cmd = t.hull(words...)
	if err := t.apply(); err != nil {
		return err
	}
	t.arg(name)
	t.exec("ExecStart", t.cmd)
	t.oneshot(true)
	return nil
}

// subnets go with the gateway and the range of the same place.
func subnets(t *translation, s step) error {
	nets, gateways, ranges := t.values(s.key), t.values("Gateway"), t.values("IPRange")
	if len(gateways) > len(nets) {
		return t.failed("Network", "Gateway", errors.New("there are more gateways than subnets"))
	}
	if len(ranges) > len(nets) {
		return t.failed("Network", "IPRange", errors.New("there are more ranges than subnets"))
	}
	for i, n := range nets {
		t.arg(s.flag, n)
		if i < len(gateways) {
			t.arg("--gateway", gateways[i])
		}
		if i < len(ranges) {
			t.arg("--ip-range", ranges[i])
		}
	}
	return nil
}

// Volumes.

func (t *translation) volume() error {
	return t.create(t.self.resource, "volume", "create", "--ignore")
}

func volumeImage(t *translation, s step) error {
	v := t.last(s.key)
	switch {
	case t.last("Driver") != "image":
		return nil
	case v == "":
		return t.missing("Image, which Driver=image needs")
	}
	name, err := t.imageOf(v)
	if err != nil {
		return t.failed("Volume", s.key, err)
	}
	t.arg(s.flag, "image="+name)
	return nil
}

func volumeCopy(t *translation, s step) error {
	if t.last(s.key) == "" {
		return nil
	}
	v, err := t.boolean(s.key, true)
	switch {
	case err != nil:
		return err
	case v:
		t.arg(s.flag, "copy")
	default:
		t.arg(s.flag, "nocopy")
	}
	return nil
}

func volumeDevice(t *translation, s step) error {
	if v := t.last(s.key); v != "" {
		t.arg(s.flag, "device="+v)
	}
	return nil
}

func volumeType(t *translation, s step) error {
	v, device := t.last(s.key), t.last("Device")
	switch {
	case v == "":
		return nil
	case device == "":
		return t.failed("Volume", s.key, errors.New("it needs a Device"))
	case v == "bind":
		t.out.add("Unit", "RequiresMountsFor", quoted(device))
	}
	t.arg(s.flag, "type="+v)
	return nil
}

// volumeOptions are mount options: the owner's, and those of Options.
func volumeOptions(t *translation, s step) error {
	var o []string
	for _, id := range []struct{ key, option string }{{"User", "uid"}, {"Group", "gid"}} {
		v := t.last(id.key)
		if v == "" {
			continue
		}
		n, err := ownerID(v, id.option == "gid")
		if err != nil {
			return t.failed("Volume", id.key, err)
		}
		o = append(o, id.option+"="+n)
	}
	if v := t.last("Options"); v != "" {
		if t.last("Device") == "" {
			return t.failed("Volume", "Options", errors.New("they need a Device"))
		}
		o = append(o, v)
	}
	if len(o) > 0 {
		t.arg(s.flag, "o="+strings.Join(o, ","))
	}
	return nil
}

// ownerID is the number of a user or group of the host.
func ownerID(name string, group bool) (string, error) {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil || strings.Contains(name, "%") {
		return name, nil
	}
	var files passwd.Files
	files.Passwd, _ = os.ReadFile("/etc/passwd") // without, nobody is found
	files.Group, _ = os.ReadFile("/etc/group")
	if group {
		u, err := passwd.Lookup("0:"+name, nil, files)
		if err != nil {
			return "", fmt.Errorf("the host has no group %s", name)
		}
		return strconv.FormatUint(uint64(u.GID), 10), nil
	}
	u, err := passwd.Lookup(name, nil, files)
	if err != nil {
		return "", fmt.Errorf("the host has no user %s", name)
	}
	return strconv.FormatUint(uint64(u.UID), 10), nil
}

// Images, builds and artifacts.

func (t *translation) image() error {
	switch t.kind.ext {
	case ".image":
		t.cmd = t.hull("image", "pull")
	case ".artifact":
		t.cmd = t.hull("artifact", "pull")
	default:
		t.cmd = t.hull("build")
	}
	if err := t.apply(); err != nil {
		return err
	}
	t.exec("ExecStart", t.cmd)
	t.oneshot(t.kind.ext != ".build")
	return nil
}

func imageName(u *Unit, _ string) string {
	if tag := u.last("Image", "ImageTag"); tag != "" {
		return tag
	}
	return u.last("Image", "Image")
}

func artifactName(u *Unit, _ string) string { return u.last("Artifact", "Artifact") }

func buildName(u *Unit, _ string) string {
	if tags := u.values("Build", "ImageTag"); len(tags) > 0 {
		return tags[0]
	}
	return ""
}

func imageTags(t *translation, s step) error {
	if t.self.resource == "" {
		return t.missing("ImageTag")
	}
	return each(t, s)
}

// buildFile is relative to the unit, unless the service's directory was chosen.
func buildFile(t *translation, s step) error {
	v := t.last(s.key)
	if v != "" && !isURL(v) && t.unit.last("Service", "WorkingDirectory") == "" {
		v = t.path(v)
	}
	if v != "" {
		t.arg(s.flag, v)
	}
	return nil
}

// buildContext are the arguments and what is built: a directory or a URL.
func buildContext(t *translation, s step) error {
	if err := bare(t, s); err != nil {
		return err
	}
	file, dir := t.last("File"), t.out.last("Service", "WorkingDirectory")
	switch {
	case t.context != "":
		t.arg(t.context)
	case file == "" && dir == "":
		return t.missing("File or SetWorkingDirectory")
	case filepath.IsAbs(file) || isURL(file):
	case dir == "":
		return t.failed("Build", "File", errors.New("a relative path needs SetWorkingDirectory"))
	default:
		t.arg(dir)
	}
	return nil
}

func isURL(s string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "github.com/"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// workingDirectory is the service's, after a file that the unit names; a
// build's may also be any directory or URL.
func workingDirectory(t *translation, s step) error {
	v := t.last(s.key)
	file := ""
	switch word := strings.ToLower(v); {
	case v == "":
		return nil
	case word == "unit":
		file = t.unit.Path
	case word == "yaml" && t.kind.ext == ".kube":
		file = t.last("Yaml")
	case word == "file" && t.kind.ext == ".build":
		if file = t.last("File"); file == "" {
			return t.missing("File, which SetWorkingDirectory=file needs")
		}
	case t.kind.ext == ".build":
		if t.context = v; !filepath.IsAbs(v) && !isURL(v) {
			file = t.unit.Path
		}
	default:
		return t.failed(t.kind.section, s.key, fmt.Errorf("%q is neither yaml nor unit", v))
	}
	if file == "" || t.unit.last("Service", "WorkingDirectory") != "" {
		return nil
	}
	t.out.add("Service", "WorkingDirectory", filepath.Dir(t.path(file)))
	return nil
}

// Kubernetes' files.

func (t *translation) kube() error {
	if t.last("Yaml") == "" {
		return t.missing("Yaml")
	}
	oneshot, err := t.mainService()
	if err != nil {
		return err
	}
	if !oneshot {
		t.setMain()
	}
	t.cmd = t.hull("kube", "play", "--replace", "--service-container=true")
	if err := t.apply(); err != nil {
		return err
	}
	t.exec("ExecStart", t.cmd)
	// After errors too, or what was made already would be left.
	t.cmd = t.hull("kube", "down")
	if err := toggle(t, step{key: "KubeDownForce", flag: "--force"}); err != nil {
		return err
	}
	if err := yaml(t, step{key: "Yaml"}); err != nil {
		return err
	}
	t.exec("ExecStopPost", t.cmd)
	return nil
}

// yaml are the paths of the files.
func yaml(t *translation, s step) error {
	for _, v := range t.values(s.key) {
		t.arg(t.path(v))
	}
	return nil
}

// kubeAutoUpdate is registry or local, for one container with NAME/ before it.
func kubeAutoUpdate(t *translation, s step) error {
	for _, v := range t.words(s.key) {
		annotation := s.flag
		if name, how, ok := strings.Cut(v, "/"); ok {
			annotation, v = annotation+"/"+name, how
		}
		t.arg(annotation + "=" + v)
	}
	return nil
}
