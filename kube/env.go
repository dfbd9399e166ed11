package kube

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// An environment is variables in the order in which they were first set.
type environment struct {
	names  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) list() []string {
	var out []string
	for _, n := range e.names {
		out = append(out, n+"="+e.values[n])
	}
	return out
}

// expand replaces $(NAME) by a variable that is set; $$ is one $.
func (e *environment) expand(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if s[i+1] == '$' {
			b.WriteByte('$')
			i++
			continue
		}
		if end := strings.IndexByte(s[i:], ')'); s[i+1] == '(' && end > 0 {
			if v, ok := e.values[s[i+2:i+end]]; ok {
				b.WriteString(v)
				i += end
				continue
			}
		}
		b.WriteByte('$')
	}
	return b.String()
}

func (e *environment) expandAll(words []string) []string {
	out := slices.Clone(words)
	for i := range out {
		out[i] = e.expand(out[i])
	}
	return out
}

// environment are the variables of envFrom, then those of env.
func (c *podCompiler) environment(k *Container) (*environment, error) {
	e := &environment{values: map[string]string{}}
	for _, f := range k.EnvFrom {
		var values map[string][]byte
		var err error
		switch {
		case f.ConfigMap != nil:
			values, err = c.configMap(f.ConfigMap.Name, f.ConfigMap.Optional)
		case f.Secret != nil:
			values, err = c.secret(f.Secret.Name, f.Secret.Optional)
		}
		if err != nil {
			return nil, fmt.Errorf("envFrom: %w", err)
		}
		for _, key := range sorted(values) {
			e.set(f.Prefix+key, string(values[key]))
		}
	}
	for _, v := range k.Env {
		if v.ValueFrom == nil {
			e.set(v.Name, e.expand(v.Value))
			continue
		}
		value, set, err := c.valueFrom(k, v.ValueFrom)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", v.Name, err)
		}
		if set {
			e.set(v.Name, value)
		}
	}
	return e, nil
}

func (c *podCompiler) valueFrom(k *Container, f *EnvFunc) (value string, set bool, err error) {
	switch {
	case f.ConfigMap != nil:
		values, err := c.configMap(f.ConfigMap.Name, f.ConfigMap.Optional)
		return keyOf(values, "ConfigMap", f.ConfigMap, err)
	case f.Secret != nil:
		values, err := c.secret(f.Secret.Name, f.Secret.Optional)
		return keyOf(values, "Secret", f.Secret, err)
	case f.Field != nil:
		value, err := c.field(f.Field.Path)
		return value, err == nil, err
	case f.Resource != nil:
		value, err := c.resource(k, f.Resource)
		return value, err == nil, err
	}
	return "", false, nil
}

func keyOf(values map[string][]byte, kind string, ref *KeyRef, err error) (string, bool, error) {
	if err != nil {
		return "", false, err
	}
	v, ok := values[ref.Key]
	if !ok && !ref.Optional {
		return "", false, fmt.Errorf("%s %s has no key %s", kind, ref.Name, ref.Key)
	}
	return string(v), ok, nil
}

// configMap are the values of one of the text's.
func (c *podCompiler) configMap(name string, optional bool) (map[string][]byte, error) {
	m, ok := c.objects.Configs[name]
	switch {
	case ok:
		return m.Values()
	case optional:
		return nil, nil
	}
	return nil, fmt.Errorf("configmap %s is not found", name)
}

// secret are the values of one of the text's, or of the engine's store.
func (c *podCompiler) secret(name string, optional bool) (map[string][]byte, error) {
	for i := range c.objects.Secrets {
		if s := &c.objects.Secrets[i]; s.Metadata.Name == name {
			return s.Values()
		}
	}
	var values map[string][]byte
	err := fmt.Errorf("secret %s is not found", name)
	if c.o.Secret != nil {
		values, err = c.o.Secret(name)
	}
	if err != nil && optional {
		return nil, nil
	}
	return values, err
}

// field is a field of the pod.
func (c *podCompiler) field(path string) (string, error) {
	m := &c.pod.Metadata
	for prefix, from := range map[string]map[string]string{"metadata.labels['": m.Labels, "metadata.annotations['": m.Annotations} {
		if key, ok := strings.CutPrefix(path, prefix); ok {
			return from[strings.TrimSuffix(key, "']")], nil
		}
	}
	switch path {
	case "metadata.name":
		return m.Name, nil
	case "metadata.namespace":
		return firstOf(m.Namespace, "default"), nil
	}
	return "", fmt.Errorf("field %s is not known before the pod is there", path)
}

// resource is a limit or request of a container, in units of the divisor.
func (c *podCompiler) resource(k *Container, ref *ResourceRef) (string, error) {
	if ref.Container != "" && ref.Container != k.Name {
		i := slices.IndexFunc(c.pod.Spec.Containers, func(o Container) bool { return o.Name == ref.Container })
		if i < 0 {
			return "", fmt.Errorf("container %s is not in the pod", ref.Container)
		}
		k = &c.pod.Spec.Containers[i]
	}
	list, key, _ := strings.Cut(ref.Resource, ".")
	var from map[string]string
	if k.Resources != nil {
		from = map[string]map[string]string{"limits": k.Resources.Limits, "requests": k.Resources.Requests}[list]
	}
	v, err := ParseQuantity(firstOf(from[key], "0"))
	if err != nil {
		return "", err
	}
	divisor, err := ParseQuantity(firstOf(ref.Divisor, "1"))
	if err != nil || divisor == 0 {
		return "", fmt.Errorf("divisor %q is no quantity", ref.Divisor)
	}
	return strconv.FormatInt(int64(math.Ceil(v/divisor)), 10), nil
}

func sorted[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
