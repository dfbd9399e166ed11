package front

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hull/image"
)

func TestImageStores(t *testing.T) {
	dir := t.TempDir()
	own, podman, neither := filepath.Join(dir, "own"), filepath.Join(dir, "podman"), filepath.Join(dir, "neither")
	for _, d := range []string{own + "/images/records", podman + "/overlay-images", neither} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(dir, "storage.conf")
	t.Setenv("CONTAINERS_STORAGE_CONF", conf)
	t.Setenv("STORE", own)
	for _, c := range []struct {
		text, option string
		want         []string
		foreign      int
		fails        bool
	}{
		{text: ""},
		{text: "[storage.options]\nadditionalimagestores = [\n  '$STORE', # ours\n \"" + podman + "\",\n]\n", want: []string{own}, foreign: 1},
		{text: "[storage.options]\nadditionalimagestores = ['relative']", fails: true},
		{text: "[storage.options]\nadditionalimagestores = 'x'", fails: true},
		{text: "not toml", fails: true},
		{option: "overlay.imagestore=" + own, want: []string{own}},
		{option: "additionalimagestore=" + podman, fails: true},
		{option: "imagestore=" + neither, fails: true},
		{option: "imagestore=" + dir + "/none", fails: true},
	} {
		if err := os.WriteFile(conf, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		g := Globals{}
		if c.option != "" {
			g.StorageOpts = []string{c.option}
		}
		stores, foreign, err := g.imageStores()
		if (err != nil) != c.fails || !slices.Equal(stores, c.want) || len(foreign) != c.foreign {
			t.Errorf("%q %s: %v %v %v", c.text, c.option, stores, foreign, err)
		}
		for _, f := range foreign {
			if !errors.Is(f, image.ErrForeign) {
				t.Errorf("foreign: %v", f)
			}
		}
	}
	os.Remove(conf)
	if stores, _, err := (&Globals{}).imageStores(); err != nil || stores != nil {
		t.Errorf("without a file: %v %v", stores, err)
	}
}
