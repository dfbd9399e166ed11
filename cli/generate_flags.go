package cli

import (
	"strings"

	"hull/command"
)

// flagsOf declares the flags of run and create, or of pod create.
func (u *unitFlags) flagsOf(pod bool) func(*command.Flags) {
	if pod {
		var p podFlags
		return func(f *command.Flags) {
			p.declare(f)
			p.declareNetwork(f)
			p.declarePod(f)
		}
	}
	var c createFlags
	return func(f *command.Flags) {
		c.declare(f)
		f.BoolP("detach", "d", false, "")
		f.String("detach-keys", "", "")
		f.Bool("sig-proxy", true, "")
		f.Bool("rmi", false, "")
		f.Uint("preserve-fds", 0, "")
		f.IntSlice("preserve-fd", nil, "")
		f.String("init-ctr", "", "")
	}
}

func (u *unitFlags) without(args []string, names ...string) []string {
	return withoutFlags(args, u.flagsOf(false), names)
}

func (u *unitFlags) podFlagsWithout(args []string, names ...string) []string {
	return withoutFlags(args, u.flagsOf(true), names)
}

// withoutFlags takes flags out of a command line that consists of flags.
func withoutFlags(args []string, declare func(*command.Flags), names []string) []string {
	drop := map[string]bool{}
	for _, n := range names {
		drop[n] = true
	}
	var flags *command.Flags
	if _, err := command.ParseFlags("", nil, func(f *command.Flags) { declare(f); flags = f }); err != nil {
		return args
	}
	var out []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		var keep string
		var more bool // the next word is the flag's value
		if long, ok := strings.CutPrefix(a, "--"); ok {
			name, _, has := strings.Cut(long, "=")
			f := flags.Lookup(name)
			more = f != nil && !has && f.NoOptDefVal == ""
			if keep = a; drop[name] {
				keep = ""
			}
		} else {
			keep, more = shortFlags(a, flags, drop)
		}
		if keep != "" {
			out = append(out, keep)
		}
		if more && i+1 < len(args) {
			i++
			if keep != "" {
				out = append(out, args[i])
			}
		}
	}
	return out
}

// shortFlags goes through letters that stand together; the last may have a
// value.
func shortFlags(a string, flags *command.Flags, drop map[string]bool) (keep string, more bool) {
	keep = "-"
	for i := 1; i < len(a); i++ {
		f := flags.ShorthandLookup(a[i : i+1])
		if f == nil {
			return a, false
		}
		if f.NoOptDefVal == "" || i+1 < len(a) && a[i+1] == '=' {
			if !drop[f.Name] {
				keep += a[i:]
			}
			more = f.NoOptDefVal == "" && i+1 == len(a)
			break
		}
		if !drop[f.Name] {
			keep += a[i : i+1]
		}
	}
	if keep == "-" {
		keep = ""
	}
	return keep, more
}
