package userns

import (
	"slices"
	"strings"
	"testing"
)

func TestParseSubid(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Range
	}{
		{"", nil},
		{"ann:100000:65536\n", []Range{{100000, 65536}}},
		{"bob:100000:65536\nann:200000:65536\n1000:300000:10", []Range{{200000, 65536}, {300000, 10}}},
		{"ann:0:10\nann:5:0\nann:-1:4\nann:4294967295:1\nann:1\n:1:1\nann:1:2:3\n", nil},
		{"anna:1:1\n ann:7:3 \n", []Range{{7, 3}}},
	} {
		got, err := parseSubid(strings.NewReader(c.text), "ann", "1000")
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("parseSubid(%q) = %v, %v, want %v", c.text, got, err, c.want)
		}
	}
}

func TestMapWords(t *testing.T) {
	got := strings.Join(mapWords(1000, []Range{{100000, 65536}, {300000, 10}}), " ")
	if want := "0 1000 1 1 100000 65536 65537 300000 10"; got != want {
		t.Errorf("mapWords = %q, want %q", got, want)
	}
}

func FuzzParseSubid(f *testing.F) {
	f.Add("ann:100000:65536\n1000:1:2\n")
	f.Fuzz(func(t *testing.T, text string) {
		ranges, _ := parseSubid(strings.NewReader(text), "ann", "1000")
		for _, r := range ranges {
			if r.First == 0 || r.Size == 0 || uint64(r.First)+uint64(r.Size) > 1<<32-1 {
				t.Errorf("range %v", r)
			}
		}
	})
}
