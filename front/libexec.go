package front

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// missingBinary is an incomplete installation.
type missingBinary struct {
	name string
	dirs []string
}

func (e *missingBinary) Error() string {
	return fmt.Sprintf("find %s: not in %s", e.name, strings.Join(e.dirs, ", "))
}

func (e *missingBinary) Unwrap() error { return fs.ErrNotExist }

func (e *missingBinary) Hint() string {
	return "it belongs beside hull, in libexec/hull: make install puts it there"
}

// Libexec finds a binary of the installation: below the directory of this
// executable, beside that directory, or unpacked in the user's data.
func Libexec(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the own executable: %w", err)
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	bin := filepath.Dir(self)
	dirs := []string{
		filepath.Join(bin, "libexec", "hull"),
		filepath.Join(filepath.Dir(bin), "libexec", "hull"),
		bin, // of a program that lies there itself
	}
	for _, d := range dirs {
		p := filepath.Join(d, name)
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", &missingBinary{name, dirs}
}

// Hull finds the program hull from one that lies in libexec/hull: monitors
// execute it to clean up.
func Hull() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the own executable: %w", err)
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	up := filepath.Dir(filepath.Dir(filepath.Dir(self)))
	dirs := []string{up, filepath.Join(up, "bin"), filepath.Dir(self)}
	for _, d := range dirs {
		p := filepath.Join(d, "hull")
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", &missingBinary{"hull", dirs}
}
