package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Policies of machines, as AMD numbers them: of SEV-ES no debugging, no shared
// keys, encrypted state, no sending, one domain, SEV only; of SNP what its
// reference key broker expects.
const (
	policySEV = 0b111111
	policySNP = 0b1111
)

// register tells the attestation server the passphrase, and what a machine
// must measure to be given it.
func (c *Confidential) register(ctx context.Context, w workload, warn func(error)) error {
	measured, err := c.measure(ctx, w)
	if err != nil {
		if err = fmt.Errorf("measure the workload: %w", err); !c.IgnoreAttestation {
			return err
		}
		warn(err)
	}
	bits := policySNP
	if c.Type == ConfidentialSEV {
		bits = policySEV
	}
	type version struct {
		Major int `json:"major"`
		Minor int `json:"minor"`
	}
	policy, err := json.Marshal(struct {
		Flags struct {
			Bits int `json:"bits"`
		} `json:"flags"`
		MinFW version `json:"minfw"`
	}{Flags: struct {
		Bits int `json:"bits"`
	}{bits}})
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"workload_id": w.ID, "launch_measurement": measured, "passphrase": c.Passphrase, "tee_config": string(policy)})
	if err != nil {
		return err
	}
	u, err := url.Parse(c.AttestationURL)
	if err != nil {
		return fmt.Errorf("register the workload: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath("/kbs/v0/register_workload").String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("register the workload: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("register the workload: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("register the workload with %s: it answers %s", u.Host, resp.Status)
	}
	return nil
}

// measure asks krunfw_measurement what a machine of this size with this
// firmware measures of itself.
func (c *Confidential) measure(ctx context.Context, w workload) (string, error) {
	firmware, err := findFirmware(c.Firmware)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "krunfw_measurement", "-c", strconv.Itoa(w.CPUs), "-m", strconv.Itoa(w.Memory), firmware)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("krunfw_measurement: %w %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	prefix := "SNP:"
	if c.Type == ConfidentialSEV {
		prefix = "SEV-ES:"
	}
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(text), nil
		}
	}
	return "", fmt.Errorf("krunfw_measurement: it says nothing of %s", prefix[:len(prefix)-1])
}

// findFirmware looks for libkrunfw-sev where libraries are.
func findFirmware(asked string) (string, error) {
	names := []string{"libkrunfw-sev.so.4", "libkrunfw-sev.so.3", "libkrunfw-sev.so"}
	dirs := append([]string{"/usr/local/lib64", "/usr/local/lib", "/lib64", "/lib", "/usr/lib64", "/usr/lib"}, filepath.SplitList(os.Getenv("LD_LIBRARY_PATH"))...)
	if asked != "" {
		names = []string{asked}
	}
	if filepath.IsAbs(asked) {
		dirs = []string{"/"}
	}
	for _, d := range dirs {
		for _, n := range names {
			p := filepath.Join(d, n)
			if _, err := os.Stat(p); err == nil {
				return p, nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	return "", &hintError{fmt.Errorf("find %s: %w", names[0], fs.ErrNotExist), "say where it is with firmware_library="}
}
