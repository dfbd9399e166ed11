package clifull

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
	"hull/kube"
)

// kubeNodes are the commands of Kubernetes YAML, with the names that they had
// before.
func (s *session) kubeNodes() []command.Node {
	const play, down, generate = "Play a pod or volume based on Kubernetes YAML", "Remove pods based on Kubernetes YAML", "Generate Kubernetes YAML from containers, pods or volumes"
	return []command.Node{
		{Path: "kube", Short: "Play containers, pods or volumes from a structured file"},
		{Path: "kube down", Short: down, Build: s.kubeDown},
		{Path: "kube generate", Short: generate, Build: s.kubeGenerate},
		{Path: "kube play", Short: play, Build: s.kubePlay},
		{Path: "generate kube", Short: generate, Build: s.kubeGenerate, Hidden: true},
		{Path: "play", Short: "Play containers, pods or volumes from a structured file", Hidden: true},
		{Path: "play kube", Short: play, Build: s.kubePlay, Hidden: true},
	}
}

func (s *session) kubeDown() *command.Command {
	p := &kubePlay{s: s}
	return &command.Command{
		Usage:    "[options] KUBEFILE|-|URL...",
		Long:     "Stops and removes the pods that a file of Kubernetes YAML describes, and its secrets; volumes with --force.",
		Examples: []string{"kube down nginx.yml", "cat nginx.yml | hull kube down -"},
		Args:     command.AtLeast(1),
		Flags: func(f *command.Flags) {
			f.BoolVar(&p.force, "force", false, "Remove volumes")
		},
		Run: func(ctx context.Context, args []string) (err error) {
			if p.e, err = s.engineOf(ctx, p.registry); err != nil {
				return err
			}
			return p.takeDown(ctx, args)
		},
	}
}

func (p *kubePlay) takeDown(ctx context.Context, files []string) error {
	objects, err := p.objects(ctx, files)
	if err != nil {
		return err
	}
	work := &kube.Work{}
	for _, pod := range objects.Pods {
		work.Pods = append(work.Pods, kube.PodWork{Options: engine.PodOptions{Name: pod.Metadata.Name}})
	}
	for _, c := range objects.Claims {
		work.Volumes = append(work.Volumes, kube.VolumeWork{Options: engine.VolumeCreateOptions{Name: c.Metadata.Name}})
	}
	return p.remove(ctx, objects, work)
}

// remove takes back what play has made. What is gone already is no error.
func (p *kubePlay) remove(ctx context.Context, objects *kube.Objects, work *kube.Work) error {
	var errs []error
	list := func(title string, names []string, do func(name string) (string, error)) {
		fmt.Fprintln(p.s.stdout, title)
		for _, n := range names {
			id, err := do(n)
			switch {
			case errors.Is(err, engine.ErrNotFound):
			case err != nil:
				errs = append(errs, err)
			default:
				fmt.Fprintln(p.s.stdout, id)
			}
		}
	}
	var pods, secrets, volumes []string
	for _, w := range work.Pods {
		pods = append(pods, w.Options.Name)
	}
	for _, x := range objects.Secrets {
		secrets = append(secrets, x.Metadata.Name)
	}
	for _, w := range work.Volumes {
		if w.Options.Labels[kube.PodLabel] == "" {
			volumes = append(volumes, w.Options.Name)
		}
	}
	list("Pods stopped:", pods, func(n string) (string, error) { return p.e.PodStop(ctx, n, engine.StopOptions{}) })
	list("Pods removed:", pods, func(n string) (string, error) {
		return p.e.PodRemove(ctx, n, engine.PodRemoveOptions{Force: true})
	})
	list("Secrets removed:", secrets, func(n string) (string, error) { return p.e.SecretRemove(ctx, n) })
	own, err := p.ownVolumes(ctx, pods)
	if err != nil {
		return err
	}
	if !p.force {
		volumes = nil
	}
	list("Volumes removed:", append(own, volumes...), func(n string) (string, error) { return p.e.VolumeRemove(ctx, n, false, nil) })
	return errors.Join(errs...)
}

// ownVolumes are those that were made for a pod: of emptyDir, configMap, secret.
func (p *kubePlay) ownVolumes(ctx context.Context, pods []string) ([]string, error) {
	all, err := p.e.VolumeList(ctx, engine.Filters{"label": {kube.PodLabel}})
	var out []string
	for _, v := range all {
		if slices.Contains(pods, v.Labels[kube.PodLabel]) {
			out = append(out, v.Name)
		}
	}
	return out, err
}

func (s *session) kubeGenerate() *command.Command {
	o := kube.GenerateOptions{}
	var file string
	return &command.Command{
		Usage:    "[options] {CONTAINER...|POD...|VOLUME...}",
		Long:     "Prints Kubernetes YAML that describes containers, pods or volumes, for kube play or a cluster.",
		Examples: []string{"kube generate ctrID", "kube generate --service podID", "kube generate --type deployment -f app.yml podID"},
		Args:     command.AtLeast(1),
		Flags: func(f *command.Flags) {
			f.StringVarP(&file, "filename", "f", "", "Write output to the specified path")
			f.BoolVar(&o.Own, "podman-only", false, "Add annotations for what Kubernetes has no field for")
			f.IntVarP(&o.Replicas, "replicas", "r", 1, "Set the replicas number for Deployment kind")
			f.BoolVarP(&o.Service, "service", "s", false, "Generate YAML for a Kubernetes service object")
			f.StringVarP(&o.Kind, "type", "t", "pod", "Generate YAML for the given Kubernetes kind")
			f.Words("type", "pod", "deployment", "daemonset", "job")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.engineOf(ctx, registryFlags{})
			if err != nil {
				return err
			}
			o.Now = time.Now()
			objects, err := s.generate(ctx, e, args, o)
			if err != nil {
				return err
			}
			text, err := kube.Write(objects)
			if err != nil {
				return err
			}
			text = append([]byte("# Made by hull "+engine.Version()+"\n"), text...)
			if file == "" {
				_, err = s.stdout.Write(text)
				return err
			}
			f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			_, err = f.Write(text)
			return errors.Join(err, f.Close())
		},
	}
}

// generate looks names up: containers together are one pod, which is called
// after the first.
func (s *session) generate(ctx context.Context, e *engine.Engine, names []string, o kube.GenerateOptions) ([]any, error) {
	var objects []any
	var loose engine.PodDescription
	add := func(p engine.PodDescription) error {
		more, warnings, err := kube.Generate(p, o)
		for _, w := range warnings {
			s.warn(w)
		}
		objects = append(objects, more...)
		return err
	}
	for _, n := range names {
		d, pod, err := e.Describe(ctx, n)
		switch {
		case err == nil && pod != "":
			return nil, fmt.Errorf("container %s is associated with pod %s: use generate on the pod itself", n, pod[:12])
		case err == nil:
			loose.Members = append(loose.Members, d)
			continue
		case !errors.Is(err, engine.ErrNotFound):
			return nil, err
		}
		p, err := e.DescribePod(ctx, n)
		if err == nil {
			if err := add(p); err != nil {
				return nil, err
			}
			continue
		}
		v, verr := e.VolumeInspect(ctx, n)
		if verr != nil {
			return nil, fmt.Errorf("no container, pod or volume with name or ID %q: %w", n, engine.ErrNotFound)
		}
		objects = append(objects, kube.ClaimOf(v))
	}
	if len(loose.Members) > 0 {
		first := &loose.Members[0].Options
		loose.Name = strings.TrimSuffix(loose.Members[0].Name, "-pod") + "-pod"
		for i := range loose.Members {
			m := &loose.Members[i].Options
			loose.Options.Infra.Publish = append(loose.Options.Infra.Publish, m.Publish...)
		}
		in := &loose.Options.Infra
		in.NetworkMode, in.Hostname, in.AddHosts, in.DNS, in.DNSSearch, in.DNSOptions = first.NetworkMode, first.Hostname, first.AddHosts, first.DNS, first.DNSSearch, first.DNSOptions
		in.UserNS, in.Sysctls, loose.Options.Labels = first.UserNS, first.Sysctls, first.Labels
		return objects, add(loose)
	}
	return objects, nil
}
