package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/webfile"
)

// Names of a store's files, below its prefix; tiles are those of c2sp.org/tlog-tiles.
const CheckpointPath = "checkpoint"

// HeadPath is the head that was published first at a size.
func HeadPath(size int64) string { return "head/" + strconv.FormatInt(size, 10) }

// ShardPath is a shard of the map of a closing leaf, which is the one with index n.
func ShardPath(n int64, shard int) string { return fmt.Sprintf("map/%d/%d", n, shard) }

// ProofPath is the audit path of a shard.
func ProofPath(n int64, shard int) string { return fmt.Sprintf("map/%d/proof/%d", n, shard) }

// FilePath is the file of a kind with a digest "sha256:…": record, evidence, bundle, notice or
// notices.
func FilePath(kind, digest string) string {
	_, h, _ := strings.Cut(digest, ":")
	return kind + "/" + h
}

// LoggedPath is where a store says at which index a record is, and in which head it was first:
// a hint, which a reader follows up.
func LoggedPath(digest string) string { return FilePath("logged", digest) }

// Folder reads a store that is a folder.
func Folder(dir string) translog.Source { return translog.DirSource(dir) }

// HTTPOptions are how a store is spoken to.
type HTTPOptions struct {
	UserAgent string
	PlainHTTP bool // to hosts that are not this machine
	// Wait is before the first repetition of a request that got no answer; it doubles. Default 200 ms.
	Wait time.Duration
}

const attempts = 3

type httpSource struct {
	base string // without a slash at the end
	o    HTTPOptions
	http *http.Client
}

// HTTP reads a store below a URL. Redirects stay on its host: an answer from elsewhere is none.
func HTTP(base string, o HTTPOptions) (translog.Source, error) {
	base = strings.TrimRight(base, "/")
	if err := loopback.CheckURL("policy store", base, o.PlainHTTP); err != nil {
		return nil, err
	}
	u, err := url.Parse(base)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fault.Usagef("policy store: want a plain URL, without login, query and fragment")
	}
	if o.UserAgent == "" {
		o.UserAgent = "hallmark"
	}
	if o.Wait <= 0 {
		o.Wait = 200 * time.Millisecond
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	t.ResponseHeaderTimeout = time.Minute
	return &httpSource{base: base, o: o, http: &http.Client{Transport: t, CheckRedirect: sameHost}}, nil
}

func sameHost(req *http.Request, via []*http.Request) error {
	if first := via[0].URL; req.URL.Host != first.Host || req.URL.Scheme != first.Scheme || len(via) > 3 {
		return fmt.Errorf("it redirects to %s", req.URL.Host)
	}
	return nil
}

func (s *httpSource) Name() string { return s.base }

// Get repeats a request that got no answer, a few times.
func (s *httpSource) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	wait := s.o.Wait
	for n := 1; ; n++ {
		data, err := s.get(ctx, path, limit)
		if err == nil || n == attempts || ctx.Err() != nil || fault.KindOf(err) != fault.Unreachable {
			return data, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
		wait *= 2
	}
}

func (s *httpSource) get(ctx context.Context, path string, limit int64) ([]byte, error) {
	var body bytes.Buffer
	_, _, err := webfile.Get(ctx, s.http, "read policy store: "+path, s.base+"/"+path, http.Header{"User-Agent": {s.o.UserAgent}}, limit, &body)
	var status *webfile.StatusError
	if errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusGone) {
		return nil, fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// Logged is the content of the file at [LoggedPath].
func Logged(index, size int64) []byte { return fmt.Appendf(nil, "%d %d\n", index, size) }

// ParseLogged reads it.
func ParseLogged(data []byte) (index, size int64, err error) {
	line, ok := strings.CutSuffix(string(data), "\n")
	first, second, ok2 := strings.Cut(line, " ")
	index, ok3 := number(first)
	size, ok4 := number(second)
	if !ok || !ok2 || !ok3 || !ok4 {
		return 0, 0, errors.New("it is no index with a size")
	}
	return index, size, nil
}
