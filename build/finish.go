package build

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"hull/image"
	"hull/oci"
)

// finish makes an image of the target.
func (b *building) finish(ctx context.Context, st *stage) (image.Image, error) {
	o := &b.o
	if o.SquashAll {
		if err := st.flatten(ctx); err != nil {
			return image.Image{}, fmt.Errorf("squash: %w", err)
		}
	}
	if o.SBOM.wanted() {
		if err := st.sbom(ctx); err != nil {
			return image.Image{}, fmt.Errorf("list the packages: %w", err)
		}
	}
	if o.SaveStages {
		if err := b.saveStages(ctx); err != nil {
			return image.Image{}, fmt.Errorf("save the stages: %w", err)
		}
	}
	changed, err := st.finalConfig()
	if err != nil {
		return image.Image{}, err
	}
	if o.Confidential != nil {
		if err := st.confidential(ctx, *o.Confidential); err != nil {
			return image.Image{}, fmt.Errorf("make a confidential workload: %w", err)
		}
		changed = true
	}
	st.config.BuildCache = nil // the base's is about its own steps
	if o.InlineCache {
		if err := b.inline(st); err != nil {
			return image.Image{}, err
		}
		changed = true
	}
	if o.Export != nil {
		if err := b.export(ctx, st); err != nil {
			return image.Image{}, err
		}
		if o.NoImage {
			return image.Image{}, nil
		}
	}
	return b.store(ctx, st, changed)
}

// store makes the image of what there is now, and gives it its names. It is the
// base itself when nothing differs from that.
func (b *building) store(ctx context.Context, st *stage, changed bool) (image.Image, error) {
	o := &b.o
	name := ""
	if len(o.Names) > 0 {
		name = o.Names[0].String()
	}
	b.Show(Event{Kind: Commit, Stage: st.number, Stages: len(b.graph.Order), Title: st.in.Title(), Text: name})
	if st.base != nil && !st.changed && !changed && b.sameFormat(*st.base) && len(o.Annotations) == 0 {
		if err := b.Images.Tag(ctx, st.base.ID, o.Names...); err != nil {
			return image.Image{}, err
		}
		return b.Images.Resolve(ctx, st.base.ID.Hex())
	}
	began := time.Now()
	img, err := b.Images.Create(ctx, st.config, st.layers, image.CreateOptions{Docker: o.Docker, Annotations: st.annotations(), Names: o.Names})
	if err != nil {
		return img, err
	}
	if img.Stored.After(began) {
		// Create waited until the disk had everything.
		if err := b.Images.SyncSteps(began); err != nil {
			return img, err
		}
	}
	return img, nil
}

// sameFormat says whether an image is of the kind that is to be made.
func (b *building) sameFormat(img image.Image) bool {
	m, _, err := b.Images.ReadManifest(img)
	return err == nil && (m.MediaType == oci.DockerManifest) == b.o.Docker
}

// export hands the file system to whoever wants it as files.
func (b *building) export(ctx context.Context, st *stage) error {
	dir, err := b.temp("empty")
	if err != nil {
		return err
	}
	root, err := os.Open(dir)
	if st.chain() != "" {
		root.Close()
		root, err = b.Snapshots.ViewTree(st.chain())
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return b.o.Export(ctx, root)
}

// finalConfig applies what the command line says about the configuration, and
// reports whether it changed anything.
func (st *stage) finalConfig() (bool, error) {
	o, c := &st.b.o, &st.config
	before, err := json.Marshal(c)
	if err != nil {
		return false, err
	}
	st.finalLabels()
	st.finalEnv()
	if o.OSVersion != "" {
		c.OSVersion = o.OSVersion
	}
	c.OSFeatures = slices.Clone(c.OSFeatures)
	for _, f := range o.OSFeatures {
		name, out := strings.CutSuffix(f, "-")
		c.OSFeatures = slices.DeleteFunc(c.OSFeatures, func(have string) bool { return have == name })
		if !out {
			c.OSFeatures = append(c.OSFeatures, name)
		}
	}
	after, err := json.Marshal(c)
	if err != nil {
		return false, err
	}
	changed := string(before) != string(after)
	if changed || st.base == nil && !st.changed {
		if err := st.date(string(after)); err != nil {
			return false, err
		}
	}
	if o.OmitHistory {
		c.History, changed = nil, true
	}
	if o.Timestamp != nil || o.Epoch != nil {
		now := o.now()
		c.Created = &now
	}
	return changed, nil
}

// finalLabels applies what the command line says about labels.
func (st *stage) finalLabels() {
	o, cc := &st.b.o, &st.config.Config
	cc.Labels = maps.Clone(cc.Labels)
	for _, l := range o.UnsetLabels {
		delete(cc.Labels, l)
	}
	for k, v := range st.stageLabels() {
		cc.Labels = put(cc.Labels, k, v)
	}
	for _, l := range o.Labels {
		k, v, _ := strings.Cut(l, "=")
		cc.Labels = put(cc.Labels, k, v)
	}
	if o.Identity {
		cc.Labels = put(cc.Labels, "io.hull.version", st.b.Version)
	}
	if len(cc.Labels) == 0 {
		cc.Labels = nil
	}
}

// finalEnv applies what the command line says about the environment.
func (st *stage) finalEnv() {
	o, cc := &st.b.o, &st.config.Config
	cc.Env = slices.DeleteFunc(slices.Clone(cc.Env), func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		return slices.Contains(o.UnsetEnv, k)
	})
	scope := st.b.graph.Scope(cc.Env)
	for _, e := range o.Env {
		k, v, ok := strings.Cut(e, "=")
		if !ok {
			if v, ok = os.LookupEnv(k); !ok {
				continue
			}
		}
		scope.SetEnv(k, v)
	}
	if cc.Env = scope.Env; len(cc.Env) == 0 {
		cc.Env = nil
	}
}

// saveStages makes an image without a name of each stage but the target that
// changed its base.
func (b *building) saveStages(ctx context.Context) error {
	for _, s := range b.graph.Order {
		st := b.futures[s].result
		if s == b.graph.Target || !st.changed {
			continue
		}
		config := st.config
		config.Config.Labels = maps.Clone(config.Config.Labels)
		for k, v := range st.stageLabels() {
			config.Config.Labels = put(config.Config.Labels, k, v)
		}
		for _, l := range b.o.LayerLabels {
			k, v, _ := strings.Cut(l, "=")
			config.Config.Labels = put(config.Config.Labels, k, v)
		}
		img, err := b.Images.Create(ctx, config, st.layers, image.CreateOptions{Docker: b.o.Docker})
		if err != nil {
			return err
		}
		st.saved = img.ID
	}
	return nil
}

// stageLabels are those that tell which stage an image is of, and its base: a
// name, or the ID of the image of a stage.
func (st *stage) stageLabels() map[string]string {
	if !st.b.o.StageLabels {
		return nil
	}
	base := st.in.Base
	if p := st.in.Parent; p != nil {
		if id := st.b.futures[p].result.saved; id != "" {
			base = id.Hex()
		}
	}
	name := st.in.Name
	if name == "" {
		name = strconv.Itoa(st.in.Index)
	}
	return map[string]string{"io.buildah.stage.name": name, "io.buildah.stage.base": base}
}

// date gives an image that no step dates the time at which it was first made.
func (st *stage) date(config string) error {
	k := key("date", config, st.chain())
	step, ok := st.find(context.Background(), k)
	if !ok {
		step = image.Step{Key: k, Parent: st.chain(), Created: time.Now().UTC(), Text: "COMMIT"}
		if err := st.remember(step); err != nil {
			return err
		}
	}
	created := st.b.o.created(step.Created)
	st.config.Created = &created
	return nil
}

// annotations of the manifest.
func (st *stage) annotations() map[string]string {
	o := &st.b.o
	all := map[string]string{}
	if !o.DropNotes {
		maps.Copy(all, st.notes)
	}
	if st.base != nil && o.KeepBaseNote {
		all["org.opencontainers.image.base.name"] = st.from
		all["org.opencontainers.image.base.digest"] = string(st.base.Manifest)
	}
	for _, k := range o.UnsetNotes {
		delete(all, k)
	}
	if o.CreatedNote && st.config.Created != nil {
		all["org.opencontainers.image.created"] = st.config.Created.Format(time.RFC3339)
	}
	for _, a := range o.Annotations {
		k, v, _ := strings.Cut(a, "=")
		all[k] = v
	}
	if len(all) == 0 {
		return nil
	}
	return all
}
