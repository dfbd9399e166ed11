package oci

import (
	"encoding/json"
	"fmt"
	"runtime"
	"time"
)

// Media types of image-spec and docker's distribution.
const (
	MediaTypeManifest   = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeIndex      = "application/vnd.oci.image.index.v1+json"
	MediaTypeConfig     = "application/vnd.oci.image.config.v1+json"
	MediaTypeLayer      = "application/vnd.oci.image.layer.v1.tar"
	MediaTypeLayerGzip  = "application/vnd.oci.image.layer.v1.tar+gzip"
	MediaTypeLayerZstd  = "application/vnd.oci.image.layer.v1.tar+zstd"
	MediaTypeEmpty      = "application/vnd.oci.empty.v1+json"
	DockerManifest      = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList  = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig        = "application/vnd.docker.container.image.v1+json"
	DockerLayer         = "application/vnd.docker.image.rootfs.diff.tar"
	DockerLayerGzip     = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	AnnotationCreated   = "org.opencontainers.image.created"
	AnnotationTitle     = "org.opencontainers.image.title"
	AnnotationRefName   = "org.opencontainers.image.ref.name"
	AnnotationImageName = "io.containerd.image.name"
	// Of an attestation manifest in an index (BuildKit's attestation-storage.md):
	// that it is one, and the manifest of the image that it is about.
	AnnotationReferenceType         = "vnd.docker.reference.type"
	AnnotationReferenceDigest       = "vnd.docker.reference.digest"
	MediaTypeInToto                 = "application/vnd.in-toto+json"
	MaxManifestSize           int64 = 4 << 20 // of a manifest, index or config; more is refused unread (REG-07)
)

// A Descriptor points to content (image-spec descriptor.md).
type Descriptor struct {
	MediaType    string            `json:"mediaType,omitempty"`
	Digest       Digest            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Data         []byte            `json:"data,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

// Validate checks digest and size.
func (d Descriptor) Validate() error {
	if err := d.Digest.Validate(); err != nil {
		return err
	}
	if d.Size < 0 {
		return fmt.Errorf("descriptor of %s: size %d is negative", d.Digest, d.Size)
	}
	return nil
}

// A Platform says what an image runs on.
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
	Features     []string `json:"features,omitempty"` // docker's: of the processor
}

// HostPlatform is what this program runs on.
func HostPlatform() Platform {
	p := Platform{Architecture: runtime.GOARCH, OS: "linux"}
	if p.Architecture == "arm64" {
		p.Variant = "v8"
	}
	return p
}

func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// A Manifest is an image's config and layers (image-spec manifest.md; docker's
// schema 2 has the same shape).
type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// An Index lists manifests, one a platform (image-spec image-index.md).
type Index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Manifests     []Descriptor      `json:"manifests"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// An Image is an image's configuration file (image-spec config.md).
type Image struct {
	Created      *time.Time  `json:"created,omitempty"`
	Author       string      `json:"author,omitempty"`
	Architecture string      `json:"architecture"`
	Variant      string      `json:"variant,omitempty"`
	OS           string      `json:"os"`
	OSVersion    string      `json:"os.version,omitempty"`
	OSFeatures   []string    `json:"os.features,omitempty"`
	Config       ImageConfig `json:"config"`
	RootFS       RootFS      `json:"rootfs"`
	History      []History   `json:"history,omitempty"`
	// BuildCache is what a build with an inline cache says of its steps; see package build.
	BuildCache json.RawMessage `json:"io.hull.build.cache.v1,omitempty"`
}

// ImageConfig is what a container of the image starts with, the fields that
// only docker knows included.
type ImageConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	ArgsEscaped  bool                `json:"ArgsEscaped,omitempty"`
	Healthcheck  *Healthcheck        `json:"Healthcheck,omitempty"`
	Shell        []string            `json:"Shell,omitempty"`
	OnBuild      []string            `json:"OnBuild,omitempty"`
	StopTimeout  *int                `json:"StopTimeout,omitempty"`
}

// A Healthcheck is docker's; durations are in nanoseconds.
type Healthcheck struct {
	Test          []string      `json:"Test,omitempty"`
	Interval      time.Duration `json:"Interval,omitempty"`
	Timeout       time.Duration `json:"Timeout,omitempty"`
	StartPeriod   time.Duration `json:"StartPeriod,omitempty"`
	StartInterval time.Duration `json:"StartInterval,omitempty"`
	Retries       int           `json:"Retries,omitempty"`
}

// RootFS lists the layers' uncompressed digests, the lowest first.
type RootFS struct {
	Type    string   `json:"type"`
	DiffIDs []Digest `json:"diff_ids"`
}

// A History entry tells how a layer, or nothing but metadata, came about.
type History struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}

// IsIndex reports whether a media type is one of several manifests.
func IsIndex(mediaType string) bool {
	return mediaType == MediaTypeIndex || mediaType == DockerManifestList
}

// IsLayer reports whether a media type is a file system layer that Hull can
// apply.
func IsLayer(mediaType string) bool {
	switch mediaType {
	case MediaTypeLayer, MediaTypeLayerGzip, MediaTypeLayerZstd, DockerLayer, DockerLayerGzip,
		"application/vnd.docker.image.rootfs.diff.tar.zstd":
		return true
	}
	return false
}

// DecodeManifest decodes and checks a manifest of the exact bytes data.
func DecodeManifest(data []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := decode("manifest", data, m); err != nil {
		return nil, err
	}
	if m.SchemaVersion != 2 {
		return nil, fmt.Errorf("read manifest: schema version %d is not supported", m.SchemaVersion)
	}
	if m.MediaType != "" && m.MediaType != MediaTypeManifest && m.MediaType != DockerManifest {
		return nil, fmt.Errorf("read manifest: its media type is %q", clip(m.MediaType))
	}
	for _, d := range append([]Descriptor{m.Config}, m.Layers...) {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
	}
	if m.Config.Size > MaxManifestSize {
		return nil, fmt.Errorf("read manifest: config of %d bytes is larger than %d", m.Config.Size, MaxManifestSize)
	}
	if m.Subject != nil {
		if err := m.Subject.Validate(); err != nil {
			return nil, fmt.Errorf("read manifest: subject: %w", err)
		}
	}
	return m, nil
}

// DecodeIndex decodes and checks an index of the exact bytes data.
func DecodeIndex(data []byte) (*Index, error) {
	x := new(Index)
	if err := decode("index", data, x); err != nil {
		return nil, err
	}
	if x.SchemaVersion != 2 {
		return nil, fmt.Errorf("read index: schema version %d is not supported", x.SchemaVersion)
	}
	if x.MediaType != "" && !IsIndex(x.MediaType) {
		return nil, fmt.Errorf("read index: its media type is %q", clip(x.MediaType))
	}
	for _, d := range x.Manifests {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("read index: %w", err)
		}
	}
	return x, nil
}

// DecodeImage decodes and checks an image configuration.
func DecodeImage(data []byte) (*Image, error) {
	c := new(Image)
	if err := decode("image config", data, c); err != nil {
		return nil, err
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("read image config: %w", err)
		}
	}
	return c, nil
}

// Decode decodes small JSON from outside into v, as strictly as manifests are:
// at most MaxManifestSize bytes, one value, no key twice. what is for errors.
func Decode(what string, data []byte, v any) error { return decode(what, data, v) }

func decode(what string, data []byte, v any) error {
	if int64(len(data)) > MaxManifestSize {
		return fmt.Errorf("read %s: %d bytes are more than %d", what, len(data), MaxManifestSize)
	}
	if err := checkKeys(data); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}
