package registry

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"

	"hull/oci"
)

// FuzzRegistriesConf: a registries.conf of any bytes is an error, or leads to
// names that can be asked for; and a blocked registry is not asked.
func FuzzRegistriesConf(f *testing.F) {
	f.Add("unqualified-search-registries = ['r.invalid', 'q.invalid/team']\nshort-name-mode = 'permissive'\n[aliases]\nfx = 'q.invalid/a/fx'\n")
	f.Add("[[registry]]\nprefix = '*.invalid'\nblocked = true\n[[registry]]\nprefix = 'r.invalid/a'\nlocation = 'q.invalid/b'\n[[registry.mirror]]\nlocation = 'm.invalid'\ninsecure = true\npull-from-mirror = 'digest-only'\n")
	f.Add("[registries.search]\nregistries = ['r.invalid']\n[registries.insecure]\nregistries = ['r.invalid']\n")
	dir := f.TempDir()
	f.Setenv("HOME", dir)
	path := filepath.Join(dir, "registries.conf")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		sysregistriesv2.InvalidateCache()
		c := New(Options{})
		c.sys.SystemRegistriesConfPath, c.sys.SystemRegistriesConfDirPath = path, filepath.Join(dir, "none")
		c.sys.UserShortNameAliasConfPath = filepath.Join(dir, "aliases")
		if names, err := c.SearchRegistries(); err == nil && len(names) == 0 {
			t.Error("no registry is searched")
		}
		for _, name := range []string{"fx", "a/fx:1", "r.invalid/a/fx:1", "r.invalid/a@" + string(oci.FromBytes(nil))} {
			ref, err := oci.ParseReference(name)
			if err != nil {
				t.Fatal(err)
			}
			candidates, _, err := c.Resolve(ref)
			if err != nil {
				continue
			}
			for _, p := range candidates {
				if p.Reference.IsShort() || p.Reference.Tag == "" && p.Reference.Digest == "" {
					t.Errorf("%s means %s, which cannot be asked for", name, p.Reference)
				}
				ends, err := c.endpoints(p.Reference, true)
				if err != nil {
					continue
				}
				if len(ends) == 0 {
					t.Errorf("%s is nowhere", p.Reference)
				}
				for _, e := range ends {
					// A location may be a host that names cannot have, with "_" in it.
					host := reference.Domain(e.ref)
					if u, err := url.Parse("https://" + host + "/v2/" + reference.Path(e.ref)); err != nil || u.Host != host || u.User != nil {
						t.Errorf("%s is at %s: %v", p.Reference, e.ref, err)
					}
				}
				if reg, err := sysregistriesv2.FindRegistry(c.sys, p.Reference.Name()); err == nil && reg != nil && reg.Blocked {
					t.Errorf("%s is blocked, and there are endpoints", p.Reference)
				}
			}
		}
	})
}
