package engine

import (
	"bytes"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// What Metrics writes is what Prometheus reads, and says of what it is.
func TestMetrics(t *testing.T) {
	h := newHarness(t)
	o := h.options("sleep", "1000")
	o.Name = "up"
	h.detached(o)
	o = h.options("false")
	o.Name = "down"
	h.run(o)
	var b bytes.Buffer
	if err := h.e.Metrics(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	for name, want := range map[string]int{"hull_container_info": 2, "hull_container_exit_code": 1, "hull_container_memory_usage_bytes": 1, "hull_store_bytes": 3, "hull_build_info": 1} {
		if f := families[name]; f == nil || len(f.Metric) != want {
			t.Errorf("%s: %v, want %d samples", name, f, want)
		}
	}
	if !strings.Contains(b.String(), `,name="down"} 1`+"\n") {
		t.Errorf("the exit code of down is not in\n%s", b.String())
	}
}

func TestMetricLabels(t *testing.T) {
	f := new(metrics).define("m", "gauge", "")
	f.add(1.5, "a", "x\"y\\z\n")
	if want := `m{a="x\"y\\z\n"} 1.5`; f.samples[0] != want {
		t.Errorf("%s, want %s", f.samples[0], want)
	}
}
