package sign_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// sentence is a statement to sign when it does not matter which.
func sentence(t testing.TB) *sign.Statement {
	t.Helper()
	st, err := sign.ImageStatement(evidence.SHA256([]byte("image")), nil)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// edit parses a log's answer, lets f change it and writes it again.
func edit(t testing.TB, body []byte, f func(entry, proof map[string]any)) []byte {
	t.Helper()
	var entry map[string]any
	if err := json.Unmarshal(body, &entry); err != nil {
		t.Fatal(err)
	}
	f(entry, entry["inclusionProof"].(map[string]any))
	changed, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// Each answer of the log is one step from the right one, and each is refused
// with the step and the host.
func TestLogAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	const path = "/api/v2/log/entries"
	zeros := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, c := range map[string]struct {
		change func(entry, proof map[string]any)
		want   string
	}{
		"another body":       {func(e, _ map[string]any) { e["canonicalizedBody"] = zeros }, "not the one that was sent"},
		"no body":            {func(e, _ map[string]any) { delete(e, "canonicalizedBody") }, "not the one that was sent"},
		"another kind":       {func(e, _ map[string]any) { e["kindVersion"] = map[string]any{"kind": "dsse", "version": "0.0.2"} }, "another kind"},
		"no proof":           {func(e, _ map[string]any) { delete(e, "inclusionProof") }, "no inclusion proof"},
		"no log id":          {func(e, _ map[string]any) { delete(e, "logId") }, "no log id"},
		"another root":       {func(_, p map[string]any) { p["rootHash"] = zeros }, "does not add up"},
		"another index":      {func(e, p map[string]any) { e["logIndex"], p["logIndex"] = "1", "1" }, "does not add up"},
		"two indexes":        {func(e, _ map[string]any) { e["logIndex"] = "1" }, "cannot be"},
		"negative index":     {func(e, p map[string]any) { e["logIndex"], p["logIndex"] = "-1", "-1" }, "cannot be"},
		"no leaves":          {func(_, p map[string]any) { p["treeSize"] = "0" }, "cannot be"},
		"index not a number": {func(e, _ map[string]any) { e["logIndex"] = "x" }, "not the JSON"},
		"hashes too many":    {func(_, p map[string]any) { p["hashes"] = []string{zeros} }, "does not add up"},
		"no checkpoint":      {func(_, p map[string]any) { delete(p, "checkpoint") }, "no signed checkpoint"},
		"unsigned checkpoint": {func(_, p map[string]any) {
			text := p["checkpoint"].(map[string]any)["envelope"].(string)
			p["checkpoint"] = map[string]any{"envelope": strings.Split(text, "\n\n")[0] + "\n\n"}
		}, "no signed checkpoint"},
		"another checkpoint": {func(_, p map[string]any) {
			text := p["checkpoint"].(map[string]any)["envelope"].(string)
			p["checkpoint"] = map[string]any{"envelope": strings.Replace(text, "\n1\n", "\n2\n", 1)}
		}, "not the proof's"},
	} {
		l := newLab(t)
		l.falsify = func(p string, status int, body []byte) (int, []byte) {
			if p != path {
				return status, body
			}
			return status, edit(t, body, c.change)
		}
		refused(t, name, l, "add a log entry: "+hostOf(l.url), c.want)
	}
}

func hostOf(url string) string { return strings.TrimPrefix(url, "http://") }

// refused signs with the lab's services and wants an error that has all of want.
func refused(t *testing.T, name string, l *lab, want ...string) error {
	t.Helper()
	_, err := keySigner(t, l.services(), "").Sign(context.Background(), sentence(t))
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v, want something with %q", name, err, w)
		}
	}
	return err
}

func TestTimestampsThatAreRefused(t *testing.T) {
	t.Parallel()
	old := newLab(t)
	var earlier []byte // a real timestamp, of another signature
	old.falsify = func(p string, status int, body []byte) (int, []byte) {
		if strings.HasSuffix(p, "timestamp") {
			earlier = body
		}
		return status, body
	}
	if _, err := keySigner(t, old.services(), "").Sign(context.Background(), sentence(t)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"of another signature": {func([]byte) []byte { return earlier }, "imprint differs"},
		"cut":                  {func(b []byte) []byte { return b[:len(b)-1] }, "not a DER timestamp"},
		"trailing byte":        {func(b []byte) []byte { return append(b, 0) }, "not a DER timestamp"},
		"empty":                {func([]byte) []byte { return nil }, "not a DER timestamp"},
		"rejected":             {func([]byte) []byte { return []byte{0x30, 5, 0x30, 3, 2, 1, 2} }, "not granted (status 2)"},
		"granted without one":  {func([]byte) []byte { return []byte{0x30, 5, 0x30, 3, 2, 1, 0} }, "no timestamp token"},
		"HTML":                 {func([]byte) []byte { return []byte("<html>") }, "not a DER timestamp"},
		"endless":              {func([]byte) []byte { return make([]byte, 2<<20) }, "more than"},
		"inner byte":           {func(b []byte) []byte { b[30] ^= 0xff; return b }, ""},
	} {
		l := newLab(t)
		l.falsify = func(p string, status int, body []byte) (int, []byte) {
			if !strings.HasSuffix(p, "timestamp") {
				return status, body
			}
			return status, c.change(body)
		}
		refused(t, name, l, "get a timestamp: "+hostOf(l.url), c.want)
	}
}

// What a service says about its refusal is shown short and clean; "not now" is
// unreachable; redirects are not followed.
func TestStatuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		kind   fault.Kind
		want   string
		never  string
	}{
		"message":     {400, `{"code":3,"message":"digest is\nwrong"}`, fault.Failure, "HTTP 400: digest is wrong", ""},
		"oauth":       {403, `{"error":"denied","error_description":"not you"}`, fault.Failure, "HTTP 403: not you", ""},
		"text":        {500, "boom \x1b[31m" + strings.Repeat("a ", 300), fault.Failure, "HTTP 500: boom", "\x1b"},
		"long word":   {400, "got " + strings.Repeat("S", 100), fault.Failure, "got …", "SSSS"},
		"HTML":        {404, "<html>nginx</html>", fault.Failure, "HTTP 404", "nginx"},
		"unavailable": {503, "", fault.Unreachable, "HTTP 503", ""},
		"too many":    {429, "slow down", fault.Unreachable, "HTTP 429: slow down", ""},
		"redirect":    {307, "", fault.Failure, "HTTP 307", ""},
	} {
		l := newLab(t)
		l.falsify = func(p string, status int, body []byte) (int, []byte) {
			if strings.HasSuffix(p, "entries") {
				return c.status, []byte(c.body)
			}
			return status, body
		}
		err := refused(t, name, l, "add a log entry: "+hostOf(l.url)+": ", c.want)
		if fault.KindOf(err) != c.kind {
			t.Errorf("%s: kind %v", name, fault.KindOf(err))
		}
		if c.never != "" && strings.Contains(err.Error(), c.never) {
			t.Errorf("%s: %v", name, err)
		}
		if len(err.Error()) > 400 {
			t.Errorf("%s: %d characters", name, len(err.Error()))
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	_, err := keySigner(t, sign.Services{TSAs: sign.One(gone.URL)}, "").Sign(context.Background(), sentence(t))
	if fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), "get a timestamp: "+hostOf(gone.URL)) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	stuck := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client went away
		<-r.Context().Done()
	}))
	defer stuck.Close()
	if _, err := keySigner(t, sign.Services{TSAs: sign.One(stuck.URL)}, "").Sign(ctx, sentence(t)); err == nil {
		t.Error("a service that never answers did not end")
	}
}

// Services on other machines need TLS unless told otherwise.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]sign.Services{
		"log": {Logs: sign.One("http://log.example")}, "tsa": {TSAs: sign.One("http://tsa.example")}, "ca": {CA: "http://ca.example"},
		"no url": {Logs: sign.One("ftp://127.0.0.1")},
	} {
		if _, err := sign.New(sign.Config{Services: s, Key: newKey(t, "")}); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := sign.Services{Logs: sign.One("http://log.example"), PlainHTTP: true}
	if _, err := sign.New(sign.Config{Services: s, Key: newKey(t, "")}); err != nil {
		t.Error(err)
	}
}
