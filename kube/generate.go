package kube

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"hull/engine"
	"hull/network"
)

// GenerateOptions say what becomes of pods.
type GenerateOptions struct {
	Kind     string // pod (""), deployment, daemonset, job
	Replicas int    // of a deployment
	Service  bool   // a Service for the published ports as well
	Own      bool   // annotations for what Kubernetes has no field for
	Now      time.Time
}

// Generate describes a pod, or containers without one as members of one, by
// objects of Kubernetes. Warnings are of what they cannot say.
func Generate(p engine.PodDescription, o GenerateOptions) (objects []any, warnings []string, err error) {
	g := &generator{o: o, p: p, claims: map[string]bool{}}
	pod := Pod{Head: Head{"v1", "Pod", Meta{Name: p.Name, Labels: maps.Clone(p.Options.Labels), Annotations: map[string]string{}, Created: o.Now.UTC().Format(time.RFC3339)}}}
	if pod.Metadata.Labels["app"] == "" {
		if pod.Metadata.Labels == nil {
			pod.Metadata.Labels = map[string]string{}
		}
		pod.Metadata.Labels["app"] = p.Name
	}
	g.pod = &pod
	g.podSpec()
	for _, m := range p.Members {
		c, err := g.container(m)
		if err != nil {
			return nil, nil, fmt.Errorf("container %s: %w", m.Name, err)
		}
		if m.Options.InitCtr != "" {
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
			pod.Metadata.Annotations["io.podman.annotations.init.container.type"] = m.Options.InitCtr
		} else {
			pod.Spec.Containers = append(pod.Spec.Containers, c)
		}
	}
	if len(pod.Spec.Containers) == 0 {
		return nil, nil, fmt.Errorf("pod %s has no containers", p.Name)
	}
	g.placePorts()
	for _, name := range sorted(g.claims) {
		objects = append(objects, Claim{Head: Head{"v1", "PersistentVolumeClaim", Meta{Name: name}},
			Spec: ClaimSpec{AccessModes: []string{"ReadWriteOnce"}, Resources: &Resources{Requests: map[string]string{"storage": "1Gi"}}}})
	}
	if o.Service {
		objects = append(objects, g.service())
	}
	main, err := g.controller()
	if err != nil {
		return nil, nil, err
	}
	return append(objects, main), g.warnings, nil
}

// Write is the text of objects.
func Write(objects []any) ([]byte, error) {
	var b bytes.Buffer
	for i, o := range objects {
		if i > 0 {
			b.WriteString("---\n")
		}
		text, err := yaml.Dump(o)
		if err != nil {
			return nil, err
		}
		b.Write(text)
	}
	return b.Bytes(), nil
}

type generator struct {
	o        GenerateOptions
	p        engine.PodDescription
	pod      *Pod
	ports    []network.PortMapping
	claims   map[string]bool
	warnings []string
}

func (g *generator) warn(format string, a ...any) {
	g.warnings = append(g.warnings, fmt.Sprintf(format, a...))
}

// podSpec is what is said of the pod as a whole.
func (g *generator) podSpec() {
	s, in := &g.pod.Spec, &g.p.Options.Infra
	switch g.p.Options.Restart {
	case "always", "unless-stopped":
		s.RestartPolicy = "Always"
	case "on-failure":
		s.RestartPolicy = "OnFailure"
	default:
		s.RestartPolicy = "Never"
	}
	if len(g.p.Members) == 1 && g.p.Options.Restart == "" {
		s.RestartPolicy = map[string]string{"always": "Always", "unless-stopped": "Always", "on-failure": "OnFailure"}[word(g.p.Members[0].Options.Restart)]
		s.RestartPolicy = firstOf(s.RestartPolicy, "Never")
	}
	s.HostNetwork = in.NetworkMode == "host"
	s.ShareProcesses = slices.Contains(g.p.Options.Share, "pid")
	if in.Hostname != g.p.Name {
		s.Hostname = in.Hostname
	}
	for _, a := range in.AddHosts {
		names, ip, _ := strings.Cut(a, ":")
		s.HostAliases = append(s.HostAliases, HostAlias{ip, strings.Split(names, ";")})
	}
	if len(in.DNS)+len(in.DNSSearch)+len(in.DNSOptions) > 0 {
		s.DNSConfig = &DNSConfig{Nameservers: in.DNS, Searches: in.DNSSearch}
		for _, opt := range in.DNSOptions {
			n, v, _ := strings.Cut(opt, ":")
			s.DNSConfig.Options = append(s.DNSConfig.Options, Pair{n, v})
		}
	}
	for _, kv := range in.Sysctls {
		if s.SecurityContext == nil {
			s.SecurityContext = &PodSecurity{}
		}
		n, v, _ := strings.Cut(kv, "=")
		s.SecurityContext.Sysctls = append(s.SecurityContext.Sysctls, Pair{n, v})
	}
	if in.UserNS != "" && in.UserNS != "host" {
		g.pod.Metadata.Annotations["io.podman.annotations.userns"] = in.UserNS
	}
	g.ports = slices.Clone(in.Publish)
	for _, m := range g.p.Members {
		if t := m.Options.StopTimeout; t != nil && s.GraceSeconds == nil {
			s.GraceSeconds = t
		}
	}
}

func word(s string) string { w, _, _ := strings.Cut(s, ":"); return w }

// placePorts gives the pod's ports to its first container, as nobody knows
// which one listens.
func (g *generator) placePorts() {
	c := &g.pod.Spec.Containers[0]
	for _, p := range g.ports {
		for i := range max(p.Range, 1) {
			proto := strings.ToUpper(firstOf(p.Protocol, "tcp"))
			if proto == "TCP" {
				proto = ""
			}
			port := Port{ContainerPort: p.ContainerPort + i, HostPort: p.HostPort + i, Protocol: proto}
			if p.HostIP.IsValid() {
				port.HostIP = p.HostIP.String()
			}
			c.Ports = append(c.Ports, port)
		}
	}
}

// controller is the pod, or what makes it.
func (g *generator) controller() (any, error) {
	meta, spec := g.pod.Metadata, g.pod.Spec
	if g.o.Replicas > 1 && g.o.Kind != "deployment" {
		return nil, fmt.Errorf("--replicas can only be set when --type is set to deployment")
	}
	c := Controller{Head: Head{"apps/v1", "", Meta{Name: strings.TrimSuffix(meta.Name, "-pod") + "-" + g.o.Kind, Labels: meta.Labels, Created: meta.Created}}}
	c.Spec.Template = Template{Metadata: Meta{Name: meta.Name, Labels: meta.Labels, Annotations: meta.Annotations}, Spec: spec}
	c.Spec.Selector = map[string]any{"matchLabels": map[string]string{"app": meta.Labels["app"]}}
	switch g.o.Kind {
	case "", "pod":
		return *g.pod, nil
	case "deployment", "daemonset":
		if spec.RestartPolicy != "Always" {
			if spec.RestartPolicy != "Never" || g.p.Options.Restart == "no" {
				return nil, fmt.Errorf("k8s %ss can only have restartPolicy set to Always", map[string]string{"deployment": "Deployment", "daemonset": "DaemonSet"}[g.o.Kind])
			}
			c.Spec.Template.Spec.RestartPolicy = ""
		}
		if c.Kind = "DaemonSet"; g.o.Kind == "deployment" {
			c.Kind = "Deployment"
			if g.o.Replicas > 1 {
				c.Spec.Replicas = &g.o.Replicas
			}
		}
	case "job":
		if spec.RestartPolicy == "Always" {
			return nil, fmt.Errorf("k8s Jobs can not have restartPolicy set to Always")
		}
		c.APIVersion, c.Kind, c.Spec.Selector = "batch/v1", "Job", nil
	default:
		return nil, fmt.Errorf("type %q is not one of pod, deployment, daemonset, job", g.o.Kind)
	}
	return c, nil
}

// service publishes the pod's ports on a cluster's nodes.
func (g *generator) service() Service {
	s := Service{Head: Head{"v1", "Service", Meta{Name: g.p.Name, Labels: g.pod.Metadata.Labels, Created: g.pod.Metadata.Created}}}
	s.Spec = ServiceSpec{Type: "NodePort", Selector: map[string]string{"app": g.pod.Metadata.Labels["app"]}}
	for _, p := range g.pod.Spec.Containers[0].Ports {
		port := ServicePort{Name: strconv.Itoa(int(p.ContainerPort)), Port: p.ContainerPort, TargetPort: strconv.Itoa(int(p.ContainerPort)), Protocol: p.Protocol}
		if p.HostPort >= 30000 && p.HostPort <= 32767 { // what Kubernetes lets a node publish
			port.NodePort = p.HostPort
		}
		s.Spec.Ports = append(s.Spec.Ports, port)
	}
	return s
}

// ClaimOf is the claim that a volume would be made for.
func ClaimOf(v *engine.Volume) Claim {
	c := Claim{Head: Head{"v1", "PersistentVolumeClaim", Meta{Name: v.Name, Labels: v.Labels, Annotations: map[string]string{}}},
		Spec: ClaimSpec{AccessModes: []string{"ReadWriteOnce"}, Resources: &Resources{Requests: map[string]string{"storage": "1Gi"}}}}
	for option, key := range map[string]string{"type": "type", "device": "device", "o": "mount-options"} {
		if s := v.Options[option]; s != "" {
			c.Metadata.Annotations["volume.podman.io/"+key] = s
		}
	}
	if v.Driver != "local" && v.Driver != "" {
		c.Metadata.Annotations["volume.podman.io/driver"] = v.Driver
	}
	return c
}
