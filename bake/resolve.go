package bake

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// A Target is how one image is built, as the flags of build say it.
type Target struct {
	Name             string            `json:"-"`
	Linked           bool              `json:"-"` // only another target needs it
	Description      string            `json:"description,omitempty"`
	Annotations      []string          `json:"annotations,omitempty"`
	Attest           []string          `json:"attest,omitempty"`
	Context          string            `json:"context,omitempty"`
	Contexts         map[string]string `json:"contexts,omitempty"` // target:NAME is another target's image
	Dockerfile       string            `json:"dockerfile,omitempty"`
	DockerfileInline string            `json:"dockerfile-inline,omitempty"`
	Args             map[string]string `json:"args,omitempty"`
	Labels           map[string]string `json:"labels,omitempty"`
	Tags             []string          `json:"tags,omitempty"`
	CacheFrom        []string          `json:"cache-from,omitempty"`
	CacheTo          []string          `json:"cache-to,omitempty"`
	Stage            string            `json:"target,omitempty"`
	Secret           []string          `json:"secret,omitempty"`
	SSH              []string          `json:"ssh,omitempty"`
	Platforms        []string          `json:"platforms,omitempty"`
	Output           []string          `json:"output,omitempty"`
	Pull             bool              `json:"pull,omitempty"`
	NoCache          bool              `json:"no-cache,omitempty"`
	NoCacheFilter    []string          `json:"no-cache-filter,omitempty"`
	Network          string            `json:"network,omitempty"`
	ShmSize          string            `json:"shm-size,omitempty"`
	Ulimits          []string          `json:"ulimits,omitempty"`
	Call             string            `json:"call,omitempty"`
	Entitlements     []string          `json:"entitlements,omitempty"`
	ExtraHosts       map[string]string `json:"extra-hosts,omitempty"`

	replaced []string // lists that --set has replaced
}

// fields are where the attributes go.
func (t *Target) fields() map[string]any {
	return map[string]any{
		"annotations": &t.Annotations, "args": &t.Args, "attest": &t.Attest, "cache-from": &t.CacheFrom, "cache-to": &t.CacheTo, "call": &t.Call, "context": &t.Context,
		"contexts": &t.Contexts, "description": &t.Description, "dockerfile": &t.Dockerfile, "dockerfile-inline": &t.DockerfileInline, "entitlements": &t.Entitlements,
		"extra-hosts": &t.ExtraHosts, "labels": &t.Labels, "network": &t.Network, "no-cache": &t.NoCache, "no-cache-filter": &t.NoCacheFilter, "output": &t.Output,
		"platforms": &t.Platforms, "pull": &t.Pull, "secret": &t.Secret, "shm-size": &t.ShmSize, "ssh": &t.SSH, "tags": &t.Tags, "target": &t.Stage, "ulimits": &t.Ulimits,
	}
}

// aliases are other names of attributes in --set.
var aliases = map[string]string{"platform": "platforms", "secrets": "secret", "tag": "tags", "ulimit": "ulimits", "annotation": "annotations", "label": "labels", "file": "dockerfile"}

// Groups are the groups by their names, a matrix' targets among them.
func (f *File) Groups() (map[string][]string, error) {
	all := map[string][]string{}
	for _, g := range f.groups {
		names := []string{}
		if e := g.attrs["targets"]; e != nil {
			v, err := f.eval(e, nil)
			if err == nil {
				names, err = list(v)
			}
			if err != nil {
				return nil, fmt.Errorf("group %s: %w", g.name, err)
			}
		}
		all[g.name] = names
	}
	return all, nil
}

// Targets are the names of all targets.
func (f *File) Targets() []string { return slices.Clone(f.order) }

// Variables are the names of the variables that can be set, with their values.
func (f *File) Variables() (map[string]string, error) {
	all := map[string]string{}
	for n, v := range f.variables {
		if v.fixed {
			continue
		}
		x, err := f.lookup(n)
		if err != nil {
			return nil, err
		}
		all[n], _ = text(x) // a list has no text
	}
	return all, nil
}

// Resolve returns the targets that names, of targets and groups, stand for, and
// those that they need, each after those that it needs. No name is "default".
func (f *File) Resolve(names ...string) ([]*Target, error) {
	if len(names) == 0 {
		names = []string{"default"}
	}
	groups, err := f.Groups()
	if err != nil {
		return nil, err
	}
	var wanted []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		members, group := groups[name]
		switch {
		case seen[name]:
			return nil
		case group:
			seen[name] = true
			for _, m := range members {
				if err := add(m); err != nil {
					return err
				}
			}
			return nil
		case f.expanded[name] == nil:
			return fmt.Errorf("there is no target or group %s; there are %s", name, strings.Join(append(f.Targets(), slices.Sorted(maps.Keys(groups))...), ", "))
		}
		seen[name] = true
		wanted = append(wanted, name)
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	return f.inOrder(wanted)
}

// inOrder puts targets after those that they need.
func (f *File) inOrder(wanted []string) ([]*Target, error) {
	var out []*Target
	done, busy := map[string]bool{}, map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		if done[name] {
			return nil
		}
		if busy[name] {
			return fmt.Errorf("target %s needs itself", name)
		}
		if f.expanded[name] == nil {
			return fmt.Errorf("there is no target %s", name)
		}
		busy[name] = true
		t, err := f.decode(name)
		if err != nil {
			return err
		}
		for _, n := range t.Needs() {
			if err := visit(n); err != nil {
				return err
			}
		}
		t.Linked = !slices.Contains(wanted, name)
		done[name], out = true, append(out, t)
		return nil
	}
	for _, n := range wanted {
		if err := visit(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Needs are the targets whose images are contexts of this one.
func (t *Target) Needs() []string {
	var all []string
	for _, n := range slices.Sorted(maps.Keys(t.Contexts)) {
		if name, ok := strings.CutPrefix(t.Contexts[n], "target:"); ok {
			all = append(all, name)
		}
	}
	return all
}

// decode evaluates a target, and applies --set.
func (f *File) decode(name string) (*Target, error) {
	t := &Target{Name: name, Context: "."}
	for key, to := range t.fields() {
		v, err := f.attr(f.expanded[name], key)
		if err == nil && v != cty.NilVal && !v.IsNull() {
			err = fill(to, v)
		}
		if err != nil {
			return nil, fmt.Errorf("target %s: %s: %w", name, key, err)
		}
	}
	for _, s := range f.o.Set {
		if err := t.set(s); err != nil {
			return nil, fmt.Errorf("--set %s: %w", s, err)
		}
	}
	return t, nil
}

// fill converts a value to what a field is.
func fill(to any, v cty.Value) (err error) {
	switch to := to.(type) {
	case *string:
		*to, err = text(v)
	case *[]string:
		*to, err = list(v)
	case *bool:
		var b cty.Value
		if b, err = convert.Convert(v, cty.Bool); err == nil {
			*to = b.True()
		}
	case *map[string]string:
		if !v.Type().IsObjectType() && !v.Type().IsMapType() {
			return errors.New("it is no map")
		}
		*to = map[string]string{}
		for k, x := range v.AsValueMap() {
			if x.IsNull() {
				continue // as if it was not said
			}
			if (*to)[k], err = text(x); err != nil {
				return err
			}
		}
	}
	return err
}

// text is a value as a string.
func text(v cty.Value) (string, error) {
	s, err := convert.Convert(v, cty.String)
	if err != nil || s.IsNull() || !s.IsKnown() {
		return "", errors.New("it is no text")
	}
	return s.AsString(), nil
}

// list is a list of texts. An object is one of KEY=VALUE,…, its type first.
func list(v cty.Value) ([]string, error) {
	if v.IsNull() || !v.CanIterateElements() || v.Type().IsObjectType() || v.Type().IsMapType() {
		return nil, errors.New("it is no list")
	}
	var all []string
	for _, x := range v.AsValueSlice() {
		if x.IsNull() {
			continue
		}
		if !x.Type().IsObjectType() && !x.Type().IsMapType() {
			s, err := text(x)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
			continue
		}
		m := x.AsValueMap()
		keys := slices.Sorted(maps.Keys(m))
		if i := slices.Index(keys, "type"); i > 0 {
			keys = slices.Insert(slices.Delete(keys, i, i+1), 0, "type")
		}
		var words []string
		for _, k := range keys {
			if m[k].IsNull() {
				continue
			}
			s, err := text(m[k])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
			words = append(words, k+"="+s)
		}
		all = append(all, strings.Join(words, ","))
	}
	return all, nil
}

// set applies one --set, if its pattern is for this target.
func (t *Target) set(spec string) error {
	left, value, ok := strings.Cut(spec, "=")
	pattern, key, ok2 := strings.Cut(left, ".")
	if !ok || !ok2 {
		return errors.New("want TARGET.KEY=VALUE")
	}
	if match, err := path.Match(pattern, t.Name); err != nil || !match {
		return err
	}
	key, more := strings.CutSuffix(key, "+")
	key, sub, _ := strings.Cut(key, ".")
	if a := aliases[key]; a != "" {
		key = a
	}
	switch to := t.fields()[key].(type) {
	case *string:
		*to = value
	case *bool:
		*to = value == "true" || value == "1"
	case *[]string:
		// What is said the first time takes the place of what the file says.
		if !more && !slices.Contains(t.replaced, key) {
			*to, t.replaced = nil, append(t.replaced, key)
		}
		*to = append(*to, value)
	case *map[string]string:
		if sub == "" {
			return fmt.Errorf("%s needs a name: TARGET.%s.NAME=VALUE", key, key)
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[sub] = value
	default:
		return fmt.Errorf("key %q is not known", key)
	}
	return nil
}
