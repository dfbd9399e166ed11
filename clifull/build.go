package clifull

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hull/build"
	"hull/command"
	"hull/image"
	"hull/oci"
)

// buildFlags are the flags of build. Most write straight into the options.
type buildFlags struct {
	o        build.Options
	registry registryFlags

	files, args, argFiles, contexts []string
	tags, secrets, ssh, allow       []string
	noCacheFilter                   []string
	cacheFrom, cacheTo              []string
	cacheTTL, format                string
	timestamp, epoch                *int64
	layers, inherit                 *bool
	squash                          bool
	confidential                    string
	inheritNotes, skipUnused        *bool
	pullPolicy                      string
	quiet, push, check              bool
	debugOnError                    bool
	sbom, policyFile                string
	iidFile, metadataFile, logFile  string
	rawIID, logSplit                bool
	output                          []string
	progress, call                  string
	platforms                       []string
	arch, os, variant, manifest     string
	allPlatforms                    bool
	attest                          []string
	provenance, signBy              string
	decryptionKeys                  []string
	runtime                         buildRunFlags
}

func (s *session) build() *command.Command {
	b := &buildFlags{}
	return &command.Command{
		Usage: "[options] [CONTEXT]",
		Long: "Builds an image from the instructions of one or more Containerfiles, and files of the CONTEXT:\n" +
			"a directory (the current one if it is left out), the URL of a git repository or of an archive, or - for standard input.\n" +
			"Exit status: that of a RUN which fails, else 125 for an error.",
		Examples: []string{"build -t app .", "build --file Containerfile.simple .", "build --target test --build-arg VERSION=1 .", "build -o out . ", "build --check ."},
		Args:     command.AtMost(1),
		Flags:    b.declare,
		Run: func(ctx context.Context, args []string) error {
			return s.runBuild(ctx, b, args)
		},
	}
}

func (b *buildFlags) declare(f *command.Flags) {
	b.declareInput(f)
	b.declareImage(f)
	b.declareCache(f)
	b.declareOutput(f)
	b.runtime.declare(f)
	b.registry.declare(f)
	b.registry.declareCreds(f)
	b.registry.declareRetry(f)
	f.StringSliceVar(&b.decryptionKeys, "decryption-key", nil, "Key that opens encrypted layers of base images: FILE[:PASSWORD]")
	// Docker's flag; podman accepts it and does nothing, and so do scripts.
	f.String("builder", "", "Docker's: there is one builder, hull itself")
	f.Hide("builder")
	f.Bool("disable-content-trust", false, "This is a Docker specific option and is a NOOP")
}

func (b *buildFlags) declareInput(f *command.Flags) {
	o := &b.o
	f.StringSliceVarP(&b.files, "file", "f", nil, "Pathname or URL of a Containerfile; - is standard input")
	f.StringArrayVar(&b.args, "build-arg", nil, "Set an ARG: NAME=VALUE, or NAME for the value in the environment")
	f.StringArrayVar(&b.argFiles, "build-arg-file", nil, "File with a NAME=VALUE of an ARG on each line")
	f.StringArrayVar(&b.contexts, "build-context", nil, "Further context: NAME=DIRECTORY, NAME=URL or NAME=docker-image://IMAGE")
	f.StringVar(&o.Target, "target", "", "Stage to build, by name or number")
	f.StringVar(&o.From, "from", "", "Image to use in the place of the first FROM's")
	f.StringVar(&o.IgnoreFile, "ignorefile", "", "Path of the ignore file to use instead of .containerignore")
	f.StringArrayVar(&o.CPPFlags, "cpp-flag", nil, "Flag for the C preprocessor, which reads a Containerfile that ends in .in")
	f.StringSliceVar(&b.platforms, "platform", nil, "OS/ARCH[/VARIANT] to build for, instead of this machine's; several make a manifest list")
	f.BoolVar(&b.allPlatforms, "all-platforms", false, "Build for every platform that all base images have")
	f.StringVar(&b.arch, "arch", "", "Architecture to build for")
	f.StringVar(&b.os, "os", "", "Operating system to build for")
	f.StringVar(&b.variant, "variant", "", "Architecture variant to build for")
	f.StringArrayVar(&b.secrets, "secret", nil, "Secret for RUN --mount=type=secret: id=ID,src=FILE or id=ID,env=VARIABLE")
	f.StringArrayVar(&b.ssh, "ssh", nil, "SSH agent for RUN --mount=type=ssh: ID[=SOCKET|KEY[,KEY...]], default is the caller's agent")
	f.StringVar(&b.policyFile, "source-policy-file", "", "File of rules (JSON, as BuildKit's) that allow, deny or replace sources: images, URLs, repositories")
	f.StringSliceVar(&b.allow, "allow", nil, "Privilege that RUN may ask for: security.insecure, network.host, device")
	f.BoolVar(&b.check, "check", false, "Check the Containerfile by its rules, and build nothing")
	f.Choice(&b.call, "call", "", "build", "What to do", "build", "check", "targets")
	command.Optional(f, &b.skipUnused, "skip-unused-stages", "", "bool", "Do not build stages that the target does not need (default true)", parseBool)
	f.Lookup("skip-unused-stages").NoOptDefVal = "true"
	f.IntVar(&o.Jobs, "jobs", 0, "How many steps to do at once; 0 is one for each processor")
}

func (b *buildFlags) declareImage(f *command.Flags) {
	o := &b.o
	f.StringArrayVarP(&b.tags, "tag", "t", nil, "Name, and optionally a tag, of the image")
	f.StringVar(&b.manifest, "manifest", "", "Manifest list to which the image is added; it is made if it is not there")
	f.StringVar(&b.format, "format", "", "Format of the manifest: oci or docker (default oci; environment BUILDAH_FORMAT)")
	f.StringArrayVar(&o.Labels, "label", nil, "Label of the image: NAME=VALUE")
	f.StringArrayVar(&o.Annotations, "annotation", nil, "Annotation of the image: NAME=VALUE")
	f.StringSliceVar(&o.UnsetEnv, "unsetenv", nil, "Variable that the image shall not have")
	f.StringSliceVar(&o.UnsetLabels, "unsetlabel", nil, "Label of the base image that the image shall not have")
	f.StringSliceVar(&o.UnsetNotes, "unsetannotation", nil, "Annotation of the base image that the image shall not have")
	command.Optional(f, &b.inherit, "inherit-labels", "", "bool", "Keep the labels of the base image (default true)", parseBool)
	command.Optional(f, &b.inheritNotes, "inherit-annotations", "", "bool", "Keep the annotations of the base image (default true)", parseBool)
	f.StringArrayVar(&o.Env, "env", nil, "Variable of the image: NAME=VALUE, or NAME for the value in the environment")
	f.BoolVar(&o.Identity, "identity-label", false, "Add a label with the version of this program")
	f.BoolVar(&o.CreatedNote, "created-annotation", false, "Add an annotation with the time of the image")
	f.BoolVar(&o.OmitHistory, "omit-history", false, "Leave the history out of the image")
	f.StringSliceVar(&o.OSFeatures, "os-feature", nil, "OS feature that the image says it needs; one that ends in - is taken away")
	f.StringArrayVar(&o.LayerLabels, "layer-label", nil, "Label of the images of --save-stages: NAME=VALUE")
	f.BoolVar(&o.SaveStages, "save-stages", false, "Make an image without a name of each stage that the target needs")
	f.BoolVar(&o.StageLabels, "stage-labels", false, "With --save-stages: label the images with the name of their stage and its base")
	f.StringVar(&o.OSVersion, "os-version", "", "OS version that the image says it needs")
	command.Optional(f, &b.timestamp, "timestamp", "", "seconds", "Every time in the image, as seconds since 1970: the image's, its history's and its files'", parseSeconds)
	command.Optional(f, &b.epoch, "source-date-epoch", "", "seconds", "Time of the image and its history, as seconds since 1970 (environment SOURCE_DATE_EPOCH)", parseSeconds)
	f.BoolVar(&o.Rewrite, "rewrite-timestamp", false, "Let no file of the new layers be younger than --source-date-epoch")
	f.StringVar(&b.confidential, "cw", "", "Make a confidential workload for krun, an encrypted disk: KEY=VALUE[,...] of type, attestation_url, passphrase, workload_id, slop, firmware_library, ignore_attestation_errors, cpus and memory")
	f.BoolVar(&b.squash, "squash", false, "Make one layer of all that the instructions change")
	f.BoolVar(&o.SquashAll, "squash-all", false, "Make one layer of the whole image, that of its base too")
	f.Bool("disable-compression", true, "Layers are stored uncompressed here, and compressed by push: for compatibility")
	f.Hide("disable-compression")
	f.Bool("compress", false, "Docker's flag for a slow way to a daemon: nothing is sent here")
	f.Hide("compress")
}

func (b *buildFlags) declareCache(f *command.Flags) {
	o := &b.o
	f.BoolVar(&o.NoCache, "no-cache", false, "Do every step anew")
	f.StringSliceVar(&b.noCacheFilter, "no-cache-filter", nil, "Stage whose steps are done anew")
	f.StringArrayVar(&b.cacheFrom, "cache-from", nil, "Where to look for steps that are not here: REPOSITORY, or type=registry|local,ref|src=WHERE[,mounts=true]")
	f.StringArrayVar(&b.cacheTo, "cache-to", nil, "Where to keep steps for others: REPOSITORY, type=registry|local,ref|dest=WHERE[,mounts=true], or type=inline: in the image itself")
	f.StringVar(&b.cacheTTL, "cache-ttl", "", "Only use what was kept within that time (as 24h)")
	command.Optional(f, &b.layers, "layers", "", "bool", "Make a layer for each instruction, and keep it for later builds (default true; environment BUILDAH_LAYERS)", parseBool)
	f.Lookup("layers").NoOptDefVal = "true"
	f.StringVar(&b.pullPolicy, "pull", "missing", "When to pull base images: always, missing, never, newer")
	f.Lookup("pull").NoOptDefVal = "always"
	f.Words("pull", "always", "missing", "never", "newer")
	f.Bool("pull-always", false, "Same as --pull=always")
	f.Bool("pull-never", false, "Same as --pull=never")
	f.Bool("force-rm", true, "Containers of steps are always removed: for compatibility")
	f.Bool("rm", true, "Containers of steps are always removed: for compatibility")
	f.Hide("pull-always", "pull-never", "force-rm", "rm")
}

func (b *buildFlags) declareOutput(f *command.Flags) {
	f.StringArrayVarP(&b.output, "output", "o", nil, "Where the result goes besides the store: DIRECTORY, - or type=local|tar|oci|docker,dest=PATH")
	f.BoolVarP(&b.quiet, "quiet", "q", false, "Print the image ID only")
	f.StringVar(&b.iidFile, "iidfile", "", "Write the image ID to the file")
	f.BoolVar(&b.rawIID, "iidfile-raw", false, "Write the image ID without its algorithm")
	f.StringVar(&b.metadataFile, "metadata-file", "", "Write what is known of the image to the file, as JSON")
	f.StringVar(&b.logFile, "logfile", "", "Write the output to the file instead of the terminal")
	f.BoolVar(&b.logSplit, "logsplit", false, "With --logfile: a file for each platform")
	f.Choice(&b.progress, "progress", "", "auto", "How to show what goes on", "auto", "plain", "tty", "quiet", "json", "rawjson")
	f.StringArrayVar(&b.attest, "attest", nil, "State it beside the image: type=provenance[,mode=max][,builder-id=URI] or type=sbom")
	f.StringVar(&b.provenance, "provenance", "", "Same as --attest type=provenance,mode=: true, false, min, max or mode=MODE")
	f.Lookup("provenance").NoOptDefVal = "true"
	f.StringVar(&b.signBy, "sign-by", "", "Sign what --push sends using a GPG key with the specified FINGERPRINT")
	f.StringVar(&b.sbom, "sbom", "", "List the packages of the image (dpkg, apk, rpm, Go programs): spdx in a file (see --sbom-output), true beside the image as --attest type=sbom")
	f.Lookup("sbom").NoOptDefVal = "spdx"
	f.Words("sbom", "spdx", "true", "false")
	f.StringVar(&b.o.SBOM.Output, "sbom-output", "", "File for the list of packages (SPDX 2.3, JSON)")
	f.StringVar(&b.o.SBOM.PURLOutput, "sbom-purl-output", "", "File for the list of packages as package URLs")
	f.StringVar(&b.o.SBOM.ImageOutput, "sbom-image-output", "", "Path in the image for the list of packages")
	f.StringVar(&b.o.SBOM.ImagePURLOutput, "sbom-image-purl-output", "", "Path in the image for the list of package URLs")
	f.BoolVar(&b.debugOnError, "debug-on-error", false, "When a RUN fails, open a shell in the file system that it left")
	f.BoolVar(&b.push, "push", false, "Push the image under its names")
	f.Bool("load", true, "Images are always stored: for compatibility")
	f.Hide("load")
}

func parseSeconds(s string) (int64, error) {
	d, err := time.ParseDuration(s + "s")
	return int64(d / time.Second), err
}

// options turns the flags into what is built.
func (b *buildFlags) options(args []string) (build.Options, error) {
	o := b.o
	var err error
	if o.Args, err = b.buildArgs(); err != nil {
		return o, err
	}
	if o.Contexts, err = keyValues("build-context", b.contexts); err != nil {
		return o, err
	}
	b.setContext(&o, args)
	for _, step := range []func(*build.Options) error{b.setNames, b.setTimes, b.setCache, b.setSecrets, b.setSSH, b.setPlatform, b.runtime.set} {
		if err := step(&o); err != nil {
			return o, err
		}
	}
	switch format := firstSet(b.format, os.Getenv("BUILDAH_FORMAT"), "oci"); format {
	case "oci", "OCIv1":
		o.KeepBaseNote = true
	case "docker", "dockerv2":
		o.Docker = true
	default:
		return o, fmt.Errorf("unrecognized image type %q: there are oci and docker", format)
	}
	o.OneLayer = b.squash || b.layers != nil && !*b.layers
	if b.layers == nil && os.Getenv("BUILDAH_LAYERS") == "false" {
		o.OneLayer = true
	}
	if file := firstSet(b.policyFile, os.Getenv("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY")); file != "" {
		if o.Policy, err = build.ReadSourcePolicy(file); err != nil {
			return o, err
		}
	}
	if err := b.setStatements(&o); err != nil {
		return o, err
	}
	if b.confidential != "" {
		if o.Confidential, err = parseConfidential(b.confidential); err != nil {
			return o, err
		}
	}
	o.DropLabels = b.inherit != nil && !*b.inherit
	o.DropNotes = b.inheritNotes != nil && !*b.inheritNotes
	o.AllStages = b.skipUnused != nil && !*b.skipUnused
	for _, a := range b.allow {
		switch a {
		case "security.insecure":
			o.Insecure = true
		case "network.host":
			o.HostNetwork = true
		case "device":
			o.AllDevices = true
		default:
			return o, fmt.Errorf("--allow %s: there are security.insecure, network.host and device", a)
		}
	}
	return o, nil
}

func firstSet(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

// setContext: without one it is the Containerfile's directory, or this one.
func (b *buildFlags) setContext(o *build.Options, args []string) {
	o.Files, o.Stdin = b.files, os.Stdin
	switch {
	case len(args) == 1:
		o.Context = args[0]
	case len(b.files) > 0 && b.files[0] != "-" && !strings.Contains(b.files[0], "://"):
		o.Context = filepath.Dir(b.files[0])
	default:
		o.Context = "."
	}
}

// buildArgs are those of the files, with those of the command line over them.
func (b *buildFlags) buildArgs() (map[string]string, error) {
	all := map[string]string{}
	for _, file := range b.argFiles {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read --build-arg-file: %w", err)
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			k, v, ok := strings.Cut(line, "=")
			if !ok || k == "" {
				return nil, fmt.Errorf("read --build-arg-file %s: %q is not NAME=VALUE", file, line)
			}
			all[k] = v
		}
	}
	for _, a := range b.args {
		k, v, ok := strings.Cut(a, "=")
		if k == "" {
			return nil, fmt.Errorf("--build-arg %q: it has no name", a)
		}
		if !ok {
			if v, ok = os.LookupEnv(k); !ok {
				continue
			}
		}
		all[k] = v
	}
	return all, nil
}

func keyValues(flag string, words []string) (map[string]string, error) {
	all := map[string]string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" || v == "" {
			return nil, fmt.Errorf("--%s %q: want NAME=VALUE", flag, w)
		}
		all[k] = v
	}
	return all, nil
}

func (b *buildFlags) setNames(o *build.Options) error {
	for _, t := range b.tags {
		ref, err := oci.ParseReference(t)
		if err != nil {
			return fmt.Errorf("tag %q: %w", t, err)
		}
		if ref.Digest != "" {
			return fmt.Errorf("tag %q: a name with a digest cannot be given to an image", t)
		}
		o.Names = append(o.Names, image.LocalName(ref))
	}
	return nil
}

func (b *buildFlags) setTimes(o *build.Options) error {
	if b.timestamp != nil && b.epoch != nil {
		return errors.New("--timestamp and --source-date-epoch exclude each other")
	}
	if b.timestamp != nil {
		t := time.Unix(*b.timestamp, 0)
		o.Timestamp = &t
		return nil
	}
	if b.epoch == nil {
		text := firstSet(o.Args["SOURCE_DATE_EPOCH"], os.Getenv("SOURCE_DATE_EPOCH"))
		if text == "" {
			return nil
		}
		n, err := parseSeconds(text)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH=%s: it is not a number of seconds", text)
		}
		b.epoch = &n
	}
	t := time.Unix(*b.epoch, 0)
	o.Epoch = &t
	return nil
}

func (b *buildFlags) setCache(o *build.Options) error {
	if len(b.noCacheFilter) > 0 {
		o.NoCacheOnly = b.noCacheFilter
	}
	if b.cacheTTL != "" {
		d, err := time.ParseDuration(b.cacheTTL)
		if err != nil {
			return fmt.Errorf("--cache-ttl: %w", err)
		}
		o.CacheTTL, o.HasTTL = d, true
	}
	switch b.pullPolicy {
	case "true", "always":
		o.Pull = "always"
	case "false", "missing", "ifmissing":
		o.Pull = "missing"
	case "never", "newer", "ifnewer":
		o.Pull = strings.TrimPrefix(b.pullPolicy, "if")
	default:
		return fmt.Errorf("unsupported pull policy %q: there are always, missing, never, newer", b.pullPolicy)
	}
	return nil
}

func (b *buildFlags) setSecrets(o *build.Options) error {
	o.Secrets = map[string]build.Secret{}
	for _, spec := range b.secrets {
		var id, kind string
		var s build.Secret
		for word := range strings.SplitSeq(spec, ",") {
			k, v, ok := strings.Cut(word, "=")
			if !ok {
				return fmt.Errorf("--secret %q: %q is not KEY=VALUE", spec, word)
			}
			switch k {
			case "id":
				id = v
			case "src", "source":
				s.File = v
			case "env":
				s.Env = v
			case "type":
				kind = v
			default:
				return fmt.Errorf("--secret %q: key %q is not known", spec, k)
			}
		}
		if id == "" {
			return fmt.Errorf("--secret %q: it has no id", spec)
		}
		if kind == "env" && s.Env == "" {
			s.File, s.Env = "", firstSet(s.File, id)
		}
		if s.File == "" && s.Env == "" {
			s.File = id
			if _, ok := os.LookupEnv(id); ok {
				s.File, s.Env = "", id
			}
		}
		if s.File != "" {
			if _, err := os.Stat(s.File); err != nil {
				return fmt.Errorf("--secret %q: %w", spec, err)
			}
		}
		o.Secrets[id] = s
	}
	return nil
}

func (b *buildFlags) setSSH(o *build.Options) error {
	o.SSH = map[string]string{}
	for _, spec := range b.ssh {
		id, from, ok := strings.Cut(spec, "=")
		if !ok {
			if from = os.Getenv("SSH_AUTH_SOCK"); from == "" {
				return fmt.Errorf("--ssh %s: there is no agent: SSH_AUTH_SOCK is not set", spec)
			}
		}
		o.SSH[id] = from
	}
	return nil
}

func (b *buildFlags) setPlatform(o *build.Options) error {
	if len(b.platforms) > 0 && (b.arch != "" || b.os != "" || b.variant != "") {
		return errors.New("--platform option can not be specified with --arch, --os or --variant")
	}
	if b.allPlatforms && (len(b.platforms) > 0 || b.arch != "" || b.os != "" || b.variant != "") {
		return errors.New("--all-platforms excludes --platform, --arch, --os and --variant")
	}
	if o.StageLabels && !o.SaveStages {
		return errors.New("--stage-labels needs --save-stages")
	}
	host := oci.HostPlatform()
	if len(b.platforms) > 0 {
		all, err := b.platformList(*o)
		if err == nil {
			o.Platform = all[0]
		}
		return err
	}
	if b.arch != "" || b.os != "" || b.variant != "" {
		o.Platform = oci.Platform{OS: firstSet(b.os, host.OS), Architecture: firstSet(b.arch, host.Architecture), Variant: b.variant}
	}
	return nil
}
