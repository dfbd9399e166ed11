package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What a container writes: lines of a hundred bytes, a file of them that is
// copied to its standard output again and again, a gigabyte in all.
const (
	logLine   = 100
	logFile   = 64 << 20 / logLine * logLine
	logCopies = 16
	logRounds = 5
	logRatio  = 3 // podman's time by ours, at least
)

// log measures how fast output gets into the log and to a client that reads it.
func (b *bench) log() (*group, error) {
	dir := filepath.Join(b.dir, "lines")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	line := append(bytes.Repeat([]byte("0123456789"), logLine/10)[:logLine-1], '\n')
	if err := os.WriteFile(filepath.Join(dir, "f"), bytes.Repeat(line, logFile/logLine), 0o644); err != nil {
		return nil, err
	}
	script := "cat" + strings.Repeat(" /lines/f", logCopies)
	// Logs lie in memory: the disk is not what is compared.
	args := func(driver string, image ...string) []string {
		o := []string{"run", "--rm", "--network", "none", "--log-driver", driver, "-v", dir + ":/lines:ro"}
		if driver != "none" {
			o = append(o, "--log-opt", "path="+filepath.Join(b.dir, "run", "bench.log"))
		}
		return append(append(o, image...), "sh", "-c", script)
	}
	g := &group{name: "log", rounds: logRounds}
	for _, driver := range []string{"k8s-file", "json-file", "none"} {
		g.add("hull run, "+driver, b.hull(args(driver, "localhost/bench:1")...)...)
	}
	podman := []string{"--root", filepath.Join(b.dir, "podman"), "--runroot", filepath.Join(b.dir, "podman-run")}
	g.addPeer("podman run, k8s-file", "podman", append(podman, args("k8s-file", "--rootfs", b.rootfs)...)...)
	for _, c := range g.list {
		c.before = func() { os.Remove(filepath.Join(b.dir, "run", "bench.log")) }
	}
	g.measure()
	printLog(g)
	return nil, nil
}

// printLog prints throughputs, and what each round's ratio to podman was.
func printLog(g *group) {
	fmt.Printf("log: %d MB in lines of %d bytes to a log and to /dev/null (median of %d)\n", logFile*logCopies/1_000_000, logLine, g.rounds)
	peer := g.list[len(g.list)-1]
	for _, c := range g.list {
		note := ""
		if c.fails > 0 {
			note = fmt.Sprintf("   %d of %d FAILED", c.fails, g.rounds+1)
		}
		var ratios []float64
		for i, t := range c.times {
			ratios = append(ratios, float64(peer.times[i])/float64(t))
		}
		slices.Sort(ratios)
		fmt.Printf("  %-28s %8.0f MB/s  podman's x %6.2f (least %.2f, budget of k8s-file %d)%s\n", c.name,
			float64(logFile*logCopies)/1e6/c.at(0.5).Seconds(), ratios[len(ratios)/2], ratios[0], logRatio, note)
	}
	fmt.Println()
}
