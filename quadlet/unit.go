package quadlet

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// blank is what systemd strips around lines, keys and values.
const blank = " \t\r\n"

// Unit is a unit file.
type Unit struct {
	Name     string // the file's: a.container
	Path     string // where it was read; "" for one that was made
	sections []*section
}

// section is one [Name] with its lines; that of the lines before the first has
// no name and holds comments only.
type section struct {
	name  string
	lines []line
}

// line is an assignment, or a comment when it has no key.
type line struct {
	key, value string
	file       string // where it was read: the unit or a drop-in
	number     int    // from 1
}

// Parse reads a unit file: systemd.syntax(7). path names it in errors.
func Parse(path string, data []byte) (*Unit, error) {
	u := &Unit{Name: filepath.Base(path), Path: path}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var errs []error
	var whole string // of lines that go on in the next
	open, begin := false, 0
	lost := false // below a section that is none
	add := func() {
		text := strings.Trim(whole, blank)
		lost = lost && !strings.HasPrefix(text, "[")
		whole, open = "", false
		if lost {
			return
		}
		if err := u.parseLine(text, path, begin); err != nil {
			errs = append(errs, fmt.Errorf("read %s:%d: %w", path, begin, err))
			lost = strings.HasPrefix(text, "[")
		}
	}
	for i, text := range strings.Split(string(data), "\n") {
		text = strings.TrimLeft(text, blank)
		if text != "" && strings.ContainsRune("#;", rune(text[0])) {
			if !open {
				u.section(u.current()).comment(strings.TrimRight(text, blank))
			}
			continue // also amid a line that goes on
		}
		if !open {
			begin = i + 1
		}
		whole += strings.TrimRight(text, "\r")
		if open = continues(whole); open {
			whole = whole[:len(whole)-1] + " "
			continue
		}
		add()
	}
	if open {
		add()
	}
	return u, errors.Join(errs...)
}

// continues says whether a line ends in a backslash that is not itself escaped.
func continues(s string) bool {
	n := len(s) - len(strings.TrimRight(s, `\`))
	return n%2 == 1
}

func (u *Unit) parseLine(text, file string, number int) error {
	switch {
	case text == "":
		return nil
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return errors.New("not a line of text")
	case text[0] == '[':
		name, ok := strings.CutSuffix(text[1:], "]")
		if !ok || name == "" || strings.ContainsAny(name, "[]") {
			return fmt.Errorf("%q is not a section", text)
		}
		u.begin(name)
		return nil
	case u.current() == "":
		return fmt.Errorf("%q stands before the first section", text)
	}
	key, value, ok := strings.Cut(text, "=")
	key = strings.TrimRight(key, blank)
	if !ok || key == "" {
		return fmt.Errorf("%q is not of the form KEY=VALUE", text)
	}
	s := u.section(u.current())
	s.lines = append(s.lines, line{key: key, value: strings.TrimLeft(value, blank), file: file, number: number})
	return nil
}

// current is the section that lines are added to: the last in the list.
func (u *Unit) current() string {
	if len(u.sections) == 0 {
		return ""
	}
	return u.sections[len(u.sections)-1].name
}

// begin makes a section the current one. One that comes again goes on.
func (u *Unit) begin(name string) {
	i := slices.IndexFunc(u.sections, func(s *section) bool { return s.name == name })
	if i < 0 {
		u.sections = append(u.sections, &section{name: name})
		return
	}
	s := u.sections[i]
	u.sections = append(slices.Delete(u.sections, i, i+1), s)
}

// section returns the section of that name, which is added if it is not there.
func (u *Unit) section(name string) *section {
	if s := u.find(name); s != nil {
		return s
	}
	s := &section{name: name}
	if name == "" {
		u.sections = slices.Insert(u.sections, 0, s)
	} else {
		u.sections = append(u.sections, s)
	}
	return s
}

func (u *Unit) find(name string) *section {
	for _, s := range u.sections {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (s *section) comment(text string) { s.lines = append(s.lines, line{value: text}) }

// clone is a copy whose lines are its own.
func (u *Unit) clone() *Unit {
	c := &Unit{Name: u.Name, Path: u.Path}
	for _, s := range u.sections {
		c.sections = append(c.sections, &section{name: s.name, lines: slices.Clone(s.lines)})
	}
	return c
}

// merge adds what a drop-in says.
func (u *Unit) merge(dropIn *Unit) {
	for _, s := range dropIn.sections {
		if s.name == "" {
			continue
		}
		to := u.section(s.name)
		to.lines = append(to.lines, s.lines...)
	}
}

// rename gives a section another name, one that systemd passes over.
func (u *Unit) rename(from, to string) {
	if s := u.find(from); s != nil {
		s.name = to
	}
}

// add appends an assignment; set replaces those that are there.
func (u *Unit) add(name, key, value string) {
	s := u.section(name)
	s.lines = append(s.lines, line{key: key, value: value})
}

func (u *Unit) set(name, key, value string) {
	s := u.section(name)
	s.lines = slices.DeleteFunc(s.lines, func(l line) bool { return l.key == key })
	u.add(name, key, value)
}

// prepend puts an assignment before all others of a section.
func (u *Unit) prepend(name, key, value string) {
	s := u.section(name)
	s.lines = slices.Insert(s.lines, 0, line{key: key, value: value})
}

// String is the unit as a file.
func (u *Unit) String() string {
	var b strings.Builder
	for _, s := range u.sections {
		if s.name != "" {
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "[%s]\n", s.name)
		}
		for _, l := range s.lines {
			if l.key == "" {
				b.WriteString(l.value + "\n")
			} else {
				b.WriteString(l.key + "=" + l.value + "\n")
			}
		}
	}
	return b.String()
}

// lines are the assignments of a key that hold: an empty one takes back those
// before it.
func (u *Unit) lines(name, key string) []line {
	s := u.find(name)
	if s == nil {
		return nil
	}
	var all []line
	for _, l := range s.lines {
		switch {
		case l.key != key:
		case l.value == "":
			all = nil
		default:
			all = append(all, l)
		}
	}
	return all
}

// last is a key's value when it has only one: the last that was given. It is
// "" when there is none, or when the last takes it back.
func (u *Unit) last(name, key string) string {
	if all := u.lines(name, key); len(all) > 0 {
		return unquoted(all[len(all)-1].value)
	}
	return ""
}

// values are all of a key's.
func (u *Unit) values(name, key string) []string {
	var all []string
	for _, l := range u.lines(name, key) {
		all = append(all, unquoted(l.value))
	}
	return all
}

// unquoted is a value without the quotes around the whole of it.
func unquoted(v string) string {
	if n := len(v) - 1; n > 0 && (v[0] == '"' || v[0] == '\'') && v[n] == v[0] && strings.IndexByte(v[1:n], v[0]) < 0 {
		return v[1:n]
	}
	return v
}

// words are all of a key's values, cut at blanks.
func (u *Unit) words(name, key string) []string {
	var all []string
	for _, l := range u.lines(name, key) {
		all = append(all, splitKeeping(l.value)...)
	}
	return all
}

// given says whether a key is there, be it with an empty value.
func (u *Unit) given(name, key string) bool {
	s := u.find(name)
	return s != nil && slices.ContainsFunc(s.lines, func(l line) bool { return l.key == key })
}

// at says where a key was given last: FILE:LINE, the unit's path when nowhere.
func (u *Unit) at(name, key string) string {
	where := u.Path
	if s := u.find(name); s != nil {
		for _, l := range s.lines {
			if l.key == key && l.file != "" {
				where = fmt.Sprintf("%s:%d", l.file, l.number)
			}
		}
	}
	return where
}

// boolean is the value of a switch, def when it is not given.
func (u *Unit) boolean(name, key string, def bool) (bool, error) {
	switch v := strings.ToLower(u.last(name, key)); v {
	case "":
		return def, nil
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	default:
		return false, fmt.Errorf("%q is neither true nor false", v)
	}
}
