package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/inroot"
	"hull/passwd"
	"hull/state"
	"hull/userns"
)

// settleUser finds out who the container runs as, by its own files. For an
// image they are the same for every container: the answer is kept.
func (e *Engine) settleUser(ctx context.Context, r *record) error {
	if r.bare() {
		return nil
	}
	o := &r.Options
	spec := firstOf(o.User, r.Image.User)
	groups := slices.DeleteFunc(slices.Clone(o.GroupAdd), func(g string) bool { return g == "keep-groups" })
	if o.Rootfs != "" {
		root, err := os.Open(o.Rootfs)
		if err != nil {
			return fmt.Errorf("look up user: %w", err)
		}
		defer root.Close()
		return r.lookUpUser(root, spec, groups)
	}
	if r.step != nil && r.step.view != nil {
		// Nobody else will start upon these layers: nothing is kept.
		return r.lookUpUser(r.step.view, spec, groups)
	}
	key := userKey(r, spec, groups)
	dir := filepath.Join(e.o.Root, "cache", "users")
	if data, err := state.ReadFile(filepath.Join(dir, key)); err == nil && state.Unmarshal(data, &r.User) == nil {
		return nil
	}
	r.User = passwd.User{}
	snaps, err := e.Snapshots()
	if err != nil {
		return err
	}
	if r.Chain == "" {
		r.User, err = passwd.Lookup(spec, groups, passwd.Files{})
		return err
	}
	// The container's own layer is empty yet.
	root, err := snaps.ViewTree(r.Chain)
	if err != nil {
		return fmt.Errorf("look up user: %w", err)
	}
	defer root.Close()
	if err := r.lookUpUser(root, spec, groups); err != nil {
		return err
	}
	e.keep("users", key, r.User)
	return nil
}

func userKey(r *record, spec string, groups []string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s\x00%s\x00%s", 1, r.Chain, spec, strings.Join(groups, "\x00"))
	return hex.EncodeToString(h.Sum(nil))
}

// keep puts v into a cache. That it cannot is no matter.
func (e *Engine) keep(kind, key string, v any) {
	data, err := state.Marshal(v)
	if err != nil {
		return
	}
	e.keepBytes(kind, key, data)
}

func (e *Engine) keepBytes(kind, key string, data []byte) {
	dir := filepath.Join(e.o.Root, "cache", kind)
	err := state.WriteFile(dir, key, data, 0o600, false)
	if errors.Is(err, fs.ErrNotExist) && os.MkdirAll(dir, 0o700) == nil {
		_ = state.WriteFile(dir, key, data, 0o600, false)
	}
}

func (r *record) lookUpUser(root *os.File, spec string, groups []string) error {
	files, err := userFiles(root)
	if err != nil {
		return err
	}
	r.User, err = passwd.Lookup(spec, groups, files)
	return unknownUser(err)
}

// unknownUser is err with what cures it, when a name is not in the image.
func unknownUser(err error) error {
	if !errors.Is(err, passwd.ErrUnknown) {
		return err
	}
	return hint(&codedError{err, codeCannot}, "name one of the image's users and groups (/etc/passwd, /etc/group), or give numbers: --user 1000:1000")
}

// userFiles reads the passwd and group files below root. What is no regular
// file is as good as missing: it could block or never end (USR-04).
func userFiles(root *os.File) (f passwd.Files, err error) {
	if f.Passwd, err = readInRoot(root, "etc/passwd", passwd.MaxFile); err != nil {
		return f, err
	}
	f.Group, err = readInRoot(root, "etc/group", passwd.MaxFile)
	return f, err
}

func readInRoot(root *os.File, name string, limit int64) ([]byte, error) {
	f, err := inroot.Open(root, name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read /%s of the container: %w", name, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("read /%s of the container: %w", name, err)
	}
	return data, nil
}

// userEntries makes the passwd and group files that a container gets when its
// user has no entry in the image's, or further users were asked for.
func (e *Engine) userEntries(r *record) (passwdFile, groupFile []byte, err error) {
	o := &r.Options
	if o.Passwd != nil && !*o.Passwd {
		return nil, nil, nil
	}
	needUser := !r.User.Listed && r.User.UID != 0 || o.PasswdEntry != "" || len(o.HostUsers) > 0
	needGroup := !r.User.GroupListed && r.User.GID != 0 || o.GroupEntry != "" || len(o.HostUsers) > 0
	if !needUser && !needGroup {
		return nil, nil, nil
	}
	root, err := e.openTree(r)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	files, err := userFiles(root)
	if err != nil {
		return nil, nil, err
	}
	if needUser {
		line := o.PasswdEntry
		if line == "" && !r.User.Listed {
			u := r.User
			u.Name = firstOf(u.Name, r.keptName(), fmt.Sprint(u.UID))
			u.Home = firstOf(u.Home, workingDir(r))
			u.Shell = firstOf(u.Shell, "/bin/sh")
			if line, err = passwd.Entry(u); err != nil {
				return nil, nil, err
			}
		} else if err := passwd.CheckLine(line); err != nil {
			return nil, nil, err
		}
		passwdFile = appendLine(files.Passwd, expandEntry(line, r))
	}
	if needGroup {
		line := o.GroupEntry
		if line == "" && !r.User.GroupListed {
			if line, err = passwd.GroupEntry(firstOf(r.keptGroup(), fmt.Sprint(r.User.GID)), r.User.GID); err != nil {
				return nil, nil, err
			}
		} else if err := passwd.CheckLine(line); err != nil {
			return nil, nil, err
		}
		groupFile = appendLine(files.Group, expandEntry(line, r))
	}
	return e.addHostUsers(r, passwdFile, groupFile)
}

// keptName is what the user whose ids --userns keep-id keeps is called outside.
func (r *record) keptName() string {
	if strings.HasPrefix(r.Options.UserNS, "keep-id") && inside(r.UIDMap, 0) == int(r.User.UID) {
		if u, err := user.LookupId(strconv.Itoa(userns.HostUID())); err == nil {
			return u.Username
		}
	}
	return ""
}

func (r *record) keptGroup() string {
	if strings.HasPrefix(r.Options.UserNS, "keep-id") && inside(r.GIDMap, 0) == int(r.User.GID) {
		if g, err := user.LookupGroupId(strconv.Itoa(hostGID())); err == nil {
			return g.Name
		}
	}
	return ""
}

// expandEntry fills in what --passwd-entry and --group-entry may leave open.
func expandEntry(line string, r *record) string {
	return strings.NewReplacer("$USERNAME", firstOf(r.User.Name, fmt.Sprint(r.User.UID)), "$UID", fmt.Sprint(r.User.UID),
		"$GID", fmt.Sprint(r.User.GID), "$HOME", firstOf(r.User.Home, "/"), "$NAME", firstOf(r.User.Name, fmt.Sprint(r.User.UID)),
		"$GROUPNAME", fmt.Sprint(r.User.GID), "$USERLIST", "").Replace(line)
}

func appendLine(file []byte, line string) []byte {
	line = strings.TrimSuffix(line, "\n")
	if line == "" {
		return file
	}
	out := slices.Clone(file)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(append(out, line...), '\n')
}

// addHostUsers copies the entries of --hostuser from the host's files.
func (e *Engine) addHostUsers(r *record, passwdFile, groupFile []byte) ([]byte, []byte, error) {
	if len(r.Options.HostUsers) == 0 {
		return passwdFile, groupFile, nil
	}
	host, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, nil, fmt.Errorf("add user of the host: %w", err)
	}
	group, err := os.ReadFile("/etc/group")
	if err != nil {
		return nil, nil, fmt.Errorf("add user of the host: %w", err)
	}
	for _, name := range r.Options.HostUsers {
		u, err := passwd.Lookup(name, nil, passwd.Files{Passwd: host, Group: group})
		if err != nil {
			return nil, nil, fmt.Errorf("add user of the host: %w", err)
		}
		if !u.Listed {
			return nil, nil, fmt.Errorf("add user of the host: %s: %w", name, passwd.ErrUnknown)
		}
		line, err := passwd.Entry(u)
		if err != nil {
			return nil, nil, err
		}
		passwdFile = appendLine(passwdFile, line)
		for line := range strings.Lines(string(group)) {
			if f := strings.Split(line, ":"); len(f) == 4 && f[2] == fmt.Sprint(u.GID) {
				groupFile = appendLine(groupFile, line)
			}
		}
	}
	return passwdFile, groupFile, nil
}

// openTree opens the container's file system without its mounts.
func (e *Engine) openTree(r *record) (*os.File, error) {
	if r.Options.Rootfs != "" {
		return os.Open(r.Options.Rootfs)
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return nil, err
	}
	r.made = nil // a volatile layer that was mounted is not what Prepare returned
	return snaps.Tree(r.ID)
}
