package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// What a thousand containers may cost.
const (
	pssLimit   = 1 << 20 // kB of all processes of the engine together
	psLimit    = 50 * time.Millisecond
	startLimit = 1.2 // the last start against the first
	edge       = 25  // starts that are "the first" and "the last"
)

// atOnce lets many run at once and returns what is beyond its limit.
func (s *soak) atOnce() ([]string, error) {
	fmt.Printf("at once: %d containers\n", s.many)
	var took []life
	for i := range s.many {
		network := "none"
		if i%10 == 9 {
			network = net
		}
		begin := time.Now()
		cpu, err := s.step([]string{"run", "-d", "--name", fmt.Sprintf("m%d", i), "--network", network, image, "sleep", "1000000"}, 0)
		if err != nil {
			return nil, err
		}
		if network == "none" { // as the first
			took = append(took, life{wall: time.Since(begin), cpu: cpu})
		}
	}
	var grown []string
	n := min(edge, len(took))
	fw, fc := median(slices.Clone(took[:n]))
	lw, lc := median(slices.Clone(took[len(took)-n:]))
	fmt.Printf("  start: the first %d %v (%v of the processors), the last %v (%v): %.2f, %.2f (limit %.1f)\n", n, fw, fc, lw, lc,
		float64(lw)/float64(fw), float64(lc)/float64(fc), startLimit)
	if float64(lc) > startLimit*float64(fc) && float64(lw) > startLimit*float64(fw) {
		grown = append(grown, fmt.Sprintf("time of a start: %v to %v", fw, lw))
	}
	total, pids := 0, s.processes()
	for _, pid := range pids {
		total += field("/proc/"+pid+"/smaps_rollup", "Pss:")
	}
	fmt.Printf("  memory: %d processes, %d MB PSS together (limit %d)\n", len(pids), total>>10, pssLimit>>10)
	if total > pssLimit {
		grown = append(grown, fmt.Sprintf("memory: %d kB", total))
	}
	var list []life
	for range 9 {
		begin := time.Now()
		c := s.command("ps", "-a")
		c.Stdout, c.Stderr = io.Discard, os.Stderr
		if err := c.Run(); err != nil {
			return nil, fmt.Errorf("ps: %w", err)
		}
		list = append(list, life{wall: time.Since(begin), cpu: c.ProcessState.UserTime() + c.ProcessState.SystemTime()})
	}
	w, c := median(list)
	fmt.Printf("  ps -a: %v (%v of the processors; limit %v)\n", w, c, psLimit)
	if w > psLimit && c > psLimit {
		grown = append(grown, fmt.Sprintf("ps -a: %v", w))
	}
	begin := time.Now()
	if _, err := s.step([]string{"rm", "-af", "-t", "0"}, 0); err != nil {
		return nil, err
	}
	fmt.Printf("  rm -af: %v; left: %d processes\n", time.Since(begin).Round(time.Millisecond), len(s.processes()))
	return grown, nil
}
