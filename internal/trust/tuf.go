package trust

import (
	"context"
	"crypto/sha256"
	_ "embed" // for the public-good root
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

//go:embed tufroot/public-good-root.json
var publicGoodRoot []byte

//go:embed tufroot/public-good-trusted-root.json
var publicGoodTrustedRoot []byte

// EmbeddedPublicGood is the trusted root of Sigstore's public instance that is
// in this binary, so that a first run works offline, with the day on which the
// instance vouched for it and the day after which it is too old to be used
// without a word. tufroot/README.md says where it comes from.
func EmbeddedPublicGood() (document []byte, of, stale time.Time) {
	of = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	return append([]byte(nil), publicGoodTrustedRoot...), of, of.Add(embeddedLife)
}

// embeddedLife is how long an embedded trusted root is used without a warning.
// Logs of the public instance are replaced about twice a year, and announced
// well before.
const embeddedLife = 180 * 24 * time.Hour

// TUF is a client of a TUF repository: how trust is brought up to date
// (theupdateframework.github.io/specification/latest, section 5).
//
// Trusted / not trusted: Root is trusted. The mirror and the network are not:
// an attacker there can only keep news away until the metadata expires. The
// cache is checked against Root each time; an attacker who can modify it can
// hide that a newer version was seen.
type TUF struct {
	Mirror string // base URL of the metadata; targets are below targets/
	Root   []byte // a root.json that is trusted, of any version
	// CacheDir keeps what was fetched, for each mirror and root apart. Without
	// it nothing is kept, and an older repository than last time is not noticed.
	CacheDir   string
	HTTPClient *http.Client // default: one with a timeout of 30 s
	// Offline uses the cache alone. Metadata that has expired is refused as
	// it is online.
	Offline bool
	// PlainHTTP allows a mirror in plain HTTP that is not on this machine.
	PlainHTTP bool
}

// PublicGood is the public Sigstore instance.
func PublicGood() TUF {
	return TUF{Mirror: "https://tuf-repo-cdn.sigstore.dev", Root: publicGoodRoot}
}

// Targets is the current content of the named targets, such as
// "trusted_root.json". A mirror that does not answer is fault.Unreachable.
func (t *TUF) Targets(ctx context.Context, names ...string) (map[string][]byte, error) {
	targets, _, err := t.Fetch(ctx, names...)
	return targets, err
}

// Fetch is Targets with the time until which they are good: the earliest expiry
// of the metadata that vouches for them (specification 5.3 to 5.6).
func (t *TUF) Fetch(ctx context.Context, names ...string) (targets map[string][]byte, expires time.Time, err error) {
	s, err := t.start(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer s.unlock()
	if err := s.up.Refresh(); err != nil {
		return nil, time.Time{}, s.explain(err)
	}
	if err := s.keepRoots(); err != nil {
		return nil, time.Time{}, fmt.Errorf("TUF cache: %w", err)
	}
	targets = make(map[string][]byte, len(names))
	for _, name := range names {
		if targets[name], err = s.target(name); err != nil {
			return nil, time.Time{}, err
		}
	}
	return targets, s.expires(), nil
}

// expires is the earliest expiry of the four top-level roles.
func (s *session) expires() time.Time {
	set := s.up.GetTrustedMetadataSet()
	first := set.Root.Signed.Expires
	for _, t := range []time.Time{set.Timestamp.Signed.Expires, set.Snapshot.Signed.Expires, set.Targets[metadata.TARGETS].Signed.Expires} {
		if t.Before(first) {
			first = t
		}
	}
	return first.UTC()
}

// session is one update.
type session struct {
	t      *TUF
	host   string
	dir    string // of this mirror and root, "" without a cache
	up     *updater.Updater
	fetch  *fetcher
	unlock func()
}

func (s *session) metadataDir() string { return filepath.Join(s.dir, "metadata") }
func (s *session) rootsDir() string    { return filepath.Join(s.dir, "roots") }
func (s *session) targetFile(name string) string {
	return filepath.Join(s.dir, "targets", url.PathEscape(name))
}

func (t *TUF) start(ctx context.Context) (*session, error) {
	if err := loopback.CheckURL("TUF mirror", t.Mirror, t.PlainHTTP || t.Offline); err != nil {
		return nil, err
	}
	u, err := url.Parse(t.Mirror)
	if err != nil {
		return nil, fault.Usagef("TUF mirror: not a URL")
	}
	s := &session{t: t, host: u.Host, unlock: func() {}}
	if t.CacheDir != "" {
		sum := sha256.Sum256(append([]byte(t.Mirror+"\n"), t.Root...))
		name := strings.ReplaceAll(u.Host, ":", "-") + "-" + hex.EncodeToString(sum[:6])
		s.dir = filepath.Join(t.CacheDir, name)
	}
	if t.Offline {
		if err := s.checkCached(); err != nil {
			return nil, err
		}
	} else if s.dir != "" {
		if err := s.lock(); err != nil {
			return nil, fmt.Errorf("TUF cache: %w", err)
		}
	}
	if err := s.newUpdater(ctx); err != nil {
		s.unlock()
		return nil, err
	}
	return s, nil
}

func (s *session) checkCached() error {
	var err error = fs.ErrNotExist
	if s.dir != "" {
		_, err = os.Stat(filepath.Join(s.metadataDir(), metadata.TIMESTAMP+".json"))
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("TUF cache: %w", err)
	}
	return fault.Hint(fmt.Errorf("offline: nothing from the TUF mirror %s is in the cache", s.host),
		"run it once with the network, or name a trusted root file")
}

// lock keeps other processes from mixing their update with ours.
func (s *session) lock() error {
	if err := os.MkdirAll(s.rootsDir(), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	s.unlock = func() { _ = f.Close() }
	return nil
}

func (s *session) newUpdater(ctx context.Context) error {
	root, err := s.newestRoot()
	if err != nil {
		return err
	}
	cfg, err := config.New(s.t.Mirror, root)
	if err != nil {
		return fmt.Errorf("TUF mirror %s: %w", s.host, err)
	}
	client := s.t.HTTPClient
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second}
	}
	s.fetch = &fetcher{ctx: ctx, client: client, roots: map[string][]byte{}}
	cfg.Fetcher = s.fetch
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = s.metadataDir(), filepath.Dir(s.targetFile("x"))
	// "Unsafe" is that it does not ask for news: signatures, hashes and expiry
	// are checked as always.
	cfg.UnsafeLocalMode = s.t.Offline
	// Offline writes nothing: the cache may be read-only.
	cfg.DisableLocalCache = s.t.Offline || s.dir == ""
	if s.up, err = updater.New(cfg); err != nil {
		return fmt.Errorf("TUF client for %s: %w", s.host, err)
	}
	return nil
}

// newestRoot follows the cached roots from the trusted one as a client follows
// the mirror's (specification 5.3): each is signed by the one before it. It
// stops at the first that is not there or not right.
func (s *session) newestRoot() ([]byte, error) {
	trusted, err := trustedmetadata.New(s.t.Root)
	if err != nil {
		return nil, fmt.Errorf("the TUF root to start from is not a valid root.json: %w", err)
	}
	root := s.t.Root
	if s.dir == "" {
		return root, nil
	}
	for {
		next := strconv.FormatInt(trusted.Root.Signed.Version+1, 10) + ".root.json"
		data, err := os.ReadFile(filepath.Join(s.rootsDir(), next))
		if err != nil {
			return root, nil
		}
		if _, err := trusted.UpdateRoot(data); err != nil {
			return root, nil
		}
		root = data
	}
}

// keepRoots caches the roots of a successful update.
func (s *session) keepRoots() error {
	if s.dir == "" {
		return nil
	}
	for name, data := range s.fetch.roots {
		if err := durable.WriteFile(filepath.Join(s.rootsDir(), name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) target(name string) ([]byte, error) {
	info, err := s.up.GetTargetInfo(name)
	if err != nil {
		if fault.KindOf(err) == fault.Unreachable || errors.Is(err, &metadata.ErrExpiredMetadata{}) {
			return nil, s.explain(err)
		}
		return nil, fmt.Errorf("TUF repository %s: it has no target %s", s.host, name)
	}
	if s.dir != "" {
		if data, err := os.ReadFile(s.targetFile(name)); err == nil && info.VerifyLengthHashes(data) == nil {
			return data, nil
		}
	}
	if s.t.Offline {
		return nil, fault.Hint(fmt.Errorf("offline: target %s of the TUF mirror %s is not in the cache, or damaged there", name, s.host),
			"run it once with the network, or name a trusted root file")
	}
	_, data, err := s.up.DownloadTarget(info, "", "")
	if err != nil {
		return nil, s.explain(fmt.Errorf("target %s: %w", name, err))
	}
	return data, nil
}

// explain says whose metadata failed and, when it is only too old, what to do.
func (s *session) explain(err error) error {
	var missing *metadata.ErrDownloadHTTP
	switch {
	case fault.KindOf(err) == fault.Unreachable, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, &metadata.ErrExpiredMetadata{}) && s.t.Offline:
		return fault.Hint(fmt.Errorf("TUF cache of %s: the metadata has expired: %w", s.host, err), "run it once with the network")
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		return fault.Hint(fmt.Errorf("TUF mirror %s: its metadata has expired: %w", s.host, err),
			"check this machine's clock; if it is right, the mirror's operator must sign again")
	case errors.As(err, &missing):
		return fmt.Errorf("TUF mirror %s: %s: status %d", s.host, path.Base(missing.URL), missing.StatusCode)
	}
	return fmt.Errorf("TUF mirror %s: %w", s.host, err)
}

// fetcher is one update's way to the mirror.
type fetcher struct {
	ctx    context.Context // the updater has none to hand over
	client *http.Client
	roots  map[string][]byte // what was fetched, by file name
}

// DownloadFile fetches at most maxLength bytes.
func (f *fetcher) DownloadFile(rawURL string, maxLength int64, _ time.Duration) ([]byte, error) {
	name := path.Base(rawURL)
	step := "fetching TUF file " + name
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, fault.Usagef("%s: not a URL", step)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return nil, context.Canceled
		}
		return nil, fault.HTTP(step, rawURL, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return nil, fault.Unreachablef("%s: %s: status %d", step, req.URL.Host, resp.StatusCode)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: resp.StatusCode, URL: rawURL}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxLength+1))
	if err != nil {
		return nil, fault.HTTP(step, rawURL, err)
	}
	if int64(len(data)) > maxLength {
		return nil, &metadata.ErrDownloadLengthMismatch{Msg: fmt.Sprintf("%s is longer than %d bytes", name, maxLength)}
	}
	if strings.HasSuffix(name, ".root.json") {
		f.roots[name] = data
	}
	return data, nil
}
