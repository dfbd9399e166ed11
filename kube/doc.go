// Package kube reads and writes Kubernetes YAML: the objects that describe work
// for one machine become options of the engine, and containers become objects.
//
//	text ── Read ──▶ Objects ── Compile ──▶ Work (pods, volumes, secrets)
//	text ◀── Write ── Objects ◀── Generate ── containers and pods
//
// The types hold the fields that do something here. A field that is not among
// them is told of with its line, and the rest goes on, as with Kubernetes' own
// optional fields; docs/kube.md lists what each field does.
package kube
