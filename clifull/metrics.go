package clifull

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"

	"hull/command"
	"hull/engine"
)

// metricsType is the media type of Prometheus' text format.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

func (s *session) metrics() *command.Command {
	var listen string
	return &command.Command{
		Usage: "[options]",
		Long: "Print metrics of all containers, pods and the store in the text format of Prometheus: once, for a textfile collector,\n" +
			"or for as long as it is not interrupted at http://ADDRESS/metrics. The address must be one of this machine's loopback.",
		Examples: []string{"metrics", "metrics --listen 127.0.0.1:9500"},
		Args:     command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringVar(&listen, "listen", "", "Serve metrics at this loopback address, HOST:PORT; port 0 is any")
		},
		Run: func(ctx context.Context, _ []string) error {
			e, err := s.engineOf(ctx, registryFlags{})
			if err != nil {
				return err
			}
			if listen == "" {
				return e.Metrics(ctx, s.stdout)
			}
			l, err := listenLoopback(listen)
			if err != nil {
				return err
			}
			defer l.Close()
			fmt.Fprintf(s.stdout, "Serving metrics at http://%s/metrics\n", l.Addr())
			return serve(ctx, l, metricsHandler(e))
		},
	}
}

// listenLoopback refuses addresses that others can reach: metrics name
// containers and images, and there is no password.
func listenLoopback(address string) (net.Listener, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	if !a.IP.IsLoopback() {
		return nil, &engine.HintError{Err: fmt.Errorf("serve metrics: %s is not an address of the loopback", address), Text: "give 127.0.0.1:PORT, and let a proxy with passwords serve other machines"}
	}
	l, err := net.ListenTCP("tcp", a)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	return l, nil
}

// metricsHandler answers one request at a time: each reads the whole store.
func metricsHandler(e *engine.Engine) http.Handler {
	var mu sync.Mutex
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var b bytes.Buffer
		if err := e.Metrics(r.Context(), &b); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", metricsType)
		w.Write(b.Bytes())
	})
	return mux
}
