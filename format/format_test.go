package format

import (
	"strings"
	"testing"
	"time"
)

type row struct{ N string }

func (r row) ID() string                { return r.N }
func (r row) CreatedAt() string         { return "today" }
func (r row) Labels() map[string]string { return map[string]string{"a": "b"} }
func (r row) List() []string            { return []string{"x", "y"} }
func (r row) Label(k string) string     { return r.Labels()[k] }

func TestTemplateRows(t *testing.T) {
	tests := []struct{ text, want string }{
		{`{{.ID}}`, "one\ntwo\n"},
		{`{{.ID}}\t{{upper .ID}}`, "one\tONE\ntwo\tTWO\n"},
		{`table {{.ID}}\t{{.CreatedAt}}`, "CONTAINER ID  CREATED AT\none           today\ntwo           today\n"},
		{`table {{upper .ID}} {{json .List}}`, "CONTAINER ID LIST\nONE [\"x\",\"y\"]\nTWO [\"x\",\"y\"]\n"},
		{`table {{index .Labels "a"}} {{join .List "+"}}`, "LABELS LIST\nb x+y\nb x+y\n"},
		{`{{range .}}{{.ID}},{{end}}`, "one,two,"},
		{`{{.Label "a"}}|{{pad .ID 1 2}}|{{truncate .ID 2}}|{{title .ID}}|{{len .List}}`, "b| one  |on|One|2\nb| two  |tw|Two|2\n"},
		{`{{println .ID}}`, "one\n\ntwo\n\n"},
		{`{{json .}}x`, "{\"N\":\"one\"}x\n{\"N\":\"two\"}x\n"},
	}
	for _, test := range tests {
		f, err := Parse("ps", test.text)
		if err != nil {
			t.Errorf("Parse(%q): %v", test.text, err)
			continue
		}
		var b strings.Builder
		err = f.Rows(&b, []row{{"one"}, {"two"}}, map[string]string{"ID": "CONTAINER ID"}, false)
		if err != nil || b.String() != test.want {
			t.Errorf("Rows(%q) = %q, %v, want %q", test.text, b.String(), err, test.want)
		}
	}
}

func TestTemplateErrors(t *testing.T) {
	if _, err := Parse("ps", "{{.ID"); err == nil {
		t.Error("Parse of an open action: no error")
	}
	f, err := Parse("ps", "{{.Nope}}")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Rows(&strings.Builder{}, []row{{"one"}}, nil, false); err == nil || !strings.Contains(err.Error(), "can't evaluate field Nope") {
		t.Errorf("Rows with an unknown field: %v", err)
	}
}

func TestTitle(t *testing.T) {
	for in, want := range map[string]string{"ID": "ID", "CreatedAt": "CREATED AT", "ImageID": "IMAGE ID", "RunningFor": "RUNNING FOR", "PIDNS": "PIDNS", "NetIO": "NET IO"} {
		if got := title(in, nil); got != want {
			t.Errorf("title(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestIsJSON(t *testing.T) {
	for in, want := range map[string]bool{"json": true, " json ": true, "{{json .}}": true, "{{ json }}": true, "{{ json . }}": true, "{{json .ID}}": false, "table": false, "": false, "{{.}}": false} {
		if got := IsJSON(in); got != want {
			t.Errorf("IsJSON(%q) = %v, want %v", in, got, want)
		}
	}
}

// LOG-03: text chosen by others does not reach the terminal as control bytes.
func TestLOG03ControlBytes(t *testing.T) {
	evil := "a\x1b]0;pwned\x07\u009b31m\x7f\u202e\xff"
	var b strings.Builder
	if err := Table(&b, []string{"A", "B"}, [][]string{{evil + "\n\t", "b"}}); err != nil {
		t.Fatal(err)
	}
	f, _ := Parse("ps", "{{.N}}")
	if err := f.Rows(&b, []row{{evil}}, nil, false); err != nil {
		t.Fatal(err)
	}
	if err := JSON(&b, map[string]string{"x": evil[:len(evil)-1]}, ""); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.String() {
		if r < 0x20 && r != '\n' || r >= 0x7f && r < 0xa0 || r == 0xfffd {
			t.Errorf("output holds %U: %q", r, b.String())
		}
	}
}

func TestHuman(t *testing.T) {
	now := time.Unix(1e9, 0)
	if got := Ago(now, now.Add(-2*time.Minute)); got != "2 minutes ago" {
		t.Errorf("Ago = %q", got)
	}
	if got := Ago(now, time.Time{}); got != "" {
		t.Errorf("Ago(zero) = %q", got)
	}
	for n, want := range map[int64]string{0: "0 B", 2131046: "2.13 MB", 999: "999 B"} {
		if got := SpacedSize(n); got != want {
			t.Errorf("SpacedSize(%d) = %q, want %q", n, got, want)
		}
	}
	if got := ShortID("sha256:0123456789abcdef"); got != "0123456789ab" {
		t.Errorf("ShortID = %q", got)
	}
}
