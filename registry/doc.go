// Package registry talks to image registries: the distribution API over HTTP,
// with the configuration that users have already.
//
// # The idea
//
// Configuration is read by go.podman.io/image (registries.conf, auth files,
// credential helpers, short names); the requests are our own, since a pull
// must resume where it was cut, across processes, and must know which host
// may get which secret.
//
//	Client      what a user may do: credentials, certificates, time-outs
//	└ Sources   where a reference is looked for: mirrors, then the registry
//	  └ Repository   one name on one host: manifests, blobs, tags, uploads
//	    └ host       scheme, TLS, tokens of that host
//
// # Who gets what
//
// Plain HTTP is only spoken with a host that is configured as insecure, after
// HTTPS was tried. Credentials belong to one host: they go to it, and to the
// token service that it names, never where a redirect leads. A redirect, a
// token service or an upload's location must be HTTPS where the registry is,
// and must not lead to an address that is closer to this machine than the
// registry's own (loopback, link-local, private): a registry may send us
// anywhere on the Internet, but not to the metadata service beside us. The URLs
// in manifests are never used.
//
// What is read into memory is bounded by oci.MaxManifestSize, and what was asked
// for by digest is compared with it before anybody sees it.
package registry
