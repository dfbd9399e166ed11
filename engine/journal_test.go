package engine

import "testing"

func TestParseJournal(t *testing.T) {
	for text, want := range map[string]string{
		`{"MESSAGE":"a b","__REALTIME_TIMESTAMP":"1000000","PRIORITY":"6"}`:                                    "a b",
		`{"MESSAGE":[255,10,65],"__REALTIME_TIMESTAMP":"1","PRIORITY":"3","CONTAINER_PARTIAL_MESSAGE":"true"}`: "\xff\nA",
	} {
		l, ok := parseJournal([]byte(text))
		if !ok || string(l.Text) != want {
			t.Errorf("parseJournal(%s) = %+v, %v", text, l, ok)
		}
		if p := want != "a b"; l.Partial != p || l.Stderr != p {
			t.Errorf("parseJournal(%s) = %+v", text, l)
		}
	}
	for _, text := range []string{"", "{}", `{"MESSAGE":5,"__REALTIME_TIMESTAMP":"1"}`, `{"MESSAGE":"a"}`} {
		if l, ok := parseJournal([]byte(text)); ok {
			t.Errorf("parseJournal(%s) = %+v", text, l)
		}
	}
}

func TestJournalFields(t *testing.T) {
	r := &record{ID: newID(), Name: "c", ImageName: "localhost/i:1", Options: CreateOptions{LogOpts: []string{"labels=a.b,none"}, Labels: map[string]string{"a.b": "x", "other": "y"}}}
	want := "CONTAINER_ID=" + r.ID[:12] + "\nCONTAINER_ID_FULL=" + r.ID + "\nCONTAINER_NAME=c\nCONTAINER_TAG=t\nIMAGE_NAME=localhost/i:1\nSYSLOG_IDENTIFIER=t\nLABEL_A_B=x\n"
	if got := journalFields(r, "t"); got != want {
		t.Errorf("fields %q, want %q", got, want)
	}
}
