package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"hull/quadlet"
)

// unitState is what systemd says of a service.
type unitState struct{ load, active, sub string }

func (u unitState) status() string {
	if u.load != "loaded" {
		return "Not loaded"
	}
	return u.active + "/" + u.sub
}

// managed says whether this user has a running service manager.
func managed() bool {
	dir := "/run/systemd/system"
	if os.Geteuid() != 0 {
		dir = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "systemd", "private")
	}
	_, err := os.Stat(dir)
	return err == nil
}

// systemctl asks the user's service manager.
func systemctl(ctx context.Context, args ...string) ([]byte, error) {
	if os.Geteuid() != 0 {
		args = append([]string{"--user"}, args...)
	}
	c := exec.CommandContext(ctx, "systemctl", args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return nil, fmt.Errorf("systemctl %s: %s", strings.Join(args, " "), text)
		}
		return nil, fmt.Errorf("systemctl %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// reloadSystemd makes systemd run its generators. Without a service manager
// there is nothing to reload: it reads the units when it starts.
func reloadSystemd(ctx context.Context) error {
	if !managed() {
		return nil
	}
	_, err := systemctl(ctx, "daemon-reload")
	return err
}

// unitStates are the states of the units' services, by name.
func unitStates(ctx context.Context, all []quadlet.Installed) (map[string]unitState, error) {
	states := map[string]unitState{}
	args := []string{"show", "--property=Id,LoadState,ActiveState,SubState", "--"}
	for _, x := range all {
		// A template has instances, no state.
		if x.UnitName != "" && !strings.Contains(x.UnitName, "@.") {
			args = append(args, x.UnitName)
		}
	}
	if len(args) == 3 || !managed() {
		return states, nil
	}
	out, err := systemctl(ctx, args...)
	if err != nil {
		return nil, err
	}
	for _, block := range strings.Split(string(out), "\n\n") {
		var u unitState
		id := ""
		for _, l := range strings.Split(block, "\n") {
			switch key, value, _ := strings.Cut(l, "="); key {
			case "Id":
				id = value
			case "LoadState":
				u.load = value
			case "ActiveState":
				u.active = value
			case "SubState":
				u.sub = value
			}
		}
		states[id] = u
	}
	return states, nil
}

// stopUnits stops the running services of units that are to be removed, if
// that is allowed.
func stopUnits(ctx context.Context, all []quadlet.Installed, force bool) error {
	states, err := unitStates(ctx, all)
	if err != nil {
		return err
	}
	var running []string
	for _, x := range all {
		if u := states[x.UnitName]; u.load != "loaded" || u.active != "active" {
			continue
		}
		if !force {
			return fmt.Errorf("remove quadlet: quadlet %s is running and force is not set, refusing to remove", x.Name)
		}
		running = append(running, x.UnitName)
	}
	if len(running) == 0 {
		return nil
	}
	_, err = systemctl(ctx, append([]string{"stop", "--"}, running...)...)
	return err
}
