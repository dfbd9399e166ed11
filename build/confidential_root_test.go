package build_test

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfidential: the image is an encrypted disk and what libkrun must know;
// the attestation server gets the passphrase, and nothing of the files or of
// their configuration can be read in the image.
func TestConfidential(t *testing.T) {
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("needs mkfs.ext4")
	}
	h := newHull(t)
	var got map[string]string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/kbs/v0/register_workload" {
			data, _ := io.ReadAll(r.Body)
			_ = json.Unmarshal(data, &got)
		}
	}))
	t.Cleanup(server.Close)
	bin := write(t, map[string]string{"krunfw_measurement": "#!/bin/sh\necho SEV-ES: no\necho SNP: $2 $4 abc\n", "fw.so": ""})
	if err := os.Chmod(filepath.Join(bin, "krunfw_measurement"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	dir := write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nENV A=markerenv\nRUN echo marker file > /f\nLABEL l=1\nUSER ann\nCMD [\"x\"]\n"})
	id := h.do(t, "build", "-q", "--cw", "attestation_url="+server.URL+",workload_id=w,cpus=3,memory=1g,slop=1m+10%,firmware_library="+filepath.Join(bin, "fw.so"), dir)
	if got["workload_id"] != "w" || got["launch_measurement"] != "3 1024 abc" || len(got["passphrase"]) != 64 || !strings.Contains(got["tee_config"], `"bits":15`) {
		t.Errorf("the server was told %v", got)
	}
	if c := h.do(t, "image", "inspect", "--format", "{{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.Env}} {{.Config.User}} {{.Config.Labels.l}}", id); c != "[/entrypoint] [] []  1" {
		t.Errorf("configuration %s", c)
	}
	if out, err := h.try("run", "--rm", id); err == nil || !strings.Contains(out, "confidential workload") {
		t.Errorf("run without krun: %v %s", err, out)
	}
	root := h.do(t, "image", "mount", id)
	disk, err := os.ReadFile(filepath.Join(root, "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	about, err := os.ReadFile(filepath.Join(root, "krun-sev.json"))
	if err != nil {
		t.Fatal(err)
	}
	end := string(about) + "KRUN" + string(binary.LittleEndian.AppendUint64(nil, uint64(len(about))))
	if len(disk)%4096 != 0 || !strings.HasSuffix(string(disk), end) || !strings.HasPrefix(string(disk), "LUKS\xba\xbe") || strings.Contains(string(disk), "marker") {
		t.Error("the disk is not as it should be")
	}
	if !strings.Contains(string(about), `"tee":"snp","tee_data":"{\"gen\":\"milan\"}","workload_id":"w","cpus":3,"ram_mib":1024,"attestation_url":"http://`) {
		t.Errorf("krun-sev.json: %s", about)
	}
	h.do(t, "image", "unmount", id)
	if left := h.do(t, "system", "check"); left != "" {
		t.Errorf("system check: %s", left)
	}
	refusesConfidential(t, h, server.URL, bin, dir)
}

// refusesConfidential tries what is wrong about --cw.
func refusesConfidential(t *testing.T, h *hull, server, bin, dir string) {
	t.Helper()
	for args, want := range map[string]string{
		"attestation_url=" + server + "/nosuch,firmware_library=/nosuch":                                  "find /nosuch",
		"passphrase=a,attestation_url=http://127.0.0.1:1,firmware_library=" + filepath.Join(bin, "fw.so"): "connection refused",
		"passphrase=a,slop=0%,type=tdx": "is not one of",
		"passphrase=a,slop=x%":          "no percentage",
		"passphrase=a,slop=-1":          "slop",
		"passphrase=a,cpus=0":           "too few",
	} {
		if out, err := h.try("build", "-q", "--cw", args, dir); err == nil || !strings.Contains(out, want) {
			t.Errorf("--cw %s: %v %s", args, err, out)
		}
	}
	h.nothingLeft(t)
}
