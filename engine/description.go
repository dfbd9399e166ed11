package engine

import "context"

// A Description is what was said of a container, for other forms of saying it.
type Description struct {
	Name, Image string // Image is the name that was given, or the ID
	Options     CreateOptions
	Mounts      []Mount // with the volumes' names
	Infra       bool
}

// A PodDescription is what was said of a pod, and of its members.
type PodDescription struct {
	Name    string
	Options PodOptions
	Members []Description // without the infra container
}

// Describe returns what was said of a container, and the pod it is in.
func (e *Engine) Describe(ctx context.Context, name string) (d Description, pod string, err error) {
	r, _, err := e.open(ctx, name)
	if err != nil {
		return d, "", err
	}
	return describe(r), r.Pod, nil
}

func describe(r *record) Description {
	return Description{Name: r.Name, Image: firstOf(r.ImageName, r.ImageID), Options: r.Options, Mounts: r.Mounts, Infra: r.Infra}
}

// DescribePod returns what was said of a pod.
func (e *Engine) DescribePod(_ context.Context, name string) (PodDescription, error) {
	p, err := e.openPod(name)
	if err != nil {
		return PodDescription{}, err
	}
	d := PodDescription{Name: p.Name, Options: p.Options}
	list, err := e.members(p.ID)
	if err != nil {
		return d, err
	}
	for _, m := range list {
		if !m.r.Infra {
			d.Members = append(d.Members, describe(m.r))
		}
	}
	return d, nil
}
