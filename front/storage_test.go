package front

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDriverOf(t *testing.T) {
	for conf, want := range map[string]string{
		"":                              "",
		"[storage]\ndriver = \"vfs\"\n": "vfs",
		"# driver = \"x\"\n[storage]\n  driver='btrfs' # here\n[other]\ndriver=\"y\"": "btrfs",
		"[storage.options]\ndriver = \"x\"\n[storage]\nrunroot = \"/r\"\n":            "",
		"driver = \"x\"\n":                                           "",
		"[ storage ] # no\ndriver = \"x\"":                           "",
		"[storage] # yes\ndriver = \"\"":                             "",
		"[storage]\ndriver_priority = [\"x\"]\ndriver = \"overlay\"": "overlay",
	} {
		if got, err := driverOf(conf); got != want || err != nil {
			t.Errorf("driverOf(%q) = %q, %v, want %q", conf, got, err, want)
		}
	}
	for _, conf := range []string{"[storage]\ndriver = vfs", "[storage]\ndriver = \"vfs", "[storage]\ndriver = \"vfs\" x"} {
		if got, err := driverOf(conf); err == nil {
			t.Errorf("driverOf(%q) = %q", conf, got)
		}
	}
}

func TestStorageDriver(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "storage.conf")
	if err := os.WriteFile(conf, []byte("[storage]\ndriver = \"vfs\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_STORAGE_CONF", conf)
	t.Setenv("STORAGE_DRIVER", "")
	if got, err := StorageDriver(); got != "vfs" || err != nil {
		t.Errorf("of the file: %q, %v", got, err)
	}
	t.Setenv("STORAGE_DRIVER", "btrfs")
	if got, err := StorageDriver(); got != "btrfs" || err != nil {
		t.Errorf("of the environment: %q, %v", got, err)
	}
	t.Setenv("STORAGE_DRIVER", "")
	t.Setenv("CONTAINERS_STORAGE_CONF", conf+"-none")
	if got, err := StorageDriver(); got != "" || err != nil {
		t.Errorf("of no file: %q, %v", got, err)
	}
}
