package trust

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hull/oci"
)

func ref(t testing.TB, s string) oci.Reference {
	t.Helper()
	r, err := oci.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The most specific scope decides, what cannot be verified is refused, and a
// policy that is not understood lets nothing in.
func TestREG09Policy(t *testing.T) {
	accept, reject := `[{"type":"insecureAcceptAnything"}]`, `[{"type":"reject"}]`
	for name, c := range map[string]struct {
		policy string
		ok     bool
	}{
		"accept":          {`{"default":` + accept + `}`, true},
		"reject":          {`{"default":` + reject + `}`, false},
		"signed":          {`{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]}`, false},
		"accept, signed":  {`{"default":[{"type":"insecureAcceptAnything"},{"type":"sigstoreSigned","keyPath":"/k"}]}`, false},
		"fulcio":          {`{"default":[{"type":"sigstoreSigned","fulcio":{"caPath":"/k","oidcIssuer":"x","subjectEmail":"y"}}]}`, false},
		"no key":          {`{"default":[{"type":"sigstoreSigned"}]}`, false},
		"two keys":        {`{"default":[{"type":"sigstoreSigned","keyPath":"/k","keyData":"aGVsbG8="}]}`, false},
		"key type":        {`{"default":[{"type":"signedBy","keyType":"X509","keyPath":"/k"}]}`, false},
		"unknown type":    {`{"default":[{"type":"signedByNobody"}]}`, false},
		"unknown key":     {`{"default":[{"type":"insecureAcceptAnything","unless":"x"}]}`, false},
		"key twice":       {`{"default":` + reject + `,"default":` + accept + `}`, false},
		"other case":      {`{"default":` + reject + `,"Default":` + accept + `}`, false},
		"trailing":        {`{"default":` + accept + `} {}`, false},
		"empty":           {`{"default":[]}`, false},
		"empty scope":     {`{"default":` + accept + `,"transports":{"docker":{"r.invalid":[]}}}`, false},
		"garbage":         {`{`, false},
		"host":            {`{"default":` + reject + `,"transports":{"docker":{"r.invalid":` + accept + `}}}`, true},
		"repository":      {`{"default":` + accept + `,"transports":{"docker":{"r.invalid":` + accept + `,"r.invalid/a/b":` + reject + `}}}`, false},
		"namespace":       {`{"default":` + accept + `,"transports":{"docker":{"r.invalid/a":` + reject + `}}}`, false},
		"other namespace": {`{"default":` + accept + `,"transports":{"docker":{"r.invalid/c":` + reject + `}}}`, true},
		"tag":             {`{"default":` + accept + `,"transports":{"docker":{"r.invalid/a/b:1":` + reject + `}}}`, false},
		"wildcard":        {`{"default":` + accept + `,"transports":{"docker":{"*.invalid":` + reject + `}}}`, false},
		"transport":       {`{"default":` + accept + `,"transports":{"docker":{"":` + reject + `}}}`, false},
		"other transport": {`{"default":` + accept + `,"transports":{"dir":{"":` + reject + `}}}`, true},
	} {
		file := filepath.Join(t.TempDir(), "policy.json")
		if err := os.WriteFile(file, []byte(c.policy), 0o600); err != nil {
			t.Fatal(err)
		}
		name1 := ref(t, "r.invalid/a/b:1")
		rules, err := ReadPolicy(file).Rules("docker", NameScopes(name1))
		if err == nil {
			err = rules.Verify(name1, []oci.Digest{oci.FromBytes(nil)}, nil)
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok %v", name, err, c.ok)
		}
	}
	if _, err := ReadPolicy(t.TempDir()).Rules("docker", nil); err == nil {
		t.Error("a policy that is a directory lets an image in")
	}
	if _, err := ReadPolicy(filepath.Join(t.TempDir(), "none")).Rules("docker", nil); err != nil {
		t.Errorf("without a policy: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	digest := "@" + string(oci.FromBytes(nil))
	for _, c := range []struct {
		id          *Identity
		ref, signed string
		ok          bool
	}{
		{nil, "r.invalid/a:1", "r.invalid/a:1", true},
		{nil, "r.invalid/a:1", "r.invalid/a:2", false},
		{nil, "r.invalid/a:1", "r.invalid/b:1", false},
		{nil, "r.invalid/a:1", "r.invalid/a", false},
		{nil, "r.invalid/a" + digest, "r.invalid/a:2", true},
		{nil, "r.invalid/a" + digest, "r.invalid/b:2", false},
		{nil, "busybox:1", "docker.io/library/busybox:1", true},
		{nil, "r.invalid/a:1", "", false},
		{&Identity{Type: "matchExact"}, "r.invalid/a" + digest, "r.invalid/a:2", false},
		{&Identity{Type: "matchExact"}, "r.invalid/a:2", "r.invalid/a:2", true},
		{&Identity{Type: "matchRepository"}, "r.invalid/a:1", "r.invalid/a:2", true},
		{&Identity{Type: "matchRepository"}, "r.invalid/a:1", "r.invalid/a/b:1", false},
		{&Identity{Type: "exactReference", Reference: "q.invalid/x:1"}, "r.invalid/a:1", "q.invalid/x:1", true},
		{&Identity{Type: "exactReference", Reference: "q.invalid/x:1"}, "r.invalid/a:1", "r.invalid/a:1", false},
		{&Identity{Type: "exactRepository", Repository: "q.invalid/x"}, "r.invalid/a:1", "q.invalid/x:7", true},
		{&Identity{Type: "exactRepository", Repository: "q.invalid/x"}, "r.invalid/a:1", "q.invalid/xy:7", false},
		{&Identity{Type: "remapIdentity", Prefix: "r.invalid", SignedPrefix: "q.invalid/up"}, "r.invalid/a:1", "q.invalid/up/a:1", true},
		{&Identity{Type: "remapIdentity", Prefix: "r.inv", SignedPrefix: "q.invalid/up"}, "r.invalid/a:1", "q.invalid/up/a:1", false},
		{&Identity{Type: "remapIdentity", Prefix: "other", SignedPrefix: "q.invalid"}, "r.invalid/a:1", "r.invalid/a:1", true},
	} {
		err := c.id.matches(ref(t, c.ref), c.signed)
		if (err == nil) != c.ok {
			t.Errorf("%+v.matches(%s, %s) = %v, want ok %v", c.id, c.ref, c.signed, err, c.ok)
		}
	}
}

func TestLookaside(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", "default-docker:\n  sigstore: file:///default\n")
	write("b.yaml", "docker:\n  r.invalid:\n    lookaside: https://sig.invalid/r\n    lookaside-staging: file:///staging\n  r.invalid/a/b:\n    lookaside: file:///ab\n")
	write("empty.yaml", "")
	write("README", "{")
	l, err := ReadLookaside(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := oci.FromBytes(nil)
	end := "@sha256=" + d.Hex() + "/signature-2"
	for name, want := range map[string]string{
		"r.invalid/x/y:1": "https://sig.invalid/r/x/y" + end,
		"r.invalid/a/b:1": "file:///ab/a/b" + end,
		"busybox:1":       "file:///default/library/busybox" + end,
	} {
		if u, err := l.Read(ref(t, name).Normalized(), d, 2); err != nil || u.String() != want {
			t.Errorf("Read(%s) = %v, %v, want %s", name, u, err, want)
		}
	}
	if p, err := l.Write(ref(t, "r.invalid/x:1"), d, 1); err != nil || !strings.HasPrefix(p, "/staging/x@sha256=") {
		t.Errorf("Write = %s, %v", p, err)
	}
	write("c.yaml", "docker:\n  r.invalid: {}\n")
	if _, err := ReadLookaside(dir); err == nil {
		t.Error("a scope in two files: no error")
	}
	os.Remove(filepath.Join(dir, "c.yaml"))
	write("d.yaml", "docker: [")
	if _, err := ReadLookaside(dir); err == nil {
		t.Error("no YAML: no error")
	}
	if _, err := ReadLookaside(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}

// FuzzPolicy: a policy of any bytes is an error, or can be asked.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"default":[{"type":"reject"}],"transports":{"docker":{"r.invalid":[{"type":"signedBy","keyType":"GPGKeys","keyData":"aGVsbG8=","signedIdentity":{"type":"remapIdentity","prefix":"a","signedPrefix":"b"}}]}}}`))
	f.Add([]byte(`{"default":[{"type":"sigstoreSigned","keyDatas":["aGVsbG8="]},{"type":"insecureAcceptAnything"}]}`))
	name := oci.Reference{Domain: "r.invalid", Path: "a/b", Tag: "1"}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			return
		}
		for _, transport := range []string{"docker", "dir"} {
			rules, err := p.Rules(transport, NameScopes(name))
			if err != nil {
				continue
			}
			for i := range rules.List {
				q := &rules.List[i]
				if q.KeyPath != "" || len(q.KeyPaths) > 0 {
					return // a file of this machine
				}
			}
			err = rules.Verify(name, []oci.Digest{oci.FromBytes(nil)}, []Signature{{Raw: data}, {Payload: data, Raw: data}})
			if err == nil && rules.Signed("") {
				t.Errorf("a signature of any bytes is good: %s", data)
			}
		}
	})
}
