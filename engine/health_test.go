package engine

import (
	"context"
	"testing"
	"time"
)

func TestHealthCounts(t *testing.T) {
	h := Health{Test: []string{"x"}, StartupTest: []string{"y"}, StartupSuccess: 2, StartupRetries: 3, Retries: 2, StartPeriod: time.Hour, Interval: time.Minute, StartInterval: time.Second, StartupInterval: time.Millisecond}
	s := &runState{Health: HealthStarting, StartedAt: time.Now()}
	if h.wait(s) != time.Millisecond {
		t.Errorf("the startup check waits %v", h.wait(s))
	}
	// A failure begins the successes anew; three in a row begin the container anew.
	for i, code := range []int{0, 1, 1, 0, 1, 1} {
		if h.note(s, code) {
			t.Fatalf("check %d: restart after fewer than three failures in a row", i)
		}
	}
	if !h.startingUp(s) || !h.note(s, 1) {
		t.Error("no restart after three failures in a row")
	}
	s.Streak = 0
	h.note(s, 0)
	h.note(s, 0)
	if h.startingUp(s) || s.Health != HealthStarting || h.wait(s) != time.Second {
		t.Errorf("after two successes: starting up %v, health %s, wait %v", h.startingUp(s), s.Health, h.wait(s))
	}
	if h.note(s, 1); s.Streak != 0 {
		t.Error("a failure in the start period counts")
	}
	h.note(s, 0)
	if s.Health != HealthHealthy || h.wait(s) != time.Minute {
		t.Errorf("health %s, wait %v", s.Health, h.wait(s))
	}
	h.note(s, 1)
	if h.note(s, 1); s.Health != HealthUnhealthy {
		t.Errorf("after two failures: %s", s.Health)
	}
}

func TestHealthLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	e := &Engine{}
	r := &record{ID: "abc"}
	two, ten := uint(2), uint(3)
	h := &Health{LogDestination: dir, MaxLogCount: &two, MaxLogSize: &ten}
	for code := range 4 {
		if err := e.logHealth(context.Background(), r, h, &HealthResult{Code: code, Output: "äöü…"}); err != nil {
			t.Fatal(err)
		}
	}
	log, err := e.readHealthLog(r, h)
	if err != nil || len(log) != 2 || log[1].ExitCode != 3 || log[1].Output != "äöü" {
		t.Errorf("log %+v (%v), want the last two, three characters of each", log, err)
	}
}
