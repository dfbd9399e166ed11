package image

import (
	"maps"
	"strings"

	"hull/oci"
)

// DecodeConfig reads an image's config, the inner object alone, as docker has
// it in its schema 2.
func DecodeConfig(data []byte) (*oci.ImageConfig, error) {
	c := new(oci.ImageConfig)
	if err := oci.Decode("config", data, c); err != nil {
		return nil, err
	}
	return c, nil
}

// MergeConfig sets in c what is set in over: texts and lists are replaced,
// variables, labels, ports and volumes are added.
func MergeConfig(c *oci.ImageConfig, over *oci.ImageConfig) {
	for _, t := range []struct{ to, from *string }{
		{&c.User, &over.User}, {&c.WorkingDir, &over.WorkingDir}, {&c.StopSignal, &over.StopSignal},
	} {
		if *t.from != "" {
			*t.to = *t.from
		}
	}
	for _, l := range []struct{ to, from *[]string }{
		{&c.Entrypoint, &over.Entrypoint}, {&c.Cmd, &over.Cmd}, {&c.Shell, &over.Shell}, {&c.OnBuild, &over.OnBuild},
	} {
		if *l.from != nil {
			*l.to = *l.from
		}
	}
	for _, kv := range over.Env {
		k, v, _ := strings.Cut(kv, "=")
		c.Env = setEnv(c.Env, k, v)
	}
	c.Labels = merged(c.Labels, over.Labels)
	c.Volumes = merged(c.Volumes, over.Volumes)
	c.ExposedPorts = merged(c.ExposedPorts, over.ExposedPorts)
	if over.Healthcheck != nil {
		c.Healthcheck = over.Healthcheck
	}
	if over.StopTimeout != nil {
		c.StopTimeout = over.StopTimeout
	}
	c.ArgsEscaped = c.ArgsEscaped || over.ArgsEscaped
}

// merged is a new map, or have when there is nothing to add.
func merged[V any](have, add map[string]V) map[string]V {
	if len(add) == 0 {
		return have
	}
	all := make(map[string]V, len(have)+len(add))
	maps.Copy(all, have)
	maps.Copy(all, add)
	return all
}
