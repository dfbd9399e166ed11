package quadlet

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// word is a flag with the key's last value.
func word(t *translation, s step) error {
	if v := t.last(s.key); v != "" {
		t.arg(s.flag, v)
	}
	return nil
}

// joined is word in one argument.
func joined(t *translation, s step) error {
	if v := t.last(s.key); v != "" {
		t.arg(s.flag + v)
	}
	return nil
}

// needed is an argument that may not be missing.
func needed(t *translation, s step) error {
	v := t.last(s.key)
	if v == "" {
		return t.missing(s.key)
	}
	t.arg(v)
	return nil
}

// each is a flag for each value.
func each(t *translation, s step) error {
	for _, v := range t.values(s.key) {
		t.arg(s.flag, v)
	}
	return nil
}

// list is a flag for each word of each value.
func list(t *translation, s step) error {
	for _, v := range t.words(s.key) {
		t.arg(s.flag, v)
	}
	return nil
}

// args is list for words that may be quoted and escaped.
func args(t *translation, s step) error {
	for _, v := range t.args(s.key) {
		t.arg(s.flag, v)
	}
	return nil
}

// bare are arguments as they are.
func bare(t *translation, s step) error {
	t.arg(t.args(s.key)...)
	return nil
}

// toggle is a flag that is given with its value.
func toggle(t *translation, s step) error {
	if t.last(s.key) == "" {
		return nil
	}
	v, err := t.boolean(s.key, false)
	switch {
	case err != nil:
		return err
	case v:
		t.arg(s.flag)
	default:
		t.arg(s.flag + "=false")
	}
	return nil
}

// whenTrue is an argument that false leaves out.
func whenTrue(t *translation, s step) error {
	v, err := t.boolean(s.key, false)
	if v {
		t.arg(s.flag)
	}
	return err
}

// pairs are KEY=VALUE as of systemd's Environment=, in the order of their
// keys; the last of a key holds.
func pairs(t *translation, s step) error {
	of := map[string]string{}
	var keys []string
	for _, kv := range t.args(s.key) {
		key, _, _ := strings.Cut(kv, "=")
		if key == "" {
			return t.failed(t.kind.section, s.key, fmt.Errorf("%q is not of the form KEY=VALUE", kv))
		}
		if _, ok := of[key]; !ok {
			keys = append(keys, key)
		}
		of[key] = kv
	}
	slices.Sort(keys)
	for _, k := range keys {
		t.arg(s.flag, of[k])
	}
	return nil
}

// files are paths, relative to the unit.
func files(t *translation, s step) error {
	for _, v := range t.args(s.key) {
		// What begins with a dash systemd's EnvironmentFile= may lack.
		if p, ok := strings.CutPrefix(v, "-"); ok && s.key == "EnvironmentFile" {
			t.arg(s.flag, "-"+t.path(p))
			continue
		}
		t.arg(s.flag, t.path(v))
	}
	return nil
}

func oneFile(t *translation, s step) error {
	if v := t.last(s.key); v != "" {
		t.arg(s.flag, t.path(v))
	}
	return nil
}

// path makes a path absolute from the unit's directory. One that begins with a
// specifier is systemd's to tell.
func (t *translation) path(p string) string {
	specifier := strings.HasPrefix(p, "%") && !strings.HasPrefix(p, "%%")
	if filepath.IsAbs(p) || specifier || t.unit.Path == "" {
		return p
	}
	return filepath.Join(filepath.Dir(t.unit.Path), p)
}

// networks are names, units, and what the flag takes besides.
func networks(t *translation, s step) error {
	for _, v := range t.values(s.key) {
		name, options, more := strings.Cut(v, ":")
		ext := filepath.Ext(name)
		if ext != ".network" && ext != ".container" {
			t.arg(s.flag, v)
			continue
		}
		to, err := t.find(name)
		switch {
		case err != nil:
		case ext == ".container" && more:
			err = errors.New("the network of another container takes no options")
		case to.resource == "" || ext == ".container" && strings.Contains(to.resource, "%"):
			err = fmt.Errorf("the name of what %s makes is not known here", name)
		}
		if err != nil {
			return t.failed(t.kind.section, s.key, err)
		}
		t.require(to.service)
		v = to.resource
		if ext == ".container" {
			v = "container:" + v
		} else if more {
			v += ":" + options
		}
		t.arg(s.flag, v)
	}
	return nil
}

// volumes are of the form [SOURCE:]PLACE[:OPTIONS].
func volumes(t *translation, s step) error {
	for _, v := range t.values(s.key) {
		source, rest, ok := strings.Cut(v, ":")
		if !ok || source == "" {
			t.arg(s.flag, strings.TrimPrefix(v, ":"))
			continue
		}
		source, err := t.source(source, ".volume")
		if err != nil {
			return t.failed(t.kind.section, s.key, err)
		}
		t.arg(s.flag, source+":"+rest)
	}
	return nil
}

// source is where a mount comes from: a path, or a unit of one of the kinds.
func (t *translation) source(v string, kinds ...string) (string, error) {
	if strings.HasPrefix(v, ".") {
		v = t.path(v)
	}
	switch {
	case strings.HasPrefix(v, "/"):
		t.out.add("Unit", "RequiresMountsFor", quoted(v))
	case slices.Contains(kinds, filepath.Ext(v)):
		to, err := t.find(v)
		if err != nil {
			return "", err
		}
		t.require(to.service)
		v = to.resource
	}
	return v, nil
}

// mappings are the keys of user namespaces that stand for themselves.
func (t *translation) mappings() bool {
	return slices.ContainsFunc([]string{"UserNS", "UIDMap", "GIDMap", "SubUIDMap", "SubGIDMap"}, func(key string) bool { return t.last(key) != "" })
}

// remap is RemapUsers= with its RemapUid=, RemapGid= and RemapUidSize=.
func remap(t *translation, s step) error {
	uids, gids, mode := t.words("RemapUid"), t.words("RemapGid"), t.last(s.key)
	fail := func(text string) error { return t.failed(t.kind.section, s.key, errors.New(text)) }
	if t.mappings() {
		if len(uids)+len(gids) > 0 || mode != "" {
			return fail("the Remap keys cannot be used with UserNS, UIDMap, GIDMap, SubUIDMap and SubGIDMap")
		}
		return nil
	}
	var opts []string
	switch mode {
	case "":
		if len(uids)+len(gids) > 0 {
			return fail("RemapUid and RemapGid need it")
		}
		return nil
	case "manual":
		if t.kind.ext == ".kube" {
			return fail("manual is not for .kube units")
		}
		for _, m := range uids {
			t.arg("--uidmap", m)
		}
		for _, m := range gids {
			t.arg("--gidmap", m)
		}
		return nil
	case "auto":
		opts = slices.Concat(prefixed("uidmapping=", uids), prefixed("gidmapping=", gids))
		if n := t.last("RemapUidSize"); n != "" && n != "0" {
			opts = append(opts, "size="+n)
		}
	case "keep-id":
		if len(uids) > 1 || len(gids) > 1 {
			return fail("keep-id takes one RemapUid and one RemapGid")
		}
		opts = slices.Concat(prefixed("uid=", uids), prefixed("gid=", gids))
	default:
		return fail("it is manual, auto or keep-id")
	}
	if len(opts) > 0 {
		mode += ":" + strings.Join(opts, ",")
	}
	t.arg(s.flag, mode)
	return nil
}

func prefixed(prefix string, words []string) []string {
	var all []string
	for _, w := range words {
		all = append(all, prefix+w)
	}
	return all
}
