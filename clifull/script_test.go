package clifull

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"hull/oci"
)

// TestMain lets the scripts run this test's own binary as hull.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"hull": func() {
			if err := standIn(); err != nil {
				panic(err)
			}
			args := append([]string{"hull", "--root", os.Getenv("STORE"), "--runroot", os.Getenv("RUN_DIR")}, os.Args[1:]...)
			os.Exit(Run(context.Background(), args, os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// standIn puts files where hull and hull-monitor belong: no script starts them.
func standIn() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(self), "libexec", "hull")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "hull-monitor"), nil, 0o755)
}

// The scripts talk to a registry in memory that also has images with faults.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			if os.Getuid() != 0 {
				t.Skip("a user's commands begin anew in a namespace that holds no test")
			}
			s := httptest.NewServer(newFaulty())
			e.Defer(s.Close)
			e.Setenv("R", strings.TrimPrefix(s.URL, "http://"))
			free, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			e.Setenv("FREE", free.Addr().String())
			free.Close()
			e.Setenv("STORE", filepath.Join(e.WorkDir, "store"))
			e.Setenv("RUN_DIR", filepath.Join(e.WorkDir, "run"))
			conf := filepath.Join(e.WorkDir, "registries.conf")
			e.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
			e.Setenv("HOME", e.WorkDir)
			return os.WriteFile(conf, []byte("[[registry]]\nlocation = \""+strings.TrimPrefix(s.URL, "http://")+"\"\ninsecure = true\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code, "tmpfs": tmpfs, "blobs": blobs, "waitfor": waitfor},
	})
}

// code CODE COMMAND... runs hull and compares its exit code.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: code CODE ARG...")
	}
	err := ts.Exec("sh", append([]string{"-c", `"$@"; test $? -eq ` + args[0], "sh", "hull"}, args[1:]...)...)
	if (err == nil) == neg {
		ts.Fatalf("hull %v: exit code is not %s", args[1:], args[0])
	}
}

// tmpfs DIR SIZE mounts a small file system for the rest of the script.
func tmpfs(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(unix.Mount("none", dir, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { ts.Check(unix.Unmount(dir, unix.MNT_DETACH)) })
}

// waitfor ADDRESS waits until somebody listens there.
func waitfor(ts *testscript.TestScript, _ bool, args []string) {
	for range 200 {
		if c, err := net.Dial("tcp", args[0]); err == nil {
			c.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("nobody listens at %s", args[0])
}

// blobs STORE N: the store has N blobs and no record; with ! it may have records.
func blobs(ts *testscript.TestScript, neg bool, args []string) {
	count := func(dir string) int {
		entries, _ := os.ReadDir(filepath.Join(ts.MkAbs(args[0]), dir))
		return len(entries)
	}
	if n := count("images/records"); n != 0 && !neg {
		ts.Fatalf("%d images are in the store", n)
	}
	var want int
	ts.Check(json.Unmarshal([]byte(args[1]), &want))
	if n := count("sha256") + count("partial"); n != want {
		ts.Fatalf("%d blobs and partial blobs are in the store, want %s", n, args[1])
	}
}

// A faulty registry has one repository an image, each with the tag 1, that is
// what its name says.
type faulty struct {
	blobs     map[oci.Digest][]byte
	manifests map[string][]byte
}

func newFaulty() *faulty {
	f := &faulty{map[oci.Digest][]byte{}, map[string][]byte{}}
	f.image("good", 10, nil, nil)
	f.image("big", 8<<20, nil, nil)
	f.image("badconfig", 10, []byte(`{"architecture":`), nil)
	f.image("truncated", 1<<20, nil, func(b []byte) []byte { return b[:len(b)/2] })
	f.image("wrong", 1<<20, nil, func(b []byte) []byte {
		c := bytes.Clone(b)
		c[len(c)/2] ^= 1
		return c
	})
	f.manifests["badmanifest"] = []byte(`{"schemaVersion":2,`)
	f.manifests["nothing"] = []byte(`{}`)
	return f
}

func (f *faulty) put(mediaType string, data []byte) oci.Descriptor {
	d := oci.FromBytes(data)
	f.blobs[d] = data
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

// image makes one of a layer of size bytes that do not compress.
func (f *faulty) image(name string, size int, config []byte, damage func([]byte) []byte) {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte([]byte(name + strings.Repeat(" ", 32))[:32])).Read(data)
	var raw, packed bytes.Buffer
	t := tar.NewWriter(&raw)
	t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o644, Size: int64(size)})
	t.Write(data)
	t.Close()
	z := gzip.NewWriter(&packed)
	z.Write(raw.Bytes())
	z.Close()
	if config == nil {
		config, _ = json.Marshal(oci.Image{Architecture: "amd64", OS: "linux", RootFS: oci.RootFS{Type: "layers", DiffIDs: []oci.Digest{oci.FromBytes(raw.Bytes())}}})
	}
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: f.put(oci.MediaTypeConfig, config),
		Layers: []oci.Descriptor{f.put(oci.MediaTypeLayerGzip, packed.Bytes())}}
	if damage != nil {
		f.blobs[m.Layers[0].Digest] = damage(packed.Bytes())
	}
	f.manifests[name], _ = json.Marshal(m)
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v2/" {
		return
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
	kind, last, _ := strings.Cut(rest, "/")
	data := f.blobs[oci.Digest(last)]
	if kind == "manifests" {
		if data = f.manifests[name]; last != "1" && last != string(oci.FromBytes(data)) {
			data = nil
		}
		w.Header().Set("Content-Type", oci.MediaTypeManifest)
	}
	if data == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Write(data)
}
