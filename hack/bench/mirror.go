package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// A mirror is a proxy that keeps in memory what it fetched, so that what two
// contenders download costs both the same: the first round fetches it.
type mirror struct {
	mu   sync.Mutex
	kept map[string]*page
}

type page struct {
	status int
	header http.Header
	body   []byte
}

// serveMirror returns the proxy's address on the loopback; it ends with the
// bench.
func serveMirror() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("serve a mirror: %w", err)
	}
	go http.Serve(l, &mirror{kept: map[string]*page{}})
	return "http://" + l.Addr().String(), nil
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || r.URL.Scheme != "http" {
		http.Error(w, "only GET of http", http.StatusBadGateway)
		return
	}
	p, err := m.page(r.URL.String())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	for _, name := range []string{"Content-Type", "Last-Modified"} {
		if v := p.header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(p.body)))
	w.WriteHeader(p.status)
	w.Write(p.body)
}

// page is kept whole: what asks for a part of it gets all, as HTTP allows.
func (m *mirror) page(url string) (*page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.kept[url]; p != nil {
		return p, nil
	}
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	p := &page{resp.StatusCode, resp.Header, body}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNotFound {
		m.kept[url] = p
	}
	return p, nil
}
