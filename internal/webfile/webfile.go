// Package webfile looks at a file behind a URL as a build's ADD would fetch it, to
// know its digest.
//
// Not trusted: the server and whatever it redirects to. The digest says what it sent
// this time; only who keeps it and compares knows that the next time is the same.
package webfile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

// MaxSize is the most bytes of a body that are read.
const MaxSize = 8 << 30

// Options are how servers are spoken to. The zero value is useful.
type Options struct {
	PlainHTTP bool   // also to servers that are not on this machine
	UserAgent string // default "hallmark"
	MaxSize   int64  // default MaxSize
}

// Client fetches files. It is safe for concurrent use.
type Client struct {
	o    Options
	http *http.Client
}

// New makes a client.
func New(o Options) *Client {
	if o.UserAgent == "" {
		o.UserAgent = "hallmark"
	}
	if o.MaxSize <= 0 {
		o.MaxSize = MaxSize
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = time.Minute
	return &Client{o: o, http: &http.Client{Transport: t, CheckRedirect: CheckRedirect}}
}

// CheckRedirect is a client's: a server may hand over to another one, but neither leave TLS nor
// point from elsewhere at services of this machine.
func CheckRedirect(req *http.Request, via []*http.Request) error {
	from := via[len(via)-1].URL
	switch {
	case len(via) >= 10:
		return errors.New("more than 10 redirects")
	case from.Scheme == "https" && req.URL.Scheme != "https":
		return fmt.Errorf("it redirects to %s without TLS", req.URL.Host)
	case loopback.Host(req.URL.Host) && !loopback.Host(via[0].URL.Host):
		return fmt.Errorf("it redirects to this machine (%s)", req.URL.Host)
	}
	return nil
}

// File is what a URL gave.
type File struct {
	Digest       evidence.Digest // of the body
	Size         int64
	LastModified time.Time // zero when the server does not say
}

// Digest fetches a URL and hashes the body, which is not kept. A body that is encoded
// for the way (Content-Encoding: gzip) is decoded, as BuildKit does.
func (c *Client) Digest(ctx context.Context, rawURL string) (File, error) {
	h := sha256.New()
	f, err := c.fetch(ctx, rawURL, h)
	f.Digest = evidence.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
	if err != nil {
		return File{}, err
	}
	return f, nil
}

func (c *Client) fetch(ctx context.Context, rawURL string, into hash.Hash) (File, error) {
	if err := loopback.CheckURL("source", rawURL, c.o.PlainHTTP); err != nil {
		return File{}, err
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return File{}, fault.Usagef("source: not a URL")
	}
	header, n, err := Get(ctx, c.http, "fetch "+name(u), rawURL, http.Header{"User-Agent": {c.o.UserAgent}}, c.o.MaxSize, into)
	if err != nil {
		return File{}, err
	}
	f := File{Size: n}
	if t, err := http.ParseTime(header.Get("Last-Modified")); err == nil {
		f.LastModified = t.UTC()
	}
	return f, nil
}

// StatusError is an answer other than 200.
type StatusError struct {
	Code int
	said string
}

func (e *StatusError) Error() string { return e.said }

// Get writes the body behind a URL, of at most limit bytes, and gives the answer's header.
// Errors begin with the step and name the host, and no more of the URL, which may hold
// secrets: a [StatusError], a body that is too long, what the writer said, and else a
// server that does not answer (fault.Unreachable).
func Get(ctx context.Context, client *http.Client, step, rawURL string, header http.Header, limit int64, to io.Writer) (http.Header, int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, 0, fault.Usagef("%s: not a URL", step)
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, broken(ctx, step, rawURL, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var err error = &StatusError{resp.StatusCode, fmt.Sprintf("%s: %s says %s", step, req.URL.Host, resp.Status)}
		if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
			err = fault.As(fault.Unreachable, err)
		}
		return nil, 0, err
	}
	n, err := io.Copy(to, io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, 0, broken(ctx, step, rawURL, err)
	case n > limit:
		return nil, 0, fmt.Errorf("%s: more than %d bytes", step, limit)
	}
	return resp.Header, n, nil
}

func broken(ctx context.Context, step, rawURL string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fault.HTTP(step, rawURL, err)
}

// name is a URL in messages: without login and query, which may be secrets.
func name(u *url.URL) string { return u.Scheme + "://" + u.Host + u.Path }
