package bake

import (
	"encoding/json"
	"strings"
	"testing"
)

func load(text string, o Options) (*File, error) {
	name := "docker-bake.hcl"
	if strings.HasPrefix(text, "{") {
		name = "docker-bake.json"
	}
	return Load([]string{name}, func(string) ([]byte, error) { return []byte(text), nil }, o)
}

// resolve is what a file says of names, as JSON, or the error.
func resolve(text string, o Options, names ...string) string {
	f, err := load(text, o)
	if err != nil {
		return "error: " + err.Error()
	}
	targets, err := f.Resolve(names...)
	if err != nil {
		return "error: " + err.Error()
	}
	var out []string
	for _, t := range targets {
		data, err := json.Marshal(t)
		if err != nil {
			return err.Error()
		}
		out = append(out, t.Name+" "+string(data))
	}
	return strings.Join(out, "\n")
}

func TestResolve(t *testing.T) {
	env := func(n string) (string, bool) { return "7", n == "N" || n == "LIST" }
	for _, c := range []struct {
		name, text string
		o          Options
		names      []string
		want       string
	}{
		{"default", `target "default" { tags = ["a"] }`, Options{}, nil, `default {"context":".","tags":["a"]}`},
		{"variable", `variable "V" { default = "1" }
target "a" { tags = ["a:${V}"] }`, Options{Vars: map[string]string{"V": "2"}}, []string{"a"}, `a {"context":".","tags":["a:2"]}`},
		{"number", `variable "N" { default = 1 }
target "a" { args = { n = N + 1 } }`, Options{Env: env}, []string{"a"}, `a {"context":".","args":{"n":"8"}}`},
		{"list from the environment", `variable "LIST" {
  type = list(number)
  default = []
}
target "a" { tags = [for x in LIST : "t${x}"] }`, Options{Env: env}, []string{"a"}, `a {"context":".","tags":["t7"]}`},
		{"fixed", `N = "fixed"
target "a" { tags = [N] }`, Options{Env: env}, []string{"a"}, `a {"context":".","tags":["fixed"]}`},
		{"inherits", `target "p" {
  args = { a = "1", b = "1" }
  tags = ["p"]
}
target "q" { args = { b = "2" } }
target "a" {
  inherits = ["p", "q"]
  args = { c = "3" }
}`, Options{}, []string{"a"}, `a {"context":".","args":{"a":"1","b":"2","c":"3"},"tags":["p"]}`},
		{"function", `function "twice" {
  params = [x]
  variadic_params = rest
  result = "${x}${x}${length(rest)}"
}
target "a" { tags = [twice("ab", 1, 2)] }`, Options{}, []string{"a"}, `a {"context":".","tags":["abab2"]}`},
		{"matrix", `target "m" {
  matrix = { x = ["1", "2"], y = ["a"] }
  name = "m-${x}-${y}"
  args = { x = x }
}`, Options{}, []string{"m"}, `m-1-a {"context":".","args":{"x":"1"}}
m-2-a {"context":".","args":{"x":"2"}}`},
		{"order", `target "a" { contexts = { b = "target:b" } }
target "b" {}`, Options{}, []string{"a"}, `b {"context":"."}
a {"context":".","contexts":{"b":"target:b"}}`},
		{"objects", `target "a" { cache-to = [{ ref = "r", type = "registry" }] }`, Options{}, []string{"a"}, `a {"context":".","cache-to":["type=registry,ref=r"]}`},
		{"json", `{"target": {"a": {"tags": ["x:${target.b.args.v}"]}, "b": {"args": {"v": 3}}}}`, Options{}, []string{"a"}, `a {"context":".","tags":["x:3"]}`},
		{"set", `target "a" { tags = ["1", "2"] }`, Options{Set: []string{"*.tags=3", "a.tags+=4", "a.args.x=y", "b.tags=5"}}, []string{"a"}, `a {"context":".","args":{"x":"y"},"tags":["3","4"]}`},
		{"group", `group "g" { targets = ["h", "a"] }
group "h" { targets = ["a"] }
target "a" {}`, Options{}, []string{"g", "a"}, `a {"context":"."}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := resolve(c.text, c.o, c.names...); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		`target "default" {`:               "docker-bake.hcl:1: Unclosed configuration block",
		`target "default" { tag = ["x"] }`: `docker-bake.hcl:1: Unknown attribute: target "default" has no attribute "tag"`,
		`foo {}`:                           "Unknown block",
		`target "default" { inherits = ["default"] }`:                                                       "refers to itself",
		"variable \"A\" { default = B }\nvariable \"B\" { default = A }\ntarget \"default\" { tags = [A] }": "variable A: it refers to itself",
		`target "default" { contexts = { x = "target:default" } }`:                                          "target default needs itself",
		`target "default" { tags = [NO] }`:                                                                  "       |                            ^",
		`target "default" { inherits = ["no"] }`:                                                            "inherits from no, which is no target",
		`target "a" {}`:                                                                                     "there is no target or group default; there are a",
		`target "default" { matrix = { x = ["1"] } }`:                                                       "needs the attribute name",
		"variable \"V\" {\n default = \"x\"\n validation {\n condition = V == \"y\"\n error_message = \"must be y\"\n }\n}\ntarget \"default\" { tags = [V] }": "variable V: must be y",
		"function \"f\" {\n params = [x]\n result = f(x)\n}\ntarget \"default\" { tags = [f(1)] }":                                                             "calls itself without end",
		`target "default" { tags = "x" }`: "tags: it is no list",
		`{"target": {"a": 1}}`:            "docker-bake.json:1",
	} {
		if got := resolve(text, Options{}); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, want) {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
}

// TestOverride: a later file adds to an earlier one and wins.
func TestOverride(t *testing.T) {
	files := map[string]string{"a.hcl": `target "a" {
  tags = ["1"]
  args = { x = "1", y = "1" }
}`, "b.json": `{"target": {"a": {"tags": ["2"], "args": {"y": "2"}}}}`}
	f, err := Load([]string{"a.hcl", "b.json"}, func(n string) ([]byte, error) { return []byte(files[n]), nil }, Options{})
	if err != nil {
		t.Fatal(err)
	}
	targets, err := f.Resolve("a")
	if err != nil {
		t.Fatal(err)
	}
	if got := targets[0]; got.Tags[0] != "2" || got.Args["x"] != "1" || got.Args["y"] != "2" {
		t.Errorf("%+v", got)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(`variable "V" { default = "1" }
target "default" { tags = ["a:${upper(V)}"] }`)
	f.Add(`{"group": {"default": {"targets": ["a"]}}, "target": {"a": {"args": {"x": "${1 + 1}"}}}}`)
	f.Add("target \"m\" {\n matrix = { x = [\"1\"] }\n name = \"m${x}\"\n}")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		_ = resolve(text, Options{}) // an error or targets, and an end
	})
}
