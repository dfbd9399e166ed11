package bake

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// targetKeys are the attributes of a target, mapKeys those that are put together
// instead of replaced, ownKeys those that nobody inherits.
var (
	targetKeys = []string{"annotations", "args", "attest", "cache-from", "cache-to", "call", "context", "contexts", "description", "dockerfile", "dockerfile-inline", "entitlements",
		"extra-hosts", "inherits", "labels", "matrix", "name", "network", "no-cache", "no-cache-filter", "output", "platforms", "pull", "secret", "shm-size", "ssh", "tags", "target", "ulimits"}
	mapKeys = []string{"args", "contexts", "extra-hosts", "labels"}
	ownKeys = []string{"description", "inherits", "matrix", "name"}
)

// A target is one that can be built: a block, and a row of its matrix.
type target struct {
	name   string
	block  *block
	matrix map[string]cty.Value
	values map[string]cty.Value // with what is inherited
}

var validName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9_-]+$`) })

// expand makes targets of blocks: several of one that has a matrix.
func (f *File) expand() error {
	for _, b := range f.targets {
		rows := []map[string]cty.Value{nil}
		if e := b.attrs["matrix"]; e != nil {
			var err error
			if rows, err = f.matrix(b, e); err != nil {
				return err
			}
		}
		var names []string
		for _, row := range rows {
			name := b.name
			if e := b.attrs["name"]; e != nil {
				if row == nil {
					return fmt.Errorf("target %s: it has a name of its own and no matrix", b.name)
				}
				v, err := f.eval(e, row)
				if err != nil {
					return fmt.Errorf("target %s: %w", b.name, err)
				}
				if name, err = text(v); err != nil {
					return fmt.Errorf("target %s: name: %w", b.name, err)
				}
			} else if row != nil {
				return fmt.Errorf("target %s: one with a matrix needs the attribute name", b.name)
			}
			if !validName().MatchString(name) || f.expanded[name] != nil {
				return fmt.Errorf("target %q: its name is taken, or not of letters, digits, _ and -", name)
			}
			f.expanded[name] = &target{name: name, block: b, matrix: row, values: map[string]cty.Value{}}
			names = append(names, name)
		}
		f.order = append(f.order, names...)
		if b.attrs["matrix"] != nil {
			list := make([]cty.Value, len(names))
			for i, n := range names {
				list[i] = cty.StringVal(n)
			}
			f.groups = append(f.groups, &block{name: b.name, attrs: map[string]hcl.Expression{"targets": hcl.StaticExpr(cty.TupleVal(list), hcl.Range{})}})
		}
	}
	return nil
}

// maxRows is how many targets a matrix may make: more is a mistake.
const maxRows = 10000

// matrix is the rows of a matrix: every choice of one value of each axis.
func (f *File) matrix(b *block, e hcl.Expression) ([]map[string]cty.Value, error) {
	v, err := f.eval(e, nil)
	if err != nil {
		return nil, fmt.Errorf("target %s: matrix: %w", b.name, err)
	}
	if v.IsNull() || !v.Type().IsObjectType() && !v.Type().IsMapType() {
		return nil, fmt.Errorf("target %s: a matrix is an object of lists", b.name)
	}
	rows := []map[string]cty.Value{{}}
	axes := v.AsValueMap()
	for _, axis := range slices.Sorted(maps.Keys(axes)) {
		if axes[axis].IsNull() || !axes[axis].CanIterateElements() {
			return nil, fmt.Errorf("target %s: matrix: %s is no list", b.name, axis)
		}
		var next []map[string]cty.Value
		for _, row := range rows {
			for _, x := range axes[axis].AsValueSlice() {
				if len(next) > maxRows {
					break
				}
				r := maps.Clone(row)
				r[axis] = x
				next = append(next, r)
			}
		}
		if rows = next; len(rows) > maxRows {
			return nil, fmt.Errorf("target %s: its matrix has more than %d rows", b.name, maxRows)
		}
	}
	return rows, nil
}

// parents are the targets that one inherits from, the last one winning.
func (f *File) parents(t *target) ([]*target, error) {
	e := t.block.attrs["inherits"]
	if e == nil {
		return nil, nil
	}
	v, err := f.eval(e, t.matrix)
	if err != nil {
		return nil, err
	}
	names, err := list(v)
	if err != nil {
		return nil, fmt.Errorf("inherits: %w", err)
	}
	var all []*target
	for _, n := range names {
		p := f.expanded[n]
		if p == nil {
			return nil, fmt.Errorf("it inherits from %s, which is no target", n)
		}
		all = append(all, p)
	}
	return all, nil
}

// attr is the value of an attribute of a target; NilVal of one it has not.
func (f *File) attr(t *target, key string) (cty.Value, error) {
	if v, ok := t.values[key]; ok {
		return v, nil
	}
	id := "target " + t.name + "." + key
	if f.busy[id] {
		return cty.NilVal, fmt.Errorf("%s: %w", id, errCycle)
	}
	f.busy[id] = true
	defer delete(f.busy, id)
	v, err := f.inherited(t, key)
	if err != nil {
		return cty.NilVal, fmt.Errorf("target %s: %w", t.name, err)
	}
	t.values[key] = v
	return v, nil
}

func (f *File) inherited(t *target, key string) (cty.Value, error) {
	var own cty.Value
	if e := t.block.attrs[key]; e != nil {
		var err error
		if own, err = f.eval(e, t.matrix); err != nil {
			return own, err
		}
	}
	together := contains(mapKeys, key)
	if contains(ownKeys, key) || own != cty.NilVal && !together {
		return own, nil
	}
	parents, err := f.parents(t)
	if err != nil {
		return own, err
	}
	all := map[string]cty.Value{}
	result := cty.NilVal
	add := func(v cty.Value) {
		if v == cty.NilVal {
			return
		}
		if result = v; together && !v.IsNull() && v.CanIterateElements() {
			maps.Copy(all, v.AsValueMap())
			result = cty.ObjectVal(all)
		}
	}
	for _, p := range parents {
		v, err := f.attr(p, key)
		if err != nil {
			return own, err
		}
		add(v)
	}
	add(own)
	return result, nil
}

// targetObject adds what an expression reads of another target to what it
// knows of targets already.
func (f *File) targetObject(t hcl.Traversal, have cty.Value) (cty.Value, error) {
	if len(t) < 3 {
		return cty.NilVal, fmt.Errorf("target: want target.NAME.ATTRIBUTE")
	}
	name, key := step(t[1]), step(t[2])
	from := f.expanded[name]
	if from == nil {
		return cty.NilVal, fmt.Errorf("target.%s.%s: there is no such target", name, key)
	}
	v, err := f.attr(from, key)
	if err != nil {
		return cty.NilVal, err
	}
	if v == cty.NilVal {
		v = cty.NullVal(cty.DynamicPseudoType)
	}
	all, one := map[string]cty.Value{}, map[string]cty.Value{}
	if have != cty.NilVal {
		all = have.AsValueMap()
		if o, ok := all[name]; ok {
			one = o.AsValueMap()
		}
	}
	one[key] = v
	all[name] = cty.ObjectVal(one)
	return cty.ObjectVal(all), nil
}

// step is the name in one step of a traversal.
func step(t hcl.Traverser) string {
	switch t := t.(type) {
	case hcl.TraverseAttr:
		return t.Name
	case hcl.TraverseIndex:
		if s, err := text(t.Key); err == nil {
			return s
		}
	}
	return ""
}
