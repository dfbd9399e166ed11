package command

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Flags is the flag set of one command: pflag's, with the kinds of value that
// podman has and pflag has not, and a completer for each flag that wants one.
type Flags struct {
	*pflag.FlagSet
	completers map[string]Completer
}

func newFlags(name string) *Flags {
	f := &Flags{FlagSet: pflag.NewFlagSet(name, pflag.ContinueOnError)}
	f.SortFlags = true
	f.Usage = func() {}
	return f
}

// Completion sets how the values of flag name are proposed.
func (f *Flags) Completion(name string, c Completer) {
	if f.completers == nil {
		f.completers = map[string]Completer{}
	}
	f.completers[name] = c
}

// Words proposes the fixed words.
func (f *Flags) Words(name string, words ...string) {
	f.Completion(name, Fixed(words...))
}

// Fixed is a Completer of the given words.
func Fixed(words ...string) Completer {
	return func(_ context.Context, _ []string, _ string) []string { return words }
}

// Choice declares a flag that takes one of words; an empty default is allowed.
func (f *Flags) Choice(p *string, name, short, value, usage string, words ...string) {
	*p = value
	f.VarP(&choice{p, words}, name, short, usage+": "+strings.Join(words, ", "))
	f.Words(name, words...)
}

type choice struct {
	value *string
	words []string
}

func (c *choice) String() string { return *c.value }
func (c *choice) Type() string   { return "choice" }
func (c *choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("%q is not a valid value.  Choose from: %q", s, strings.Join(c.words, ", "))
	}
	*c.value = s
	return nil
}

// Bytes declares a flag that takes a size with a binary unit: 512, 64k, 1g.
// Zero is "not given".
func (f *Flags) Bytes(p *int64, name, short, usage string) {
	f.VarP((*bytesValue)(p), name, short, usage)
}

type bytesValue int64

func (b *bytesValue) String() string {
	if *b == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*b), 10)
}
func (b *bytesValue) Type() string { return "<number>[<unit>]" }
func (b *bytesValue) Set(s string) error {
	n, err := ParseBytes(s)
	if err != nil {
		return err
	}
	*b = bytesValue(n)
	return nil
}

// Optional declares a flag whose presence matters: *p stays nil when the flag
// is not given.
func Optional[T any](f *Flags, p **T, name, short, kind, usage string, parse func(string) (T, error)) {
	f.VarP(&optional[T]{p, kind, parse}, name, short, usage)
}

type optional[T any] struct {
	value **T
	kind  string
	parse func(string) (T, error)
}

func (o *optional[T]) String() string {
	if o.value == nil || *o.value == nil {
		return ""
	}
	return fmt.Sprint(**o.value)
}
func (o *optional[T]) Type() string { return o.kind }
func (o *optional[T]) Set(s string) error {
	v, err := o.parse(s)
	if err != nil {
		return err
	}
	*o.value = &v
	return nil
}

// Func declares a flag that calls set with each value given.
func (f *Flags) Func(name, short, kind, usage string, set func(string) error) {
	f.VarP(&funcValue{kind, set}, name, short, usage)
}

type funcValue struct {
	kind string
	set  func(string) error
}

func (v *funcValue) String() string     { return "" }
func (v *funcValue) Type() string       { return v.kind }
func (v *funcValue) Set(s string) error { return v.set(s) }

// Alias makes name another spelling of the flag old: it is parsed but not
// listed, and Changed is asked about old.
func (f *Flags) Alias(name, old string) {
	flag := f.Lookup(old)
	if flag == nil {
		panic("bug: alias of unknown flag " + old)
	}
	f.AddFlag(&pflag.Flag{Name: name, Value: aliasValue{flag}, NoOptDefVal: flag.NoOptDefVal, DefValue: flag.DefValue, Hidden: true, Usage: "same as --" + old})
}

type aliasValue struct{ flag *pflag.Flag }

func (a aliasValue) String() string { return a.flag.Value.String() }
func (a aliasValue) Type() string   { return a.flag.Value.Type() }
func (a aliasValue) Set(s string) error {
	if err := a.flag.Value.Set(s); err != nil {
		return err
	}
	a.flag.Changed = true
	return nil
}

// Record declares the flags of declare whose names want says, and calls given
// with the name and the text of each value when it is given. It is for a
// command that passes flags of another on.
func (f *Flags) Record(declare func(*Flags), want func(name string) bool, given func(name, value string)) {
	from := newFlags("")
	declare(from)
	from.VisitAll(func(flag *pflag.Flag) {
		if !want(flag.Name) {
			return
		}
		if _, alias := flag.Value.(aliasValue); !alias { // it sets another, which is recorded
			flag.Value = recorded{flag.Value, func(v string) { given(flag.Name, v) }}
		}
		f.AddFlag(flag)
	})
}

type recorded struct {
	pflag.Value
	given func(string)
}

func (r recorded) Set(s string) error {
	err := r.Value.Set(s)
	if err == nil {
		r.given(s)
	}
	return err
}

// Hide keeps the flags out of help; they still work.
func (f *Flags) Hide(names ...string) {
	for _, n := range names {
		f.Lookup(n).Hidden = true
	}
}

// ParseBytes reads a number of bytes with an optional binary unit (b, k, m, g,
// t, p, in either case, with "b" or "ib" after it): "64m", "1.5GiB", "1024".
func ParseBytes(s string) (int64, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := strings.ToLower(strings.TrimSpace(s[len(digits):]))
	shift, ok := 0, true
	switch unit {
	case "", "b":
	case "k", "kb", "kib":
		shift = 10
	case "m", "mb", "mib":
		shift = 20
	case "g", "gb", "gib":
		shift = 30
	case "t", "tb", "tib":
		shift = 40
	case "p", "pb", "pib":
		shift = 50
	default:
		ok = false
	}
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || n < 0 || n != n || n*float64(int64(1)<<shift) >= 1<<63 {
		return 0, fmt.Errorf("invalid size: '%s'", s)
	}
	return int64(n * float64(int64(1)<<shift)), nil
}
