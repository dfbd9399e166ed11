package build

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/image"
	"hull/oci"
)

// An SBOM says where the list of an image's packages goes: as SPDX 2.3, and as
// one package URL a line. It is read from the image's own files (the databases of
// dpkg, apk and rpm, what Go binaries say of themselves), without another program.
type SBOM struct {
	Output, PURLOutput           string // files of the machine
	ImageOutput, ImagePURLOutput string // paths in the image
}

func (s SBOM) wanted() bool { return s != SBOM{} }

// A component is one package.
type component struct {
	Name, Version, PURL string
}

// sbom writes the lists, and adds those that belong into the image.
func (st *stage) sbom(ctx context.Context) error {
	s := st.b.o.SBOM
	t, err := st.b.chainTree(st.chain(), "image")
	if err != nil {
		return err
	}
	all, err := components(ctx, t)
	if err != nil {
		return err
	}
	created := st.b.o.now()
	if st.config.Created != nil {
		created = *st.config.Created
	}
	doc, err := spdx(st.from, created, all, st.b.Version)
	if err != nil {
		return err
	}
	var lines strings.Builder
	for _, c := range all {
		lines.WriteString(c.PURL + "\n")
	}
	files := map[string][]byte{}
	for _, x := range []struct {
		host, inside string
		data         []byte
	}{{s.Output, s.ImageOutput, doc}, {s.PURLOutput, s.ImagePURLOutput, []byte(lines.String())}} {
		if x.host != "" {
			if err := os.WriteFile(x.host, x.data, 0o644); err != nil {
				return fmt.Errorf("write the list of packages: %w", err)
			}
		}
		if x.inside != "" {
			files[path.Clean("/"+x.inside)] = x.data
		}
	}
	if len(files) == 0 {
		return nil
	}
	return st.addFiles(ctx, files, created)
}

// addFiles adds a layer of files.
func (st *stage) addFiles(ctx context.Context, files map[string][]byte, at time.Time) error {
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	l, err := st.addTar(ctx, func(w *tar.Writer) error {
		for _, n := range names {
			h := &tar.Header{Typeflag: tar.TypeReg, Name: n[1:], Mode: 0o644, Size: int64(len(files[n])), ModTime: st.b.time(at), Format: tar.FormatPAX}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			if _, err := w.Write(files[n]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	st.add(image.Step{Layer: l, Parent: st.chain(), Created: at}, nop("SBOM "+strings.Join(names, " ")))
	return nil
}

// components finds the packages of a tree, sorted and once each.
func components(ctx context.Context, t *tree) ([]component, error) {
	var all []component
	distro := t.osRelease()
	for _, db := range []struct {
		path  string
		parse func(t *tree, distro, path string) []component
	}{{"/var/lib/dpkg/status", dpkg}, {"/lib/apk/db/installed", apk}} {
		real, err := t.resolve(db.path, true)
		if err != nil {
			return nil, err
		}
		if st, err := t.lstat(real); err == nil && !isDir(st) {
			all = append(all, db.parse(t, distro, real)...)
		}
	}
	for _, p := range rpmDatabases {
		real, err := t.resolve(p, true)
		if err != nil {
			return nil, err
		}
		if st, err := t.lstat(real); err != nil || isDir(st) {
			continue
		}
		packages, err := rpm(t, distro, real)
		if err != nil {
			return nil, err
		}
		all = append(all, packages...)
	}
	if err := t.goBinaries(ctx, "/", &all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b component) int { return strings.Compare(a.PURL, b.PURL) })
	return slices.CompactFunc(all, func(a, b component) bool { return a.PURL == b.PURL }), nil
}

// osRelease is the ID of /etc/os-release.
func (t *tree) osRelease() string {
	real, err := t.resolve("/etc/os-release", true)
	if err != nil || t.root == nil {
		return "linux"
	}
	for _, f := range t.paragraphs(real, "=") {
		if id := strings.Trim(f["ID"], `"`); id != "" {
			return id
		}
	}
	return "linux"
}

// paragraphs reads a file of KEY: VALUE lines in blocks.
func (t *tree) paragraphs(p, separator string) []map[string]string {
	f, err := t.open(p)
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []map[string]string
	block := map[string]string{}
	in := bufio.NewScanner(f)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		line := in.Text()
		if line == "" {
			all, block = append(all, block), map[string]string{}
			continue
		}
		if k, v, ok := strings.Cut(line, separator); ok && line[0] != ' ' && line[0] != '\t' {
			block[k] = strings.TrimSpace(v)
		}
	}
	return append(all, block)
}

func dpkg(t *tree, distro, p string) []component {
	var all []component
	for _, f := range t.paragraphs(p, ":") {
		if f["Package"] == "" || !strings.HasSuffix(f["Status"], " installed") {
			continue
		}
		all = append(all, component{Name: f["Package"], Version: f["Version"],
			PURL: purl("deb", distro, f["Package"], f["Version"], f["Architecture"])})
	}
	return all
}

func apk(t *tree, distro, p string) []component {
	var all []component
	for _, f := range t.paragraphs(p, ":") {
		if f["P"] != "" {
			all = append(all, component{Name: f["P"], Version: f["V"], PURL: purl("apk", distro, f["P"], f["V"], f["A"])})
		}
	}
	return all
}

func purl(kind, namespace, name, version, arch string) string {
	s := "pkg:" + kind + "/" + namespace + "/" + url.PathEscape(name) + "@" + url.PathEscape(version)
	if arch != "" {
		s += "?arch=" + url.QueryEscape(arch)
	}
	return s
}

// goBinaries reads the module list that each Go program carries.
func (t *tree) goBinaries(ctx context.Context, dir string, all *[]component) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	names, err := t.list(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		p := path.Join(dir, n)
		st, err := t.lstat(p)
		if err != nil {
			return err
		}
		switch {
		case isDir(st):
			if err := t.goBinaries(ctx, p, all); err != nil {
				return err
			}
		case st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0 && st.Size > 1<<16:
			t.goModules(p, all)
		}
	}
	return nil
}

// goModules adds the modules of a program; what is no Go program has none.
func (t *tree) goModules(p string, all *[]component) {
	f, err := t.open(p)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := buildinfo.Read(f)
	if err != nil {
		return
	}
	add := func(path, version string) {
		if path != "" {
			*all = append(*all, component{Name: path, Version: version, PURL: "pkg:golang/" + path + "@" + version})
		}
	}
	add("stdlib", strings.TrimPrefix(info.GoVersion, "go"))
	add(info.Main.Path, info.Main.Version)
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		add(m.Path, m.Version)
	}
}

// spdx is the document. The same packages at the same time give the same bytes.
func spdx(name string, created time.Time, all []component, version string) ([]byte, error) {
	type ref struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	type pkg struct {
		ID       string `json:"SPDXID"`
		Name     string `json:"name"`
		Version  string `json:"versionInfo,omitempty"`
		Location string `json:"downloadLocation"`
		License  string `json:"licenseDeclared"`
		Analyzed bool   `json:"filesAnalyzed"`
		Refs     []ref  `json:"externalRefs,omitempty"`
	}
	type relation struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
	h := sha256.New()
	packages, relations := []pkg{}, []relation{}
	for _, c := range all {
		fmt.Fprintln(h, c.PURL)
		sum := sha256.Sum256([]byte(c.PURL))
		id := "SPDXRef-Package-" + hex.EncodeToString(sum[:8])
		packages = append(packages, pkg{ID: id, Name: c.Name, Version: c.Version, Location: "NOASSERTION", License: "NOASSERTION",
			Refs: []ref{{"PACKAGE-MANAGER", "purl", c.PURL}}})
		relations = append(relations, relation{"SPDXRef-DOCUMENT", "DESCRIBES", id})
	}
	return json.MarshalIndent(map[string]any{
		"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": firstOf(name, "image"),
		"documentNamespace": "urn:hull:sbom:" + string(oci.NewDigest(h.Sum(nil))),
		"creationInfo":      map[string]any{"created": created.UTC().Format("2006-01-02T15:04:05Z"), "creators": []string{"Tool: hull-" + version}},
		"packages":          packages, "relationships": relations,
	}, "", " ")
}
