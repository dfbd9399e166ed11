// Package passwd says who "--user name:group" is, by the passwd and group
// files of an image, and makes the entries that an image lacks.
//
// The files come from the image's maker, who is not trusted: they may be huge,
// hold names that look like numbers, or lines that never end. So:
//
//   - what looks like a number is a number, never the name of an entry: an
//     image that has a user called "1000" with uid 0 does not turn USER 1000
//     into root (CVE-2016-3697);
//   - numbers that no kernel id can hold are errors, not wrapped around;
//   - a file is read up to MaxFile bytes, a line up to maxLine;
//   - the primary group is always one of the supplementary groups: without
//     that, a file that denies its group is open to a process that merely has
//     another primary one (CVE-2022-2989).
//
// The package opens no file: the caller hands in the two files' bytes, which
// it has read below the image's root.
package passwd

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxFile is how much of a passwd or group file is looked at, in bytes.
const MaxFile = 10 << 20

const maxLine = 64 << 10

// ErrUnknown reports a name that is in neither file.
var ErrUnknown = errors.New("no such name in the image")

// A User is what a process runs as.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups, GID among them.
	Groups []uint32
	// Name, Home and Shell are of the passwd entry; empty when there is none
	// (Listed is false then).
	Name, Home, Shell string
	Listed            bool
	// GroupListed says whether GID has an entry in the group file.
	GroupListed bool
}

// Files are the contents of an image's /etc/passwd and /etc/group; nil where
// there is none.
type Files struct{ Passwd, Group []byte }

// Lookup resolves spec, which is "", USER, USER:GROUP, USER: or :GROUP, each
// a name or a number. more are further groups. Without a group in spec, the
// user's groups by the group file are supplementary ones.
func Lookup(spec string, more []string, f Files) (User, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if strings.Contains(group, ":") {
		return User{}, fmt.Errorf("look up user %q: more than one colon", spec)
	}
	u, err := f.user(name)
	if err != nil {
		return User{}, fmt.Errorf("look up user %q: %w", spec, err)
	}
	if hasGroup && group != "" {
		if u.GID, err = f.groupID(group); err != nil {
			return User{}, fmt.Errorf("look up user %q: group: %w", spec, err)
		}
	}
	u.Groups = []uint32{u.GID}
	if u.Listed && !(hasGroup && group != "") {
		for g := range groups(f.Group) {
			if g.has(u.Name) {
				u.Groups = append(u.Groups, g.gid)
			}
		}
	}
	for _, g := range more {
		gid, err := f.groupID(g)
		if err != nil {
			return User{}, fmt.Errorf("look up group %q: %w", g, err)
		}
		u.Groups = append(u.Groups, gid)
	}
	for g := range groups(f.Group) {
		u.GroupListed = u.GroupListed || g.gid == u.GID
	}
	first := u.Groups[0]
	rest := u.Groups[1:]
	slices.Sort(rest)
	u.Groups = slices.Compact(rest)
	u.Groups = slices.DeleteFunc(u.Groups, func(g uint32) bool { return g == first })
	u.Groups = append([]uint32{first}, u.Groups...)
	return u, nil
}

func (f Files) user(name string) (User, error) {
	uid, numeric, err := number(name)
	if err != nil {
		return User{}, err
	}
	if name == "" {
		numeric = true // uid 0
	}
	for e := range users(f.Passwd) {
		if numeric && e.UID == uid || !numeric && e.Name == name {
			e.Listed = true
			return e, nil
		}
	}
	if !numeric {
		return User{}, fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	return User{UID: uid}, nil
}

func (f Files) groupID(name string) (uint32, error) {
	gid, numeric, err := number(name)
	if err != nil || numeric {
		return gid, err
	}
	for g := range groups(f.Group) {
		if g.name == name {
			return g.gid, nil
		}
	}
	return 0, fmt.Errorf("%q: %w", name, ErrUnknown)
}

// number reads an id. Whatever begins like a number must be one.
func number(s string) (id uint32, ok bool, err error) {
	digits := strings.TrimLeft(s, "+-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 { // the last means "leave unchanged" to the kernel
		return 0, false, fmt.Errorf("%q is not an id from 0 to 4294967294", s)
	}
	return uint32(n), true, nil
}

// users yields the valid entries of a passwd file.
func users(data []byte) func(yield func(User) bool) {
	return func(yield func(User) bool) {
		for line := range lines(data) {
			f := strings.Split(line, ":")
			if len(f) < 4 || f[0] == "" {
				continue
			}
			uid, ok1, _ := number(f[2])
			gid, ok2, _ := number(f[3])
			if !ok1 || !ok2 {
				continue
			}
			u := User{Name: f[0], UID: uid, GID: gid}
			if len(f) > 5 {
				u.Home = f[5]
			}
			if len(f) > 6 {
				u.Shell = f[6]
			}
			if !yield(u) {
				return
			}
		}
	}
}

type groupEntry struct {
	name    string
	gid     uint32
	members string
}

func (g groupEntry) has(user string) bool {
	for m := range strings.SplitSeq(g.members, ",") {
		if m == user {
			return true
		}
	}
	return false
}

func groups(data []byte) func(yield func(groupEntry) bool) {
	return func(yield func(groupEntry) bool) {
		for line := range lines(data) {
			f := strings.Split(line, ":")
			if len(f) < 3 || f[0] == "" {
				continue
			}
			gid, ok, _ := number(f[2])
			if !ok {
				continue
			}
			g := groupEntry{name: f[0], gid: gid}
			if len(f) > 3 {
				g.members = f[3]
			}
			if !yield(g) {
				return
			}
		}
	}
}

// lines yields the lines that are neither comments nor longer than maxLine.
func lines(data []byte) func(yield func(string) bool) {
	if len(data) > MaxFile {
		data = data[:MaxFile]
	}
	return func(yield func(string) bool) {
		for len(data) > 0 {
			line, rest, _ := bytes.Cut(data, []byte{'\n'})
			data = rest
			if len(line) > maxLine {
				continue
			}
			line = bytes.TrimSpace(line)
			if len(line) == 0 || line[0] == '#' {
				continue
			}
			if !yield(string(line)) {
				return
			}
		}
	}
}

// Entry returns a line of a passwd file with its newline. A field that holds
// what would end the field or the line is refused (CVE-2022-4318).
func Entry(u User) (string, error) {
	if err := checkFields(u.Name, u.Home, u.Shell); err != nil {
		return "", fmt.Errorf("make passwd entry: %w", err)
	}
	if u.Name == "" {
		u.Name = strconv.FormatUint(uint64(u.UID), 10)
	}
	return fmt.Sprintf("%s:*:%d:%d:container user:%s:%s\n", u.Name, u.UID, u.GID, u.Home, u.Shell), nil
}

// GroupEntry returns a line of a group file with its newline.
func GroupEntry(name string, gid uint32, members ...string) (string, error) {
	if err := checkFields(append(members, name)...); err != nil {
		return "", fmt.Errorf("make group entry: %w", err)
	}
	return fmt.Sprintf("%s:x:%d:%s\n", name, gid, strings.Join(members, ",")), nil
}

// CheckLine refuses a whole entry that is more than one line.
func CheckLine(entry string) error {
	if i := strings.IndexFunc(entry, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("entry %q holds a control character", entry)
	}
	return nil
}

func checkFields(fields ...string) error {
	for _, f := range fields {
		if strings.ContainsAny(f, ":\n\r\x00") {
			return fmt.Errorf("%q holds a colon, an end of line or a NUL", f)
		}
	}
	return nil
}
