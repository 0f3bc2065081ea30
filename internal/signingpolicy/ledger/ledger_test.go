package ledger_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

const (
	key  = "github.com/id/123456"
	name = "github.com/name/org/app"
)

func digest(text string) string { return ledger.DigestOf([]byte(text)) }

func record(key, name, action string, version int64) ledger.Leaf {
	return ledger.Leaf{Kind: ledger.KindRecord, Key: key, Name: name, Action: action, Version: version, Digest: digest(fmt.Sprint(key, version))}
}

func TestLeavesHaveOneSpelling(t *testing.T) {
	root := new(ledger.State).Map(0).Leaf(0).Root
	good := []ledger.Leaf{
		record(key, name, "set", 1), record("github.com/owner/42", "", "tombstone", 9), record("git.example.com/id/1", "git.example.com/name/a/b/c", "rebind", 2),
		record(repokey.Blinding("secret").Key(key), repokey.Blinding("secret").Key(name), "set", 1),
		{Kind: ledger.KindNotice, Key: key, Digest: digest("n")}, {Kind: ledger.KindMap, Size: 3, ShardBits: 2, Root: root},
	}
	for _, l := range good {
		data := l.Bytes()
		got, err := ledger.ParseLeaf(data)
		if err != nil || got != l {
			t.Errorf("%s is read as %+v, %v", data, got, err)
		}
		for i := range data {
			for _, c := range []byte{data[i] ^ 1, data[i] ^ 0x20, ' '} {
				flipped := append([]byte(nil), data...)
				flipped[i] = c
				if got, err := ledger.ParseLeaf(flipped); err == nil && got == l && c != data[i] {
					t.Errorf("%s is read as %s", flipped, data)
				}
			}
		}
	}
	text := string(good[0].Bytes())
	for why, bad := range map[string]string{
		"version 0":       strings.Replace(text, `"version":1`, `"version":0`, 1),
		"version 1.0":     strings.Replace(text, `"version":1`, `"version":1.0`, 1),
		"version 2^53+1":  strings.Replace(text, `"version":1`, `"version":9007199254740993`, 1),
		"action":          strings.Replace(text, `"set"`, `"Set"`, 1),
		"key's case":      strings.Replace(text, "github.com/id", "GitHub.com/id", 1),
		"leading zero":    strings.Replace(text, "id/123456", "id/0123456", 1),
		"key of a name":   strings.Replace(text, key, name, 1),
		"name of a key":   strings.Replace(text, name, key, 1),
		"name's case":     strings.Replace(text, "org/app", "Org/app", 1),
		"no digest":       strings.Replace(text, "sha256:", "sha512:", 1),
		"white space":     strings.Replace(text, ",", ", ", 1),
		"duplicate":       strings.Replace(text, `"kind":"record"`, `"kind":"record","kind":"record"`, 1),
		"unknown":         strings.Replace(text, `"kind":"record"`, `"kind":"record","note":""`, 1),
		"trailing":        text + " ",
		"of another kind": strings.Replace(text, `"kind":"record"`, `"kind":"notice"`, 1),
		"too many shards": `{"kind":"map","root":"` + root + `","shardBits":17,"size":3}`,
		"too long":        text + strings.Repeat(" ", ledger.MaxLeaf),
		"nothing":         "",
	} {
		if l, err := ledger.ParseLeaf([]byte(bad)); err == nil {
			t.Errorf("%s: %s is read as %+v", why, bad, l)
		}
	}
}

func TestStateKeepsTheLogsRules(t *testing.T) {
	other := "github.com/id/777"
	notice := ledger.Leaf{Kind: ledger.KindNotice, Key: key, Digest: digest("n")}
	for why, c := range map[string]struct {
		leaves []ledger.Leaf
		bad    ledger.Leaf
	}{
		"first version is 2":       {nil, record(key, name, "set", 2)},
		"version is left out":      {[]ledger.Leaf{record(key, name, "set", 1)}, record(key, name, "set", 3)},
		"version is repeated":      {[]ledger.Leaf{record(key, name, "set", 1)}, record(key, name, "set", 1)},
		"notice without policy":    {nil, notice},
		"notice twice":             {[]ledger.Leaf{record(key, name, "set", 1), notice}, notice},
		"map of another size":      {[]ledger.Leaf{record(key, name, "set", 1)}, ledger.Leaf{Kind: ledger.KindMap, Size: 2}},
		"no kind":                  {nil, ledger.Leaf{}},
		"version of another's key": {[]ledger.Leaf{record(other, name, "set", 1)}, record(key, name, "set", 2)},
	} {
		var s ledger.State
		for _, l := range c.leaves {
			if err := s.Apply(l); err != nil {
				t.Fatal(err)
			}
		}
		before := s.Map(1).Root()
		if err := s.Apply(c.bad); err == nil || s.Map(1).Root() != before || s.Size() != int64(len(c.leaves)) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

func TestNameStaysWithItsHolder(t *testing.T) {
	const other, renamed = "github.com/id/777", "github.com/name/org/renamed"
	var s ledger.State
	holder := func(l ledger.Leaf, name, want string) {
		t.Helper()
		if err := s.Apply(l); err != nil || s.Holder(name) != want {
			t.Fatalf("%s is held by %q, want %q (%v)", name, s.Holder(name), want, err)
		}
	}
	holder(record(key, name, "set", 1), name, key)
	holder(record(other, name, "set", 1), name, key)      // deleted and made again
	holder(record(key, name, "tombstone", 2), name, key)  // without a policy it is who it was
	holder(record(key, renamed, "rebind", 3), name, "")   // given up
	holder(record(other, name, "set", 2), name, other)    // and taken
	holder(record(key, name, "rebind", 4), renamed, "")   // may not take it back
	holder(record(key, name, "set", 5), name, other)      // nor so
	holder(record(other, renamed, "rebind", 3), name, "") // before it is free
	if repokey.Name("GitHub.com/Org/App") != name || repokey.Name("github.com") != "" || repokey.Name("github.com/a b") != "" || repokey.Name("github.com/a//b") != "" {
		t.Error("names are not read as they are to be")
	}
}

// world is a log with keys, a clock and two witnesses.
type world struct {
	log           ed25519.PrivateKey
	clock, w1, w2 ed25519.PrivateKey
	trust         string
	parsed        translog.Log
	quorum        ledger.Quorum
	at            time.Time
}

const origin = "policy.example/v1"

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newWorld(t testing.TB) *world {
	w := &world{log: newKey(t), clock: newKey(t), w1: newKey(t), w2: newKey(t), at: time.Unix(1_800_000_000, 0).UTC()}
	w.trust = fmt.Sprintf("# a comment\nlog %s https://policy.example/\nwitness clock %s\nwitness one %s\nwitness two %s\ngroup witnesses any one two\ngroup both all clock witnesses\nquorum both\n",
		ledger.VerifierKey(origin, w.log.Public().(ed25519.PublicKey)), vkey("clock.example", w.clock), vkey("one.example", w.w1), vkey("two.example", w.w2))
	var err error
	if w.parsed, w.quorum, _, err = ledger.ParseTrust([]byte(w.trust)); err != nil {
		t.Fatal(err)
	}
	return w
}

func vkey(name string, key ed25519.PrivateKey) string {
	return witness.VerifierKey(name, key.Public().(ed25519.PublicKey))
}

func (w *world) head(size int64, lines ...func(text string) string) []byte {
	signed := ledger.Sign(origin, w.log, size, [32]byte{1})
	text, _, _ := strings.Cut(string(signed), "\n\n")
	for _, l := range lines {
		signed = append(signed, l(text+"\n")...)
	}
	return signed
}

func line(name string, key ed25519.PrivateKey, at time.Time) func(string) string {
	return func(text string) string { return ledger.Cosign(name, key, text, at) }
}

func TestHeadTimes(t *testing.T) {
	w := newWorld(t)
	at := func(minutes int) time.Time { return w.at.Add(time.Duration(minutes) * time.Minute) }
	clock := func(m int) func(string) string { return line("clock.example", w.clock, at(m)) }
	one := func(m int) func(string) string { return line("one.example", w.w1, at(m)) }
	two := func(m int) func(string) string { return line("two.example", w.w2, at(m)) }
	for why, c := range map[string]struct {
		lines []func(string) string
		want  int
		code  string
	}{
		"clock and witness":                {[]func(string) string{clock(5), one(3)}, 3, ""},
		"the newest witness":               {[]func(string) string{clock(5), one(1), two(4)}, 4, ""},
		"a witness from the future":        {[]func(string) string{clock(5), one(9000)}, 5, ""},
		"two lines, the newer counts":      {[]func(string) string{clock(5), one(1), one(2)}, 2, ""},
		"a stranger beside":                {[]func(string) string{clock(5), one(3), line("x.example", w.log, at(1))}, 3, ""},
		"no cosigner":                      {nil, 0, ledger.CodeNoQuorum},
		"the clock alone":                  {[]func(string) string{clock(5)}, 0, ledger.CodeNoQuorum},
		"the clock twice":                  {[]func(string) string{clock(5), clock(5)}, 0, ledger.CodeNoQuorum},
		"witnesses alone":                  {[]func(string) string{one(1), two(1)}, 0, ledger.CodeNoQuorum},
		"the clock's key under two names":  {[]func(string) string{clock(5), line("one.example", w.clock, at(5))}, 0, ledger.CodeNoQuorum},
		"a witness's key under other name": {[]func(string) string{clock(5), line("three.example", w.w1, at(5))}, 0, ledger.CodeNoQuorum},
		"of another head": {[]func(string) string{clock(5), func(string) string {
			return ledger.Cosign("one.example", w.w1, origin+"\n8\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n", at(5))
		}}, 0, ledger.CodeNoQuorum},
	} {
		h, err := ledger.ParseHead(w.parsed, w.head(7, c.lines...))
		if err != nil {
			t.Fatalf("%s: %v", why, err)
		}
		got, err := h.Time(w.quorum)
		var r *ledger.Refusal
		switch {
		case c.code == "" && (err != nil || !got.Equal(at(c.want))):
			t.Errorf("%s: %v, %v", why, got, err)
		case c.code != "" && (!errors.As(err, &r) || r.Code != c.code):
			t.Errorf("%s: %v, %v", why, got, err)
		}
	}
	h, err := ledger.ParseHead(w.parsed, w.head(7))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Time(ledger.Quorum{}); err == nil || errors.As(err, new(*ledger.Refusal)) {
		t.Errorf("no quorum at all: %v", err)
	}
}

// TestNoByteOfAHeadIsFree: with every line needed, each byte that is changed is noticed.
func TestNoByteOfAHeadIsFree(t *testing.T) {
	w := newWorld(t)
	good := w.head(7, line("clock.example", w.clock, w.at), line("one.example", w.w1, w.at))
	check := func(data []byte) error {
		h, err := ledger.ParseHead(w.parsed, data)
		if err == nil {
			_, err = h.Time(w.quorum)
		}
		return err
	}
	if err := check(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for bit := range 8 {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << bit
			if err := check(bad); !errors.As(err, new(*ledger.Refusal)) {
				t.Fatalf("byte %d of %q: %v", i, bad, err)
			}
		}
	}
	for _, bad := range [][]byte{append([]byte(nil), good[:len(good)-1]...), append(append([]byte(nil), good...), '\n'), append(append([]byte(nil), good...), 'x'), nil} {
		if err := check(bad); !errors.As(err, new(*ledger.Refusal)) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTrustFile(t *testing.T) {
	w := newWorld(t)
	for why, bad := range map[string]string{
		"no log":              strings.Replace(w.trust, "log ", "# log ", 1),
		"two logs":            w.trust[strings.Index(w.trust, "log "):strings.Index(w.trust, "witness")] + w.trust,
		"no quorum":           strings.Replace(w.trust, "quorum", "# quorum", 1),
		"quorum none":         strings.Replace(w.trust, "quorum both", "quorum none", 1),
		"unknown quorum":      strings.Replace(w.trust, "quorum both", "quorum all", 1),
		"key under two names": strings.Replace(w.trust, vkey("two.example", w.w2), vkey("two.example", w.w1), 1),
		"member twice":        strings.Replace(w.trust, "any one two", "2 one one", 1),
		"in two groups":       strings.Replace(w.trust, "all clock witnesses", "all clock witnesses one", 1),
		"none of two":         strings.Replace(w.trust, "any one two", "0 one two", 1),
		"three of two":        strings.Replace(w.trust, "any one two", "3 one two", 1),
		"before it is known":  strings.Replace(w.trust, "group witnesses any one two\n", "", 1),
		"name twice":          strings.Replace(w.trust, "witness two", "witness one", 1),
		"log key cosigns":     strings.Replace(w.trust, vkey("one.example", w.w1), ledger.VerifierKey(origin, w.log.Public().(ed25519.PublicKey)), 1),
		"after the quorum":    w.trust + "witness late " + vkey("late", w.log) + "\n",
		"unknown word":        "trust me\n" + w.trust,
		"too long":            w.trust + strings.Repeat("#", ledger.MaxTrust),
	} {
		if _, _, _, err := ledger.ParseTrust([]byte(bad)); err == nil {
			t.Errorf("%s is taken", why)
		}
	}
}

func TestRedirectsStayOnTheHost(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("elsewhere")) }))
	defer other.Close()
	tries := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/p/here":
			http.Redirect(w, r, "/p/there", http.StatusFound)
		case "/p/there":
			_, _ = w.Write([]byte("here"))
		case "/p/away":
			http.Redirect(w, r, other.URL+"/x", http.StatusFound)
		case "/p/flaky":
			if tries++; tries < 3 {
				w.WriteHeader(http.StatusBadGateway)
			}
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	source, err := ledger.HTTP(s.URL+"/p/", ledger.HTTPOptions{Wait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if data, err := source.Get(t.Context(), "here", 10); err != nil || string(data) != "here" {
		t.Errorf("a redirect on the same host: %q, %v", data, err)
	}
	if data, err := source.Get(t.Context(), "away", 10); err == nil {
		t.Errorf("a redirect to another host gives %q", data)
	}
	if _, err := source.Get(t.Context(), "there", 3); err == nil {
		t.Error("more bytes than the limit are read")
	}
	if _, err := source.Get(t.Context(), "flaky", 3); err != nil || tries != 3 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	for _, bad := range []string{"http://store.example.com/x", "ftp://127.0.0.1/x", s.URL + "/?token=1", strings.Replace(s.URL, "//", "//user:secret@", 1)} {
		if _, err := ledger.HTTP(bad, ledger.HTTPOptions{}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
