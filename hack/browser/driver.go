package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// A browser is a Chromium under chromedriver, by the WebDriver protocol
// (w3.org/TR/webdriver2).
type browser struct {
	driver  *exec.Cmd
	session string // its URL
	profile string
}

// open starts both, in a profile of their own.
func open() (b *browser, err error) {
	b = &browser{}
	if b.profile, err = os.MkdirTemp("", "hull-browser-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	b.driver = exec.Command("chromedriver", "--port=0", "--allowed-ips=127.0.0.1")
	b.driver.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	b.driver.Env = append(os.Environ(), "HOME="+b.profile)
	out, err := b.driver.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.driver.Start(); err != nil {
		return nil, fmt.Errorf("%w: install the packages chromium and chromium-driver", err)
	}
	port := ""
	said := regexp.MustCompile(`on port (\d+)`)
	for lines := bufio.NewScanner(out); port == "" && lines.Scan(); {
		if m := said.FindStringSubmatch(lines.Text()); m != nil && m[1] != "0" {
			port = m[1]
		}
	}
	if port == "" {
		return nil, errors.New("chromedriver does not say its port")
	}
	go io.Copy(io.Discard, out)
	var made struct {
		SessionID string `json:"sessionId"`
	}
	base := "http://127.0.0.1:" + port
	err = call("POST", base+"/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"browserName": "chrome",
		"goog:chromeOptions": map[string]any{"args": []string{
			"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,900", "--no-proxy-server",
			"--user-data-dir=" + b.profile, "--disable-component-update", "--disable-background-networking",
		}},
	}}}, &made)
	if err != nil {
		return nil, fmt.Errorf("start chromium: %w", err)
	}
	b.session = base + "/session/" + made.SessionID
	return b, nil
}

func (b *browser) close() {
	if b.session != "" {
		_ = call("DELETE", b.session, nil, nil)
	}
	if b.driver != nil && b.driver.Process != nil {
		syscall.Kill(-b.driver.Process.Pid, syscall.SIGTERM)
		b.driver.Wait()
	}
	os.RemoveAll(b.profile)
}

// call asks chromedriver for something.
func call(method, url string, body, to any) error {
	var payload io.Reader
	if method == "POST" {
		if body == nil {
			body = struct{}{}
		}
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(text)
	}
	q, err := http.NewRequest(method, url, payload)
	if err != nil {
		return err
	}
	a, err := (&http.Client{Timeout: 3 * time.Minute}).Do(q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	var reply struct{ Value json.RawMessage }
	if err := json.NewDecoder(a.Body).Decode(&reply); err != nil {
		return err
	}
	if a.StatusCode != http.StatusOK {
		var why struct{ Error, Message string }
		_ = json.Unmarshal(reply.Value, &why)
		first, _, _ := strings.Cut(why.Message, "\n")
		return fmt.Errorf("%s: %s", why.Error, first)
	}
	if to == nil {
		return nil
	}
	return json.Unmarshal(reply.Value, to)
}

func (b *browser) visit(url string) error {
	return call("POST", b.session+"/url", map[string]string{"url": url}, nil)
}

// find returns the first element that a CSS selector names.
func (b *browser) find(css string) (string, error) {
	var e map[string]string
	if err := call("POST", b.session+"/element", map[string]string{"using": "css selector", "value": css}, &e); err != nil {
		return "", err
	}
	for _, id := range e {
		return id, nil
	}
	return "", errors.New("no element")
}

func (b *browser) click(element string) error {
	return call("POST", b.session+"/element/"+element+"/click", nil, nil)
}

// fill types a text into a field in the place of what is there.
//
// A page that moves the focus on its own while somebody types, as WordPress's
// login does a little after it is there, gets the rest elsewhere: then again.
func (b *browser) fill(element, text string) error {
	for range 5 {
		if err := call("POST", b.session+"/element/"+element+"/clear", nil, nil); err != nil {
			return err
		}
		if err := call("POST", b.session+"/element/"+element+"/value", map[string]string{"text": text}, nil); err != nil {
			return err
		}
		var has string
		if err := call("GET", b.session+"/element/"+element+"/property/value", nil, &has); err != nil || has == text {
			return err
		}
	}
	return errors.New("the field does not keep what is typed")
}

// script runs the body of a function in the page; to takes what it returns.
func (b *browser) script(body string, to any) error {
	return call("POST", b.session+"/execute/sync", map[string]any{"script": body, "args": []any{}}, to)
}

// screenshot is a PNG of what is seen.
func (b *browser) screenshot() ([]byte, error) {
	var text string
	if err := call("GET", b.session+"/screenshot", nil, &text); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}
