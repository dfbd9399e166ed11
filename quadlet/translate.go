package quadlet

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Options say for whom units are translated.
type Options struct {
	Program string // hull's path
	User    bool   // units of a user's service manager
}

// Service is what became of a unit.
type Service struct {
	*Unit
	Source   *Unit
	Warnings []string
}

// target is a unit as others refer to it.
type target struct {
	unit     *Unit
	service  string // with .service
	resource string // container, volume, image …; "" when it has no name of its own
	wants    []string
}

// set is the units that know of each other.
type set struct {
	Options
	kinds map[string]*kind
	all   map[string]*target // by the file's name
}

// translation is one unit on its way.
type translation struct {
	*set
	self     *target
	unit     *Unit
	kind     *kind
	out      *Unit
	cmd      []string
	context  string // of a build
	warnings []string
}

// Translate makes services of units, in their order. Errors are of single
// units; the others are translated.
func Translate(units []*Unit, o Options) ([]Service, error) {
	s := &set{Options: o, kinds: kinds(), all: map[string]*target{}}
	var errs []error
	for _, u := range units {
		k := s.kinds[filepath.Ext(u.Name)]
		if k == nil {
			errs = append(errs, fmt.Errorf("translate %s: %q is no kind of unit", u.Path, filepath.Ext(u.Name)))
			continue
		}
		if strings.ContainsFunc(u.Path, unicode.IsControl) || !utf8.ValidString(u.Path) || !validName(u.Name) {
			errs = append(errs, fmt.Errorf("translate %q: systemd takes no such name", u.Path))
			continue
		}
		service := serviceName(u, k)
		s.all[u.Name] = &target{unit: u, service: service + ".service", resource: k.resource(u, service)}
	}
	done := map[string]Service{}
	// Pods come last: their containers say first that they belong to them.
	for _, pods := range []bool{false, true} {
		for _, u := range units {
			if s.all[u.Name] == nil || s.all[u.Name].unit != u || (filepath.Ext(u.Name) == ".pod") != pods {
				continue
			}
			if sv, err := s.translate(u); err != nil {
				errs = append(errs, err)
			} else {
				done[u.Name] = sv
			}
		}
	}
	var services []Service
	for _, u := range units {
		if sv, ok := done[u.Name]; ok && sv.Source == u {
			services = append(services, sv)
		}
	}
	return services, errors.Join(errs...)
}

func (s *set) translate(u *Unit) (Service, error) {
	k := s.kinds[filepath.Ext(u.Name)]
	t := &translation{set: s, self: s.all[u.Name], unit: u, kind: k, out: u.clone()}
	t.out.Name, t.out.Path = t.self.service, ""
	if err := t.check(); err != nil {
		return Service{}, err
	}
	if err := t.prepare(); err != nil {
		return Service{}, err
	}
	if err := k.build(t); err != nil {
		return Service{}, err
	}
	return Service{Unit: t.out, Source: u, Warnings: t.warnings}, nil
}

// check refuses keys that the unit's own sections do not have.
func (t *translation) check() error {
	var errs []error
	for _, s := range []struct {
		name string
		keys []step
	}{{t.kind.section, t.kind.steps}, {"Quadlet", []step{{key: "DefaultDependencies"}}}} {
		own := t.unit.find(s.name)
		if own == nil {
			continue
		}
		for _, l := range own.lines {
			if l.key == "" || slices.ContainsFunc(s.keys, func(x step) bool { return x.key == l.key }) {
				continue
			}
			errs = append(errs, fmt.Errorf("translate %s:%d: unsupported key %s in [%s]%s", l.file, l.number, l.key, s.name, near(l.key, s.keys)))
		}
	}
	if !validName(t.self.service) {
		errs = append(errs, t.failed(t.kind.section, "ServiceName", errors.New("systemd takes no such name")))
	}
	for _, other := range t.all {
		if other != t.self && other.service == t.self.service && other.unit.Name < t.unit.Name {
			errs = append(errs, fmt.Errorf("translate %s: %s makes the service %s already", t.unit.Path, other.unit.Path, t.self.service))
		}
	}
	return errors.Join(errs...)
}

// near proposes the key that was perhaps meant: one that differs in case, or
// by a letter too few or too many or another.
func near(key string, keys []step) string {
	for _, s := range keys {
		if strings.EqualFold(s.key, key) || oneOff(s.key, key) || oneOff(key, s.key) {
			return " (did you mean " + s.key + "?)"
		}
	}
	return ""
}

// oneOff says whether a becomes b when a letter is taken out or exchanged.
func oneOff(a, b string) bool {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return i < len(a) && (a[i+1:] == b[i:] || i < len(b) && a[i+1:] == b[i+1:])
}

// prepare is what all services have.
func (t *translation) prepare() error {
	if err := t.translateDependencies(); err != nil {
		return err
	}
	wait, err := t.unit.boolean("Quadlet", "DefaultDependencies", true)
	if err != nil {
		return t.failed("Quadlet", "DefaultDependencies", err)
	}
	if wait {
		// A user's manager does not see targets of the system's.
		online := "network-online.target"
		if t.User {
			online = "podman-user-wait-network-online.service"
		}
		t.out.prepend("Unit", "After", online)
		t.out.prepend("Unit", "Wants", online)
	}
	if t.unit.Path != "" {
		t.out.add("Unit", "SourcePath", strings.ReplaceAll(t.unit.Path, "%", "%%"))
	}
	t.out.add("Unit", "RequiresMountsFor", "%t/hull")
	t.out.rename(t.kind.section, "X-"+t.kind.section)
	t.out.rename("Quadlet", "X-Quadlet")
	return nil
}

// translateDependencies puts services in the place of units that [Unit] names.
func (t *translation) translateDependencies() error {
	for _, key := range []string{
		"After", "Before", "BindsTo", "Conflicts", "OnFailure", "OnSuccess", "PartOf", "PropagatesReloadTo", "PropagatesStopTo",
		"ReloadPropagatedFrom", "Requires", "Requisite", "StopPropagatedFrom", "Upholds", "Wants",
	} {
		s := t.out.find("Unit")
		if s == nil {
			return nil
		}
		for i, l := range s.lines {
			if l.key != key {
				continue
			}
			words := splitKeeping(l.value)
			for j, w := range words {
				if t.kinds[filepath.Ext(w)] == nil {
					continue
				}
				to, err := t.find(w)
				if err != nil {
					return fmt.Errorf("translate %s:%d: %s=%s: %w", l.file, l.number, key, l.value, err)
				}
				words[j] = to.service
				s.lines[i].value = join(words)
			}
		}
	}
	return nil
}

// find looks a unit up by its file's name. An instance (a@1.volume) is one of
// its template (a@.volume) when it has no file of its own.
func (s *set) find(name string) (target, error) {
	if to := s.all[name]; to != nil {
		return *to, nil
	}
	if base, instance, ok := strings.Cut(strings.TrimSuffix(name, filepath.Ext(name)), "@"); ok && instance != "" {
		if to := s.all[base+"@"+filepath.Ext(name)]; to != nil {
			return target{
				unit:     to.unit,
				service:  strings.Replace(to.service, "@.", "@"+instance+".", 1),
				resource: strings.ReplaceAll(to.resource, "%i", instance),
			}, nil
		}
	}
	return target{}, fmt.Errorf("there is no unit %s", name)
}

// serviceName is the service's name without .service.
func serviceName(u *Unit, k *kind) string {
	if name := u.last(k.section, "ServiceName"); name != "" {
		return name
	}
	base, instance, template := strings.Cut(strings.TrimSuffix(u.Name, k.ext), "@")
	if template {
		return base + k.suffix + "@" + instance
	}
	return base + k.suffix
}

// validName says whether systemd takes a unit's name.
func validName(name string) bool {
	const more = `:-_.\@`
	for _, r := range name {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune(more, r) {
			return false
		}
	}
	return len(name) < 256 && !strings.HasPrefix(name, "@")
}

// named is the name of a resource that the key says, else systemd- and the
// unit's.
func named(section, key string) func(*Unit, string) string {
	return func(u *Unit, _ string) string {
		if name := u.last(section, key); name != "" {
			return name
		}
		base, instance, template := strings.Cut(strings.TrimSuffix(u.Name, filepath.Ext(u.Name)), "@")
		switch {
		case !template:
			return "systemd-" + base
		case instance == "":
			instance = "%i"
		}
		return "systemd-" + base + "_" + instance
	}
}

// require makes the service need another.
func (t *translation) require(service string) {
	for _, key := range []string{"Requires", "After"} {
		if !slices.Contains(t.out.values("Unit", key), service) {
			t.out.add("Unit", key, service)
		}
	}
}

// failed names the place where a key was given.
func (t *translation) failed(section, key string, err error) error {
	return fmt.Errorf("translate %s: %s=%s: %w", t.unit.at(section, key), key, t.unit.last(section, key), err)
}

// missing is the error of a unit that lacks a key.
func (t *translation) missing(keys string) error {
	return fmt.Errorf("translate %s: [%s] lacks %s", t.unit.Path, t.kind.section, keys)
}

// The values of the unit's own section.
func (t *translation) last(key string) string     { return t.unit.last(t.kind.section, key) }
func (t *translation) values(key string) []string { return t.unit.values(t.kind.section, key) }
func (t *translation) words(key string) []string  { return t.unit.words(t.kind.section, key) }
func (t *translation) boolean(key string, def bool) (bool, error) {
	v, err := t.unit.boolean(t.kind.section, key, def)
	if err != nil {
		err = t.failed(t.kind.section, key, err)
	}
	return v, err
}

// args are a key's values cut as command lines.
func (t *translation) args(key string) []string {
	var all []string
	for _, l := range t.unit.lines(t.kind.section, key) {
		t.quotes(key, l.value)
		all = append(all, split(l.value)...)
	}
	return all
}

// quotes warns of a quote that is not closed.
func (t *translation) quotes(key, v string) {
	if !balanced(v) {
		t.warnings = append(t.warnings, fmt.Sprintf("%s: %s: a quote is not closed", t.unit.at(t.kind.section, key), key))
	}
}

// hull begins a command line.
func (t *translation) hull(words ...string) []string {
	cmd := []string{t.Program}
	for _, m := range t.values("ContainersConfModule") {
		cmd = append(cmd, "--module="+m)
	}
	return slices.Concat(cmd, t.args("GlobalArgs"), words)
}

func (t *translation) arg(words ...string) { t.cmd = append(t.cmd, words...) }

// apply goes through the unit's keys.
func (t *translation) apply() error {
	var errs []error
	for _, s := range t.kind.steps {
		if s.do == nil {
			continue
		}
		if err := s.do(t, s); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// exec adds a line of the service that runs a command.
func (t *translation) exec(key string, cmd []string) { t.out.add("Service", key, join(cmd)) }
