package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hull/containerfile"
	"hull/oci"
)

func isHTTP(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// isGit says whether a source is a repository: by its scheme, or by ".git".
func isGit(s string) bool {
	base, _, _ := strings.Cut(s, "#")
	switch {
	case strings.HasPrefix(s, "git://"), strings.HasPrefix(s, "ssh://"), strings.HasPrefix(s, "github.com/"), strings.HasPrefix(s, "git@"):
		return true
	case isHTTP(s), strings.HasPrefix(s, "file://"):
		return strings.HasSuffix(base, ".git")
	}
	return false
}

func isRemote(s string) bool { return isHTTP(s) || isGit(s) }

// A downloaded file lies in the build's directory.
type downloaded struct {
	path  string
	name  string // the last part of its URL
	mtime time.Time
}

func (b *building) download(ctx context.Context, from string) (downloaded, error) {
	fail := func(err error) (downloaded, error) {
		var u *url.Error // says the URL once more
		if errors.As(err, &u) {
			err = u.Err
		}
		return downloaded{}, fmt.Errorf("download %s: %w", containerfile.Redact(from), err)
	}
	from, err := b.o.Policy.Apply(from)
	if err != nil {
		return downloaded{}, err
	}
	u, err := url.Parse(from)
	if err != nil {
		return fail(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return fail(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fail(errors.New(resp.Status))
	}
	dir, err := b.temp("download")
	if err != nil {
		return fail(err)
	}
	d := downloaded{path: filepath.Join(dir, "file"), name: path.Base(u.Path), mtime: time.Unix(0, 0)}
	f, err := os.OpenFile(d.path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), resp.Body)
	if err != nil {
		return fail(err)
	}
	if resp.ContentLength >= 0 && n != resp.ContentLength {
		return fail(io.ErrUnexpectedEOF)
	}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		d.mtime = t
	}
	b.use(material{URI: containerfile.WithoutUsers(from), Digest: map[string]string{"sha256": hex.EncodeToString(sum.Sum(nil))}})
	return d, f.Close()
}

// gatherRemote are the items of a source of ADD that is a URL.
func (st *stage) gatherRemote(ctx context.Context, c *copying, src string, dir bool) ([]item, error) {
	release, err := st.b.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if isGit(src) {
		t, err := st.b.gitTree(ctx, src, c.keepGitDir)
		if err != nil {
			return nil, err
		}
		st.b.keepTree(t)
		if c.checksum != "" && !strings.HasPrefix(t.commit, c.checksum) {
			return nil, fmt.Errorf("ADD %s: it is at commit %s, --checksum says %s", containerfile.Redact(src), t.commit, c.checksum)
		}
		w := walker{t: t, c: c, dir: true}
		err = w.source(ctx, "/")
		return w.out, err
	}
	d, err := st.b.download(ctx, src)
	if err != nil {
		return nil, err
	}
	it := item{Name: d.name, Type: 'f', Mode: 0o600, mtime: d.mtime, open: func() (io.ReadCloser, error) { return os.Open(d.path) }}
	if err := checkSum(c.checksum, &it); err != nil {
		return nil, fmt.Errorf("ADD %s: %w", containerfile.Redact(src), err)
	}
	if dir {
		if d.name == "" || d.name == "." || d.name == "/" {
			return nil, fmt.Errorf("ADD %s: its URL has no file name, so the destination must be one", containerfile.Redact(src))
		}
		it.Rel = d.name
	}
	if c.wantsUnpack(false) {
		if ok, err := isArchive(it.open); err == nil && ok {
			it.Type, it.Rel = 'a', ""
		}
	}
	return []item{it}, nil
}

// checkSum compares a file with the digest that --checksum says.
func checkSum(want string, it *item) error {
	if want == "" {
		return nil
	}
	d := oci.Digest(want)
	if err := d.Validate(); err != nil {
		return fmt.Errorf("--checksum=%s: %w", want, err)
	}
	r, err := it.open()
	if err != nil {
		return err
	}
	defer r.Close()
	h := d.Hash()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	if got := fmt.Sprintf("%s:%x", d.Algorithm(), h.Sum(nil)); got != want {
		return fmt.Errorf("the file is %s, --checksum says %s", got, want)
	}
	return nil
}

func firstOf(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

// gitTree fetches URL[#REF[:DIR]] with the git program.
func (b *building) gitTree(ctx context.Context, from string, keep bool) (*tree, error) {
	from, err := b.o.Policy.Apply(from)
	if err != nil {
		return nil, err
	}
	repo, fragment, _ := strings.Cut(from, "#")
	ref, sub, _ := strings.Cut(fragment, ":")
	if strings.HasPrefix(repo, "github.com/") {
		repo = "https://" + repo
	}
	if strings.HasPrefix(repo, "-") || !validRef(ref) {
		return nil, fmt.Errorf("fetch %s: %q is no name of a branch, tag or commit", containerfile.Redact(from), ref)
	}
	dir, err := b.temp("git")
	if err != nil {
		return nil, err
	}
	g := &gitRepo{dir: dir}
	if err := g.fetch(ctx, repo, ref); err != nil {
		return nil, fmt.Errorf("fetch %s: %w", containerfile.Redact(from), err)
	}
	commit, err := g.run(ctx, "rev-parse", "HEAD")
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", containerfile.Redact(from), err)
	}
	if !keep {
		if err := removeAll(filepath.Join(dir, ".git")); err != nil {
			return nil, err
		}
	}
	t, err := openTree(dir, "repository")
	if err == nil && sub != "" {
		real, rerr := t.resolve(sub, true)
		t.close()
		if rerr != nil {
			return nil, rerr
		}
		t, err = openTree(filepath.Join(dir, real), "repository")
	}
	if err != nil {
		return nil, err
	}
	t.commit = strings.TrimSpace(commit)
	b.use(material{URI: containerfile.WithoutUsers(from), Digest: map[string]string{"sha1": t.commit}})
	return t, nil
}

// validRef accepts what git-check-ref-format does, and less (BLD-02).
func validRef(ref string) bool {
	if strings.HasPrefix(ref, "-") || strings.HasPrefix(ref, "/") || strings.Contains(ref, "..") || strings.Contains(ref, "@{") || len(ref) > 255 {
		return false
	}
	for _, c := range ref {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(`~^:?*[\$();|&<>'"`+"`", c) {
			return false
		}
	}
	return true
}

// A gitRepo is a repository that the git program works in.
type gitRepo struct {
	dir string
	env []string
}

// fetch gets one commit, without its past where the server allows that.
func (g *gitRepo) fetch(ctx context.Context, repo, ref string) error {
	if _, err := g.run(ctx, "init", "--quiet"); err != nil {
		return err
	}
	// What the repository keeps of its URL may get into the image (ADD
	// --keep-git-dir), and a command line is there for all to read: both have it
	// without its password, and the environment says what stands for it (SECR-02).
	public := repo
	if !strings.HasPrefix(repo, "ssh://") {
		public = containerfile.WithoutUsers(repo)
	}
	if public != repo {
		n, _ := strconv.Atoi(os.Getenv("GIT_CONFIG_COUNT"))
		g.env = []string{fmt.Sprintf("GIT_CONFIG_COUNT=%d", n+1), fmt.Sprintf("GIT_CONFIG_KEY_%d=url.%s.insteadOf", n, hostOf(repo)), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", n, hostOf(public))}
	}
	if _, err := g.run(ctx, "remote", "add", "origin", public); err != nil {
		return err
	}
	want := firstOf(ref, "HEAD")
	if _, err := g.run(ctx, "fetch", "--quiet", "--depth=1", "origin", want); err != nil {
		if !isCommit(want) {
			return err
		}
		// A server need not give a commit by its number: all of it, then.
		if _, err := g.run(ctx, "fetch", "--quiet", "--tags", "origin"); err != nil {
			return err
		}
		_, err = g.run(ctx, "checkout", "--quiet", want)
		return err
	}
	if _, err := g.run(ctx, "checkout", "--quiet", "FETCH_HEAD"); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(g.dir, ".gitmodules")); err == nil {
		return g.submodules(ctx)
	}
	return nil
}

// hostOf is a URL up to the path.
func hostOf(u string) string {
	scheme, rest, _ := strings.Cut(u, "://")
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + host + "/"
}

// submodules fetches them, by ways that lead to another machine only: a
// repository must not name files of this one (BLD-03).
func (g *gitRepo) submodules(ctx context.Context) error {
	_, err := g.run(ctx, "-c", "protocol.file.allow=never", "submodule", "update", "--quiet", "--init", "--recursive", "--depth=1")
	return err
}

// run runs git. Helpers that a URL can name ("ext::…") are never run.
func (g *gitRepo) run(ctx context.Context, args ...string) (string, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return "", &hintError{err, "install git"}
	}
	c := exec.CommandContext(ctx, program, append([]string{"-c", "advice.detachedHead=false", "-c", "init.defaultBranch=main",
		"-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.http.allow=always", "-c", "protocol.ssh.allow=always",
		"-c", "protocol.git.allow=always", "-c", "protocol.file.allow=user", "-c", "core.symlinks=true", "-c", "core.hooksPath=/dev/null"}, args...)...)
	c.Dir = g.dir
	// Of a caller that is itself run by git, its repository is not ours.
	c.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		return slices.Contains(gitPlaces, k)
	})
	c.Env = append(append(c.Env, "GIT_TERMINAL_PROMPT=0"), g.env...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, containerfile.Redact(strings.TrimSpace(errs.String())))
	}
	return out.String(), nil
}

// gitPlaces are the variables that tell git where a repository is.
var gitPlaces = []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
	"GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_SHALLOW_FILE", "GIT_QUARANTINE_PATH"}

// isCommit says whether a ref can be a commit's number.
func isCommit(ref string) bool {
	return len(ref) >= 7 && len(ref) <= 64 && strings.Trim(ref, "0123456789abcdef") == ""
}
