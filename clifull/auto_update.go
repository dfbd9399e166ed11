package clifull

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/front"
	"hull/transfer"
)

// updateRow is a line of auto-update.
type updateRow struct {
	Unit          string
	ContainerID   string
	ContainerName string
	Container     string
	Image         string
	Policy        string
	Updated       string // true, false, pending, failed, rolled back
}

// autoUpdate is one run of the command.
type autoUpdate struct {
	s        *session
	e        *engine.Engine
	t        *transfer.Transfer
	registry registryFlags
	dry      bool
	rollback bool
	newer    map[string]bool // images of registries: asked once
}

func (s *session) autoUpdate() *command.Command {
	a := &autoUpdate{s: s, newer: map[string]bool{}}
	var text string
	return &command.Command{
		Usage: "[options]",
		Long: "Updates the running containers with a label io.containers.autoupdate: registry looks for a newer image in the registry, local in the store.\n" +
			"A container of a systemd service is updated by the service's restart, another one is made anew with its options. The new one must start,\n" +
			"and be healthy if it has a health check; else the image and the container of before come back.",
		Examples: []string{"auto-update", "auto-update --dry-run", "auto-update --authfile ~/authfile.json"},
		Args:     command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringVar(&a.registry.authFile, "authfile", "", "Path to the authentication file. Use REGISTRY_AUTH_FILE environment variable to override")
			f.BoolVar(&a.dry, "dry-run", false, "Check for pending updates")
			f.StringVar(&text, "format", "", "Change the output format to JSON or a Go template")
			f.BoolVar(&a.rollback, "rollback", true, "Rollback to previous image if update fails")
			a.registry.declareTLS(f)
		},
		Run: func(ctx context.Context, _ []string) (err error) {
			if a.e, err = s.engineOf(ctx, a.registry); err != nil {
				return err
			}
			images, err := a.e.Images()
			if err != nil {
				return err
			}
			c, err := s.client(a.registry)
			if err != nil {
				return err
			}
			a.t = &transfer.Transfer{Images: images, Registry: c}
			rows, err := a.run(ctx)
			return errors.Join(err, s.showUpdates(rows, text))
		},
	}
}

func (a *autoUpdate) run(ctx context.Context) ([]updateRow, error) {
	list, errs, err := a.e.AutoUpdates(ctx)
	if err != nil {
		return nil, err
	}
	rows := []updateRow{}
	restarted := map[string]string{} // services, and how their restart went
	for _, u := range list {
		row := updateRow{Unit: u.Unit, ContainerID: u.ID, ContainerName: u.Name, Container: fmt.Sprintf("%s (%s)", u.ID[:12], u.Name), Image: u.Image, Policy: u.Policy}
		pending, err := a.pending(ctx, u)
		switch done, ok := restarted[u.Unit]; {
		case err != nil:
			row.Updated = "failed"
		case !pending:
			row.Updated = "false"
		case a.dry:
			row.Updated = "pending"
		case u.Unit != "" && ok:
			row.Updated = done
		default:
			row.Updated, err = a.update(ctx, u)
			restarted[u.Unit] = row.Updated
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("auto-update container %s: %w", u.Name, err))
		}
		rows = append(rows, row)
	}
	return rows, errors.Join(errs...)
}

// pending says whether the name means another image than the container's.
func (a *autoUpdate) pending(ctx context.Context, u engine.AutoUpdate) (bool, error) {
	img, err := a.t.Images.Find(ctx, u.Image)
	if err != nil {
		return false, err
	}
	if img.ID.Hex() != u.ImageID || u.Policy == "local" {
		return img.ID.Hex() != u.ImageID, nil
	}
	newer, ok := a.newer[u.Image]
	if !ok {
		if newer, err = a.t.Newer(ctx, u.Image); err != nil {
			return false, err
		}
		a.newer[u.Image] = newer
	}
	return newer, nil
}

// update pulls, and replaces the container.
func (a *autoUpdate) update(ctx context.Context, u engine.AutoUpdate) (string, error) {
	if u.Policy == "registry" {
		if err := a.s.pullChild(ctx, engine.PullRequest{Name: u.Image, Policy: "always", Quiet: true}, a.registry); err != nil {
			return "failed", err
		}
	}
	var err error
	if u.Unit == "" {
		err = a.e.Recreate(ctx, u.ID, a.rollback)
	} else if err = a.restart(ctx, u); err != nil && a.rollback {
		// The service takes what the name means: the image of before.
		if terr := a.e.TagImage(ctx, u.ImageID, []string{u.Image}); terr != nil {
			return "failed", errors.Join(err, terr)
		}
		if rerr := a.restart(ctx, u); rerr != nil {
			return "failed", errors.Join(err, rerr)
		}
		err = fmt.Errorf("%w: %w", engine.ErrRolledBack, err)
	}
	switch {
	case errors.Is(err, engine.ErrRolledBack):
		if u.Unit == "" {
			// Else the next run would try the same again.
			if terr := a.e.TagImage(ctx, u.ImageID, []string{u.Image}); terr != nil {
				return "rolled back", errors.Join(err, terr)
			}
		}
		return "rolled back", err
	case err != nil:
		return "failed", err
	}
	return "true", nil
}

// restart restarts a service of systemd, and looks whether its container works.
func (a *autoUpdate) restart(ctx context.Context, u engine.AutoUpdate) error {
	args := []string{"restart", u.Unit}
	if front.InUserNamespace() {
		args = append([]string{"--user"}, args...)
	}
	if out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return a.e.AwaitService(ctx, u)
}

func (s *session) showUpdates(rows []updateRow, text string) error {
	if format.IsJSON(text) {
		return format.JSON(s.stdout, rows, "    ")
	}
	if text != "" {
		t, err := format.Parse("auto-update", text)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, rows, nil, false)
	}
	cells := make([][]string, len(rows))
	for i, r := range rows {
		cells[i] = []string{r.Unit, r.Container, r.Image, r.Policy, r.Updated}
	}
	return format.Table(s.stdout, []string{"UNIT", "CONTAINER", "IMAGE", "POLICY", "UPDATED"}, cells)
}
