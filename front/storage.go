package front

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hull/userns"
)

// StorageDriver is the driver that a new store gets when no flag says one: that
// of the variable STORAGE_DRIVER, or of the first storage.conf that names one,
// "" if none does. An existing store has its own.
func StorageDriver() (string, error) {
	if d := os.Getenv("STORAGE_DRIVER"); d != "" {
		return d, nil
	}
	for _, file := range storageConfFiles() {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read storage configuration: %w", err)
		}
		d, err := driverOf(string(text))
		if err != nil {
			return "", fmt.Errorf("read %s: %w", file, err)
		}
		if d != "" {
			return d, nil
		}
	}
	return "", nil
}

func storageConfFiles() []string {
	if file := os.Getenv("CONTAINERS_STORAGE_CONF"); file != "" {
		return []string{file}
	}
	var files []string
	if userns.Rootless() {
		if dir, err := os.UserConfigDir(); err == nil {
			files = append(files, filepath.Join(dir, "containers", "storage.conf"))
		}
	}
	return append(files, "/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
}

// driverOf finds the key driver of the table [storage]. The rest of the file is
// for other programs; a reader of all of TOML would weigh on every start.
func driverOf(conf string) (string, error) {
	table := ""
	for line := range strings.Lines(conf) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			name, _, _ := strings.Cut(line, "#")
			table = strings.TrimSpace(name)
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if table != "[storage]" || !ok || strings.TrimSpace(key) != "driver" {
			continue
		}
		value = strings.TrimSpace(value)
		if value != "" && (value[0] == '"' || value[0] == '\'') {
			if name, rest, ok := strings.Cut(value[1:], value[:1]); ok {
				if rest = strings.TrimSpace(rest); rest == "" || rest[0] == '#' {
					return name, nil
				}
			}
		}
		return "", fmt.Errorf("driver = %s: it is no string", value)
	}
	return "", nil
}
