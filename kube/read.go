package kube

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Objects are what a text describes, in its order.
type Objects struct {
	Pods     []Pod // also those of controllers
	Configs  map[string]ConfigMap
	Secrets  []Secret
	Claims   []Claim
	Warnings []string // with lines
}

// MaxSize is the most bytes of a text that Read takes.
const MaxSize = 16 << 20

// Read parses the documents of a text; name is for errors and warnings. A List
// is the objects in it.
func Read(name string, text []byte) (*Objects, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("read %s: it has more than %d bytes", name, MaxSize)
	}
	o := &Objects{Configs: map[string]ConfigMap{}}
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return o, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue
		}
		if err := o.object(name, doc.Content[0]); err != nil {
			return nil, err
		}
	}
}

// Add appends the objects of another text.
func (o *Objects) Add(more *Objects) {
	o.Pods, o.Secrets, o.Claims = append(o.Pods, more.Pods...), append(o.Secrets, more.Secrets...), append(o.Claims, more.Claims...)
	o.Warnings = append(o.Warnings, more.Warnings...)
	maps.Copy(o.Configs, more.Configs)
}

func (o *Objects) object(name string, n *yaml.Node) error {
	var h Head
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("read %s: line %d: not an object", name, n.Line)
	}
	if err := n.Decode(&h); err != nil {
		return fmt.Errorf("read %s: line %d: %w", name, n.Line, err)
	}
	at := fmt.Sprintf("read %s: line %d: %s %s", name, n.Line, h.Kind, h.Metadata.Name)
	if h.Kind != "List" && h.Metadata.Name == "" {
		return fmt.Errorf("%s: it has no metadata.name", strings.TrimSpace(at))
	}
	var err error
	switch h.Kind {
	case "Pod":
		var p Pod
		if err = o.decode(name, n, &p); err == nil {
			o.Pods = append(o.Pods, p)
		}
	case "Deployment", "DaemonSet", "Job":
		var c Controller
		if err = o.decode(name, n, &c); err == nil {
			o.Pods = append(o.Pods, o.controlled(&c))
		}
	case "ConfigMap":
		var c ConfigMap
		if err = o.decode(name, n, &c); err == nil {
			o.Configs[c.Metadata.Name] = c
		}
	case "Secret":
		var s Secret
		if err = o.decode(name, n, &s); err == nil {
			o.Secrets = append(o.Secrets, s)
		}
	case "PersistentVolumeClaim":
		var c Claim
		if err = o.decode(name, n, &c); err == nil {
			o.Claims = append(o.Claims, c)
		}
	case "List":
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == "items" {
				for _, item := range n.Content[i+1].Content {
					if err := o.object(name, item); err != nil {
						return err
					}
				}
			}
		}
		return nil
	case "":
		return fmt.Errorf("read %s: line %d: the object has no kind", name, n.Line)
	default:
		o.Warnings = append(o.Warnings, fmt.Sprintf("%s, line %d: objects of kind %s do nothing here", name, n.Line, h.Kind))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}

// controlled is the one pod of a controller.
func (o *Objects) controlled(c *Controller) Pod {
	if c.Spec.Replicas != nil && *c.Spec.Replicas > 1 {
		o.Warnings = append(o.Warnings, fmt.Sprintf("%s %s: one replica is made instead of %d", c.Kind, c.Metadata.Name, *c.Spec.Replicas))
	}
	p := Pod{Head: Head{APIVersion: "v1", Kind: "Pod", Metadata: c.Spec.Template.Metadata}, Spec: c.Spec.Template.Spec}
	p.Metadata.Name = c.Metadata.Name + "-pod"
	if c.Kind == "Job" && p.Spec.RestartPolicy == "" {
		p.Spec.RestartPolicy = "Never"
	}
	if p.Metadata.Annotations == nil {
		p.Metadata.Annotations = c.Metadata.Annotations
	}
	return p
}

// decode fills a struct, and notes the fields that it has not.
func (o *Objects) decode(name string, n *yaml.Node, to any) error {
	if err := n.Decode(to); err != nil {
		return err
	}
	o.unknown(name, n, reflect.TypeOf(to).Elem(), "")
	return nil
}

// elsewhere are fields of Kubernetes that are for a cluster's scheduler and
// control plane, or say what the object's state was: passing over them changes
// nothing on one machine.
var elsewhere = []string{"status", "nodeSelector", "nodeName", "affinity", "tolerations", "schedulerName", "topologySpreadConstraints", "priority", "priorityClassName",
	"serviceAccount", "serviceAccountName", "uid", "resourceVersion", "generation", "managedFields", "ownerReferences", "selfLink", "dnsPolicy", "imagePullSecrets",
	"strategy", "updateStrategy", "revisionHistoryLimit", "progressDeadlineSeconds", "minReadySeconds", "backoffLimit", "completions", "parallelism", "preemptionPolicy", "generateName"}

// unknown walks a node beside the type that it was decoded to.
func (o *Objects) unknown(name string, n *yaml.Node, t reflect.Type, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, c := range n.Content {
			o.unknown(name, c, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		fields := fieldsOf(t)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if f, ok := fields[key.Value]; ok {
				o.unknown(name, n.Content[i+1], f, strings.TrimPrefix(path+"."+key.Value, "."))
			} else if !slices.Contains(elsewhere, key.Value) && key.Value != "<<" {
				o.Warnings = append(o.Warnings, fmt.Sprintf("%s, line %d: field %s does nothing here", name, key.Line, strings.TrimPrefix(path+"."+key.Value, ".")))
			}
		}
	}
}

func fieldsOf(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		key, rest, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if strings.Contains(rest, "inline") {
			for k, v := range fieldsOf(f.Type) {
				out[k] = v
			}
		} else {
			out[key] = f.Type
		}
	}
	return out
}

// Values are the bytes under a ConfigMap's keys.
func (c *ConfigMap) Values() (map[string][]byte, error) {
	out := map[string][]byte{}
	for k, v := range c.Data {
		out[k] = []byte(v)
	}
	return out, addBase64(out, c.Binary, "ConfigMap "+c.Metadata.Name)
}

// Values are the bytes under a Secret's keys.
func (s *Secret) Values() (map[string][]byte, error) {
	out := map[string][]byte{}
	if err := addBase64(out, s.Data, "Secret "+s.Metadata.Name); err != nil {
		return nil, err
	}
	for k, v := range s.Text {
		out[k] = []byte(v)
	}
	return out, nil
}

func addBase64(out map[string][]byte, from map[string]string, what string) error {
	for k, v := range from {
		b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(v), ""))
		if err != nil {
			return fmt.Errorf("%s: key %s: %w", what, k, err)
		}
		out[k] = b
	}
	return nil
}

// SecretText is a Secret as it is kept in the engine's store: an object whose
// keys are all in data.
func SecretText(s Secret) ([]byte, error) {
	values, err := s.Values()
	if err != nil {
		return nil, err
	}
	s.Text, s.Data = nil, map[string]string{}
	for k, v := range values {
		s.Data[k] = base64.StdEncoding.EncodeToString(v)
	}
	return yaml.Dump(s)
}
