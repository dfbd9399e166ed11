package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hull/ociruntime"
)

// waitingLimit is the most that a created container may have besides what the kernel keeps, in kB.
const waitingLimit = 100

// makeBundle writes a bundle that runs program, once, and returns it and hull's runtime.
func (b *bench) makeBundle(program string) (dir, hull string, err error) {
	dir, hull = filepath.Join(b.dir, "bundle-"+program), filepath.Join(b.dir, "hull-runtime")
	if err := os.Symlink(filepath.Join(b.bin, "hull"), hull); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", "", err
	}
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
		return dir, hull, nil
	} else if err != nil {
		return "", "", err
	}
	spec := exec.Command(hull, "spec")
	spec.Dir = dir
	if out, err := spec.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("write the bundle's config.json: %w: %s", err, out)
	}
	// An older crun refuses a version it does not know, and runc a root that is a link.
	edit := `s/"terminal": true/"terminal": false/; s/"sh"/"` + program + `"/; s/"ociVersion": ".*"/"ociVersion": "1.0.2"/; s|"path": "rootfs"|"path": "` + b.rootfs + `"|`
	if out, err := exec.Command("sed", "-i", edit, filepath.Join(dir, "config.json")).CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("edit the bundle's config.json: %w: %s", err, out)
	}
	return dir, hull, nil
}

func (b *bench) runtimeRoot(name string) string { return filepath.Join(b.dir, "run", "oci-"+name) }

// bundle compares OCI runtimes on one bundle.
func (b *bench) bundle() (*group, error) {
	dir, hull, err := b.makeBundle("true")
	if err != nil {
		return nil, err
	}
	g := &group{name: "bundle", about: "an OCI bundle by its runtime, to its end", rounds: 60}
	run := func(name string) []string {
		return []string{"--root", b.runtimeRoot(name), "run", "--bundle", dir, "bench"}
	}
	g.add("floor", filepath.Join(b.dir, "floor"), b.rootfs, "/bin/true")
	g.add("hull-runtime run", append([]string{hull}, run("hull")...)...)
	g.addPeer("crun run", "crun", run("crun")...)
	g.addPeer("runc run", "runc", run("runc")...)
	return g, nil
}

// life compares what engines do: three commands for one container.
func (b *bench) life() (*group, error) {
	dir, hull, err := b.makeBundle("true")
	if err != nil {
		return nil, err
	}
	g := &group{name: "life", about: "create, start and delete of an OCI bundle", rounds: 40}
	add := func(name, program string) {
		if program == "" {
			return
		}
		r := program + " --root " + b.runtimeRoot(name)
		g.add(name+" create, start, delete", "sh", "-c", r+" create --bundle "+dir+" life </dev/null >/dev/null 2>&1 && "+r+" start life && "+r+" delete --force life")
	}
	add("hull-runtime", hull)
	add("crun", installed("crun"))
	add("runc", installed("runc"))
	return g, nil
}

// waiting measures a container that is created and not started.
func (b *bench) waiting() (*group, error) {
	dir, hull, err := b.makeBundle("sleep")
	if err != nil {
		return nil, err
	}
	root, pidFile := b.runtimeRoot("hull"), filepath.Join(b.dir, "waiting.pid")
	create := exec.Command(hull, "--root", root, "create", "--bundle", dir, "--pid-file", pidFile, "waiting")
	if err := create.Run(); err != nil {
		return nil, fmt.Errorf("create a container to measure: %w", err)
	}
	defer exec.Command(hull, "--root", root, "delete", "--force", "waiting").Run()
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, err
	}
	kB, err := pss(strings.TrimSpace(string(pid)))
	if err != nil {
		return nil, err
	}
	fmt.Printf("waiting: a created container\n  %-28s %8d kB PSS            budget %d\n\n", "its process", kB, waitingLimit)
	return nil, nil
}

// heapMark makes this program one that starts containers with a heap of so many MiB, of the
// bundle and with the state directory that are its arguments.
const heapMark = "HULL_BENCH_HEAP"

// heap compares starts out of a process with a small heap and out of one with a large.
func (b *bench) heap() (*group, error) {
	dir, _, err := b.makeBundle("true")
	if err != nil {
		return nil, err
	}
	sizes := []string{"5", "500"}
	best := map[string]time.Duration{}
	for range 3 { // in turn, and the quietest of each
		for _, size := range sizes {
			cmd := exec.Command("/proc/self/exe", dir, b.runtimeRoot("heap"))
			cmd.Env = append(os.Environ(), heapMark+"="+size)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("start containers with a heap of %s MiB: %w", size, err)
			}
			d, err := time.ParseDuration(strings.TrimSpace(string(out)))
			if err != nil {
				return nil, err
			}
			if old, ok := best[size]; !ok || d < old {
				best[size] = d
			}
		}
	}
	fmt.Println("heap: a bundle run by a program of package ociruntime (median of 30, best of 3)")
	for _, size := range sizes {
		fmt.Printf("  %-28s %8.2f ms   x %6.2f\n", "a heap of "+size+" MiB", ms(best[size]), float64(best[size])/float64(best[sizes[0]]))
	}
	fmt.Println()
	return nil, nil
}

func startWithHeap(size string) {
	n, err := strconv.Atoi(size)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	ballast := make([]byte, n<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	r := &ociruntime.Runtime{Root: os.Args[2]}
	var times []time.Duration
	for range 30 {
		begin := time.Now()
		if _, err := r.Run(context.Background(), "heap", ociruntime.RunOptions{CreateOptions: ociruntime.CreateOptions{Bundle: os.Args[1]}}); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	fmt.Println(times[len(times)/2])
	ballast[0] = 2 // kept until here
}
