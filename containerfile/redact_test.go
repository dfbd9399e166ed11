package containerfile

import "testing"

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"": "",
		"ADD https://ann:secret@example.com/f /f":          "ADD https://xxxxx@example.com/f /f",
		"https://token@example.com/r.git#main:sub":         "https://xxxxx@example.com/r.git#main:sub",
		"http://a:b%zz@c@h:8/x?u=http://d:e@f":             "http://xxxxx@h:8/x?u=http://xxxxx@f",
		"git@example.com:ann/r.git, ssh://git@example.com": "git@example.com:ann/r.git, ssh://git@example.com",
		"ssh://git:pw@example.com":                         "ssh://xxxxx@example.com",
		"https://example.com/a@b mail@example.com":         "https://example.com/a@b mail@example.com",
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
	if got := WithoutUsers("ssh://git@example.com/r https://a:b@h"); got != "ssh://example.com/r https://h" {
		t.Errorf("WithoutUsers: %q", got)
	}
}
