package quadlet

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// containerName is what a container is called: systemd- and the service. The
// service's own line says %N, so that it holds whatever the service is called.
func containerName(u *Unit, service string) string {
	base, instance, template := strings.Cut(service, "@")
	name := ownName(u)
	switch {
	case template && instance == "":
		instance = "%i"
		name = strings.ReplaceAll(name, "%p", base)
	case template:
		name = strings.ReplaceAll(strings.ReplaceAll(name, "%p", base), "%i", instance)
	}
	return strings.ReplaceAll(name, "%N", service)
}

// ownName is a container's name in its own service.
func ownName(u *Unit) string {
	if name := u.last("Container", "ContainerName"); name != "" {
		return name
	}
	if strings.Contains(u.Name, "@") {
		return "systemd-%p_%i"
	}
	return "systemd-%N"
}

func (t *translation) container() error {
	image, rootfs := t.last("Image"), t.last("Rootfs")
	switch {
	case image == "" && rootfs == "":
		return t.missing("Image or Rootfs")
	case image != "" && rootfs != "":
		return t.failed("Container", "Rootfs", errors.New("there is an Image already"))
	}
	oneshot, err := t.mainService()
	if err != nil {
		return err
	}
	name := ownName(t.unit)
	remove := t.hull("rm", "-v", "-f", "-i", name)
	t.exec("ExecStop", remove)
	// ExecStop is left out when the monitor was killed; this is not.
	remove[0] = "-" + remove[0]
	t.exec("ExecStopPost", remove)
	if err := t.reload(name); err != nil {
		return err
	}
	t.out.add("Service", "Delegate", "yes")
	t.cmd = t.hull("run", "--name", name, "--replace", "--rm")
	if !oneshot {
		t.setMain()
	}
	if err := t.apply(); err != nil {
		return err
	}
	t.exec("ExecStart", t.cmd)
	return nil
}

// mainService is what the services of .container and .kube have in common.
func (t *translation) mainService() (oneshot bool, err error) {
	// For auto-update, to know which service a container belongs to.
	t.out.add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n")
	switch mode := t.unit.last("Service", "KillMode"); mode {
	case "": // the monitor is left to see its container's end
		t.out.set("Service", "KillMode", "mixed")
	case "mixed", "control-group":
	default:
		return false, t.failed("Service", "KillMode", errors.New("it is mixed or control-group"))
	}
	t.identify()
	switch v := t.unit.last("Service", "Type"); v {
	case "", "notify":
		return false, nil
	case "oneshot":
		return true, nil
	default:
		return false, t.failed("Service", "Type", errors.New("it is notify or oneshot"))
	}
}

// setMain makes the service one whose process says when it is ready.
func (t *translation) setMain() {
	t.out.set("Service", "Type", "notify")
	t.out.set("Service", "NotifyAccess", "all")
}

// identify names the service in its log lines, which would say hull.
func (t *translation) identify() {
	if t.unit.last("Service", "SyslogIdentifier") == "" {
		t.out.set("Service", "SyslogIdentifier", "%N")
	}
}

func (t *translation) reload(name string) error {
	cmd, signal := t.args("ReloadCmd"), t.last("ReloadSignal")
	switch {
	case len(cmd) > 0 && signal != "":
		return t.failed("Container", "ReloadSignal", errors.New("there is a ReloadCmd already"))
	case len(cmd) > 0:
		t.exec("ExecReload", append(t.hull("exec", name), cmd...))
	case signal != "":
		t.exec("ExecReload", t.hull("kill", "--signal", signal, name))
	}
	return nil
}

func cgroups(t *translation, s step) error {
	if v := t.last(s.key); v != "" {
		t.arg("--cgroups", v)
	} else {
		t.arg("--cgroups=split") // below the service's, which systemd watches
	}
	return nil
}

// entrypoint may be empty: the image's is not used then.
func entrypoint(t *translation, s step) error {
	v := t.last(s.key)
	if v == "" && t.unit.given(t.kind.section, s.key) {
		t.arg(s.flag + "=")
		return nil
	}
	return word(t, s)
}

// notify says who tells systemd that the service is ready.
func notify(t *translation, s step) error {
	if t.out.last("Service", "Type") != "notify" {
		return nil
	}
	mode := "conmon"
	if strings.EqualFold(t.last(s.key), "healthy") {
		mode = "healthy"
	} else if own, err := t.boolean(s.key, false); err != nil {
		return err
	} else if own {
		mode = "container"
	}
	t.arg(s.flag+"="+mode, "-d")
	return nil
}

func security(t *translation, s step) error {
	if v := t.last(s.key); v != "" {
		t.arg("--security-opt", s.flag+v)
	}
	return nil
}

func securitySwitch(t *translation, s step) error {
	v, err := t.boolean(s.key, false)
	if v {
		t.arg("--security-opt", s.flag)
	}
	return err
}

func securityEach(t *translation, s step) error {
	for _, v := range t.args(s.key) {
		t.arg("--security-opt", s.flag+v)
	}
	return nil
}

// devices that begin with a dash are taken when they are there.
func devices(t *translation, s step) error {
	for _, d := range t.words(s.key) {
		if d, ok := strings.CutPrefix(d, "-"); ok {
			path, _, _ := strings.Cut(d, ":")
			if _, err := os.Stat(path); err == nil {
				t.arg(s.flag, d)
			}
			continue
		}
		t.arg(s.flag, d)
	}
	return nil
}

func capabilities(t *translation, s step) error {
	for _, c := range t.words(s.key) {
		t.arg(s.flag, strings.ToLower(c))
	}
	return nil
}

// volatileTmp is an older key; read-only containers have such a /tmp anyway.
func volatileTmp(t *translation, s step) error {
	want, err := t.boolean(s.key, false)
	if err != nil || !want {
		return err
	}
	if readOnly, err := t.boolean("ReadOnly", false); err == nil && !readOnly {
		t.arg("--tmpfs", s.flag)
	}
	return nil
}

func user(t *translation, s step) error {
	u, g := t.last(s.key), t.last("Group")
	switch {
	case u == "" && g != "":
		return t.failed(t.kind.section, "Group", errors.New("it needs a User"))
	case g != "":
		t.arg(s.flag, u+":"+g)
	case u != "":
		t.arg(s.flag, u)
	}
	return nil
}

func autoUpdate(t *translation, s step) error {
	if v := t.last(s.key); v != "" {
		t.arg(s.flag, "io.containers.autoupdate="+v)
	}
	return nil
}

func expose(t *translation, s step) error {
	for _, v := range t.values(s.key) {
		if !portRange(v) && !strings.Contains(v, "%") {
			return t.failed(t.kind.section, s.key, fmt.Errorf("%q is no port", v))
		}
		t.arg(s.flag, v)
	}
	return nil
}

// portRange accepts PORT[-PORT][/PROTOCOL].
func portRange(v string) bool {
	ports, _, _ := strings.Cut(v, "/")
	first, last, more := strings.Cut(ports, "-")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return digits(first) && (!more || digits(last))
}

// mounts are --mount's, whose source may be a unit.
func mounts(t *translation, s step) error {
	for _, m := range t.args(s.key) {
		v, err := t.mount(m)
		if err != nil {
			return t.failed(t.kind.section, s.key, err)
		}
		t.arg(s.flag, v)
	}
	return nil
}

func (t *translation) mount(m string) (string, error) {
	fields, err := csv.NewReader(strings.NewReader(m)).Read()
	if err != nil {
		return "", fmt.Errorf("%q: %w", m, err)
	}
	kind := "volume"
	source := -1
	for i, f := range fields {
		switch key, value, _ := strings.Cut(f, "="); key {
		case "type":
			kind = value
		case "source", "src":
			source = i
		}
	}
	var units []string
	switch kind {
	case "volume":
		units = []string{".volume"}
	case "image":
		units = []string{".image", ".build"}
	case "artifact":
		units = []string{".artifact"}
	case "bind", "glob":
	default:
		return m, nil
	}
	if source < 0 {
		return m, nil
	}
	_, value, ok := strings.Cut(fields[source], "=")
	if !ok || value == "" {
		return "", fmt.Errorf("%q has an empty source", m)
	}
	if value, err = t.source(value, units...); err != nil {
		return "", err
	}
	fields[source] = "source=" + value
	return list1(fields), nil
}

// list1 is a line of comma-separated values.
func list1(fields []string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(fields) // to memory
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// joinPod binds the service to that of the pod.
func joinPod(t *translation, s step) error {
	v := t.last(s.key)
	if v == "" {
		return nil
	}
	if !strings.HasSuffix(v, ".pod") {
		return t.failed(t.kind.section, s.key, errors.New("it names a .pod unit"))
	}
	to, err := t.find(v)
	if err != nil {
		return t.failed(t.kind.section, s.key, err)
	}
	t.arg(s.flag, to.resource)
	t.out.add("Unit", "BindsTo", to.service)
	t.out.add("Unit", "After", to.service)
	start, err := t.boolean("StartWithPod", true)
	if p := t.all[v]; start && p != nil {
		p.wants = append(p.wants, t.self.service)
		slices.Sort(p.wants)
	}
	return err
}

// containerImage may be a unit that pulls or builds it.
func containerImage(t *translation, s step) error {
	v := t.last(s.key)
	if v == "" {
		return nil
	}
	name, err := t.imageOf(v)
	if err != nil {
		return t.failed(t.kind.section, s.key, err)
	}
	if name == v && !qualified(v) {
		t.warnings = append(t.warnings, fmt.Sprintf("%s: the image %s is a short name: which one it is depends on the host", t.unit.at(t.kind.section, s.key), v))
	}
	t.arg(name)
	return nil
}

func (t *translation) imageOf(v string) (string, error) {
	if !strings.HasSuffix(v, ".image") && !strings.HasSuffix(v, ".build") {
		return v, nil
	}
	to, err := t.find(v)
	if err != nil {
		return "", err
	}
	t.require(to.service)
	return to.resource, nil
}

// qualified says whether a name begins with a registry or is an ID.
func qualified(image string) bool {
	if strings.HasPrefix(image, "sha256:") || len(image) == 64 && strings.Trim(image, "0123456789abcdef") == "" || strings.ContainsAny(image, "%$") {
		return true
	}
	first, _, ok := strings.Cut(image, "/")
	return ok && (strings.ContainsAny(first, ".:") || first == "localhost" || first == "hull")
}

// execArgs are the container's own arguments: those of the last line.
func execArgs(t *translation, s step) error {
	all := t.unit.lines(t.kind.section, s.key)
	if len(all) > 0 {
		v := all[len(all)-1].value
		t.quotes(s.key, v)
		t.arg(split(v)...)
	}
	return nil
}
