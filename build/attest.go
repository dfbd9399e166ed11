package build

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"hull/containerfile"
	"hull/image"
	"hull/oci"
)

// An Attest says what is stated about an image beside it, in the index that
// names both: in-toto statements, in a manifest as BuildKit makes it.
type Attest struct {
	// Provenance is min, max, or "" for none: what the image was made of and how,
	// by SLSA's provenance v1. max has also what may be confidential: the values
	// of build arguments, the names of secrets, and the Containerfile.
	Provenance string
	// BuilderID is the URI of who builds; "" is Hull's.
	BuilderID string
	// SBOM is the list of packages as SPDX.
	SBOM bool
}

// Wanted says whether there is anything to state.
func (a Attest) Wanted() bool { return a.Provenance != "" || a.SBOM }

// Types by which others find the statements.
const (
	inTotoPredicate = "in-toto.io/predicate-type"
	predicateSLSA   = "https://slsa.dev/provenance/v1"
	predicateSPDX   = "https://spdx.dev/Document"
)

// A material is something that a build fetched. Digest's keys are algorithms.
type material struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest,omitempty"`
}

// use notes a material.
func (b *building) use(m material) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.materials = append(b.materials, m)
}

// used are the materials in an order that does not depend on the build's.
func (b *building) used() []material {
	b.mu.Lock()
	all := slices.Clone(b.materials)
	b.mu.Unlock()
	slices.SortFunc(all, func(x, y material) int { return strings.Compare(x.URI, y.URI) })
	return slices.CompactFunc(all, func(x, y material) bool { return x.URI == y.URI && maps.Equal(x.Digest, y.Digest) })
}

// imageURI is the package URL of an image.
func imageURI(name string, p oci.Platform) string {
	ref, err := oci.ParseReference(name)
	if err != nil {
		return name
	}
	s := "pkg:docker/" + ref.Name()
	if ref.Tag != "" {
		s += "@" + ref.Tag
	}
	return s + "?platform=" + url.QueryEscape(p.String())
}

// attest stores the statements about an image, as an entry of a list.
func (b *building) attest(ctx context.Context, st *stage, img image.Image, began time.Time) (*image.ListEntry, error) {
	type statement struct {
		kind string
		body any
	}
	var all []statement
	if b.o.Attest.SBOM {
		t, err := b.chainTree(st.chain(), "image")
		if err != nil {
			return nil, err
		}
		packages, err := components(ctx, t)
		if err != nil {
			return nil, err
		}
		doc, err := spdx(st.from, st.dated(), packages, b.Version)
		if err != nil {
			return nil, err
		}
		all = append(all, statement{predicateSPDX, json.RawMessage(doc)})
	}
	if b.o.Attest.Provenance != "" {
		all = append(all, statement{predicateSLSA, b.provenance(img, began)})
	}
	// The rest is as BuildKit has it: a config of no platform whose layers are statements.
	config := oci.Image{Architecture: "unknown", OS: "unknown", RootFS: oci.RootFS{Type: "layers"}}
	m := oci.Manifest{Config: oci.Descriptor{MediaType: oci.MediaTypeConfig}}
	var files []image.ArtifactFile
	for _, s := range all {
		data, err := json.Marshal(map[string]any{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": s.kind, "subject": b.subjects(img), "predicate": s.body})
		if err != nil {
			return nil, err
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, oci.FromBytes(data))
		files = append(files, image.ArtifactFile{
			Descriptor: oci.Descriptor{MediaType: oci.MediaTypeInToto, Annotations: map[string]string{inTotoPredicate: s.kind}},
			Open:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
		})
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	e, err := b.Images.PutArtifact(ctx, m, text, files)
	if err != nil {
		return nil, err
	}
	e.Descriptor.Platform = &oci.Platform{OS: "unknown", Architecture: "unknown"}
	e.Descriptor.Annotations = map[string]string{oci.AnnotationReferenceType: "attestation-manifest", oci.AnnotationReferenceDigest: string(img.Manifest)}
	return &e, nil
}

// subjects are the names of the image.
func (b *building) subjects(img image.Image) []any {
	digest := map[string]string{img.Manifest.Algorithm(): img.Manifest.Hex()}
	var all []any
	for _, n := range b.o.AttestNames {
		all = append(all, map[string]any{"name": imageURI(n.String(), b.o.Platform), "digest": digest})
	}
	if all == nil {
		all = append(all, map[string]any{"name": "_", "digest": digest})
	}
	return all
}

// dated is the time of the stage's image.
func (st *stage) dated() time.Time {
	if st.config.Created != nil {
		return *st.config.Created
	}
	return st.b.o.now()
}

// buildType says what the parameters below mean.
const buildType = "urn:hull:build:1"

// provenance is the predicate of SLSA v1.
func (b *building) provenance(img image.Image, began time.Time) map[string]any {
	o := &b.o
	source := map[string]any{"path": b.graph.File.Name}
	if isRemote(o.Context) {
		uri := containerfile.WithoutUsers(o.Context)
		source["uri"] = uri
		for _, m := range b.used() {
			if m.URI == uri {
				source["digest"] = m.Digest
			}
		}
	}
	request := map[string]any{"frontend": "dockerfile.v0", "platform": o.Platform.String()}
	if o.Target != "" {
		request["target"] = o.Target
	}
	started, finished := began.UTC(), time.Now().UTC()
	if o.Timestamp != nil || o.Epoch != nil {
		started, finished = o.now(), o.now()
	}
	meta := map[string]any{"invocationId": key("invocation", img.ID, started)[:32], "startedOn": started.Format(time.RFC3339), "finishedOn": finished.Format(time.RFC3339)}
	external := map[string]any{"configSource": source, "request": request}
	if o.Attest.Provenance == "max" {
		args := map[string]string{}
		for k, v := range o.Args {
			args[k] = containerfile.Redact(v)
		}
		request["args"] = args
		request["labels"] = o.Labels
		request["secrets"] = slices.Sorted(maps.Keys(o.Secrets))
		request["ssh"] = slices.Sorted(maps.Keys(o.SSH))
		external["containerfile"] = base64.StdEncoding.EncodeToString([]byte(containerfile.Redact(strings.Join(b.graph.File.Lines, "\n"))))
	}
	return map[string]any{
		"buildDefinition": map[string]any{
			"buildType": buildType, "externalParameters": external,
			"internalParameters":   map[string]any{"builderPlatform": b.self.String()},
			"resolvedDependencies": append([]material{}, b.used()...),
		},
		"runDetails": map[string]any{
			"builder":  map[string]any{"id": firstOf(o.Attest.BuilderID, "urn:hull:builder"), "version": map[string]string{"hull": b.Version}},
			"metadata": meta,
		},
	}
}

// ParseAttest reads what follows --attest: type=provenance or type=sbom, and
// their parameters.
func (a *Attest) ParseAttest(spec string) error {
	words := map[string]string{}
	for w := range strings.SplitSeq(spec, ",") {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			k, v = "type", w
		}
		words[k] = v
	}
	kind, off := words["type"], words["disabled"] == "true"
	delete(words, "type")
	delete(words, "disabled")
	switch kind {
	case "sbom":
		a.SBOM = !off
	case "provenance":
		a.Provenance = firstOf(words["mode"], "min")
		if off {
			a.Provenance = ""
		} else if a.Provenance != "min" && a.Provenance != "max" {
			return fmt.Errorf("attestation %s: mode %q is not one of min, max", spec, a.Provenance)
		}
		if v := words["version"]; v != "" && v != "v1" {
			return fmt.Errorf("attestation %s: of SLSA's provenance there is v1", spec)
		}
		a.BuilderID = words["builder-id"]
		for _, k := range []string{"mode", "version", "builder-id"} {
			delete(words, k)
		}
	default:
		return fmt.Errorf("attestation %s: type %q is not one of provenance, sbom", spec, kind)
	}
	for k := range words {
		return fmt.Errorf("attestation %s: key %q is not known", spec, k)
	}
	return nil
}
