package clifull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"

	"hull/command"
	"hull/image"
	"hull/oci"
	"hull/transfer"
)

// artifactNodes are the commands on artifacts.
func (s *session) artifactNodes() []command.Node {
	return []command.Node{
		{Path: "artifact", Short: "Manage OCI artifacts"},
		{Path: "artifact add", Short: "Add an OCI artifact to the local store", Build: s.artifactAdd},
		{Path: "artifact extract", Short: "Extract an OCI artifact to a local path", Build: s.artifactExtract},
		{Path: "artifact inspect", Short: "Inspect an OCI artifact", Build: s.artifactInspect},
		{Path: "artifact list", Short: "List OCI artifacts in the local store", Build: s.artifactList, Hidden: true},
		{Path: "artifact ls", Short: "List OCI artifacts in the local store", Build: s.artifactList},
		{Path: "artifact pull", Short: "Pull an OCI artifact from a registry and store it locally", Build: s.artifactPull},
		{Path: "artifact push", Short: "Push an OCI artifact from local storage to a registry", Build: s.artifactPush},
		{Path: "artifact remove", Short: "Remove one or more OCI artifacts from local storage", Build: s.artifactRemove, Hidden: true},
		{Path: "artifact rm", Short: "Remove one or more OCI artifacts from local storage", Build: s.artifactRemove},
	}
}

func (s *session) artifactAdd() *command.Command {
	var (
		o        image.AddArtifactOptions
		notes    []string
		fileType string
	)
	return &command.Command{
		Usage: "[options] ARTIFACT PATH [PATH...]",
		Long: "Makes an artifact of files and stores it under the name ARTIFACT. Each file is titled with its name;\n" +
			"what kind it is is told by its first bytes, unless --file-type says it.",
		Examples: []string{"artifact add registry.example.com/models/small:latest model.bin", "artifact add --append registry.example.com/models/small:latest README.md"},
		Args:     command.AtLeast(2),
		Flags: func(f *command.Flags) {
			f.StringArrayVar(&notes, "annotation", nil, "Set an annotation of each file that is added (KEY=VALUE)")
			f.BoolVarP(&o.Append, "append", "a", false, "Append files to an existing artifact")
			f.StringVar(&fileType, "file-type", "", "Set the media type of the files instead of detecting it")
			f.BoolVar(&o.Replace, "replace", false, "Take the place of an artifact of the same name")
			f.StringVar(&o.Type, "type", "", "Use type to describe an artifact (default application/vnd.unknown.artifact.v1)")
		},
		Run: func(ctx context.Context, args []string) error {
			switch {
			case o.Append && o.Type != "":
				return errors.New("append option is not compatible with type option")
			case o.Append && o.Replace:
				return errors.New("append option is not compatible with replace option")
			}
			files, err := artifactFiles(args[1:], notes, fileType)
			if err != nil {
				return err
			}
			e, err := s.engineOf(ctx, registryFlags{})
			if err != nil {
				return err
			}
			a, err := e.AddArtifact(ctx, args[0], files, o)
			if err == nil {
				fmt.Fprintln(s.stdout, a.Digest.Hex())
			}
			return err
		},
	}
}

// artifactFiles are files as an artifact takes them.
func artifactFiles(names, notes []string, kind string) ([]image.ArtifactFile, error) {
	said, err := annotations(notes)
	if err != nil {
		return nil, err
	}
	if _, ok := said[oci.AnnotationTitle]; ok {
		return nil, fmt.Errorf("cannot override filename with %s annotation", oci.AnnotationTitle)
	}
	var files []image.ArtifactFile
	for _, name := range names {
		f := image.ArtifactFile{Open: func() (io.ReadCloser, error) { return os.Open(name) }}
		if f.MediaType = kind; kind == "" {
			if f.MediaType, err = detectType(name); err != nil {
				return nil, err
			}
		}
		if f.Annotations = maps.Clone(said); f.Annotations == nil {
			f.Annotations = map[string]string{}
		}
		f.Annotations[oci.AnnotationTitle] = filepath.Base(name)
		files = append(files, f)
	}
	return files, nil
}

// detectType tells what kind a regular file is by its first bytes.
func detectType(name string) (string, error) {
	if fi, err := os.Stat(name); err != nil {
		return "", fmt.Errorf("add to artifact: %w", err)
	} else if !fi.Mode().IsRegular() {
		return "", fmt.Errorf("add to artifact: %s is no regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("add to artifact: %w", err)
	}
	defer f.Close()
	head := make([]byte, 512) // more is not looked at
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("add to artifact: %w", err)
	}
	return http.DetectContentType(head[:n]), nil
}

func (s *session) artifactPull() *command.Command {
	var (
		r     registryFlags
		o     transfer.PullOptions
		quiet bool
	)
	return &command.Command{
		Usage:    "[options] ARTIFACT",
		Long:     "Pulls an artifact from its registry and stores it. What is here under that name is replaced.",
		Examples: []string{"artifact pull registry.example.com/models/small:latest"},
		Args:     command.Exactly(1),
		Complete: s.completeArtifacts,
		Flags: func(f *command.Flags) {
			r.declare(f)
			r.declareCreds(f)
			r.declareRetry(f)
			f.StringSliceVar(&o.DecryptionKeys, "decryption-key", nil, "Key needed to decrypt the artifact (FILE[:PASSWORD])")
			f.BoolVarP(&quiet, "quiet", "q", false, "Suppress output information when pulling artifacts")
		},
		Run: func(ctx context.Context, args []string) error {
			t, err := s.open(ctx, r)
			if err != nil {
				return err
			}
			show := s.progress(quiet)
			t.Notify = show.event
			a, err := t.PullArtifact(ctx, args[0], o)
			show.end()
			if err != nil {
				return err
			}
			fmt.Fprintln(s.stdout, a.Digest.Hex())
			return s.artifactEvent(ctx, "pull", a)
		},
	}
}

func (s *session) artifactPush() *command.Command {
	var (
		r          registryFlags
		o          transfer.PushOptions
		digestFile string
		quiet      bool
	)
	return &command.Command{
		Usage:    "[options] ARTIFACT",
		Long:     "Sends an artifact to the registry that its name says.",
		Examples: []string{"artifact push registry.example.com/models/small:latest"},
		Args:     command.Exactly(1),
		Complete: s.completeArtifacts,
		Flags: func(f *command.Flags) {
			r.declare(f)
			r.declareCreds(f)
			r.declareRetry(f)
			f.StringVar(&digestFile, "digestfile", "", "Write the digest of the pushed artifact to the specified file")
			f.BoolVarP(&quiet, "quiet", "q", false, "Suppress output information when pushing artifacts")
			f.StringVar(&o.Sign.By, "sign-by", "", "Sign the artifact using a GPG key with the specified FINGERPRINT")
			f.StringVar(&o.Sign.Key, "sign-by-sigstore-private-key", "", "Sign the artifact using a sigstore private key at PATH")
			f.StringVar(&o.Sign.Passphrase, "sign-passphrase-file", "", "Read a passphrase for signing an artifact from PATH")
		},
		Run: func(ctx context.Context, args []string) error {
			t, err := s.open(ctx, r)
			if err != nil {
				return err
			}
			show := s.progress(quiet)
			t.Notify = show.event
			p, a, err := t.PushArtifact(ctx, args[0], o)
			show.end()
			if err != nil {
				return err
			}
			if digestFile != "" {
				if err := os.WriteFile(digestFile, []byte(p.Digest), 0o644); err != nil {
					return fmt.Errorf("write digest file: %w", err)
				}
			}
			return s.artifactEvent(ctx, "push", a)
		},
	}
}

// artifactEvent notes what was done.
func (s *session) artifactEvent(ctx context.Context, action string, a image.Artifact) error {
	e, err := s.engineOf(ctx, registryFlags{})
	if err != nil {
		return err
	}
	e.ArtifactEvent(action, a.Digest, a.Name.String())
	return nil
}
