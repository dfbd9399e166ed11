package transfer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"hull/image"
)

// dockerd answers as a docker daemon does for one image, on a socket.
func dockerd(t *testing.T, archive []byte, got *bytes.Buffer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet && r.URL.Path == "/images/busybox:1/get":
			w.Write(archive)
		case r.Method == http.MethodPost && r.URL.Path == "/images/load":
			io.Copy(got, r.Body)
			if strings.Contains(r.Host, "fail") {
				fmt.Fprintln(w, `{"error":"no space"}`)
			}
			fmt.Fprintln(w, `{"stream":"Loaded image"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"No such image"}`)
		}
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	t.Setenv("DOCKER_HOST", "unix://"+path)
}

func TestDockerDaemon(t *testing.T) {
	quiet(t)
	ctx := context.Background()
	f := newFixture("amd64", true, []byte("content"))
	host := (&fake{f: f}).serve(t)
	x := harness(t, t.TempDir())
	p, err := x.Pull(ctx, host+"/x:1", PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var archive, got bytes.Buffer
	if err := x.Images.Save(ctx, &archive, []image.SaveItem{{Image: p[0].Image}}, image.SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	dockerd(t, archive.Bytes(), &got)
	y := harness(t, t.TempDir())
	pulled, err := y.Pull(ctx, "docker-daemon:busybox:1", PullOptions{})
	if err != nil || pulled[0].Image.ID != p[0].Image.ID || pulled[0].Image.Names[0].String() != "docker.io/library/busybox:1" {
		t.Errorf("pulled %v, %v", pulled, err)
	}
	if _, err := y.Pull(ctx, "docker-daemon:nosuch:1", PullOptions{}); err == nil || !strings.Contains(err.Error(), "No such image") {
		t.Errorf("an image that is not there: %v", err)
	}
	if _, err := x.Push(ctx, host+"/x:1", "docker-daemon:other:2", PushOptions{}); err != nil {
		t.Error(err)
	}
	var names []string
	for r := tar.NewReader(&got); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "manifest.json" {
			data, _ := io.ReadAll(r)
			names = append(names, string(data))
		}
	}
	if len(names) != 1 || !strings.Contains(names[0], `"docker.io/library/other:2"`) {
		t.Errorf("docker got %v", names)
	}
	t.Setenv("DOCKER_HOST", "unix:///nosuch/docker.sock")
	if _, err := y.Pull(ctx, "docker-daemon:busybox:1", PullOptions{}); err == nil {
		t.Error("without a daemon: no error")
	}
}
