package monitor_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/monitor"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func facts() monitor.Facts {
	return monitor.Facts{URL: "https://sigstore.example.com", Registry: "sigstore.example.com", TUF: "https://sigstore.example.com/tuf",
		TUFRootSHA256: strings.Repeat("ab", 32),
		Logs:          []monitor.Log{{Origin: "sigstore.example.com", Size: 7, Checkpoint: "/api/v2/checkpoint"}},
		Keys:          []monitor.Key{{Name: "certificate authority", Kind: "ECDSA P-256", SHA256: "cafe", Expires: now.AddDate(1, 0, 0)}, {Name: "log", Kind: "Ed25519", SHA256: "f00d"}}}
}

func newMonitor(t *testing.T, change func(f *monitor.Facts), log io.Writer) *monitor.Monitor {
	t.Helper()
	f := facts()
	if change != nil {
		change(&f)
	}
	if log == nil {
		log = io.Discard
	}
	return monitor.New(monitor.Config{Facts: func() monitor.Facts { return f }, Version: `1.0"x`, Now: func() time.Time { return now },
		Log: slog.New(slog.NewTextHandler(log, nil))})
}

func get(t *testing.T, h http.Handler, target string) (int, http.Header, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
	return w.Code, w.Header(), w.Body.String()
}

func TestHealth(t *testing.T) {
	t.Parallel()
	secret := errors.New("write /srv/secret-place/entries: no space left on device")
	for name, row := range map[string]struct {
		change func(f *monitor.Facts)
		status int
		want   string // the whole answer
	}{
		"well":                  {nil, 200, "ok\n"},
		"a witness that is out": {func(f *monitor.Facts) { f.Notes = []string{"witness w1: since noon: 503", ""} }, 200, "ok\nwitness w1: since noon: 503\n"},
		"a key that ends in 89 days": {func(f *monitor.Facts) { f.Keys[0].Expires = now.Add(89 * 24 * time.Hour) }, 200,
			"warning\nwarning: the key of the certificate authority expires on 2027-02-22: rotate it before\n"},
		"a key that has ended": {func(f *monitor.Facts) { f.Keys[0].Expires = now }, 503,
			"failing\nfailing: the key of the certificate authority expired on 2026-11-25\n"},
		"a clock that was set back": {func(f *monitor.Facts) { f.Keys[0].Begins = now.Add(time.Minute) }, 503,
			"failing\nfailing: the key of the certificate authority is valid from 2026-11-25 12:01, and this machine's clock says 2026-11-25 12:00: set the clock\n"},
		"a key that begins now": {func(f *monitor.Facts) { f.Keys[0].Begins = now }, 200, "ok\n"},
		"a log that stopped": {func(f *monitor.Facts) { f.Logs[0].Stopped = secret }, 503,
			"failing\nfailing: the log sigstore.example.com has stopped because it could not read or write its folder; restart it when the disk is well\n"},
		"a log whose key is away": {func(f *monitor.Facts) { f.Logs[0].Away = secret }, 503,
			"failing\nfailing: the key of the log sigstore.example.com does not sign: no entries are taken until it does\n"},
		"a disk with room": {func(f *monitor.Facts) { f.Disk = &monitor.Disk{Free: 1 << 30, Files: 16} }, 200, "ok\n"},
		"a disk that is filling": {func(f *monitor.Facts) { f.Disk = &monitor.Disk{Free: 1<<30 - 1, Files: 1000} }, 200,
			"warning\nwarning: the disk of the data folder has 1023 MiB left: make room before it is full\n"},
		"a full disk": {func(f *monitor.Facts) { f.Disk = &monitor.Disk{Free: 1<<20 - 1, Files: 1000} }, 503,
			"failing\nfailing: the disk of the data folder is full: nothing can be logged or pushed before there is room\n"},
		"a disk without inodes": {func(f *monitor.Facts) { f.Disk = &monitor.Disk{Free: 1 << 40, Files: 15} }, 503,
			"failing\nfailing: the disk of the data folder is full: nothing can be logged or pushed before there is room\n"},
		"a warning after a failure": {func(f *monitor.Facts) {
			f.Logs[0].Stopped, f.Keys[0].Expires = secret, now.Add(time.Hour)
		}, 503, "failing\nfailing: the log sigstore.example.com has stopped because it could not read or write its folder; restart it when the disk is well\n" +
			"warning: the key of the certificate authority expires on 2026-11-25: rotate it before\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, h, body := get(t, newMonitor(t, row.change, nil).Handler(), "/healthz")
			if alive, _, said := get(t, newMonitor(t, row.change, nil).Handler(), "/livez"); alive != 200 || said != "ok\n" {
				t.Errorf("livez: %d %q", alive, said)
			}
			if status != row.status || body != row.want || h.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %q", status, body)
			}
		})
	}
}

// TestPage: the page is well-formed, needs no script and nothing from elsewhere,
// and what facts hold cannot become markup.
func TestPage(t *testing.T) {
	t.Parallel()
	m := newMonitor(t, func(f *monitor.Facts) {
		f.Registry = `<script>alert(1)</script>`
		f.Logs[0].Stopped = errors.New("write /srv/secret-place")
	}, nil)
	status, h, body := get(t, m.Handler(), "/")
	if status != 200 || !strings.HasPrefix(h.Get("Content-Type"), "text/html") || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("%d %v", status, h)
	}
	for _, want := range []string{"7 entries", "cafe", "2027-11-25", "never", "--root-checksum abab", "Something does not work", "https://sigstore.example.com/api/v2/checkpoint"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(body, "secret-place") {
		t.Error("the page shows a path of the machine")
	}
	// HTML's own reader repairs everything; XML's says where something is not closed.
	d := xml.NewDecoder(strings.NewReader(body))
	d.Strict, d.AutoClose, d.Entity = true, []string{"meta"}, xml.HTMLEntity
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok && slices.Contains([]string{"script", "img", "link", "iframe"}, e.Name.Local) {
			t.Errorf("the page has <%s>", e.Name.Local)
		}
	}
}

var sample = regexp.MustCompile(`^([a-z_]+)(\{[a-z_]+="(?:[^"\\]|\\.)*"(?:,[a-z_]+="(?:[^"\\]|\\.)*")*\})? (\S+)$`)

// exposition reads Prometheus' text format strictly.
func exposition(t *testing.T, text string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	typed := map[string]string{}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		line := s.Text()
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			if typed[name] != "" {
				t.Errorf("%s has two types", name)
			}
			typed[name] = kind
			continue
		}
		if strings.HasPrefix(line, "# HELP ") {
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a sample: %q", line)
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		family := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(family, suffix); typed[base] == "histogram" {
				family = base
			}
		}
		if typed[family] == "" {
			t.Errorf("%s has no type", m[1])
		}
		if _, twice := out[m[1]+m[2]]; twice {
			t.Errorf("%s twice", m[1]+m[2])
		}
		out[m[1]+m[2]] = v
	}
	return out
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	m := newMonitor(t, func(f *monitor.Facts) { f.Disk = &monitor.Disk{Free: 3 << 30, Files: 100} }, &log)
	answers := http.NewServeMux()
	answers.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	answers.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	answers.HandleFunc("/silent", func(http.ResponseWriter, *http.Request) {})
	answers.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	counted := m.Count("log", answers)
	for _, path := range []string{"/good?token=secret", "/good", "/bad", "/silent"} {
		get(t, counted, path)
	}
	func() {
		defer func() { _ = recover() }()
		get(t, counted, "/panic")
	}()
	status, h, body := get(t, m.Handler(), "/metrics")
	if status != 200 || h.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("%d %v", status, h)
	}
	got := exposition(t, body)
	for name, want := range map[string]float64{
		"hallmark_up": 1, `hallmark_info{version="1.0\"x"}`: 1,
		`hallmark_log_entries{log="sigstore.example.com"}`: 7, `hallmark_log_stopped{log="sigstore.example.com"}`: 0,
		`hallmark_disk_free_bytes`: 3 << 30,
		`hallmark_key_expiry_timestamp_seconds{key="certificate authority"}`: float64(now.AddDate(1, 0, 0).Unix()),
		`hallmark_requests_total{service="log",code="200"}`:                  3,
		`hallmark_requests_total{service="log",code="418"}`:                  1,
		`hallmark_requests_total{service="log",code="500"}`:                  1,
		`hallmark_requests_in_flight`:                                        0,
		`hallmark_request_duration_seconds_count{service="log"}`:             5,
		`hallmark_request_duration_seconds_bucket{service="log",le="0.001"}`: 5,
		`hallmark_request_duration_seconds_bucket{service="log",le="+Inf"}`:  5,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
		}
	}
	if lines := strings.Count(log.String(), "\n"); lines != 5 || strings.Contains(log.String(), "secret") || !strings.Contains(log.String(), "status=418") || !strings.Contains(log.String(), "bytes=5") {
		t.Errorf("the log:\n%s", &log)
	}
	if _, _, again := get(t, m.Handler(), "/metrics"); len(exposition(t, again)) != len(got) {
		t.Error("the second answer has other samples")
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := monitor.BareKey("log", public)
	if err != nil || k.Kind != "Ed25519" || len(k.SHA256) != 64 || !k.Expires.IsZero() {
		t.Errorf("%+v, %v", k, err)
	}
	chain := []*x509.Certificate{{PublicKey: public, NotAfter: now.AddDate(2, 0, 0)}, {NotBefore: now.AddDate(-1, 0, 0), NotAfter: now}}
	if c := monitor.CertifiedKey("ca", chain); !c.Expires.Equal(now) || !c.Begins.Equal(now.AddDate(-1, 0, 0)) {
		t.Errorf("from %v to %v, want the chain's last begin and first end", c.Begins, c.Expires)
	}
	if _, err := monitor.BareKey("log", "no key"); err == nil {
		t.Error("took a string for a key")
	}
}
