package bake

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// A variable may be set by who builds, unless it is fixed.
type variable struct {
	value       hcl.Expression // nil is null
	kind        hcl.Expression // of the type, nil for the value's
	description hcl.Expression
	checks      []check
	fixed       bool
}

type check struct{ condition, message hcl.Expression }

func (f *File) newVariable(body hcl.Body) (*variable, error) {
	c, diags := body.Content(&hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "default"}, {Name: "type"}, {Name: "description"}},
		Blocks:     []hcl.BlockHeaderSchema{{Type: "validation"}},
	})
	if diags.HasErrors() {
		return nil, f.explain(diags)
	}
	v := &variable{}
	for n, to := range map[string]*hcl.Expression{"default": &v.value, "type": &v.kind, "description": &v.description} {
		if a := c.Attributes[n]; a != nil {
			*to = a.Expr
		}
	}
	for _, b := range c.Blocks {
		x, diags := b.Body.Content(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "condition", Required: true}, {Name: "error_message", Required: true}}})
		if diags.HasErrors() {
			return nil, f.explain(diags)
		}
		v.checks = append(v.checks, check{x.Attributes["condition"].Expr, x.Attributes["error_message"].Expr})
	}
	return v, nil
}

// A userFunction of a file: its result is an expression of its parameters.
type userFunction struct {
	params   []string
	variadic string
	result   hcl.Expression
}

func (f *File) newFunction(body hcl.Body) (*userFunction, error) {
	c, diags := body.Content(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "params"}, {Name: "variadic_params"}, {Name: "result", Required: true}}})
	if diags.HasErrors() {
		return nil, f.explain(diags)
	}
	u := &userFunction{result: c.Attributes["result"].Expr}
	if a := c.Attributes["params"]; a != nil {
		list, diags := hcl.ExprList(a.Expr)
		if diags.HasErrors() {
			return nil, f.explain(diags)
		}
		for _, e := range list {
			u.params = append(u.params, hcl.ExprAsKeyword(e))
		}
	}
	if a := c.Attributes["variadic_params"]; a != nil {
		u.variadic = hcl.ExprAsKeyword(a.Expr)
	}
	return u, nil
}

// eval evaluates an expression; extra are further variables of its place.
func (f *File) eval(e hcl.Expression, extra map[string]cty.Value) (cty.Value, error) {
	vars := map[string]cty.Value{}
	for k, v := range extra {
		vars[k] = v
	}
	for _, t := range e.Variables() {
		root := t.RootName()
		if _, ok := vars[root]; ok && root != "target" {
			continue
		}
		if root == "target" {
			v, err := f.targetObject(t, vars["target"])
			if err != nil {
				return cty.NilVal, err
			}
			vars["target"] = v
			continue
		}
		v, err := f.lookup(root)
		if err != nil {
			return cty.NilVal, err
		}
		if v != cty.NilVal {
			vars[root] = v
		}
	}
	if f.callables == nil {
		f.callables = std()
		for n, u := range f.functions {
			f.callables[n] = f.callable(n, u)
		}
	}
	v, diags := e.Value(&hcl.EvalContext{Variables: vars, Functions: f.callables})
	if diags.HasErrors() {
		return cty.NilVal, f.explain(diags)
	}
	return v, nil
}

// callable is a function of the file as HCL calls it.
func (f *File) callable(name string, u *userFunction) function.Function {
	spec := &function.Spec{Type: function.StaticReturnType(cty.DynamicPseudoType)}
	for _, p := range u.params {
		spec.Params = append(spec.Params, function.Parameter{Name: p, Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true})
	}
	if u.variadic != "" {
		spec.VarParam = &function.Parameter{Name: u.variadic, Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true}
	}
	spec.Type = func(args []cty.Value) (cty.Type, error) {
		v, err := f.call(name, u, args)
		if err != nil {
			return cty.NilType, err
		}
		return v.Type(), nil
	}
	spec.Impl = func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.call(name, u, args) }
	return function.New(spec)
}

func (f *File) call(name string, u *userFunction, args []cty.Value) (cty.Value, error) {
	if f.depth++; f.depth > 100 {
		return cty.NilVal, fmt.Errorf("function %s calls itself without end", name)
	}
	defer func() { f.depth-- }()
	vars := map[string]cty.Value{}
	for i, p := range u.params {
		vars[p] = args[i]
	}
	if u.variadic != "" {
		vars[u.variadic] = cty.TupleVal(args[len(u.params):])
	}
	return f.eval(u.result, vars)
}

var errCycle = errors.New("it refers to itself")

// lookup is the value of a variable; NilVal of none.
func (f *File) lookup(name string) (cty.Value, error) {
	if v, ok := f.values[name]; ok {
		return v, nil
	}
	d := f.variables[name]
	if d == nil {
		return cty.NilVal, nil
	}
	if f.busy[name] {
		return cty.NilVal, fmt.Errorf("variable %s: %w", name, errCycle)
	}
	f.busy[name] = true
	defer delete(f.busy, name)
	v, err := f.settle(name, d)
	if err != nil {
		return cty.NilVal, err
	}
	f.values[name] = v
	for _, c := range d.checks {
		if err := f.validate(name, d, c); err != nil {
			return cty.NilVal, err
		}
	}
	return v, nil
}

// settle finds what a variable is: said by who builds, or its default.
func (f *File) settle(name string, d *variable) (cty.Value, error) {
	value := cty.NullVal(cty.DynamicPseudoType)
	if d.value != nil {
		var err error
		if value, err = f.eval(d.value, nil); err != nil {
			return value, err
		}
	}
	kind := value.Type()
	if d.kind != nil {
		t, err := typeOf(d.kind)
		if err != nil {
			return value, fmt.Errorf("variable %s: %w", name, err)
		}
		kind = t
	}
	text, said := f.o.Vars[name]
	if !said && f.o.Env != nil {
		text, said = f.o.Env(name)
	}
	if !said || d.fixed {
		if d.kind != nil {
			return convertTo(name, value, kind)
		}
		return value, nil
	}
	switch {
	case kind.IsListType(), kind.IsTupleType(), kind.IsSetType():
		items := []cty.Value{}
		for w := range strings.SplitSeq(text, ",") {
			if text != "" {
				items = append(items, cty.StringVal(w))
			}
		}
		if len(items) == 0 {
			return cty.ListValEmpty(cty.String), nil
		}
		if kind.IsTupleType() {
			return cty.ListVal(items), nil
		}
		return convertTo(name, cty.ListVal(items), kind)
	case kind == cty.DynamicPseudoType:
		return cty.StringVal(text), nil
	}
	return convertTo(name, cty.StringVal(text), kind)
}

func convertTo(name string, v cty.Value, t cty.Type) (cty.Value, error) {
	out, err := convert.Convert(v, t)
	if err != nil {
		return v, fmt.Errorf("variable %s: %w", name, err)
	}
	return out, nil
}

// primitives are the types that have a word.
var primitives = map[string]cty.Type{"string": cty.String, "number": cty.Number, "bool": cty.Bool}

// typeOf reads string, number, bool, any, or list, set and map of one.
func typeOf(e hcl.Expression) (cty.Type, error) {
	word := hcl.ExprAsKeyword(e)
	if word == "any" {
		return cty.DynamicPseudoType, nil
	}
	if t, ok := primitives[word]; ok {
		return t, nil
	}
	if c, diags := hcl.ExprCall(e); !diags.HasErrors() && len(c.Arguments) == 1 {
		t, err := typeOf(c.Arguments[0])
		switch c.Name {
		case "list":
			return cty.List(t), err
		case "set":
			return cty.Set(t), err
		case "map":
			return cty.Map(t), err
		}
	}
	if v, diags := e.Value(nil); !diags.HasErrors() && v.Type() == cty.String { // as JSON has it
		if t, ok := primitives[v.AsString()]; ok {
			return t, nil
		}
	}
	return cty.NilType, errors.New("its type is not string, number, bool, or a list, set or map of these")
}

func (f *File) validate(name string, d *variable, c check) error {
	ok, err := f.eval(c.condition, nil)
	if err != nil {
		return err
	}
	if b, err := convert.Convert(ok, cty.Bool); err != nil || b.IsNull() || b.True() {
		return err
	}
	message, err := f.eval(c.message, nil)
	if err != nil {
		return err
	}
	if s, err := convert.Convert(message, cty.String); err == nil && !s.IsNull() {
		return fmt.Errorf("variable %s: %s", name, s.AsString())
	}
	return fmt.Errorf("variable %s: its value is not valid", name)
}

// A both is the map of an earlier file with that of a later one over it.
type both struct {
	hcl.Expression
	over hcl.Expression
}

func (b *both) Variables() []hcl.Traversal {
	return append(b.Expression.Variables(), b.over.Variables()...)
}

func (b *both) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	low, diags := b.Expression.Value(ctx)
	high, more := b.over.Value(ctx)
	if diags = append(diags, more...); diags.HasErrors() || low.IsNull() || high.IsNull() || !low.CanIterateElements() || !high.CanIterateElements() {
		return high, diags
	}
	all := low.AsValueMap()
	if all == nil {
		all = map[string]cty.Value{}
	}
	for k, v := range high.AsValueMap() {
		all[k] = v
	}
	return cty.ObjectVal(all), diags
}
