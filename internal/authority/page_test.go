package authority_test

import (
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/monitor"
	"github.com/hallmark-dev/hallmark/internal/hmtest/browser"
)

// views are a phone and a desk, by day and by night.
func views() []browser.View {
	return []browser.View{{Width: 360, Height: 740}, {Width: 360, Height: 740, Dark: true}, {Width: 1280, Height: 800}, {Width: 1280, Height: 800, Dark: true}}
}

// TestStatusPageInABrowser looks at the page with Chromium, without scripts: it says log size,
// keys, when they end, and how to use it; nothing but the page itself is fetched, nothing is
// refused by its own policy, and nobody has to scroll sideways, also where names are long and
// everything is wrong. With HALLMARK_SCREENSHOTS=FOLDER a person can look, too.
func TestStatusPageInABrowser(t *testing.T) {
	t.Parallel()
	b := browser.Start(t)
	look := func(name, url string, words ...string) {
		t.Helper()
		for _, v := range views() {
			p := b.Open(url, v)
			title := fmt.Sprintf("%s at %d, dark %v", name, v.Width, v.Dark)
			for _, w := range words {
				if !strings.Contains(p.Text, w) {
					t.Errorf("%s: it does not say %q:\n%s", title, w, p.Text)
				}
			}
			if p.Wide > v.Width {
				t.Errorf("%s: it is %d wide", title, p.Wide)
			}
			if len(p.Asked) != 1 || len(p.Said) > 0 {
				t.Errorf("%s: fetched %q; the browser says %q", title, p.Asked, p.Said)
			}
			if strings.Contains(p.HTML, "<script") {
				t.Errorf("%s: it has a script", title)
			}
			if dir := os.Getenv("HALLMARK_SCREENSHOTS"); dir != "" {
				file := fmt.Sprintf("%s-%d%s.png", strings.ReplaceAll(name, " ", "-"), v.Width, map[bool]string{true: "-dark"}[v.Dark])
				if err := os.WriteFile(filepath.Join(dir, file), p.PNG, 0o600); err != nil {
					t.Error(err)
				}
			}
		}
	}
	a, end := up(t, authority.Config{Dir: filepath.Join(t.TempDir(), "data"), Version: "v1.2.3"})
	defer end()
	if _, err := logged(a.Info().URL, entry(t, "seen")); err != nil {
		t.Fatal(err)
	}
	i := a.Info()
	look("up", i.URL+"/", "Everything works", "v1.2.3", "1 entry", "0 entries", "certificate authority", "timestamp authority", "never",
		"hallmark sign "+i.Registry+"/IMAGE", "hallmark trust import "+i.TUF, "cosign initialize --mirror "+i.TUF, i.TUFRootSHA256)
	// The same with scripts: there is nothing for them to do.
	if p := b.Open(i.URL+"/", browser.View{Width: 1280, Height: 800, Scripts: true}); len(p.Asked) != 1 || len(p.Said) > 0 || !strings.Contains(p.Text, "Everything works") {
		t.Errorf("with scripts: fetched %q; the browser says %q", p.Asked, p.Said)
	}

	host := strings.Repeat("sigstore-of-a-large-organisation.", 4) + "example.com:8443"
	facts := monitor.Facts{URL: "https://" + host, Registry: host, TUF: "https://" + host + "/tuf", TUFRootSHA256: strings.Repeat("0123456789abcdef", 4),
		Disk: &monitor.Disk{Free: 1 << 10, Files: math.MaxUint64}, Notes: []string{"witness " + strings.Repeat("w", 200) + ": since 2026-11-29T12:00:00Z: it does not answer"}}
	for n := range 6 {
		facts.Logs = append(facts.Logs, monitor.Log{Origin: fmt.Sprintf("log-%d.%s - 5012345678901234567", n, strings.TrimSuffix(host, ":8443")), Size: math.MaxInt64, Checkpoint: fmt.Sprintf("/log-%d/api/v2/checkpoint", n)})
		facts.Keys = append(facts.Keys, monitor.Key{Name: fmt.Sprint("log for older clients, number ", n), Kind: "ECDSA P-384", SHA256: strings.Repeat("0123456789abcdef", 4), Expires: time.Now().Add(time.Hour)})
	}
	facts.Logs[0].Stopped, facts.Logs[1].Away, facts.Logs[2].Full = errors.New("/secret/path"), errors.New("/secret/path"), errors.New("/secret/path")
	server := httptest.NewServer(monitor.New(monitor.Config{Version: "v1.2.3-45-gabcdef-dirty", Facts: func() monitor.Facts { return facts }}).Handler())
	defer server.Close()
	look("everything wrong", server.URL+"/", "Something does not work", "has stopped", "does not sign", "disk of the data folder is full", "takes no entries: its disk is full", "expires on", "9223372036854775807 entries", "it does not answer")
	facts.Disk.Free, facts.Logs, facts.Notes = 1<<40, facts.Logs[3:4], nil
	look("a warning", server.URL+"/", "needs attention", "expires on")
}
