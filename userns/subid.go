package userns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// A Range is Size ids of the host that begin with First.
type Range struct{ First, Size uint32 }

// maxSubid bounds what is read of a subid file.
const maxSubid = 4 << 20

// Subordinate returns the ranges that a file such as /etc/subuid gives to a
// user, who is named there by name or by number.
func Subordinate(file, name string, uid int) ([]Range, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read subordinate ids: %w", err)
	}
	defer f.Close()
	return parseSubid(io.LimitReader(f, maxSubid), name, strconv.Itoa(uid))
}

// parseSubid reads lines of NAME:FIRST:SIZE. Lines of others, and those that
// are no such line, are passed over, as newuidmap does.
func parseSubid(r io.Reader, name, number string) ([]Range, error) {
	var out []Range
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(f) != 3 || f[0] == "" || f[0] != name && f[0] != number {
			continue
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		size, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || size == 0 || first == 0 || first+size > 1<<32-1 {
			continue
		}
		out = append(out, Range{uint32(first), uint32(size)})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read subordinate ids: %w", err)
	}
	return out, nil
}

// An Error is a user namespace that cannot be made, with what mends it.
type Error struct {
	Err error
	Fix string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint is the command that mends it.
func (e *Error) Hint() string { return e.Fix }

// userName is the name of the calling user; its number when it has none.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// maps returns the argument vectors of newuidmap and newgidmap after the pid.
func maps(uid, gid int) (uids, gids []string, err error) {
	name := userName(uid)
	for _, m := range []struct {
		file, option string
		own          int
		out          *[]string
	}{{"/etc/subuid", "--add-subuids", uid, &uids}, {"/etc/subgid", "--add-subgids", gid, &gids}} {
		ranges, err := Subordinate(m.file, name, uid)
		if err != nil {
			return nil, nil, err
		}
		if len(ranges) == 0 {
			return nil, nil, &Error{fmt.Errorf("make user namespace: user %s has no subordinate ids in %s", name, m.file),
				fmt.Sprintf("give the user a range: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", name)}
		}
		*m.out = mapWords(m.own, ranges)
	}
	return uids, gids, nil
}

// mapWords maps own to 0 and the ranges to what follows.
func mapWords(own int, ranges []Range) []string {
	words := []string{"0", strconv.Itoa(own), "1"}
	next := uint64(1)
	for _, r := range ranges {
		if next+uint64(r.Size) > 1<<32-1 {
			break
		}
		words = append(words, strconv.FormatUint(next, 10), strconv.FormatUint(uint64(r.First), 10), strconv.FormatUint(uint64(r.Size), 10))
		next += uint64(r.Size)
	}
	return words
}
