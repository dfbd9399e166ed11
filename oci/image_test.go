package oci

import (
	"encoding/json"
	"strings"
	"testing"
)

var zeros = strings.Repeat("0", 64)

func manifestText(digest, extra string) string {
	return `{"schemaVersion":2,"mediaType":"` + MediaTypeManifest + `","config":{"mediaType":"x","digest":"` + digest + `","size":2},` +
		`"layers":[{"mediaType":"` + MediaTypeLayerGzip + `","digest":"sha256:` + zeros + `","size":10}]` + extra + `}`
}

func TestDecodeManifest(t *testing.T) {
	m, err := DecodeManifest([]byte(manifestText("sha256:"+zeros, "")))
	if err != nil || len(m.Layers) != 1 || m.Layers[0].Size != 10 {
		t.Fatalf("DecodeManifest = %+v, %v", m, err)
	}
}

// REG-03: what two readers may understand differently is refused.
func TestREG03Ambiguous(t *testing.T) {
	ok := "sha256:" + zeros
	for name, text := range map[string]string{
		"duplicate key":         manifestText(ok, `,"config":{"digest":"`+ok+`","size":1}`),
		"key in another case":   manifestText(ok, `,"Layers":[]`),
		"trailing data":         manifestText(ok, "") + "{}",
		"two documents":         manifestText(ok, "") + manifestText(ok, ""),
		"schema 1":              strings.Replace(manifestText(ok, ""), `"schemaVersion":2`, `"schemaVersion":1`, 1),
		"an index in its place": strings.Replace(manifestText(ok, ""), MediaTypeManifest, MediaTypeIndex, 1),
		"not JSON":              "<html>",
		"deep nesting":          manifestText(ok, `,"annotations":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)),
	} {
		if _, err := DecodeManifest([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := DecodeManifest([]byte(manifestText(ok, `,"annotations":{"a":"1","A":"2"}`))); err != nil {
		t.Errorf("annotations that differ in case: %v", err)
	}
}

// REG-08: a digest that is none is an error in every place it can stand.
func TestREG08DigestEverywhere(t *testing.T) {
	for _, bad := range []string{"", "sha256", "sha256:", "sha256:../../../etc/passwd", "sha256:" + strings.ToUpper(strings.Repeat("a", 64)), "md5:" + zeros, "sha512:" + zeros, "sha256:" + zeros + "0"} {
		quoted, _ := json.Marshal(bad)
		q := string(quoted)
		for where, text := range map[string]string{
			"config":  manifestText(strings.Trim(q, `"`), ""),
			"layer":   strings.Replace(manifestText("sha256:"+zeros, ""), `"layers":[{"mediaType":"`+MediaTypeLayerGzip+`","digest":"sha256:`+zeros+`"`, `"layers":[{"digest":`+q, 1),
			"subject": manifestText("sha256:"+zeros, `,"subject":{"digest":`+q+`,"size":1}`),
		} {
			if _, err := DecodeManifest([]byte(text)); err == nil {
				t.Errorf("%s %q: accepted", where, bad)
			}
		}
		if _, err := DecodeIndex([]byte(`{"schemaVersion":2,"manifests":[{"digest":` + q + `,"size":1}]}`)); err == nil {
			t.Errorf("index %q: accepted", bad)
		}
		if _, err := DecodeImage([]byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[` + q + `]}}`)); err == nil {
			t.Errorf("diff id %q: accepted", bad)
		}
	}
}

// REG-07: more than 4 MiB is refused before it is parsed.
func TestREG07Size(t *testing.T) {
	big := []byte(manifestText("sha256:"+zeros, `,"annotations":{"a":"`+strings.Repeat("x", int(MaxManifestSize))+`"}`))
	if _, err := DecodeManifest(big); err == nil {
		t.Error("a manifest of more than 4 MiB was accepted")
	}
	if _, err := DecodeManifest([]byte(strings.Replace(manifestText("sha256:"+zeros, ""), `"size":2`, `"size":5000000000`, 1))); err == nil {
		t.Error("a config of 5 GB was accepted")
	}
}

func TestChainID(t *testing.T) {
	a, b := FromBytes([]byte("a")), FromBytes([]byte("b"))
	if ChainID(nil) != "" || ChainID([]Digest{a}) != a {
		t.Error("the chain ID of no or one layer is not what the specification says")
	}
	if got, want := ChainID([]Digest{a, b}), FromBytes([]byte(string(a)+" "+string(b))); got != want {
		t.Errorf("ChainID = %s, want %s", got, want)
	}
}

func FuzzDecodeManifest(f *testing.F) {
	f.Add([]byte(manifestText("sha256:"+zeros, "")))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeManifest(data)
		if err != nil {
			return
		}
		for _, d := range append(m.Layers, m.Config) {
			if d.Validate() != nil {
				t.Errorf("accepted with the descriptor %+v", d)
			}
		}
	})
}

func FuzzDecodeIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:` + zeros + `","size":1,"platform":{"os":"linux","architecture":"amd64"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := DecodeIndex(data)
		if err != nil {
			return
		}
		for _, d := range x.Manifests {
			if d.Validate() != nil {
				t.Errorf("accepted with the descriptor %+v", d)
			}
		}
	})
}

func FuzzDecodeImage(f *testing.F) {
	f.Add([]byte(`{"architecture":"amd64","os":"linux","config":{"Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":["sha256:` + zeros + `"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeImage(data)
		if err != nil {
			return
		}
		ChainID(c.RootFS.DiffIDs)
	})
}
