package clifull

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hull/command"
	"hull/format"
	"hull/image"
	"hull/oci"
)

// completeArtifacts proposes the names of artifacts.
func (s *session) completeArtifacts(ctx context.Context, _ []string, _ string) []string {
	e, err := s.engineOf(ctx, registryFlags{})
	if err != nil {
		return nil
	}
	list, _ := e.Artifacts(ctx)
	var names []string
	for _, a := range list {
		names = append(names, a.Name.String())
	}
	return names
}

func (s *session) artifactExtract() *command.Command {
	var f image.BlobFilter
	return &command.Command{
		Usage: "[options] ARTIFACT PATH",
		Long: "Copies the files of an artifact to PATH: into it when it is a directory, under their titles or digests,\n" +
			"else the one file there is, or that --digest or --title chooses. What is there is overwritten.",
		Examples: []string{"artifact extract registry.example.com/models/small:latest /tmp/model", "artifact extract --title model.bin registry.example.com/models/small:latest /tmp"},
		Args:     command.Exactly(2),
		Complete: s.completeArtifacts,
		Flags: func(fl *command.Flags) {
			fl.StringVar(&f.Digest, "digest", "", "Only extract the blob with the given digest")
			fl.StringVar(&f.Title, "title", "", "Only extract the blob with the given title")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.engineOf(ctx, registryFlags{})
			if err != nil {
				return err
			}
			return e.ExtractArtifact(ctx, args[0], args[1], f)
		},
	}
}

// artifactShown is what inspect prints.
type artifactShown struct {
	Manifest oci.Manifest
	Name     string
	Digest   string

	size int64
}

// Artifact is how podman's templates may say it too.
func (a artifactShown) Artifact() artifactShown { return a }

// TotalSizeBytes is the size of the files.
func (a artifactShown) TotalSizeBytes() int64 { return a.size }

func (s *session) artifactInspect() *command.Command {
	var text string
	return &command.Command{
		Usage:    "[options] ARTIFACT",
		Long:     "Prints the manifest of an artifact, which is called by its name, or by its digest or the beginning of that.",
		Examples: []string{"artifact inspect registry.example.com/models/small:latest", "artifact inspect --format '{{.TotalSizeBytes}}' 0a1b2c3d4e5f"},
		Args:     command.Exactly(1),
		Complete: s.completeArtifacts,
		Flags: func(f *command.Flags) {
			f.StringVarP(&text, "format", "f", "", "Format the output to a Go template or json")
			f.Words("format", "json", "{{.Name}}", "{{.Digest}}", "{{.Manifest}}", "{{.TotalSizeBytes}}")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.engineOf(ctx, registryFlags{})
			if err != nil {
				return err
			}
			a, err := e.Artifact(ctx, args[0])
			if err != nil {
				return err
			}
			shown := artifactShown{a.Manifest, a.Name.String(), string(a.Digest), a.Size()}
			if text == "" || format.IsJSON(text) {
				return format.JSON(s.stdout, shown, "     ")
			}
			t, err := format.Parse("inspect", text)
			if err != nil {
				return err
			}
			return t.One(s.stdout, shown)
		},
	}
}

// artifactRow is a line of artifact ls.
type artifactRow struct {
	Digest, Repository, Tag, Size, Created, CreatedAt string
	VirtualSize                                       int64
}

func (s *session) artifactList() *command.Command {
	var text string
	var noTrunc, noHeading bool
	return &command.Command{
		Usage: "[options]", Long: "Lists the artifacts in the local store.", Args: command.NoArgs,
		Examples: []string{"artifact ls", "artifact ls --noheading --format '{{.Repository}}:{{.Tag}} {{.VirtualSize}}'"},
		Flags: func(f *command.Flags) {
			f.StringVar(&text, "format", "", "Change the output format to JSON or a Go template")
			f.BoolVar(&noTrunc, "no-trunc", false, "Do not truncate output")
			f.BoolVarP(&noHeading, "noheading", "n", false, "Do not print column headings")
			f.Words("format", "json", "table", "{{.Repository}}", "{{.Tag}}", "{{.Digest}}", "{{.Created}}", "{{.CreatedAt}}", "{{.Size}}", "{{.VirtualSize}}")
		},
		Run: func(ctx context.Context, _ []string) error {
			e, err := s.engineOf(ctx, registryFlags{})
			if err != nil {
				return err
			}
			list, lerr := e.Artifacts(ctx)
			rows := artifactRows(list, noTrunc)
			switch {
			case format.IsJSON(text):
				err = format.JSON(s.stdout, rows, "    ")
			case text != "" && !format.IsTable(text):
				t, perr := format.Parse("artifacts", text)
				if perr != nil {
					return perr
				}
				err = t.Rows(s.stdout, rows, map[string]string{"CreatedAt": "CREATED AT"}, noHeading)
			default:
				header := []string{"REPOSITORY", "TAG", "DIGEST", "CREATED", "SIZE"}
				if noHeading {
					header = nil
				}
				var lines [][]string
				for _, r := range rows {
					lines = append(lines, []string{r.Repository, r.Tag, r.Digest, r.Created, r.Size})
				}
				err = format.Table(s.stdout, header, lines)
			}
			return errors.Join(err, lerr)
		},
	}
}

func artifactRows(list []image.Artifact, noTrunc bool) []artifactRow {
	now := time.Now()
	rows := []artifactRow{}
	for _, a := range list {
		d := a.Digest.Hex()
		if !noTrunc {
			d = format.ShortID(d)
		}
		rows = append(rows, artifactRow{Digest: d, Repository: a.Name.Name(), Tag: a.Name.Tag, Size: format.Size(a.Size()), VirtualSize: a.Size(),
			Created: format.Ago(now, a.Created()), CreatedAt: a.Created().String()})
	}
	return rows
}

func (s *session) artifactRemove() *command.Command {
	var all, ignore bool
	return &command.Command{
		Usage:    "[options] ARTIFACT [ARTIFACT...]",
		Long:     "Removes artifacts from the local store, each called by its name, or by its digest or the beginning of that.",
		Examples: []string{"artifact rm registry.example.com/models/small:latest", "artifact rm -a"},
		Complete: s.completeArtifacts,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Remove all artifacts")
			f.BoolVarP(&ignore, "ignore", "i", false, "Ignore errors if a specified artifact does not exist")
		},
		Run: func(ctx context.Context, args []string) error {
			switch {
			case all && len(args) > 0:
				return errors.New("when using the --all switch, you may not pass any artifact names or digests")
			case !all && len(args) == 0:
				return errors.New("at least one artifact name or digest must be specified")
			}
			e, err := s.engineOf(ctx, registryFlags{})
			if err != nil {
				return err
			}
			if all {
				list, err := e.Artifacts(ctx)
				if err != nil {
					return err
				}
				for _, a := range list {
					args = append(args, a.Name.String())
				}
			}
			var errs []error
			for _, name := range args {
				d, err := e.RemoveArtifact(ctx, name)
				if errors.Is(err, image.ErrNoArtifact) && (ignore || all) {
					continue
				}
				if err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintln(s.stdout, d.Hex())
			}
			return errors.Join(errs...)
		},
	}
}
