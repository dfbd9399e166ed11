package clifull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
	"hull/inroot"
	"hull/kube"
	"hull/network"
	"hull/state"
)

// kubeNetwork is where pods are that were told nothing else: their names are
// known on it.
const kubeNetwork = "podman-default-kube-network"

// kubePlay is one run of kube play.
type kubePlay struct {
	s          *session
	e          *engine.Engine
	registry   registryFlags
	o          kube.PlayOptions
	configMaps []string
	publish    []string
	annotation []string
	contextDir string
	build      bool
	buildSaid  func() bool
	start      bool
	replace    bool
	down       bool
	force      bool
	wait       bool
	quiet      bool

	// service makes the command the process of a systemd service, with its
	// socket and the rule for its exit code.
	service   bool
	notify    string
	exitCodes string
}

func (s *session) kubePlay() *command.Command {
	p := &kubePlay{s: s}
	return &command.Command{
		Usage: "[options] KUBEFILE|-|URL...",
		Long: "Makes the pods, containers, volumes and secrets that a file of Kubernetes YAML describes, and starts them: Pod, Deployment, DaemonSet, Job,\n" +
			"ConfigMap, Secret and PersistentVolumeClaim. A field that does nothing here is told of with its line; docs/kube.md lists what each does.",
		Examples: []string{"kube play nginx.yml", "kube play --replace --network front nginx.yml", "kube play --configmap settings.yml -"},
		Args:     command.AtLeast(1),
		Flags:    p.declare,
		Run: func(ctx context.Context, args []string) (err error) {
			if p.e, err = s.engineOf(ctx, p.registry); err != nil {
				return err
			}
			if p.down {
				return p.takeDown(ctx, args)
			}
			return p.play(ctx, args)
		},
	}
}

func (p *kubePlay) declare(f *command.Flags) {
	p.registry.declare(f)
	p.registry.declareCreds(f)
	f.StringArrayVar(&p.annotation, "annotation", nil, "Add annotations to pods (key=value)")
	f.BoolVar(&p.build, "build", false, "Build all images in a YAML (given Containerfiles exist); =false builds none")
	p.buildSaid = func() bool { return f.Lookup("build").Changed }
	f.StringSliceVar(&p.configMaps, "configmap", nil, "`Pathname` of a YAML file containing a kubernetes configmap")
	f.StringVar(&p.contextDir, "context-dir", "", "Path to top level of context directory")
	f.BoolVar(&p.down, "down", false, "Stop pods defined in the YAML file")
	f.Lookup("down").Hidden = true
	f.BoolVar(&p.force, "force", false, "Remove volumes as part of --down")
	f.StringVar(&p.o.IP, "ip", "", "Static IP address to assign to the first pod")
	f.StringVar(&p.o.LogDriver, "log-driver", "", "Logging driver for the containers")
	f.StringArrayVar(&p.o.LogOpts, "log-opt", nil, "Logging driver options")
	f.StringVar(&p.o.MAC, "mac-address", "", "Static MAC address to assign to the first pod")
	f.StringArrayVar(&p.o.Networks, "network", nil, "Connect pods to network(s) or network mode")
	f.Alias("net", "network")
	f.BoolVar(&p.o.NoHostname, "no-hostname", false, "Do not take the pod's name for the host name")
	f.BoolVar(&p.o.NoHosts, "no-hosts", false, "Do not create /etc/hosts within the pod's containers, instead use the version from the image")
	f.BoolVar(&p.o.NoPodPrefix, "no-pod-prefix", false, "Do not prefix container names with the pod's name")
	f.StringSliceVar(&p.publish, "publish", nil, "Publish a container's port, or a range of ports, to the host")
	f.BoolVar(&p.o.PublishAll, "publish-all", false, "Whether to publish all ports defined in the K8S YAML file (containerPort, hostPort), if false only hostPort will be published")
	f.BoolVarP(&p.quiet, "quiet", "q", false, "Suppress output information when pulling images")
	f.BoolVar(&p.replace, "replace", false, "Delete and recreate pods defined in the YAML file")
	f.StringVar(&p.o.SeccompProfileRoot, "seccomp-profile-root", "", "Directory path for seccomp profiles (default: /var/lib/kubelet/seccomp)")
	f.BoolVar(&p.service, "service-container", false, "Be the process of a systemd service")
	f.Choice(&p.exitCodes, "service-exit-code-propagation", "", "none", "Which exit codes become the service's", "none", "any", "all")
	f.Lookup("service-container").Hidden, f.Lookup("service-exit-code-propagation").Hidden = true, true
	f.BoolVar(&p.start, "start", true, "Start the pods after creating them")
	f.StringVar(&p.o.UserNS, "userns", "", "User namespace to use")
	f.BoolVarP(&p.wait, "wait", "w", false, "Wait until the containers of all pods have ended, then remove what was made")
}

// read reads a file, standard input or what a URL leads to.
func (p *kubePlay) read(ctx context.Context, from string) ([]byte, error) {
	var in io.Reader = p.s.stdin
	switch {
	case from == "-":
	case strings.HasPrefix(from, "http://") || strings.HasPrefix(from, "https://"):
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
		if err != nil {
			return nil, err
		}
		a, err := http.DefaultClient.Do(q)
		if err != nil {
			return nil, err
		}
		defer a.Body.Close()
		if a.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("get %s: %s", from, a.Status)
		}
		in = a.Body
	default:
		f, err := os.Open(from)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, kube.MaxSize+1))
}

func (p *kubePlay) objects(ctx context.Context, files []string) (*kube.Objects, error) {
	o := &kube.Objects{Configs: map[string]kube.ConfigMap{}}
	for _, from := range files {
		text, err := p.read(ctx, from)
		if err != nil {
			return nil, err
		}
		more, err := kube.Read(from, text)
		if err != nil {
			return nil, err
		}
		o.Add(more)
	}
	for _, path := range p.configMaps {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		more, err := kube.Read(path, text)
		if err != nil {
			return nil, err
		}
		if len(more.Configs) == 0 {
			return nil, fmt.Errorf("read %s: it holds no ConfigMap", path)
		}
		maps.Copy(o.Configs, more.Configs)
	}
	return o, nil
}

func (p *kubePlay) play(ctx context.Context, files []string) error {
	if p.service {
		p.beginService()
	}
	objects, err := p.objects(ctx, files)
	if err != nil {
		return err
	}
	for _, w := range objects.Warnings {
		p.s.warn(w)
	}
	if err := p.settle(ctx); err != nil {
		return err
	}
	work, err := kube.Compile(objects, p.o)
	if err != nil {
		return err
	}
	if len(work.Pods)+len(work.Volumes)+len(objects.Secrets) == 0 {
		return errors.New("YAML document does not contain any supported kube kind")
	}
	if p.replace {
		for _, pod := range work.Pods {
			if _, err := p.e.PodRemove(ctx, pod.Options.Name, engine.PodRemoveOptions{Force: true}); err != nil && !errors.Is(err, engine.ErrNotFound) {
				return err
			}
		}
	}
	if err := p.secrets(ctx, objects.Secrets); err != nil {
		return err
	}
	if err := p.volumes(ctx, work.Volumes); err != nil {
		return err
	}
	for i := range work.Pods {
		if err := p.pod(ctx, &work.Pods[i]); err != nil {
			return err
		}
	}
	if p.service {
		return p.serve(ctx, work)
	}
	if !p.wait {
		return nil
	}
	for _, pod := range work.Pods {
		if err := p.await(ctx, pod); err != nil {
			return err
		}
	}
	return p.remove(context.WithoutCancel(ctx), objects, work)
}

// settle turns flags into options, and gives the compiler its eyes.
func (p *kubePlay) settle(ctx context.Context) (err error) {
	if p.o.Publish, err = network.ParsePorts(p.publish); err != nil {
		return err
	}
	p.o.Quiet = p.quiet
	p.o.Annotations = map[string]string{}
	for _, a := range p.annotation {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			return fmt.Errorf("annotation %q is not KEY=VALUE", a)
		}
		p.o.Annotations[k] = v
	}
	p.o.Secret = func(name string) (map[string][]byte, error) {
		x, err := p.e.SecretInspect(ctx, name, true)
		if err != nil {
			return nil, err
		}
		o, err := kube.Read("secret "+name, []byte(x.SecretData))
		if err != nil || len(o.Secrets) != 1 {
			return nil, fmt.Errorf("secret %s is no Secret of Kubernetes", name)
		}
		return o.Secrets[0].Values()
	}
	p.o.NonRoot = func(name string) (bool, error) {
		i, err := p.e.InspectImage(ctx, name)
		if err != nil {
			return false, err
		}
		user, _, _ := strings.Cut(i.Config.User, ":")
		return user != "" && user != "0" && user != "root", nil
	}
	return nil
}

func (p *kubePlay) secrets(ctx context.Context, list []kube.Secret) error {
	for _, x := range list {
		text, err := kube.SecretText(x)
		if err != nil {
			return err
		}
		id, err := p.e.SecretCreate(ctx, engine.SecretCreateOptions{Name: x.Metadata.Name, Data: text, Labels: x.Metadata.Labels, Replace: p.replace})
		if err != nil {
			return err
		}
		fmt.Fprintf(p.s.stdout, "Secrets:\n%s\n", id)
	}
	return nil
}

func (p *kubePlay) volumes(ctx context.Context, list []kube.VolumeWork) error {
	var made []string
	for _, w := range list {
		name, err := p.e.VolumeCreate(ctx, w.Options)
		if err != nil {
			return err
		}
		if made = append(made, name); !w.Replace {
			continue
		}
		v, err := p.e.VolumeInspect(ctx, name)
		if err != nil {
			return err
		}
		if err := fillVolume(v.Mountpoint, w.Files); err != nil {
			return fmt.Errorf("fill volume %s: %w", name, err)
		}
	}
	if len(made) > 0 {
		fmt.Fprintf(p.s.stdout, "Volumes:\n%s\n", strings.Join(made, "\n"))
	}
	return nil
}

// fillVolume makes the files of a volume; those that were there go. Containers
// may have put links into it: no path is followed out of it.
func fillVolume(dir string, files []kube.File) error {
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	names, err := root.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := inroot.RemoveAll(root, n); err != nil {
			return err
		}
	}
	for _, f := range files {
		parent := filepath.Join(dir, filepath.Dir(f.Path)) // all below dir was just made here
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return err
		}
		if err := state.WriteFile(parent, filepath.Base(f.Path), f.Data, fs.FileMode(f.Mode)&0o777, true); err != nil {
			return err
		}
	}
	return nil
}

func (p *kubePlay) pod(ctx context.Context, w *kube.PodWork) error {
	for _, d := range w.Dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("hostPath: %w", err)
		}
	}
	for _, name := range w.Files {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return fmt.Errorf("hostPath: %w", err)
		}
		f.Close()
	}
	if err := p.network(ctx, &w.Options); err != nil {
		return err
	}
	for i := range w.Containers {
		if err := p.image(ctx, &w.Containers[i]); err != nil {
			return err
		}
	}
	if unit := os.Getenv("PODMAN_SYSTEMD_UNIT"); p.service && unit != "" {
		w.Options.Labels = maps.Clone(w.Options.Labels)
		if w.Options.Labels == nil {
			w.Options.Labels = map[string]string{}
		}
		w.Options.Labels["PODMAN_SYSTEMD_UNIT"] = unit
	}
	w.Options.CreateCommand = append([]string{p.s.program}, p.s.args...)
	id, err := p.e.PodCreate(ctx, w.Options)
	if err != nil {
		return err
	}
	var ids []string
	for _, c := range w.Containers {
		c.Pod, c.CreateCommand = id, w.Options.CreateCommand
		cid, err := p.e.Create(ctx, c)
		if err != nil {
			if _, rerr := p.e.PodRemove(context.WithoutCancel(ctx), id, engine.PodRemoveOptions{Force: true}); rerr != nil {
				p.s.warn(rerr.Error())
			}
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
		ids = append(ids, cid)
	}
	fmt.Fprintf(p.s.stdout, "Pod:\n%s\n%s:\n%s\n\n", id, map[bool]string{true: "Containers", false: "Container"}[len(ids) > 1], strings.Join(ids, "\n"))
	if !p.start {
		return nil
	}
	_, err = p.e.PodStart(ctx, id)
	return err
}

// network makes the network on which pods know each other.
func (p *kubePlay) network(ctx context.Context, o *engine.PodOptions) error {
	if o.Infra.NetworkMode != "" || len(o.Infra.Networks) > 0 {
		return nil
	}
	m, err := p.e.Networks()
	if err != nil {
		return err
	}
	if _, err := m.Create(ctx, network.CreateOptions{Name: kubeNetwork, Ignore: true}); err != nil {
		return err
	}
	o.Infra.NetworkMode, o.Infra.Networks = "bridge", []engine.NetworkAttach{{Name: kubeNetwork}}
	return nil
}

// image builds a container's image of the directory with its name, if there is
// one and the image is not, or --build asks for it.
func (p *kubePlay) image(ctx context.Context, c *engine.CreateOptions) error {
	if !p.build && p.buildSaid() {
		return nil
	}
	base, _, _ := strings.Cut(filepath.Base(c.Image), ":")
	dir := filepath.Join(p.contextDir, base)
	i := slices.IndexFunc([]string{"Containerfile", "Dockerfile"}, func(f string) bool { _, err := os.Stat(filepath.Join(dir, f)); return err == nil })
	if i < 0 {
		return nil
	}
	if !p.build {
		if _, err := p.e.InspectImage(ctx, c.Image); err == nil {
			return nil
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := exec.CommandContext(ctx, self, append(p.s.globals.Argv(), "build", "-t", c.Image, dir)...)
	b.Args[0], b.Stdout, b.Stderr = p.s.program, p.s.stderr, p.s.stderr
	if err := b.Run(); err != nil {
		return fmt.Errorf("build image %s: %w", c.Image, err)
	}
	c.Pull = "missing"
	return nil
}

// await waits for a pod's containers, or for its deadline.
func (p *kubePlay) await(ctx context.Context, w kube.PodWork) error {
	if w.Deadline > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, w.Deadline)
		defer cancel()
	}
	for _, c := range w.Containers {
		if _, err := p.e.Wait(ctx, c.Name, engine.WaitOptions{Interval: 250 * time.Millisecond}); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, engine.ErrNotFound) {
			return err
		}
	}
	return nil
}
