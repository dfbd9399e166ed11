package front

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"hull/image"
	"hull/userns"
)

// storageFiles are where storage.conf is looked for: the first that is there
// counts.
func storageFiles() []string {
	if f := os.Getenv("CONTAINERS_STORAGE_CONF"); f != "" {
		return []string{f}
	}
	var files []string
	if userns.Rootless() {
		dir := os.Getenv("XDG_CONFIG_HOME")
		if dir == "" {
			dir = filepath.Join(os.Getenv("HOME"), ".config")
		}
		files = append(files, filepath.Join(dir, "containers", "storage.conf"))
	}
	return append(files, "/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
}

// configuredStores are additionalimagestores of storage.conf. Nothing else of
// that file concerns this program: its store is another.
func configuredStores(files []string) ([]string, error) {
	for _, f := range files {
		data, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var conf struct {
			Storage struct {
				Options struct {
					Stores []string `toml:"additionalimagestores"`
				} `toml:"options"`
			} `toml:"storage"`
		}
		if err == nil {
			err = toml.Unmarshal(data, &conf)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f, err)
		}
		return conf.Storage.Options.Stores, nil
	}
	return nil, nil
}

// imageStores finds the directories of further image stores: those of the
// options imagestore= and additionalimagestore=, which must be stores of this
// program, and those of storage.conf, of which others' are passed over and
// returned as foreign.
func (g *Globals) imageStores() (stores []string, foreign []error, err error) {
	for _, o := range g.StorageOpts {
		key, value, _ := strings.Cut(o, "=")
		switch key[strings.LastIndexByte(key, '.')+1:] {
		case "imagestore", "additionalimagestore":
			for dir := range strings.SplitSeq(value, ",") {
				if err := image.CheckOther(dir); err != nil {
					return nil, nil, err
				}
				stores = append(stores, dir)
			}
		}
	}
	dirs, err := configuredStores(storageFiles())
	if err != nil {
		return nil, nil, err
	}
	for _, dir := range dirs {
		dir = os.ExpandEnv(dir)
		if !filepath.IsAbs(dir) {
			return nil, nil, fmt.Errorf("use image store %q of storage.conf: it is no absolute path", dir)
		}
		if err := image.CheckOther(dir); err != nil {
			foreign = append(foreign, err)
		} else if !slices.Contains(stores, dir) {
			stores = append(stores, dir)
		}
	}
	return stores, foreign, nil
}
