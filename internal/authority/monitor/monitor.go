// Package monitor shows how an authority does: a page for people, a health check
// for what restarts it, metrics in Prometheus' text format, and a line in the log
// for every request.
//
// Nothing that it shows is secret: names, sizes, times and public keys. Of a
// request it keeps the service, the method and the outcome, and never the query,
// a header or a body, which hold tokens.
package monitor

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Facts are what an authority knows of itself at one moment.
type Facts struct {
	URL      string // base URL
	Registry string // host:port for image names
	TUF      string // base URL of the TUF repository
	// TUFRootSHA256 is of TUF's root.json, for cosign initialize --root-checksum.
	TUFRootSHA256 string
	Logs          []Log
	Keys          []Key
	// Disk is that of the data folder, nil where nothing is known of it.
	Disk *Disk
	// Notes are lines on what is outside and does not decide whether all is well:
	// witnesses. Empty ones are left out.
	Notes []string
}

// Log is a transparency log.
type Log struct {
	Origin string
	Size   int64 // entries under the published checkpoint
	// Stopped says why the log answers no more, nil while it does.
	Stopped error
	// Away says why the log's key does not sign, nil while it does.
	Away error
	// Full says why the log's disk has no room, nil while it has.
	Full error
	// Checkpoint is the path of its checkpoint below the base URL.
	Checkpoint string
}

// Disk is how much room there is for what comes.
type Disk struct {
	Free  uint64 // bytes
	Files uint64 // new files; the largest number where there is no limit
}

const (
	// scarce is when it is time to make room: days of signing, and little of pushing.
	scarce = 1 << 30
	// Less than fullBytes or fullFiles is none: a commit of the logs or a push needs more.
	fullBytes = 1 << 20
	fullFiles = 16
)

// Key is a key that clients trust.
type Key struct {
	Name string // what it is for, such as "certificate authority"
	Kind string // such as "ECDSA P-256"
	// SHA256 is of the DER SubjectPublicKeyInfo, hexadecimal.
	SHA256 string
	// Expires is when the last certificate of its chain that can be used ends, or
	// its metadata; zero for a bare key, which has no end.
	Expires time.Time
	// Begins is from when on its chain can be used; before that the clock is wrong.
	Begins time.Time
}

// CertifiedKey describes a key by its certificates, leaf first: the one that ends
// first decides.
func CertifiedKey(name string, chain []*x509.Certificate) Key {
	k := Key{Name: name, Kind: kindOf(chain[0].PublicKey), SHA256: spki(chain[0].RawSubjectPublicKeyInfo), Expires: chain[0].NotAfter, Begins: chain[0].NotBefore}
	for _, c := range chain[1:] {
		if c.NotAfter.Before(k.Expires) {
			k.Expires = c.NotAfter
		}
		if c.NotBefore.After(k.Begins) {
			k.Begins = c.NotBefore
		}
	}
	return k
}

// BareKey describes a key without certificates.
func BareKey(name string, public any) (Key, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", name, err)
	}
	return Key{Name: name, Kind: kindOf(public), SHA256: spki(der)}, nil
}

func spki(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Config of a [Monitor]. Facts is required.
type Config struct {
	Facts   func() Facts
	Version string
	Now     func() time.Time // nil is time.Now
	Log     *slog.Logger     // gets a line at level Info for every request; nil discards
}

// Monitor counts requests and shows the facts. It is safe for concurrent use.
type Monitor struct {
	cfg     Config
	started time.Time
	counts  counts
}

// New is a monitor that starts now.
func New(cfg Config) *Monitor {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Monitor{cfg: cfg, started: cfg.Now()}
}

// Handler serves
//
//	GET /         the page
//	GET /healthz  200 while everything works, else 503; a line for each thing to know
//	GET /livez    200 and nothing to know: the process answers. For what starts it anew
//	              when it hangs, which helps against nothing that /healthz can say
//	GET /metrics  Prometheus' text format, version 0.0.4
func (m *Monitor) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", m.page)
	mux.HandleFunc("GET /healthz", m.health)
	mux.HandleFunc("GET /livez", alive)
	mux.HandleFunc("GET /metrics", m.metrics)
	return mux
}

func alive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n"))
}

// soon is how long before its end a key is worth a warning: long enough to rotate
// it and for every client to have seen the new one.
const soon = 90 * 24 * time.Hour

// state is how bad something is.
type state string

const (
	fine    state = "ok"
	warning state = "warning" // it works, and will not for long
	failing state = "failing" // it does not work
)

// finding is one thing to know.
type finding struct {
	State state
	Text  string
}

// findings are all things to know, the worst state first in the result.
func (m *Monitor) findings(f Facts) (state, []finding) {
	worst, now := fine, m.cfg.Now()
	var out []finding
	add := func(s state, format string, args ...any) {
		out = append(out, finding{s, fmt.Sprintf(format, args...)})
		if s == failing || worst == fine {
			worst = s
		}
	}
	for _, l := range f.Logs {
		if l.Stopped != nil {
			// The cause names paths of this machine: it is in our own log.
			add(failing, "the log %s has stopped because it could not read or write its folder; restart it when the disk is well", l.Origin)
		} else if l.Away != nil {
			add(failing, "the key of the log %s does not sign: no entries are taken until it does", l.Origin)
		} else if l.Full != nil {
			add(failing, "the log %s takes no entries: its disk is full; it goes on when there is room", l.Origin)
		}
	}
	if d := f.Disk; d != nil && (d.Free < fullBytes || d.Files < fullFiles) {
		add(failing, "the disk of the data folder is full: nothing can be logged or pushed before there is room")
	} else if d != nil && d.Free < scarce {
		add(warning, "the disk of the data folder has %d MiB left: make room before it is full", d.Free>>20)
	}
	for _, k := range f.Keys {
		switch {
		case k.Expires.IsZero():
		case now.Before(k.Begins):
			add(failing, "the key of the %s is valid from %s, and this machine's clock says %s: set the clock", k.Name, minute(k.Begins), minute(now))
		case !now.Before(k.Expires):
			add(failing, "the key of the %s expired on %s", k.Name, day(k.Expires))
		case k.Expires.Sub(now) < soon:
			add(warning, "the key of the %s expires on %s: rotate it before", k.Name, day(k.Expires))
		}
	}
	return worst, out
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func (m *Monitor) health(w http.ResponseWriter, _ *http.Request) {
	facts := m.cfg.Facts()
	worst, found := m.findings(facts)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if worst == failing {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, worst)
	for _, f := range found {
		fmt.Fprintf(w, "%s: %s\n", f.State, f.Text)
	}
	for _, note := range facts.Notes {
		if note != "" {
			fmt.Fprintln(w, note)
		}
	}
}
