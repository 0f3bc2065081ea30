package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/hallmark-dev/hallmark/internal/loopback"
)

// Options are how registries are spoken to. The zero value is useful.
type Options struct {
	PlainHTTP   bool         // plain HTTP also to registries that are not on this machine
	HTTPClient  *http.Client // its transport is used; nil: one of the client's own
	UserAgent   string       // default "hallmark"
	Concurrency int          // requests in flight at once; default 16
	Anonymous   bool         // as somebody without any login
}

// Client opens repositories. It keeps connections, tokens and what it learnt
// about registries, so one Client serves a whole process. Logins are those of
// the docker configuration (DOCKER_CONFIG or ~/.docker/config.json) and the
// credential helpers named there, read when a registry first asks for a login.
type Client struct {
	opts Options
	auth *auth.Client

	mu       sync.Mutex
	noAPI    map[string]bool        // repositories known to have no referrers API
	pushed   map[string]bool        // small blobs that were pushed: "repository@digest"
	subjects map[string]*sync.Mutex // writers of one fallback tag take turns
}

// NewClient makes a client; nothing is read or asked yet.
func NewClient(opts Options) *Client {
	if opts.UserAgent == "" {
		opts.UserAgent = "hallmark"
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = 16
	}
	logins := dockerCredentials()
	if opts.Anonymous {
		logins = func(context.Context, string) (auth.Credential, error) { return auth.EmptyCredential, nil }
	}
	return &Client{
		opts: opts,
		auth: &auth.Client{
			Client:     httpClient(opts),
			Header:     http.Header{"User-Agent": {opts.UserAgent}},
			Cache:      auth.NewCache(),
			Credential: logins,
			ClientID:   "hallmark",
		},
		noAPI:    map[string]bool{},
		pushed:   map[string]bool{},
		subjects: map[string]*sync.Mutex{},
	}
}

// httpClient retries what is safe to repeat (every request here is: content is
// addressed by digest) on 408, 429, 5xx and broken connections, three times in
// about two seconds.
func httpClient(opts Options) *http.Client {
	c := http.Client{}
	if opts.HTTPClient != nil {
		c = *opts.HTTPClient
	}
	base := c.Transport
	if base == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = opts.Concurrency
		t.ResponseHeaderTimeout = time.Minute
		base = t
	}
	policy := &retry.GenericPolicy{
		Retryable: retry.DefaultPredicate,
		Backoff:   retry.ExponentialBackoff(250*time.Millisecond, 2, 0.2),
		MinWait:   100 * time.Millisecond,
		MaxWait:   5 * time.Second,
		MaxRetry:  3,
	}
	c.Transport = &retry.Transport{
		Base:   &boundedTransport{base: base, slots: make(chan struct{}, opts.Concurrency)},
		Policy: func() retry.Policy { return policy },
	}
	next := c.CheckRedirect
	c.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if err := checkRedirect(req, via); err != nil || next == nil {
			return err
		}
		return next(req, via)
	}
	return &c
}

// checkRedirect lets registries hand blobs to a storage service, but neither
// leave TLS nor point from elsewhere at services of this machine.
func checkRedirect(req *http.Request, via []*http.Request) error {
	from := via[0].URL
	switch {
	case len(via) >= 5:
		return errors.New("more than 5 redirects")
	case from.Scheme == "https" && req.URL.Scheme != "https":
		return fmt.Errorf("it redirects to %s without TLS", req.URL.Host)
	case loopback.Host(req.URL.Host) && !loopback.Host(from.Host):
		return fmt.Errorf("it redirects to this machine (%s)", req.URL.Host)
	}
	return nil
}

// boundedTransport has at most cap(slots) requests waiting for an answer.
type boundedTransport struct {
	base  http.RoundTripper
	slots chan struct{}
}

func (t *boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case t.slots <- struct{}{}:
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	defer func() { <-t.slots }()
	return t.base.RoundTrip(req)
}

// dockerCredentials reads the docker configuration once, when first asked.
func dockerCredentials() auth.CredentialFunc {
	open := sync.OnceValues(func() (auth.CredentialFunc, error) {
		store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
		if err != nil {
			return nil, fmt.Errorf("read logins from the docker configuration: %w", err)
		}
		return credentials.Credential(store), nil
	})
	return func(ctx context.Context, host string) (auth.Credential, error) {
		get, err := open()
		if err != nil {
			return auth.EmptyCredential, err
		}
		return get(ctx, host)
	}
}

// Open opens the repository, layout or archive that ref is in. A registry is not asked
// yet; a layout that is not there becomes one with the first push.
func (c *Client) Open(_ context.Context, ref Ref) (*Repository, error) {
	switch ref.Scheme {
	case SchemeLayout:
		b, err := openLayout(ref.Dir)
		if err != nil {
			return nil, err
		}
		return &Repository{ref: ref, b: b}, nil
	case SchemeOCIArchive, SchemeDockerArchive:
		return &Repository{ref: ref, b: newArchive(ref)}, nil
	case SchemeRegistry:
		return &Repository{ref: ref, b: c.openRemote(ref)}, nil
	}
	return nil, fmt.Errorf("open %q: not a reference", ref.String())
}

func (c *Client) openRemote(ref Ref) *remoteBackend {
	repo := &remote.Repository{
		Client:               &subjectRecorder{c.auth},
		Reference:            orasregistry.Reference{Registry: ref.Host, Repository: ref.Repository},
		PlainHTTP:            c.opts.PlainHTTP || loopback.Host(ref.Host),
		MaxMetadataBytes:     MaxManifest,
		ReferrerListMaxPages: 100,
		TagListMaxPages:      1000,
		SkipReferrersGC:      true,
	}
	// oras would keep the fallback tag itself, but without read-back. Told that
	// the API is there it only does what it is asked; attach.go does the rest.
	_ = repo.SetReferrersCapability(true)
	return &remoteBackend{client: c, repo: repo, name: ref.Name(), host: repo.Reference.Host()}
}

// subjectKey is the context key under which attach hands a *string down.
type subjectKey struct{}

// subjectRecorder notes the OCI-Subject header of the answer to a request whose
// context asks for it (distribution-spec, "Pushing Manifests with Subject").
type subjectRecorder struct{ auth *auth.Client }

func (s *subjectRecorder) Do(req *http.Request) (*http.Response, error) {
	resp, err := s.auth.Do(req)
	if seen, ok := req.Context().Value(subjectKey{}).(*string); ok && err == nil {
		*seen = resp.Header.Get("OCI-Subject")
	}
	return resp, err
}

// lacksAPI reports what is known about a repository's referrers API.
func (c *Client) lacksAPI(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.noAPI[name]
}

func (c *Client) setLacksAPI(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noAPI[name] = true
}

// turn is the lock of everybody in this process who writes a subject's fallback tag.
func (c *Client) turn(name string, subject ocispec.Descriptor) *sync.Mutex {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := name + "@" + subject.Digest.String()
	m := c.subjects[key]
	if m == nil {
		m = new(sync.Mutex)
		c.subjects[key] = m
	}
	return m
}

// smallBlob is the size up to which pushed blobs are remembered: the empty
// config, which every referrer shares, costs two requests per repository only.
const smallBlob = 64

func (c *Client) knowsBlob(name string, desc ocispec.Descriptor) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pushed[name+"@"+desc.Digest.String()]
}

func (c *Client) rememberBlob(name string, desc ocispec.Descriptor) {
	if desc.Size > smallBlob {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pushed) < 10000 {
		c.pushed[name+"@"+desc.Digest.String()] = true
	}
}
