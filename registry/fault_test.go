package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hull/oci"
)

// F66: a server stalls in the middle of a blob, again and again; what came is
// kept, and one that sends nothing at all is given up.
func TestF66ServerStalls(t *testing.T) {
	quiet(t)
	data := []byte(strings.Repeat("0123456789", 300_000))
	d := descriptor(data)
	var n atomic.Int32
	piece := 1_200_000
	stalls := func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		var at int
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
		if at > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, len(data)-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(data[at:min(at+piece, len(data))])
		w.(http.Flusher).Flush()
		if at+piece < len(data) {
			<-r.Context().Done()
		}
	}
	o := insecure()
	o.StallTimeout = 300 * time.Millisecond
	host := serve(t, map[string]http.HandlerFunc{"/v2/some/image/blobs/" + string(d.Digest): stalls})
	b, err := repo(t, host, o).Blob(context.Background(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(b)
	if err != nil || string(got) != string(data) || n.Load() != 3 {
		t.Errorf("%d bytes, %v, %d requests; want all in 3", len(got), err, n.Load())
	}
	b.Close()
	piece = 0
	if b, err = repo(t, host, o).Blob(context.Background(), d, 0); err == nil {
		_, err = io.ReadAll(b)
	}
	if !errors.Is(err, errStalled) {
		t.Errorf("a server that sends nothing: %v", err)
	}
}

// F68: the registry has forgotten an upload that it began: another begins.
func TestF68UploadExpired(t *testing.T) {
	quiet(t)
	data := []byte(strings.Repeat("0123456789", 100))
	for _, when := range []string{http.MethodPatch, http.MethodPut} {
		var stored []byte
		uploads := 0
		expired := func(r *http.Request) bool { return r.Method == when && uploads == 1 }
		h := map[string]http.HandlerFunc{
			"POST /v2/some/image/blobs/uploads/": func(w http.ResponseWriter, r *http.Request) {
				uploads++
				stored = nil
				w.Header().Set("Location", fmt.Sprint("/v2/some/image/blobs/uploads/", uploads))
				w.WriteHeader(http.StatusAccepted)
			},
		}
		for _, n := range []string{"PATCH 1", "PUT 1", "PATCH 2", "PUT 2"} {
			h[strings.Replace(n, " ", " /v2/some/image/blobs/uploads/", 1)] = func(w http.ResponseWriter, r *http.Request) {
				part, _ := io.ReadAll(r.Body)
				switch {
				case expired(r):
					w.WriteHeader(http.StatusNotFound)
				case r.Method == http.MethodPut && oci.Digest(r.FormValue("digest")) == oci.FromBytes(stored):
					w.WriteHeader(http.StatusCreated)
				default:
					stored = append(stored, part...)
					w.Header().Set("Location", r.URL.Path)
					w.WriteHeader(http.StatusAccepted)
				}
			}
		}
		r := repo(t, serve(t, h), insecure())
		err := r.Upload(context.Background(), descriptor(data), func(offset int64) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(string(data[offset:]))), nil
		})
		if err != nil || string(stored) != string(data) || uploads != 2 {
			t.Errorf("expired at %s: %d of %d bytes in %d uploads, %v", when, len(stored), len(data), uploads, err)
		}
	}
}
