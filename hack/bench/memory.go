package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// monitors is how many containers run while memory is measured, memoryLimit
// the most that each may cost besides its own, in kB (the design's budget).
const (
	monitors    = 20
	memoryLimit = 700
)

// memory measures what stands beside a running container.
func (b *bench) memory() (*group, error) {
	defer func() { b.command(b.hull("rm", "-af", "-t", "0")).Run() }()
	total := 0
	for i := range monitors {
		name := fmt.Sprint("m", i)
		if out, err := b.command(b.hull("run", "-d", "--name", name, "--network", "none", "localhost/bench:1", "sleep", "1000")).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("start a container to measure: %w: %s", err, out)
		}
	}
	for i := range monitors {
		out, err := b.command(b.hull("inspect", "--format", "{{.State.ConmonPid}}", fmt.Sprint("m", i))).Output()
		if err != nil {
			return nil, fmt.Errorf("inspect a container: %w", err)
		}
		kB, err := pss(strings.TrimSpace(string(out)))
		if err != nil {
			return nil, err
		}
		total += kB
	}
	fmt.Printf("memory: beside a running container, %d of them\n  %-28s %8d kB PSS            budget %d\n\n", monitors, "hull-monitor", total/monitors, memoryLimit)
	return nil, nil
}

// pss is a process's proportional share of memory, in kB.
func pss(pid string) (int, error) {
	text, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "Pss:"); ok {
			return strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")))
		}
	}
	return 0, fmt.Errorf("no Pss of process %s", pid)
}
