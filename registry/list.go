package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"go.podman.io/image/v5/docker/reference"

	"hull/oci"
)

// maxList bounds one page of a list, and maxPages a list.
const (
	maxList  = 32 << 20
	maxPages = 10000
)

// Tags lists the tags of the repository.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	var all []string
	err := r.pages(ctx, "/v2/"+r.path+"/tags/list", nil, func(data []byte) (bool, error) {
		var page struct{ Tags []string }
		if err := json.Unmarshal(data, &page); err != nil {
			return false, err
		}
		for _, t := range page.Tags {
			// What is no tag could not be asked for.
			if _, err := oci.ParseReference("x:" + t); err == nil {
				all = append(all, t)
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list tags of %s/%s: %w", r.host.name, r.path, err)
	}
	return all, nil
}

// pages reads a list that goes on by Link headers, until each has enough.
func (r *Repository) pages(ctx context.Context, path string, scopes []string, each func([]byte) (more bool, err error)) error {
	c := call{method: http.MethodGet, path: path, scopes: scopes}
	for range maxPages {
		resp, err := r.do(ctx, c, http.StatusOK)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxList+1))
		resp.Body.Close()
		if err != nil {
			return err
		}
		if len(data) > maxList {
			return fmt.Errorf("%w: a page is larger than %d bytes", errRefused, maxList)
		}
		more, err := each(data)
		next := nextLink(resp.Header.Values("Link"))
		if err != nil || !more || next == "" {
			return err
		}
		u, err := resp.Request.URL.Parse(next)
		if err != nil {
			return fmt.Errorf("%w: next page: %w", errRefused, err)
		}
		if !sameHost(r.host.url(), u) {
			return fmt.Errorf("%w: the next page is on another host, %s", errRefused, u.Host)
		}
		c.url = u
	}
	return fmt.Errorf("%w: more than %d pages", errRefused, maxPages)
}

// A Hit is one repository that a search found.
type Hit struct {
	Index, Name, Description string
	Stars                    int
	Official, Automated      bool
}

// Search looks for term in a registry: by the search of docker.io's kind where
// there is one, else by looking through the catalog.
func (c *Client) Search(ctx context.Context, registry, term string, limit int) ([]Hit, error) {
	r, err := c.registry(ctx, registry)
	if err != nil {
		return nil, err
	}
	hits, err := r.searchV1(ctx, registry, term, limit)
	if err == nil {
		return hits, nil
	}
	c.o.Log("search of %s: %v; looking through the catalog", registry, err)
	hits, err = r.searchCatalog(ctx, registry, term, limit)
	if err != nil {
		return nil, fmt.Errorf("search %s: %w", registry, err)
	}
	return hits, nil
}

// registry is a Repository of no name, for what concerns the whole registry.
func (c *Client) registry(ctx context.Context, name string) (*Repository, error) {
	// registries.conf and auth files go by a repository's name.
	any, err := oci.ParseReference(name + "/any")
	if err != nil || any.IsShort() {
		return nil, fmt.Errorf("registry %q: not a host name", name)
	}
	ref, err := reference.ParseNormalizedNamed(any.String())
	if err != nil {
		return nil, err
	}
	ends, err := c.endpoints(any, false)
	if err != nil {
		return nil, err
	}
	who, err := c.credentials(ctx, ref, false)
	if err != nil {
		return nil, err
	}
	h, err := c.host(server(reference.Domain(ref)), ends[0].insecure)
	if err != nil {
		return nil, err
	}
	return &Repository{host: h, who: who}, nil
}

func (r *Repository) searchV1(ctx context.Context, registry, term string, limit int) ([]Hit, error) {
	c := call{method: http.MethodGet, path: "/v1/search?" + url.Values{"q": {term}, "n": {strconv.Itoa(limit)}}.Encode(), scopes: []string{}}
	if registry == oci.DefaultDomain {
		// Docker's index is another host than its registry.
		h, err := r.host.c.host("index.docker.io", r.host.insecure)
		if err != nil {
			return nil, err
		}
		r = &Repository{host: h}
	}
	resp, err := r.once(ctx, c, []int{http.StatusOK})
	if err != nil {
		return nil, err
	}
	defer drain(resp)
	var answer struct {
		Results []struct {
			Name        string `json:"name"`
			Description string `json:"description"`
			Stars       int    `json:"star_count"`
			Official    bool   `json:"is_official"`
			Automated   bool   `json:"is_automated"`
		} `json:"results"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxList)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("read search results: %w", err)
	}
	var hits []Hit
	for _, x := range answer.Results {
		hits = append(hits, Hit{registry, x.Name, x.Description, x.Stars, x.Official, x.Automated})
	}
	return hits, nil
}

func (r *Repository) searchCatalog(ctx context.Context, registry, term string, limit int) ([]Hit, error) {
	var hits []Hit
	err := r.pages(ctx, "/v2/_catalog", []string{"registry:catalog:*"}, func(data []byte) (bool, error) {
		var page struct{ Repositories []string }
		if err := json.Unmarshal(data, &page); err != nil {
			return false, err
		}
		for _, name := range page.Repositories {
			if strings.Contains(name, term) && len(hits) < limit {
				hits = append(hits, Hit{Index: registry, Name: name})
			}
		}
		return len(hits) < limit, nil
	})
	return hits, err
}
