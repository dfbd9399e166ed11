package containerfile

import (
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// TestScopesSideBySide: stages are built at once, each with a scope of its own.
func TestScopesSideBySide(t *testing.T) {
	g, err := mustParse(t, "FROM scratch\nARG A\n").Graph(GraphOptions{Args: map[string]string{"A": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			scope := g.Scope(nil)
			for n := range 500 {
				scope.Declare(instructions.KeyValuePairOptional{Key: "A"})
				word := strings.Repeat("$A", n%17)
				if got, err := scope.Expand(word); err != nil || got != strings.Repeat("x", n%17) {
					t.Errorf("%q is %q, %v", word, got, err)
					return
				}
			}
		})
	}
	group.Wait()
}
