package sourcefacts

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// TestMaterialsAreFetchedFromOutside: provenance can name any URL, so what is fetched
// for it reaches neither this machine nor inner networks, nor runs ssh.
func TestMaterialsAreFetchedFromOutside(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }))
	server.Listener.Close()
	server.Listener = listener
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			hits.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for id, want := range map[string]string{
		"https://127.0.0.1:" + port + "/a":                  "inner addresses",
		"https://localhost:" + port + "/a":                  "inner addresses",
		"https://[::1]:" + port + "/a":                      "inner addresses",
		"https://[::ffff:127.0.0.1]:" + port + "/a":         "inner addresses",
		"https://169.254.169.254/latest/meta-data":          "inner addresses",
		"https://10.0.0.1/a":                                "inner addresses",
		"https://2130706433:" + port + "/a":                 "is a number",
		"https://0x7f000001:" + port + "/a":                 "is a number",
		"https://0177.0.0.1:" + port + "/a":                 "is a number",
		"https://127.1:" + port + "/a":                      "is a number",
		"https://127.0.0.1.:" + port + "/a":                 "no plain name",
		"https://127.0.0.0x1:" + port + "/a":                "is a number",
		"https://１２７.0.0.1:" + port + "/a":                  "no plain name",
		"git://https://2130706433:" + port + "/a.git#main":  "is a number",
		"git://https://0x7f000001:" + port + "/a.git#main":  "is a number",
		"git://https://0177.0.0.1:" + port + "/a.git#main":  "is a number",
		"git://https://127.1:" + port + "/a.git#main":       "is a number",
		"git://https://localhost.:" + port + "/a.git#main":  "no plain name",
		"http://127.0.0.1:" + port + "/a":                   `"http"`,
		"http://example.org/a":                              `"http"`,
		"git://https://127.0.0.1:" + port + "/a.git#main":   "inner addresses",
		"git://https://localhost:" + port + "/a.git#main":   "inner addresses",
		"git://http://127.0.0.1:" + port + "/a.git#main":    `"http"`,
		"git://ssh://git@127.0.0.1:" + port + "/a.git#main": `"ssh"`,
	} {
		for _, fact := range []sourcepolicy.Fact{sourcepolicy.HTTPChecksum, sourcepolicy.GitRef} {
			src := sourcepolicy.Source{Identifier: id}
			if rest, ok := strings.CutPrefix(id, "git://"); ok {
				src.Identifier = "git://" + rest[strings.Index(rest, "://")+3:]
				src.Attrs = map[string]string{sourcepolicy.AttrFullRemoteURL: rest[:strings.Index(rest, "#")]}
			}
			_, err := New(Options{}).Resolve(t.Context(), src, []sourcepolicy.Ask{{Fact: fact, Material: true}})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
	// The source itself is the caller's choice.
	plain := httptest.NewServer(server.Config.Handler)
	t.Cleanup(plain.Close)
	r := New(Options{})
	f, err := r.Resolve(t.Context(), sourcepolicy.Source{Identifier: plain.URL + "/a"}, []sourcepolicy.Ask{{Fact: sourcepolicy.HTTPChecksum}})
	if err != nil || f.Checksum == "" {
		t.Error(f, err)
	}
	// That it was looked at for the caller does not tell it to whoever names it in provenance.
	f, err = r.Resolve(t.Context(), sourcepolicy.Source{Identifier: plain.URL + "/a"}, []sourcepolicy.Ask{{Fact: sourcepolicy.HTTPChecksum, Material: true}})
	if err == nil || f.Checksum != "" {
		t.Error(f, err)
	}
}

func TestPublicAddresses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"8.8.8.8", "140.82.121.4", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "169.253.0.1",
		"2001:200::1", "2a00:1450::5e", "3ffd:ffff::1", "2600::200:5eff:fe00:1"} {
		if !public(netip.MustParseAddr(s)) {
			t.Errorf("%s is not public", s)
		}
	}
	for _, s := range []string{"127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.1.1.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "::1", "::7f00:1", "::ffff:10.0.0.1", "fe80::1", "fd00:ec2::254", "fec0::1", "ff02::1",
		"64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:1::1", "2001:2::1", "2001:20::1", "2001:db8::1", "3fff::1", "3ffe::1", "5f00::1",
		"100::1", "4000::1", "1fff::1", "::ffff:0:127.0.0.1", "2600::5efe:127.0.0.1", "2600::200:5efe:127.0.0.1", "fe80::1%lo"} {
		a, err := netip.ParseAddr(s)
		if err == nil && public(a) {
			t.Errorf("%s is public", s)
		}
	}
}

// TestMaterialBudget: bytes and time are for all materials together.
func TestMaterialBudget(t *testing.T) {
	t.Parallel()
	b := &budget{bytes: 10, time: time.Hour}
	w := within{b, io.Discard}
	if _, err := w.Write(make([]byte, 10)); err != nil {
		t.Error(err)
	}
	if _, err := w.Write(make([]byte, 1)); err == nil {
		t.Error("more was written than the budget has")
	}
	if _, _, err := b.begin(t.Context()); err == nil {
		t.Error("another fetch began")
	}
	b = &budget{bytes: 10, time: time.Millisecond}
	bounded, end, err := b.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-bounded.Done()
	if whySpent(t.Context(), bounded, bounded.Err()) != errSpent {
		t.Error("it does not say that the budget is spent")
	}
	end()
	if _, _, err := b.begin(t.Context()); err == nil {
		t.Error("another fetch began after the time was over")
	}
}

// TestGitStaysAtTheAddress: the name is resolved once, by us, and git uses that.
func TestGitStaysAtTheAddress(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	location, err := git.ParseLocation("https://material.invalid:"+port+"/a.git", false)
	if err != nil {
		t.Fatal(err)
	}
	at, err := location.At(t.Context(), []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = git.FetchObjects(t.Context(), at, "refs/heads/main")
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "certificate") {
		t.Error(err) // it came to the server, whose certificate is not one for the name
	}
}
