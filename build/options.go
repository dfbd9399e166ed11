package build

import (
	"context"
	"io"
	"os"
	"time"

	"hull/engine"
	"hull/oci"
)

// Options say what to build and how. The zero value with a Context builds its
// Containerfile for this machine, every step from the cache if it is there.
type Options struct {
	// Context is a directory, the URL of a git repository or of an archive, or
	// "-": a Containerfile or an archive on Stdin.
	Context string
	Stdin   io.Reader
	// Files are Containerfiles, put together in this order; "-" is Stdin.
	// They are looked for where the caller is, then in the context.
	Files      []string
	IgnoreFile string
	// Contexts are further ones by name: a directory, docker-image://NAME, a URL.
	Contexts map[string]string
	CPPFlags []string // of a Containerfile that ends in .in

	Args     map[string]string
	Target   string
	From     string // replaces the first FROM's image
	Platform oci.Platform
	Pull     string // missing (""), always, never, newer
	// AllStages builds also what the target does not need.
	AllStages bool
	Jobs      int // steps at once; 0 is one for each processor

	NoCache      bool
	NoCacheOnly  []string // stages for which NoCache holds
	CacheTTL     time.Duration
	HasTTL       bool
	OneLayer     bool // of all instructions of a stage (--layers=false, --squash)
	SquashAll    bool // with the base
	Volumes      bool // changes in VOLUME directories are not kept (--compat-volumes)
	Docker       bool // docker's media types
	OmitHistory  bool
	Identity     bool // a label that says who built it
	DropLabels   bool // labels of the base are not inherited
	DropNotes    bool // annotations of the base are not inherited
	Labels       []string
	LayerLabels  []string
	Annotations  []string
	UnsetEnv     []string
	UnsetLabels  []string
	UnsetNotes   []string
	Env          []string
	OSVersion    string
	OSFeatures   []string // one that ends in - is taken away
	SaveStages   bool     // an image of each stage that the target needs
	StageLabels  bool     // that says which stage it is; the target's too
	CreatedNote  bool     // annotation with the time
	Names        []oci.Reference
	KeepBaseNote bool // annotations that name the base

	// CacheFrom are asked for steps that are not here; CacheTo are given all.
	CacheFrom, CacheTo []Cache
	// InlineCache says in the image which step each of its layers is of.
	InlineCache bool

	SBOM SBOM
	// Confidential makes an encrypted disk of the image; nil does not.
	Confidential *Confidential
	// Attest is stated beside the image, of these names: the caller puts both
	// into a list, which has the names then.
	Attest      Attest
	AttestNames []oci.Reference
	// Policy says which sources may be used; nil is any.
	Policy *SourcePolicy

	// Export is given the file system of the target; with NoImage no image is made.
	Export  func(ctx context.Context, root *os.File) error
	NoImage bool

	// Timestamp is every time in the image: that of files too. Epoch is the
	// time of the image and its history; with Rewrite, files are not younger.
	Timestamp, Epoch *time.Time
	Rewrite          bool

	// Create is what containers of RUN are made with.
	Create engine.CreateOptions
	// What RUN may ask for: --security=insecure, --network=host, --device.
	Insecure, HostNetwork, AllDevices bool

	Secrets map[string]Secret
	SSH     map[string]string // ID → socket or key files, comma-separated
	// Chroot runs without namespaces of network and cgroup (--isolation=chroot).
	Chroot bool
	Stdio  io.Reader // standard input of RUN (--stdin)
	// Debug is called when a RUN has failed, with what runs a shell in the file
	// system that it left; nil does nothing.
	Debug func(failed *RunError, shell func(engine.Streams) error) error
}

// A Secret is one --secret: the content of a file, or of a variable.
type Secret struct {
	File string
	Env  string
}

// A Kind of Event.
type Kind uint8

const (
	StepBegin  Kind = iota
	StepCached      // Text is where the result was found
	StepDone
	Output // of a program: Data
	Note   // a line for the user
	Warning
	Commit // the image is made
)

// An Event is something to show.
type Event struct {
	Kind         Kind
	Stage        int    // number of the stage among those that are built, from 1
	Stages       int    // how many are built
	Title        string // of the stage
	Step, Steps  int    // of the stage, from 1
	Text         string
	ID           string
	Data         []byte
	Stderr       bool
	Took         time.Duration
	Cached, Meta bool
}

// now is the time that history entries made now get.
func (o *Options) now() time.Time {
	switch {
	case o.Timestamp != nil:
		return o.Timestamp.UTC()
	case o.Epoch != nil:
		return o.Epoch.UTC()
	}
	return time.Now().UTC()
}

// created is what a step that was made at t is dated.
func (o *Options) created(t time.Time) time.Time {
	if o.Timestamp != nil || o.Epoch != nil {
		return o.now()
	}
	return t.UTC()
}

// fileTime says with which time a file goes into a layer; nil keeps its own.
func (o *Options) fileTime() func(time.Time) time.Time {
	switch {
	case o.Timestamp != nil:
		return func(time.Time) time.Time { return *o.Timestamp }
	case o.Epoch != nil && o.Rewrite:
		return func(t time.Time) time.Time {
			if t.After(*o.Epoch) {
				return *o.Epoch
			}
			return t
		}
	}
	return nil
}

// timeKey is what of the times a layer depends on.
func (o *Options) timeKey() string {
	switch {
	case o.Timestamp != nil:
		return "at " + o.Timestamp.UTC().Format(time.RFC3339Nano)
	case o.Epoch != nil && o.Rewrite:
		return "until " + o.Epoch.UTC().Format(time.RFC3339Nano)
	}
	return ""
}
