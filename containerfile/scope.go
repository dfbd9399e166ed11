package containerfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// proxyArgs may be given by --build-arg without being declared. They reach RUN
// and nothing else: neither the cache's keys nor the history has them.
var proxyArgs = []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"}

// IsProxy says whether name is a predefined proxy argument.
func IsProxy(name string) bool { return slices.Contains(proxyArgs, name) }

// A Scope is what names mean at one place of a stage.
type Scope struct {
	// Args are the arguments that the stage declared so far and that have a
	// value, in the order of their declaration.
	Args []instructions.KeyValuePair
	// Env is the environment; it goes before Args.
	Env []string

	lex    *shell.Lex
	global map[string]string // with the predefined ones
	given  map[string]string // --build-arg
	used   *sync.Map         // of given; shared by all scopes of a graph
}

// Get is what $name means; shell.EnvGetter.
func (s *Scope) Get(name string) (string, bool) {
	for _, kv := range s.Env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v, true
		}
	}
	for _, a := range s.Args {
		if a.Key == name {
			return a.Value, true
		}
	}
	return "", false
}

// Keys are all names; shell.EnvGetter.
func (s *Scope) Keys() []string {
	var all []string
	for _, kv := range s.Env {
		k, _, _ := strings.Cut(kv, "=")
		all = append(all, k)
	}
	for _, a := range s.Args {
		all = append(all, a.Key)
	}
	return all
}

// Expand replaces variables in a word, with quotes taken away.
func (s *Scope) Expand(word string) (string, error) {
	text, _, err := s.lex.ProcessWord(word, s)
	return text, unclosed(word, err)
}

// unclosed says what the lexer means by a modifier that is no character.
func unclosed(word string, err error) error {
	if err != nil && strings.Contains(err.Error(), "\ufffd") {
		return fmt.Errorf("expand %q: } is missing", word)
	}
	return err
}

// ExpandRaw replaces variables in the text of a heredoc, where quotes mean
// nothing, and a backslash takes the meaning of what follows, whatever the
// directive "escape" says.
func (s *Scope) ExpandRaw(text string) (string, error) {
	lex := shell.NewLex('\\')
	lex.SkipProcessQuotes = true
	out, _, err := lex.ProcessWord(text, s)
	return out, err
}

// ExpandWords is Expand where one word may become several, as in EXPOSE $PORTS.
func (s *Scope) ExpandWords(word string) ([]string, error) { return s.lex.ProcessWords(word, s) }

// Declare is an ARG of the stage: the value given by --build-arg, else its
// default, else that of the global argument of the same name, else the one that
// it has.
func (s *Scope) Declare(a instructions.KeyValuePairOptional) {
	value, ok := s.given[a.Key]
	switch {
	case ok:
		s.used.Store(a.Key, true)
	case a.Value != nil:
		value, ok = *a.Value, true
	default:
		if value, ok = s.global[a.Key]; !ok {
			return
		}
	}
	s.Args = slices.DeleteFunc(s.Args, func(old instructions.KeyValuePair) bool { return old.Key == a.Key })
	if ok {
		s.Args = append(s.Args, instructions.KeyValuePair{Key: a.Key, Value: value})
	}
}

// Proxies are the proxy arguments that were given, sorted.
func (s *Scope) Proxies() []string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(s.given)) {
		if IsProxy(k) {
			s.used.Store(k, true)
			all = append(all, k+"="+s.given[k])
		}
	}
	return all
}

// SetEnv is an ENV of the stage.
func (s *Scope) SetEnv(key, value string) {
	for i, kv := range s.Env {
		if strings.HasPrefix(kv, key+"=") {
			s.Env = slices.Clone(s.Env)
			s.Env[i] = key + "=" + value
			return
		}
	}
	s.Env = append(s.Env[:len(s.Env):len(s.Env)], key+"="+value)
}
