package seccomp

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:embed default.json
var defaultProfile []byte

// maxProfile bounds a profile file, in bytes; the largest known in use has 30 kB.
const maxProfile = 4 << 20

// ErrProfile is wrapped by every error about the content of a profile. A container whose profile has it must not start.
var ErrProfile = errors.New("invalid seccomp profile")

// Profile is a seccomp profile as files hold it: docker's and podman's format, of which a runtime-spec
// linux.seccomp object is a subset.
type Profile struct {
	DefaultAction    specs.LinuxSeccompAction `json:"defaultAction"`
	DefaultErrnoRet  *uint                    `json:"defaultErrnoRet,omitempty"`
	DefaultErrno     string                   `json:"defaultErrno,omitempty"` // name of DefaultErrnoRet; the name wins, as in podman
	Architectures    []specs.Arch             `json:"architectures,omitempty"`
	ArchMap          []ArchMap                `json:"archMap,omitempty"`
	Flags            []specs.LinuxSeccompFlag `json:"flags,omitempty"`
	ListenerPath     string                   `json:"listenerPath,omitempty"`
	ListenerMetadata string                   `json:"listenerMetadata,omitempty"`
	Syscalls         []Rule                   `json:"syscalls,omitempty"`
}

// ArchMap says which other ABIs belong to a native architecture.
type ArchMap struct {
	Arch     specs.Arch   `json:"architecture"`
	SubArchs []specs.Arch `json:"subArchitectures"`
}

// Rule is one rule for some system calls with the conditions under which it is part of the profile at all.
type Rule struct {
	Name     string                   `json:"name,omitempty"` // old form of Names with one element
	Names    []string                 `json:"names,omitempty"`
	Action   specs.LinuxSeccompAction `json:"action"`
	ErrnoRet *uint                    `json:"errnoRet,omitempty"`
	Errno    string                   `json:"errno,omitempty"` // name of ErrnoRet; the name wins, as in podman
	Args     []*specs.LinuxSeccompArg `json:"args,omitempty"`
	Comment  string                   `json:"comment,omitempty"`
	Includes Filter                   `json:"includes,omitzero"`
	Excludes Filter                   `json:"excludes,omitzero"`
}

// Filter is a condition on the container and the host. The zero value includes everything and excludes nothing.
type Filter struct {
	Caps      []string `json:"caps,omitempty"`
	Arches    []string `json:"arches,omitempty"` // names as GOARCH has them, and x32, x86
	MinKernel string   `json:"minKernel,omitempty"`
}

// Target is what a profile's conditions are decided against.
type Target struct {
	Caps   []string // the container's bounding set, names like CAP_CHOWN
	Arch   string   // a GOARCH; "" is amd64's successor nowhere: an error
	Kernel string   // release of the kernel, like 6.1.0-13-amd64; "" asks uname(2)
	// NativeOnly leaves out the other ABIs an archMap adds (i386 programs on amd64, arm on arm64): they are killed.
	NativeOnly bool
}

// Default is the profile of containers that name none, for a container with the bounding set caps (CAP_… names) on the architecture arch
// (a GOARCH). It blocks, unless a capability says otherwise, new namespaces and mounts, keys, io_uring, module and
// kexec calls, AF_ALG and AF_VSOCK sockets. An architecture without a table has nil.
func Default(caps []string, arch string) *specs.LinuxSeccomp {
	p, err := Parse(defaultProfile)
	if err != nil {
		panic("bug: embedded seccomp profile: " + err.Error()) // the test of the embedded file runs this same line
	}
	s, err := p.Resolve(Target{Caps: caps, Arch: arch})
	if err != nil {
		return nil
	}
	return s
}

// DefaultJSON is the text of the default profile, a starting point for own ones.
func DefaultJSON() []byte { return slices.Clone(defaultProfile) }

// Load reads the profile at path. A file that is missing, empty, not regular, too large or not understood to
// the last field is an error: it never means unconfined (SEC-04).
func Load(path string) (*Profile, error) {
	// O_NONBLOCK: opening a FIFO would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open seccomp profile: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat seccomp profile: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("open seccomp profile %s: %w: not a regular file", path, ErrProfile)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
	if err != nil {
		return nil, fmt.Errorf("read seccomp profile %s: %w", path, err)
	}
	p, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("parse seccomp profile %s: %w", path, err)
	}
	return p, nil
}

// Parse reads a profile from its JSON text. Unknown fields, trailing text and values Compile could not honour are
// errors that wrap ErrProfile.
func Parse(b []byte) (*Profile, error) {
	if len(b) > maxProfile {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrProfile, maxProfile)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrProfile)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	p := &Profile{}
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: text after the profile", ErrProfile)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	return p, nil
}

// check refuses what JSON lets through. Rules that no target selects are checked too: a typing error must not wait for another machine.
func (p *Profile) check() error {
	if p.DefaultAction == "" {
		return errors.New("defaultAction is missing")
	}
	if len(p.Architectures) > 0 && len(p.ArchMap) > 0 {
		return errors.New("both architectures and archMap are given")
	}
	var err error
	if p.DefaultErrnoRet, err = errnoOf(p.DefaultErrno, p.DefaultErrnoRet); err != nil {
		return fmt.Errorf("defaultErrno: %w", err)
	}
	if _, err := verdict(p.DefaultAction, p.DefaultErrnoRet); err != nil {
		return fmt.Errorf("defaultAction: %w", err)
	}
	for i := range p.Syscalls {
		if err := p.Syscalls[i].check(); err != nil {
			return fmt.Errorf("syscalls[%d]: %w", i, err)
		}
	}
	for _, m := range p.ArchMap {
		for _, a := range append([]specs.Arch{m.Arch}, m.SubArchs...) {
			if !knownArch(a) {
				return fmt.Errorf("archMap: unknown architecture %q", a)
			}
		}
	}
	return nil
}

func (r *Rule) check() error {
	if r.Name != "" {
		if len(r.Names) > 0 {
			return errors.New("both name and names are given")
		}
		r.Names, r.Name = []string{r.Name}, ""
	}
	if len(r.Names) == 0 {
		return errors.New("names is empty")
	}
	for _, n := range r.Names {
		if n == "" {
			return errors.New("empty system call name")
		}
	}
	var err error
	if r.ErrnoRet, err = errnoOf(r.Errno, r.ErrnoRet); err != nil {
		return err
	}
	r.Errno = ""
	if _, err := verdict(r.Action, r.ErrnoRet); err != nil {
		return err
	}
	for i, a := range r.Args {
		if a == nil {
			return fmt.Errorf("args[%d] is null", i)
		}
		if err := checkArg(*a); err != nil {
			return fmt.Errorf("args[%d]: %w", i, err)
		}
	}
	for _, v := range []string{r.Includes.MinKernel, r.Excludes.MinKernel} {
		if _, err := parseKernel(v); v != "" && err != nil {
			return fmt.Errorf("minKernel %q: %w", v, err)
		}
	}
	return nil
}

// errnoOf gives the number of a named errno, or nr when no name is given.
func errnoOf(name string, nr *uint) (*uint, error) {
	if name == "" {
		return nr, nil
	}
	for i := uint(1); i < 4096; i++ {
		if unix.ErrnoName(unix.Errno(i)) == name {
			return &i, nil
		}
	}
	return nil, fmt.Errorf("unknown errno %q", name)
}

// Resolve decides the conditions of p for t; the result holds what a config.json holds.
func (p *Profile) Resolve(t Target) (*specs.LinuxSeccomp, error) {
	native, err := nativeABI(t.Arch)
	if err != nil {
		return nil, err
	}
	if t.Kernel == "" {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return nil, fmt.Errorf("uname: %w", err)
		}
		t.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	kernel, err := parseKernel(t.Kernel)
	if err != nil {
		return nil, fmt.Errorf("read kernel release %q: %w", t.Kernel, err)
	}
	s := &specs.LinuxSeccomp{
		DefaultAction: p.DefaultAction, DefaultErrnoRet: p.DefaultErrnoRet, Flags: slices.Clone(p.Flags),
		ListenerPath: p.ListenerPath, ListenerMetadata: p.ListenerMetadata, Architectures: slices.Clone(p.Architectures),
	}
	for _, m := range p.ArchMap {
		if m.Arch == native.name {
			s.Architectures = append(s.Architectures, m.Arch)
			if !t.NativeOnly {
				s.Architectures = append(s.Architectures, m.SubArchs...)
			}
		}
	}
	for i := range p.Syscalls {
		r := &p.Syscalls[i]
		if !r.selected(t, kernel) {
			continue
		}
		c := specs.LinuxSyscall{Names: r.Names, Action: r.Action, ErrnoRet: r.ErrnoRet}
		for _, a := range r.Args {
			c.Args = append(c.Args, *a)
		}
		s.Syscalls = append(s.Syscalls, c)
	}
	return s, nil
}

// selected follows docker: a rule is out when one exclude matches; of each kind of include all capabilities, one
// architecture and the kernel must match.
func (r *Rule) selected(t Target, kernel [2]int) bool {
	has := func(c string) bool { return slices.Contains(t.Caps, c) }
	if slices.ContainsFunc(r.Excludes.Caps, has) || slices.Contains(r.Excludes.Arches, t.Arch) {
		return false
	}
	if v := r.Excludes.MinKernel; v != "" && atLeast(kernel, v) {
		return false
	}
	for _, c := range r.Includes.Caps {
		if !has(c) {
			return false
		}
	}
	if len(r.Includes.Arches) > 0 && !slices.Contains(r.Includes.Arches, t.Arch) {
		return false
	}
	return r.Includes.MinKernel == "" || atLeast(kernel, r.Includes.MinKernel)
}

func atLeast(kernel [2]int, min string) bool {
	m, err := parseKernel(min) // checked when the profile was parsed
	return err == nil && (kernel[0] > m[0] || kernel[0] == m[0] && kernel[1] >= m[1])
}

// parseKernel reads the first two numbers of a kernel release.
func parseKernel(s string) (v [2]int, err error) {
	major, rest, ok := strings.Cut(s, ".")
	if !ok {
		return v, errors.New("want MAJOR.MINOR")
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		rest = rest[:end]
	}
	if v[0], err = strconv.Atoi(major); err != nil {
		return v, err
	}
	v[1], err = strconv.Atoi(rest)
	return v, err
}
