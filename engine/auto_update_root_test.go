package engine

import (
	"errors"
	"strings"
	"testing"
)

// A container is replaced by one of the new image, which must be healthy; else
// the old one comes back. Its volumes stay.
func TestRecreate(t *testing.T) {
	h := newHarness(t)
	h.importRootfs("app:1", "ENV V=1")
	o := h.options("sleep", "1000")
	o.Rootfs, o.RootfsOverlay, o.Image, o.Name = "", false, "localhost/app:1", "app"
	o.Labels = map[string]string{AutoUpdateLabel: "local"}
	o.Mounts = []Mount{{Type: "volume", Destination: "/data", Anonymous: true}}
	first := h.detached(o)
	h.exec(first, "touch", "/data/kept")
	h.importRootfs("app:1", "ENV V=2")
	list, problems, err := h.e.AutoUpdates(t.Context())
	if err != nil || len(problems) > 0 || len(list) != 1 || list[0].Name != "app" || list[0].Policy != "local" {
		t.Fatalf("AutoUpdates = %+v, %v, %v", list, problems, err)
	}
	if err := h.e.Recreate(t.Context(), "app", true); err != nil {
		t.Fatal(err)
	}
	if _, out := h.exec("app", "sh", "-c", "echo $V; ls /data"); out != "2\nkept\n" {
		t.Errorf("the new container says %q", out)
	}
	second := h.status("app")

	// One that ends at once is no update.
	h.importRootfs("app:1", "ENV V=3", `ENTRYPOINT ["false"]`)
	err = h.e.Recreate(t.Context(), "app", true)
	if !errors.Is(err, ErrRolledBack) || !strings.Contains(err.Error(), "ended with exit code 1") {
		t.Errorf("Recreate = %v, want it rolled back", err)
	}
	if _, out := h.exec("app", "sh", "-c", "echo $V; ls /data"); out != "2\nkept\n" {
		t.Errorf("after the roll back it says %q", out)
	}
	if again := h.status("app"); again.Pid == second.Pid || again.Status != StatusRunning {
		t.Errorf("after the roll back it is %+v", again)
	}
	if all, err := h.e.List(t.Context(), ListOptions{All: true}); err != nil || len(all) != 1 {
		t.Errorf("%d containers, %v", len(all), err)
	}
}
