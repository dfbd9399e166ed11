// Package front is what every front door of the program begins with: where
// the store is, and how to get into a user's namespace.
package front

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"hull/userns"
)

// directories returns the absolute paths of the store and of the run
// directory: those of the flags --root and --runroot, or the defaults.
func directories(rootFlag, runRootFlag string) (root, runRoot string, err error) {
	if root, err = directory(rootFlag, Root); err != nil {
		return "", "", err
	}
	runRoot, err = directory(runRootFlag, RunRoot)
	return root, runRoot, err
}

func directory(flag string, standard func() (string, error)) (string, error) {
	if flag == "" {
		return standard()
	}
	dir, err := filepath.Abs(flag)
	if err != nil {
		return "", fmt.Errorf("use directory %s: %w", flag, err)
	}
	return dir, nil
}

// InUserNamespace reports that this process is root of a user namespace only.
func InUserNamespace() bool { return !userns.Initial() }

// Root returns the default directory of images and containers: /var/lib/hull
// for root, $XDG_DATA_HOME/hull for a user.
func Root() (string, error) {
	if !userns.Rootless() {
		return "/var/lib/hull", nil
	}
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "hull"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return "", fmt.Errorf("find the store's directory: HOME is not set to an absolute path; use --root")
	}
	return filepath.Join(home, ".local", "share", "hull"), nil
}

// RunRoot returns the default directory of what a reboot ends: /run/hull for
// root, $XDG_RUNTIME_DIR/hull for a user, or, where nobody set that (no login
// session), a directory of the user's own in /run/user or /tmp.
func RunRoot() (string, error) {
	if !userns.Rootless() {
		return "/run/hull", nil
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		return filepath.Join(d, "hull"), nil
	}
	uid := strconv.Itoa(userns.HostUID())
	if d := filepath.Join("/run/user", uid); ownDirectory(d, 0) {
		return filepath.Join(d, "hull"), nil
	}
	dir := filepath.Join(os.TempDir(), "hull-run-"+uid)
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return "", fmt.Errorf("make the run directory: %w", err)
	}
	if !ownDirectory(dir, 0o077) {
		return "", fmt.Errorf("use the run directory %s: it is not a directory of this user's own (STO-01); set XDG_RUNTIME_DIR or use --runroot", dir)
	}
	return dir, nil
}
