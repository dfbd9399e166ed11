package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hull/lsm"
	"hull/oci"
)

// policyDir has SELinux's configuration.
const policyDir = "/etc/selinux"

// selinux says whether containers get labels. The kernel is asked once.
func (e *Engine) selinux() bool {
	e.selinuxOnce.Do(func() { e.selinuxOn = lsm.Enabled() })
	return e.selinuxOn
}

// labelWords are the words of --security-opt label=.
func (o *CreateOptions) labelWords() []string {
	var words []string
	for _, opt := range o.SecurityOpt {
		if key, value, _ := cutSecurityOpt(opt); key == "label" {
			words = append(words, value)
		}
	}
	return words
}

// settleLabels gives the container the labels that it keeps: those of a
// container whose namespaces it joins, or ones with a pair of categories that
// no other container of the store has.
func (e *Engine) settleLabels(r *record) error {
	if r.Labels != nil || !e.selinux() {
		return nil
	}
	l, err := e.labelsOf(r, e.claimPair)
	if err != nil {
		return fmt.Errorf("label container: %w", err)
	}
	r.Labels = &l // what was claimed for it is given back by its undoing
	for _, label := range []string{l.Process, l.Mount} {
		if label == "" {
			continue
		}
		if err := lsm.Check(label); err != nil {
			return hint(fmt.Errorf("label container: %w", err), "see --security-opt label=")
		}
	}
	return nil
}

// labelsOf makes the labels with a pair of categories that take chooses.
func (e *Engine) labelsOf(r *record, take func(*record) (lsm.Pair, error)) (lsm.Labels, error) {
	o := &r.Options
	words, err := lsm.ParseOptions(o.labelWords())
	if err != nil {
		return lsm.Labels{}, err
	}
	policy, err := lsm.LoadPolicy(policyDir)
	if err != nil {
		return lsm.Labels{}, hint(err, "install the policy for containers, or run with --security-opt label=disable")
	}
	if o.Privileged || e.o.Defaults.NoLabels {
		words = lsm.Options{Disable: true}
	}
	if !words.Disable {
		other, err := e.labelsShared(r)
		if err != nil || other != nil {
			return *orLabels(other), err
		}
	}
	if words.None() && (o.PidNS == "host" || o.IpcNS == "host") {
		// It sees what is not of a container, so no label would fit.
		words.Disable = true
	}
	var pair lsm.Pair
	if !words.Disable && words.Level == "" {
		if pair, err = take(r); err != nil {
			return lsm.Labels{}, err
		}
	}
	return policy.Make(words, pair, systemdMode(r) && !r.bare())
}

func orLabels(l *lsm.Labels) *lsm.Labels {
	if l == nil {
		return new(lsm.Labels)
	}
	return l
}

// labelsShared are the labels of the pod, or of the container whose processes or shared
// memory it joins, unless it was told to have others; nil of none.
func (e *Engine) labelsShared(r *record) (*lsm.Labels, error) {
	o := &r.Options
	from := ""
	for _, mode := range []string{o.IpcNS, o.PidNS} {
		if id, ok := strings.CutPrefix(mode, "container:"); ok {
			from = id
		}
	}
	if r.Pod != "" && !r.Infra {
		if p, err := e.loadPod(r.Pod); err == nil && p.Infra != "" {
			from = p.Infra
		}
	}
	if from == "" {
		return nil, nil
	}
	other, err := e.loadRecord(from)
	if err != nil {
		return nil, err
	}
	// A member's options begin with its pod's.
	if !slices.Equal(o.labelWords(), other.Options.labelWords()) && len(o.labelWords()) > 0 {
		return nil, nil
	}
	return other.Labels, nil
}

func (e *Engine) pairDirs() [2]string {
	return [2]string{filepath.Join(e.o.RunRoot, "categories"), filepath.Join(e.o.Root, "categories")}
}

// claimPair reserves a pair of categories for the container.
func (e *Engine) claimPair(r *record) (lsm.Pair, error) {
	for range 10000 {
		p := lsm.RandomPair()
		err := e.claimAt(e.pairDirs(), pairName(p), r)
		if err == nil || !errors.Is(err, ErrExists) {
			return p, err
		}
	}
	return lsm.Pair{}, errors.New("no pair of categories is free")
}

func pairName(p lsm.Pair) string { return fmt.Sprintf("c%d,c%d", p.Low, p.High) }

// releasePair gives the container's pair back, when it is its own.
func (e *Engine) releasePair(r *record) error {
	if r.Labels == nil {
		return nil
	}
	c, err := lsm.ParseContext(r.Labels.Process)
	if err != nil {
		return nil // it took none
	}
	if p, ok := lsm.ParsePair(c.Level); ok {
		return e.releaseAt(e.pairDirs(), pairName(p), r)
	}
	return nil
}

// mountLabel is the label of the container's files, "" without SELinux.
func (e *Engine) mountLabel(r *record) string {
	if r.Labels == nil || !e.selinux() {
		return ""
	}
	return r.Labels.Mount
}

// labelRoot gives the files of a root that is no overlay their label; overlay
// shows all files with the one that it is mounted with.
func (e *Engine) labelRoot(r *record) error {
	if label := e.mountLabel(r); label != "" && len(r.made) > 0 && r.made[0].Type == "bind" {
		return lsm.Relabel(r.made[0].Source, label)
	}
	return nil
}

// contextOption is the option of the container's overlays, or none.
func (e *Engine) contextOption(r *record) []string {
	if label := e.mountLabel(r); label != "" {
		return []string{"context=" + label}
	}
	return nil
}

// relabel gives the source of a mount the label that option z or Z asks for:
// one that every container shares, or the container's own.
func (e *Engine) relabel(r *record, m *Mount, src string) error {
	label := e.mountLabel(r)
	if label == "" || !m.has("z") && !m.has("Z") {
		return nil
	}
	if m.has("z") {
		var err error
		if label, err = lsm.Shared(label); err != nil {
			return err
		}
	}
	err := lsm.Relabel(src, label)
	if errors.Is(err, lsm.ErrUnsupported) {
		return hint(err, "mount the file system with a label of containers, or run with --security-opt label=disable")
	}
	return err
}

// labelShared gives a file or directory of the engine's, but not what is in
// it, the label of what all containers may use. What can have no label is left as it is.
func (e *Engine) labelShared(path string) error {
	if !e.selinux() {
		return nil
	}
	policy, err := lsm.LoadPolicy(policyDir)
	if err != nil {
		return err
	}
	label, err := lsm.Shared(policy.File)
	if err != nil {
		return err
	}
	if err := lsm.Set(path, label); err != nil && !errors.Is(err, lsm.ErrUnsupported) {
		return err
	}
	return nil
}

// labelView is a read-only view of layers with the container's label: what is
// mounted as it is would have the store's, so it becomes an overlay.
func (e *Engine) labelView(r *record, m oci.Mount) (oci.Mount, error) {
	if e.mountLabel(r) == "" || m.Type != "bind" {
		return m, nil
	}
	empty := filepath.Join(e.o.RunRoot, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return m, err
	}
	return oci.Mount{Type: "overlay", Source: "overlay", Destination: m.Destination,
		Options: append([]string{"lowerdir=" + m.Source + ":" + empty, "ro"}, e.contextOption(r)...)}, nil
}

// labelStep labels what a step of a build mounts besides its options: trees
// are views, and a file becomes a copy of its own.
func (e *Engine) labelStep(r *record, mounts []oci.Mount) ([]oci.Mount, error) {
	label := e.mountLabel(r)
	if label == "" {
		return mounts, nil
	}
	out := slices.Clone(mounts)
	for i, m := range out {
		if m.Type != "bind" {
			continue
		}
		st, err := os.Stat(m.Source)
		if err != nil {
			return nil, err
		}
		switch {
		case st.IsDir():
			if out[i], err = e.labelView(r, m); err != nil {
				return nil, err
			}
			continue
		case st.Mode().IsRegular():
			file := filepath.Join(e.containerRun(r.ID), fmt.Sprintf("file-%d", i))
			data, err := os.ReadFile(m.Source)
			if err == nil {
				err = os.WriteFile(file, data, st.Mode().Perm())
			}
			if err != nil {
				return nil, err
			}
			out[i].Source = file
		}
		if err := lsm.Set(out[i].Source, label); err != nil {
			return nil, err
		}
	}
	return out, nil
}
