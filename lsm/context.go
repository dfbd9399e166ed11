// Package lsm speaks to SELinux: what labels look like, which ones a container
// gets by the host's policy, and how files are given one. AppArmor's profiles
// are names that the kernel looks up; they need no package.
//
// A label that cannot be set is an error here, never silence.
package lsm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// maxLabel is the longest label: the kernel takes a page of it.
const maxLabel = 4095

// A Context is a label in its parts: USER:ROLE:TYPE[:LEVEL]. The level may hold
// colons itself.
type Context struct{ User, Role, Type, Level string }

// ParseContext cuts a label. Its parts need not be known to any policy.
func ParseContext(label string) (Context, error) {
	parts := strings.SplitN(label, ":", 4)
	bad := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	switch {
	case len(parts) < 3 || slices.Contains(parts, ""):
		return Context{}, fmt.Errorf("label %q: want USER:ROLE:TYPE[:LEVEL]", label)
	case len(label) > maxLabel:
		return Context{}, fmt.Errorf("label: %d bytes are more than the kernel takes", len(label))
	case strings.ContainsFunc(label, bad):
		return Context{}, fmt.Errorf("label %q: it holds what is no letter", label)
	}
	c := Context{User: parts[0], Role: parts[1], Type: parts[2]}
	if len(parts) == 4 {
		c.Level = parts[3]
	}
	return c, nil
}

func (c Context) String() string {
	s := c.User + ":" + c.Role + ":" + c.Type
	if c.Level != "" {
		s += ":" + c.Level
	}
	return s
}

// Categories is how many categories the policies of distributions have.
const Categories = 1024

// A Pair is two different categories, the lower first: what tells containers of
// one type from each other.
type Pair struct{ Low, High int }

// Unconfined is the pair of the files of containers that are not confined. No
// container has it.
var Unconfined = Pair{Categories - 2, Categories - 1}

// RandomPair is one of the 522,731 that containers may have.
func RandomPair() Pair {
	a, b := rand.IntN(Categories-2), rand.IntN(Categories-3)
	if b >= a {
		b++
	}
	return Pair{min(a, b), max(a, b)}
}

// Level is the level with the pair's categories and no other.
func (p Pair) Level() string { return fmt.Sprintf("s0:c%d,c%d", p.Low, p.High) }

// ParsePair takes a level apart that holds just two categories; ok is false for
// any other.
func ParsePair(level string) (p Pair, ok bool) {
	rest, isLow := strings.CutPrefix(level, "s0:c")
	a, b, two := strings.Cut(rest, ",c")
	if !isLow || !two {
		return Pair{}, false
	}
	for _, x := range []struct {
		text string
		to   *int
	}{{a, &p.Low}, {b, &p.High}} {
		n, err := strconv.Atoi(x.text)
		if err != nil || n < 0 || n >= Categories || strconv.Itoa(n) != x.text {
			return Pair{}, false
		}
		*x.to = n
	}
	if p.Low > p.High {
		p.Low, p.High = p.High, p.Low
	}
	return p, p.Low != p.High
}

// Options are the words of --security-opt label=.
type Options struct {
	Disable bool
	// Nested lets the container see the host's SELinux, to make containers of
	// its own with labels.
	Nested bool
	// User, Role, Type and Level replace parts of the process's label; FileType the
	// type of its files.
	User, Role, Type, Level, FileType string
}

// None says that nothing was asked for that decides on the labels.
func (o Options) None() bool { o.Nested = false; return o == Options{} }

// ParseOptions reads the words: "disable", "nested", or a part and its value.
// Of two words for the same the later one counts.
func ParseOptions(words []string) (o Options, err error) {
	for _, w := range words {
		key, value, has := strings.Cut(w, ":")
		part := map[string]*string{"user": &o.User, "role": &o.Role, "type": &o.Type, "level": &o.Level, "filetype": &o.FileType}[key]
		switch {
		case w == "disable":
			o.Disable = true
		case w == "nested":
			o.Nested = true
		case part == nil || !has:
			return o, fmt.Errorf("security option label=%q is not one of disable, nested, user:…, role:…, type:…, level:…, filetype:…", w)
		case value == "":
			return o, fmt.Errorf("security option label=%q says nothing after the colon", w)
		default:
			*part = value
		}
	}
	return o, nil
}

// Labels are those of a container's processes and of its files. An empty
// Process leaves the processes with the label of whoever starts them.
type Labels struct {
	Process string `json:",omitempty"`
	Mount   string
}

// Make makes a container's labels. init says that the first process is an init
// system, which may do a little more.
func (p Policy) Make(o Options, pair Pair, init bool) (Labels, error) {
	process, err := ParseContext(p.Process)
	if err != nil {
		return Labels{}, fmt.Errorf("policy's label of containers: %w", err)
	}
	file, err := ParseContext(p.File)
	if err != nil {
		return Labels{}, fmt.Errorf("policy's label of containers' files: %w", err)
	}
	if o.Disable {
		file.Level = Unconfined.Level()
		return Labels{Mount: file.String()}, nil
	}
	if init && p.Init != "" {
		c, err := ParseContext(p.Init)
		if err != nil {
			return Labels{}, fmt.Errorf("policy's label of init systems: %w", err)
		}
		process.Type = c.Type
	}
	set := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	process.Level, file.Level = pair.Level(), pair.Level()
	set(&process.User, o.User)
	set(&process.Role, o.Role)
	set(&process.Type, o.Type)
	set(&process.Level, o.Level)
	set(&file.User, o.User)
	set(&file.Type, o.FileType)
	set(&file.Level, o.Level)
	l := Labels{Process: process.String(), Mount: file.String()}
	_, perr := ParseContext(l.Process)
	_, ferr := ParseContext(l.Mount)
	return l, errors.Join(perr, ferr)
}

// Shared is a label of files with all categories taken away: what every
// container may use.
func Shared(label string) (string, error) {
	c, err := ParseContext(label)
	if err != nil {
		return "", err
	}
	c.Level = "s0"
	return c.String(), nil
}
