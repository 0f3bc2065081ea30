// Package browser looks at a page as a person does, in a real Chromium without a window,
// which it speaks the DevTools protocol with (chromedevtools.github.io/devtools-protocol) over
// two pipes. Scripts are off: what a page needs them for is missing.
package browser

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Browser is a running Chromium with one page.
type Browser struct {
	t       testing.TB
	in      *os.File
	out     *bufio.Reader
	next    int
	session string
	asked   []string        // URLs since Open began
	said    []string        // by the browser about the page
	loaded  map[string]bool // which loads of documents have come to their end
}

// View is how a page is looked at.
type View struct {
	Width, Height int
	Dark          bool // prefers-color-scheme
	Scripts       bool // scripts may run
}

// Page is what was seen.
type Page struct {
	Text  string   // what a person reads
	HTML  string   // of the document as the browser understood it
	Asked []string // every URL that was fetched for it
	Said  []string // errors and warnings of the browser: what it refused, what it could not parse
	Wide  int      // of the content; more than the view's is scrolled sideways
	PNG   []byte
}

// Start starts a Chromium, which ends with the test.
func Start(t testing.TB) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v; tools/install.sh test installs it", err)
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	c.Env = append(os.Environ(), "HOME="+t.TempDir())
	c.ExtraFiles = []*os.File{theirIn, theirOut} // its descriptors 3 and 4
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr strings.Builder
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = theirIn.Close(), theirOut.Close()
	b := &Browser{t: t, in: in, out: bufio.NewReaderSize(out, 1<<20), loaded: map[string]bool{}}
	t.Cleanup(func() {
		_, _ = b.in.WriteString(`{"id":1000000,"method":"Browser.close"}` + "\x00")
		_ = b.in.Close()
		_ = c.Wait()
		_ = out.Close()
		if t.Failed() {
			t.Logf("chromium: %s", stderr.String())
		}
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Network", "Log", "Audits", "DOM"} {
		b.call(domain+".enable", nil, nil)
	}
	b.call("Page.setLifecycleEventsEnabled", map[string]any{"enabled": true}, nil)
	return b
}

// Open loads a page and looks at it.
func (b *Browser) Open(url string, v View) Page {
	b.t.Helper()
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": !v.Scripts}, nil)
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": v.Width, "height": v.Height, "deviceScaleFactor": 1, "mobile": v.Width < 600}, nil)
	scheme := map[bool]string{true: "dark", false: "light"}[v.Dark]
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.asked, b.said = nil, nil
	var went struct{ ErrorText, LoaderID string }
	b.call("Page.navigate", map[string]any{"url": url}, &went)
	if went.ErrorText != "" {
		b.t.Fatalf("%s: %s", url, went.ErrorText)
	}
	for !b.loaded[went.LoaderID] { // and not the page before, which may end late
		b.read()
	}
	p := Page{}
	var metrics struct {
		CSSContentSize struct{ Width, Height float64 }
	}
	b.call("Page.getLayoutMetrics", nil, &metrics)
	p.Wide = int(metrics.CSSContentSize.Width)
	var document struct{ Root struct{ NodeID int } }
	b.call("DOM.getDocument", map[string]any{"depth": 0}, &document)
	var html struct{ OuterHTML string }
	b.call("DOM.getOuterHTML", map[string]any{"nodeId": document.Root.NodeID}, &html)
	p.HTML = html.OuterHTML
	var text struct{ Result struct{ Value string } }
	b.call("Runtime.evaluate", map[string]any{"expression": "document.body.innerText"}, &text)
	p.Text = text.Result.Value
	var shot struct{ Data []byte }
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true,
		"clip": map[string]any{"x": 0, "y": 0, "width": v.Width, "height": metrics.CSSContentSize.Height, "scale": 1}}, &shot)
	p.PNG = shot.Data
	p.Asked, p.Said = b.asked, b.said
	return p
}

// call asks for something and waits for the answer.
func (b *Browser) call(method string, params map[string]any, answer any) {
	b.t.Helper()
	b.next++
	message := map[string]any{"id": b.next, "method": method}
	if params != nil {
		message["params"] = params
	}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	data, err := json.Marshal(message)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(data, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		m := b.read()
		if m.ID != b.next {
			continue
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if answer != nil {
			if err := json.Unmarshal(m.Result, answer); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
		}
		return
	}
}

type message struct {
	ID     int
	Result json.RawMessage
	Error  *struct{ Message string }
	Method string
	Params json.RawMessage
}

// read takes the next message, and notes what it says of the page.
func (b *Browser) read() message {
	b.t.Helper()
	data, err := b.out.ReadBytes(0)
	if err != nil {
		b.t.Fatalf("chromium has ended: %v", err)
	}
	var m message
	if err := json.Unmarshal(data[:len(data)-1], &m); err != nil {
		b.t.Fatal(err)
	}
	var p struct {
		Request struct{ URL string }
		Entry   struct{ Level, Text, URL string }
		Issue   json.RawMessage

		Name, LoaderID string
	}
	switch m.Method {
	case "Page.lifecycleEvent":
		if err := json.Unmarshal(m.Params, &p); err != nil {
			b.t.Fatal(err)
		}
		if p.Name == "load" {
			b.loaded[p.LoaderID] = true
		}
	case "Network.requestWillBeSent", "Log.entryAdded", "Audits.issueAdded":
		if err := json.Unmarshal(m.Params, &p); err != nil {
			b.t.Fatal(err)
		}
		switch {
		case p.Request.URL != "":
			b.asked = append(b.asked, p.Request.URL)
		case p.Entry.Text != "":
			b.said = append(b.said, fmt.Sprintf("%s: %s %s", p.Entry.Level, p.Entry.Text, p.Entry.URL))
		default:
			b.said = append(b.said, string(p.Issue))
		}
	}
	return m
}
