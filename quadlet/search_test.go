package quadlet

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSearchPaths(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{
		"run/containers/systemd/a", "etc/containers/systemd/a", "etc/containers/systemd/b", "etc/containers/systemd/sub/deep/c",
		"usr/share/containers/systemd/b", "usr/share/containers/systemd/d", "etc/containers/systemd/users/all", "etc/containers/systemd/users/more/m",
		"etc/containers/systemd/users/1000/own", "etc/containers/systemd/users/1001/other", "usr/share/containers/systemd/users/shared",
		"home/.config/containers/systemd/h", "home/.config/containers/systemd/all", "config/containers/systemd/x", "runtime/containers/systemd/r",
	} {
		write(t, dir, f+".container", "[Container]\nImage=localhost/x\n", false)
	}
	write(t, dir, "etc/containers/systemd/loop", dir+"/etc/containers/systemd", true)
	write(t, dir, "etc/containers/systemd/a.container.d/x.conf", "[Container]\n", false)
	write(t, dir, "etc/containers/systemd/not.txt", "x", false)
	home, runtime := filepath.Join(dir, "home"), filepath.Join(dir, "runtime")
	for name, tt := range map[string]struct {
		s    Search
		want string
	}{
		"system":      {Search{}, "run/a etc/b etc/sub/deep/c usr/share/d"},
		"user":        {Search{User: true, UID: 1000, Home: home}, "home/.config/all home/.config/h etc/users/more/m etc/users/1000/own usr/share/users/shared"},
		"config home": {Search{User: true, UID: 7, Home: home, ConfigHome: filepath.Join(dir, "config")}, "etc/users/all etc/users/more/m usr/share/users/shared config/x"},
		"runtime":     {Search{User: true, UID: 1001, RuntimeDir: runtime}, "etc/users/all etc/users/more/m etc/users/1001/other runtime/r usr/share/users/shared"},
		"own":         {Search{Dirs: filepath.Join(dir, "usr/share/containers/systemd") + ":" + filepath.Join(dir, "etc/containers/systemd/sub")}, "usr/share/b etc/sub/deep/c usr/share/d usr/share/users/shared"},
	} {
		tt.s.root = dir
		units, err := tt.s.Load()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, u := range units {
			p := strings.TrimSuffix(strings.Replace(strings.TrimPrefix(u.Path, dir+"/"), "containers/systemd/", "", 1), ".container")
			got = append(got, p)
		}
		want := strings.Fields(tt.want)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, err := (Search{Dirs: "relative"}).Load(); err == nil {
		t.Error("a relative directory is taken")
	}
}

func TestInstallDir(t *testing.T) {
	for want, s := range map[string]Search{
		"/etc/containers/systemd":              {},
		"/home/ann/.config/containers/systemd": {User: true, Home: "/home/ann"},
		"/cfg/containers/systemd":              {User: true, Home: "/home/ann", ConfigHome: "/cfg"},
		"/one":                                 {Dirs: "/one:/two"},
	} {
		if got, err := s.InstallDir(); got != want || err != nil {
			t.Errorf("InstallDir(%+v) = %s, %v; want %s", s, got, err, want)
		}
	}
}

// What is no regular file is not waited for.
func TestLoadRefusesOddFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "zero.container")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "big.container", strings.Repeat("# a comment\n", 1<<17), false)
	write(t, dir, "gone.container", "nowhere", true)
	units, err := Search{Dirs: dir}.Load()
	if len(units) != 0 || err == nil || !strings.Contains(err.Error(), "no regular file") || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("Load = %v, %v", units, err)
	}
}

func TestLinks(t *testing.T) {
	for _, tt := range []struct{ name, install, want string }{
		{"a.service", "WantedBy=x.target y.target\nRequiredBy=z.service\nUpheldBy=u.service", "x.target.wants/a.service y.target.wants/a.service z.service.requires/a.service u.service.upholds/a.service"},
		{"a.service", "Alias=b.service \"c d.service\" in/dir/e.service in/../f.service", "b.service|c d.service|in/dir/e.service|f.service"},
		{"a.service", "Alias=../up.service /abs.service\nWantedBy=a/b ../c", ""},
		{"a@.service", "WantedBy=x.target", ""},
		{"a@.service", "WantedBy=x.target\nDefaultInstance=1", "x.target.wants/a@1.service"},
		{"a@.service", "WantedBy=x.target\nDefaultInstance=../1", ""},
		{"a@7.service", "WantedBy=x.target\nDefaultInstance=1", "x.target.wants/a@7.service"},
	} {
		u, err := Parse(tt.name, []byte("[Install]\n"+tt.install+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		sep := " "
		if strings.Contains(tt.want, "|") {
			sep = "|"
		}
		if got := strings.Join(links(u), sep); got != tt.want {
			t.Errorf("%s of %s: %q, want %q", tt.install, tt.name, got, tt.want)
		}
	}
}
