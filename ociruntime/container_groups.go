package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"hull/cgroup"
	"hull/oci"
	"hull/systemd"
	"hull/userns"
)

// limits makes the cgroup.
func (t *creation) limits(ctx context.Context) (err error) {
	l := t.c.Spec.Linux
	if l == nil {
		return nil
	}
	path := l.CgroupsPath
	if t.r.SystemdCgroup {
		if path, err = systemdPath(path, t.c.ID); err != nil {
			return err
		}
	} else if path == "" {
		path = t.c.ID
	}
	var resources oci.LinuxResources
	if l.Resources != nil {
		resources = *l.Resources
	}
	resources.Devices = deviceRules(resources.Devices)
	host, err := cgroup.LookUp()
	if err != nil {
		return err
	}
	if err := t.checkGroup(host, path); err != nil {
		return err
	}
	o := cgroup.Options{Rootless: t.r.Rootless, Warn: t.r.Warn, Hybrid: true}
	if t.r.SystemdCgroup {
		t.group, err = t.unitGroup(ctx, host, path, &resources, o)
	} else {
		t.group, err = host.Create(ctx, path, &resources, o)
	}
	if err != nil {
		return fmt.Errorf("unable to apply cgroup configuration: %w", err)
	}
	t.c.Cgroup, t.c.Unit = t.group.String(), t.group.Unit()
	if l.IntelRdt != nil {
		root, err := rdtRoot()
		if err != nil {
			return err
		}
		t.c.Rdt, err = makeRdt(root, t.c.ID, l.IntelRdt)
		return err
	}
	return nil
}

// checkGroup looks at a group that is there already: processes of others in it would be paused
// and killed with the container's, and in a frozen one the start would wait for ever.
func (t *creation) checkGroup(host *cgroup.Host, path string) error {
	g, err := host.Open(path)
	if err != nil {
		return nil // as it should be
	}
	if frozen, _ := g.Frozen(); frozen {
		return errors.New("container's cgroup unexpectedly frozen")
	}
	if pids, _ := g.Pids(); len(pids) > 0 {
		t.r.warn("container's cgroup is not empty: %d process(es) found", len(pids))
	}
	return nil
}

// systemdPath is the unit of a container whose configuration names path: the
// slice of the user or of the system where it names none.
func systemdPath(path, id string) (string, error) {
	slice := "system.slice"
	if userns.Rootless() {
		slice = "user.slice"
	}
	if path == "" {
		return cgroup.UnitPath(slice, "hull", id), nil
	}
	if _, _, ok := cgroup.SplitUnit(path); !ok {
		return "", fmt.Errorf("%w, got %q instead", cgroup.ErrUnitPath, path)
	}
	if strings.HasPrefix(path, ":") {
		path = slice + path
	}
	return path, nil
}

// unitOptions are what the configuration says of its unit besides limits.
func (t *creation) unitOptions(o *cgroup.Options) (err error) {
	o.Description = "container " + t.c.ID
	o.Properties, err = annotatedProperties(t.c.Spec.Annotations)
	return err
}

// propertyAnnotation begins the annotations that are properties of the unit:
// their values are variants in GLib's text form.
const propertyAnnotation = "org.systemd.property."

func annotatedProperties(annotations map[string]string) ([]systemd.Property, error) {
	var out []systemd.Property
	for _, k := range slices.Sorted(maps.Keys(annotations)) {
		name, ok := strings.CutPrefix(k, propertyAnnotation)
		if !ok {
			continue
		}
		v, err := parseVariant(annotations[k])
		if err == nil && (len(name) < 3 || strings.ContainsFunc(name, func(r rune) bool { return r > 'z' || r < 'A' || r > 'Z' && r < 'a' })) {
			err = errors.New("not a property's name")
		}
		if err == nil {
			name, v, err = seconds(name, v)
		}
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", k, err)
		}
		out = append(out, systemd.Property{Name: name, Value: v})
	}
	return out, nil
}

// seconds turns what files call NameSec= into what the bus calls NameUSec.
func seconds(name string, v any) (string, any, error) {
	stem, ok := strings.CutSuffix(name, "Sec")
	if !ok || strings.HasSuffix(stem, "U") {
		return name, v, nil
	}
	switch n := v.(type) {
	case uint64:
		v = n * 1000000
	case uint32:
		v = uint64(n) * 1000000
	case int32:
		v = uint64(max(n, 0)) * 1000000
	default:
		return "", nil, errors.New("want a number of seconds")
	}
	return stem + "USec", v, nil
}

// parseVariant reads 'text', true, 5, uint32 5, uint64 5 and ['a', 'b'].
func parseVariant(s string) (any, error) {
	s = strings.TrimSpace(s)
	if s == "true" || s == "false" {
		return s == "true", nil
	}
	if list, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(list, "]") {
		out := []string{}
		for part := range strings.SplitSeq(strings.TrimSuffix(list, "]"), ",") {
			text, ok := quoted(strings.TrimSpace(part))
			if !ok {
				return nil, fmt.Errorf("value %q is not a list of texts", s)
			}
			out = append(out, text)
		}
		return out, nil
	}
	if text, ok := quoted(s); ok {
		return text, nil
	}
	kind, number, ok := strings.Cut(s, " ")
	if !ok {
		kind, number = "int32", s
	}
	switch kind {
	case "uint64":
		if n, err := strconv.ParseUint(number, 0, 64); err == nil {
			return n, nil
		}
	case "uint32":
		if n, err := strconv.ParseUint(number, 0, 32); err == nil {
			return uint32(n), nil
		}
	case "int32":
		if n, err := strconv.ParseInt(number, 0, 32); err == nil {
			return int32(n), nil
		}
	}
	return nil, fmt.Errorf("value %q is not a variant's text", s)
}

func quoted(s string) (string, bool) {
	if len(s) < 2 || s[0] != '\'' && s[0] != '"' || s[len(s)-1] != s[0] {
		return "", false
	}
	return s[1 : len(s)-1], true
}

// reachUnits moves the runtime to where it may enter groups of its user's
// manager, if it is not there.
func reachUnits(ctx context.Context, host *cgroup.Host, what string) error {
	if host.Mine() {
		return nil
	}
	return host.EnterScope(ctx, fmt.Sprintf("hull-%s-%d.scope", what, os.Getpid()))
}

// unitGroup makes the group by systemd.
func (t *creation) unitGroup(ctx context.Context, host *cgroup.Host, path string, res *oci.LinuxResources, o cgroup.Options) (*cgroup.Group, error) {
	if err := t.unitOptions(&o); err != nil {
		return nil, err
	}
	if err := reachUnits(ctx, host, "runtime"); err != nil {
		return nil, err
	}
	return host.Create(ctx, path, res, o)
}
