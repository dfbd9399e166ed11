package transfer

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"hull/image"
	"hull/oci"
)

// multi sends an image of two platforms and returns the digest of its index.
func multi(t *testing.T, host, name string) oci.Digest {
	t.Helper()
	x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex}
	var first *fixture
	for _, arch := range []string{"amd64", "arm64"} {
		f := newFixture(arch, false, []byte("for "+arch))
		f.send(t, host, name, arch)
		x.Manifests = append(x.Manifests, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.FromBytes(f.manifest), Size: int64(len(f.manifest)),
			Platform: &oci.Platform{OS: "linux", Architecture: arch}})
		first = f
	}
	index := *first
	index.manifest, _ = json.Marshal(x)
	index.m.MediaType = oci.MediaTypeIndex
	index.send(t, host, name, "1")
	return oci.FromBytes(index.manifest)
}

// A list of a local image and of one that stays in its registry is pushed
// whole, and no blob of it stays here.
func TestListsThereAndBack(t *testing.T) {
	quiet(t)
	ctx := context.Background()
	host := realRegistry(t)
	multi(t, host, "multi")
	root := t.TempDir()
	x := harness(t, root)
	if _, err := x.Pull(ctx, host+"/multi:amd64", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.CreateList(ctx, "localhost/bad:1", []string{"nosuch.invalid/x:1"}, false, AddOptions{}); err == nil {
		t.Error("a list of what is not there was made")
	}
	if ok, _ := x.Images.Exists(ctx, "localhost/bad:1"); ok {
		t.Error("the list stayed")
	}
	if _, err := x.CreateList(ctx, "localhost/list:1", []string{host + "/multi:amd64"}, false, AddOptions{}); err != nil {
		t.Fatal(err)
	}
	l, err := x.AddToList(ctx, "localhost/list:1", "docker://"+host+"/multi:1", AddOptions{All: true, Annotations: map[string]string{"a": "b"}})
	if err != nil || len(l.List.Entries) != 2 {
		t.Fatalf("add: %v %v", l.List, err)
	}
	for _, c := range []struct{ tag, format, want string }{
		{"oci", "", oci.MediaTypeIndex}, {"docker", "v2s2", oci.DockerManifestList}, {"zstd", "", oci.MediaTypeIndex},
	} {
		o := PushListOptions{PushOptions: PushOptions{Format: c.format}}
		if c.tag == "zstd" {
			o.Compression, o.Force = image.Zstd, true
		}
		p, err := x.PushList(ctx, "localhost/list:1", host+"/copy:"+c.tag, o)
		if err != nil {
			t.Errorf("push %s: %v", c.tag, err)
			continue
		}
		raw := skopeo(t, "inspect", "--tls-verify=false", "--raw", "docker://"+host+"/copy:"+c.tag)
		got, err := oci.DecodeIndex([]byte(raw))
		if err != nil || got.MediaType != c.want || len(got.Manifests) != 2 || oci.FromBytes([]byte(raw)) != p.Digest {
			t.Errorf("%s: %v %s", c.tag, err, raw)
		}
		skopeo(t, "copy", "-q", "--all", "--src-tls-verify=false", "docker://"+host+"/copy:"+c.tag, "dir:"+t.TempDir())
		for _, arch := range []string{"amd64", "arm64"} {
			if _, err := harness(t, t.TempDir()).Pull(ctx, host+"/copy:"+c.tag, PullOptions{Platform: oci.Platform{Architecture: arch}}); err != nil {
				t.Errorf("%s: pull %s: %v", c.tag, arch, err)
			}
		}
	}
	if _, err := x.Images.RemoveList(ctx, "localhost/list:1"); err != nil {
		t.Fatal(err)
	}
	img, err := x.Images.Resolve(ctx, host+"/multi:amd64")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	x.Images.Blobs().Walk(func(d oci.Digest, _ int64) error { n++; return nil })
	if want := 2 + len(img.Layers); n != want {
		t.Errorf("%d blobs are here, want the image's %d", n, want)
	}
}

func TestInspectReadsWithoutPulling(t *testing.T) {
	quiet(t)
	ctx := context.Background()
	host := realRegistry(t)
	want := multi(t, host, "multi")
	root := t.TempDir()
	x := harness(t, root)
	data, err := x.Inspect(ctx, host+"/multi:1")
	if err != nil || oci.FromBytes(data) != want {
		t.Errorf("%v: %s", err, data)
	}
	if _, err := x.Inspect(ctx, host+"/multi:none"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a tag that is not there: %v", err)
	}
	if left := leftovers(t, root); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
