package containerfile

import (
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// FuzzHeredoc: a here-document is the lines that were written, whatever they
// are: comments, continuations and instructions in it are text. What follows
// it is read as if it were not there.
func FuzzHeredoc(f *testing.F) {
	for _, s := range []string{"", "echo 1\n", "\tindented\n", "# syntax=x\n", "a \\\nb\n", "RUN x\nFROM y\n", "\n\n", " EOF\n", "EOF2\n", "<<EOF\n", "$A ${B:-c} \"'`\n", "#!/bin/sh\nexit 1\n"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, body string, chomp bool) {
		if strings.ContainsAny(body, "\r\x00") || len(body) > 1<<15 {
			return
		}
		if body != "" && !strings.HasSuffix(body, "\n") {
			body += "\n"
		}
		word, want := "<<EOF", body
		if chomp {
			word, want = "<<-EOF", ""
			for line := range strings.Lines(body) {
				want += strings.TrimLeft(line, "\t")
			}
		}
		if slices.Contains(strings.Split(want, "\n"), "EOF") {
			return // the end is in it
		}
		file, err := Parse([]byte("FROM scratch\nRUN "+word+"\n"+body+"EOF\nCOPY "+word+" "+strings.Replace(word, "EOF", "\"EOF\"", 1)+" /x/\n"+body+"EOF\n"+body+"EOF\nUSER 7\n"), ParseOptions{})
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		c := file.Stages[0].Commands
		if len(file.Stages) != 1 || len(c) != 3 {
			t.Fatalf("%q: %d stages, %d instructions", body, len(file.Stages), len(c))
		}
		var docs []string
		for _, d := range c[0].(*instructions.RunCommand).Files {
			docs = append(docs, d.Data)
		}
		for _, d := range c[1].(*instructions.CopyCommand).SourceContents {
			docs = append(docs, d.Data)
		}
		if len(docs) != 3 {
			t.Fatalf("%q: %d here-documents", body, len(docs))
		}
		for i, d := range docs {
			if chomp && i == 0 {
				continue // RUN gives the shell what was written, which takes the tabs itself
			}
			if d != want {
				t.Errorf("document %d is %q, want %q", i, d, want)
			}
		}
	})
}
