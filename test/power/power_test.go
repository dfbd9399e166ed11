package power

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cuts is how many power cuts each disk gets; make power asks for more.
func cuts() int {
	if n, err := strconv.Atoi(os.Getenv("HULL_POWER_CUTS")); err == nil {
		return n
	}
	return 5
}

func seed(t *testing.T) *rand.Rand {
	n, err := strconv.ParseUint(os.Getenv("HULL_POWER_SEED"), 10, 64)
	if err != nil {
		n = uint64(time.Now().UnixNano())
	}
	t.Logf("HULL_POWER_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 1))
}

// touched are the kinds of objects that a command may change.
var touched = map[string]string{"load": "image", "pull": "image", "tag": "image", "rmi": "image", "build": "image", "commit": "image",
	"create": "container volume", "cp": "container", "rename": "container", "rm": "container", "volume": "volume", "secret": "secret", "network": "network", "pod": "pod"}

// expected runs the workload on a store that is not cut, and returns how the
// objects are before the first step and after each.
func (s *scene) expected(driver string) []map[string]string {
	s.Helper()
	at := s.at("expected")
	at.driver = driver
	defer os.RemoveAll(filepath.Dir(at.root))
	var all []map[string]string
	before := map[string]string{"check": "clean"}
	for _, o := range objects {
		before[o.String()] = "absent"
	}
	for i := 0; ; i++ {
		l := look{Root: at.root, Run: at.run, Driver: driver}
		if i > 0 {
			l.Only = touched[s.steps[i-1].args[0]]
		} else {
			l.Only = "nothing"
		}
		seen, err := s.observe(l)
		if err != nil {
			s.Fatal(err)
		}
		for o, how := range before {
			if seen[o] == "" {
				seen[o] = how
			}
		}
		before = seen
		for o, how := range seen {
			if strings.HasPrefix(how, "damaged") || o == "check" && how != "clean" {
				s.Fatalf("after %d steps, without a cut: %s: %s", i, o, how)
			}
		}
		all = append(all, seen)
		if i == len(s.steps) {
			return all
		}
		s.must(s.command(at, s.steps[i].stdin, s.steps[i].args...))
	}
}

// A span is where in the recording a step begins and where it had exited with 0.
type span struct{ begin, end int }

// record runs the workload again, on what records.
func (s *scene) record(at store, position func() int) []span {
	s.Helper()
	var spans []span
	for _, st := range s.steps {
		sp := span{begin: position()}
		s.must(s.command(at, st.stdin, st.args...))
		sp.end = position()
		spans = append(spans, sp)
	}
	return spans
}

// done counts the steps that were acknowledged before the cut, and says whether
// another had begun.
func done(spans []span, at int) (n int, begun bool) {
	for n < len(spans) && spans[n].end <= at {
		n++
	}
	return n, n < len(spans) && spans[n].begin < at
}

// judge compares what is there after a cut with what may be.
func (s *scene) judge(what string, seen map[string]string, expected []map[string]string, n int, begun bool) bool {
	s.Helper()
	ok := true
	fail := func(format string, args ...any) {
		s.Helper()
		ok = false
		s.Errorf("%s: %s", what, fmt.Sprintf(format, args...))
	}
	for _, o := range objects {
		how, want := seen[o.String()], expected[n][o.String()]
		if begun && s.partial(o, n, how) {
			continue
		}
		if how == want || begun && how == expected[n+1][o.String()] {
			continue
		}
		fail("after %d steps (the last: %v): %s is %q, want %q", n, s.last(n), o, how, want)
	}
	if seen["check"] != "clean" && !(begun && s.steps[n].args[0] == "volume" && strings.Contains(seen["check"], "an import into it was cut off")) {
		fail("system check, after its repair: %s", seen["check"])
	}
	return ok
}

// partial says whether a command that was under way may have left an object
// so: files that are copied to where a user has put others come one by one.
func (s *scene) partial(o object, n int, how string) bool {
	args := s.steps[n].args
	return !strings.HasPrefix(how, "damaged") && how != "absent" &&
		(args[0] == "cp" && o.kind == "container" || args[0] == "volume" && args[1] == "import" && o.name == args[2])
}

func (s *scene) last(n int) string {
	if n == 0 {
		return "none"
	}
	return strings.Join(s.steps[n-1].args, " ")
}

// Power cuts of a disk whose writes were recorded.
func TestBlocks(t *testing.T) {
	s := newScene(t)
	expected := s.expected("")
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			own := *s
			own.TB = t
			own.blocks(t, kind, expected)
		})
	}
}

func (s *scene) blocks(t *testing.T, kind string, expected []map[string]string) {
	random := seed(t)
	b := newBlocks(t)
	dir := b.mountDisk(t, kind)
	spans := s.record(store{filepath.Join(dir, "root"), filepath.Join(s.dir, "run-"+kind), ""}, b.position)
	first, last := spans[0].begin, b.position()
	t.Logf("%d writes and flushes, %d of them flushes", last-first, b.flushes())
	failures, tried := 0, 0
	for i := range cuts() {
		at, share := b.choose(random, i, first, last, spans)
		disk := b.cut(at, share, random)
		run := t.TempDir()
		n, begun := done(spans, at)
		what := fmt.Sprintf("%s, cut %d at %d with %.0f %% of what was not flushed", kind, i, at-first, share*100)
		seen, err := s.observe(look{Kind: kind, Disk: disk, Dir: t.TempDir(), Boot: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Root: "", Run: run})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			failures++
		} else if !s.judge(what, seen, expected, n, begun) {
			failures++
		}
		b.drop(disk)
		tried++
	}
	t.Logf("%s: cuts tried %d, failures %d", kind, tried, failures)
}

// choose finds where to cut: at each flush bound in turn if there are as many
// cuts, right after acknowledgements, and anywhere.
func (b *blocks) choose(random *rand.Rand, i, first, last int, spans []span) (at int, share float64) {
	share = []float64{0, 0.5, 1, random.Float64()}[random.IntN(4)]
	switch i % 3 {
	case 0:
		return spans[random.IntN(len(spans))].end, share
	case 1:
		return first + random.IntN(last-first+1), share
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	at = first + random.IntN(last-first+1)
	for at < last && b.log[at].data != nil {
		at++
	}
	return min(at+random.IntN(2), last), share
}
