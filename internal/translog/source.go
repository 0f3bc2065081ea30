package translog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

// Source is where a log's checkpoint and tiles lie. Nothing that it gives is
// believed before it was checked.
type Source interface {
	// Get reads what is at a path of c2sp.org/tlog-tiles ("checkpoint",
	// "tile/0/001"), at most limit bytes. What is not there is fs.ErrNotExist.
	Get(ctx context.Context, path string, limit int64) ([]byte, error)
	// Name says where that is, for people.
	Name() string
}

// Folder of files: a mirror, or a log that was copied.
type dirSource string

// DirSource reads a folder that has a log's files in the layout of tlog-tiles.
func DirSource(dir string) Source { return dirSource(dir) }

func (d dirSource) Name() string { return string(d) }

func (d dirSource) Get(_ context.Context, path string, limit int64) ([]byte, error) {
	f, err := os.Open(filepath.Join(string(d), filepath.FromSlash(path)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, path, limit)
}

func readAll(r io.Reader, path string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}

// HTTPOptions are how a log is spoken to.
type HTTPOptions struct {
	UserAgent string
	PlainHTTP bool         // to hosts that are not this machine
	Client    *http.Client // nil: one with a timeout for each request
	// Wait is before the first repetition of a request that failed; it doubles.
	// Default 200 ms.
	Wait time.Duration
}

const (
	requestTimeout = time.Minute
	attempts       = 4
	maxRedirects   = 3
)

type httpSource struct {
	base   string // without a slash at the end
	opts   HTTPOptions
	client *http.Client
}

// HTTPSource reads a log below a URL: its prefix, or the base URL of a Rekor v2
// log, whose tiles are below /api/v2. Which of the two it is, the log is asked.
func HTTPSource(ctx context.Context, raw string, opts HTTPOptions) (Source, error) {
	raw = strings.TrimRight(raw, "/")
	if err := loopback.CheckURL("log", raw, opts.PlainHTTP); err != nil {
		return nil, err
	}
	if opts.Wait == 0 {
		opts.Wait = 200 * time.Millisecond
	}
	client := opts.Client
	if client == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 64
		client = &http.Client{Timeout: requestTimeout, Transport: t}
	}
	copied := *client
	copied.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return loopback.CheckURL("redirect", r.URL.String(), opts.PlainHTTP)
	}
	var missing error
	bases := []string{raw + "/api/v2", raw}
	if strings.HasSuffix(raw, "/api/v2") {
		bases = bases[1:]
	}
	for _, base := range bases {
		s := &httpSource{base: base, opts: opts, client: &copied}
		_, err := s.Get(ctx, "checkpoint", MaxCheckpoint)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		missing = err
	}
	return nil, fault.Hint(missing, "name the log's prefix: the URL below which checkpoint and tile are (c2sp.org/tlog-tiles)")
}

func (s *httpSource) Name() string { return s.base }

// Get repeats what may succeed the next time, a few times.
func (s *httpSource) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	wait := s.opts.Wait
	for n := 1; ; n++ {
		data, after, err := s.get(ctx, path, limit)
		if err == nil || n == attempts || after < 0 || ctx.Err() != nil {
			return data, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(max(wait, after)):
		}
		wait *= 2
	}
}

// get asks once. after is how long to wait before asking again, negative when that
// is of no use.
func (s *httpSource) get(ctx context.Context, path string, limit int64) (data []byte, after time.Duration, err error) {
	target := s.base + "/" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, -1, fmt.Errorf("read log: %s is no URL", s.base)
	}
	if s.opts.UserAgent != "" {
		req.Header.Set("User-Agent", s.opts.UserAgent)
	}
	resp, err := s.client.Do(req) // asks for gzip and undoes it
	if err != nil {
		if ctx.Err() != nil {
			return nil, -1, ctx.Err()
		}
		return nil, 0, fault.HTTP("read log", target, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, retryAfter(resp), statusError(target, path, resp.StatusCode)
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		if ctx.Err() != nil {
			return nil, -1, ctx.Err()
		}
		return nil, 0, fault.HTTP("read log", target, err)
	}
	if int64(len(data)) > limit {
		return nil, -1, fmt.Errorf("read log: %s: %s has more than %d bytes", hostOf(target), path, limit)
	}
	return data, -1, nil
}

func statusError(target, path string, status int) error {
	err := fmt.Errorf("read log: %s: %s: HTTP %d", hostOf(target), path, status)
	switch {
	case status == http.StatusNotFound || status == http.StatusGone:
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	case status == http.StatusTooManyRequests || status >= 500:
		return fault.As(fault.Unreachable, err)
	}
	return err
}

// retryAfter is how long the answer asks to wait, at most half a minute.
func retryAfter(resp *http.Response) time.Duration {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < 500 {
		return -1
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, 30*time.Second)
}

func hostOf(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.Host != "" {
		return u.Host
	}
	return clip(raw)
}
