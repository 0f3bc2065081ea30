package trust_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

const vectors = "../verify/testdata/conformance"

func publicGood(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectors, "public-good-trusted-root.json"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPublicGood(t *testing.T) {
	t.Parallel()
	r, err := trust.ParseTrustedRoot(publicGood(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.CAs) != 2 || len(r.TSAs) != 2 || len(r.TLogs) != 2 || len(r.CTLogs) != 2 {
		t.Fatalf("%d CAs, %d TSAs, %d logs, %d CT logs", len(r.CAs), len(r.TSAs), len(r.TLogs), len(r.CTLogs))
	}
	ca, tsa, log := r.CAs[1], r.TSAs[1], r.TLogs[1]
	if len(ca.Intermediates) != 1 || ca.Anchor == nil || ca.Leaf != nil || ca.Name() != "https://fulcio.sigstore.dev" {
		t.Errorf("CA: %+v", ca)
	}
	if tsa.Leaf == nil || len(tsa.Intermediates) != 1 || tsa.Anchor == nil || tsa.Name() != "Internal Services Root" {
		t.Errorf("TSA: %+v", tsa)
	}
	if log.Origin != "log2025-1.rekor.sigstore.dev" || len(log.ID) != 32 {
		t.Errorf("log: %+v", log)
	}
	if len(r.Generation) != 64 {
		t.Errorf("generation %q", r.Generation)
	}
	again, _ := trust.ParseTrustedRoot(append(publicGood(t), '\n'))
	if again.Generation == r.Generation {
		t.Error("another document has the same generation")
	}
}

// TestVectors: of all trusted roots of the conformance suite only those cannot be
// read that leave out since when a log key is believed, or an authority's certificates.
func TestVectors(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join(vectors, "bundle-verify", "*", "trusted_root.json"))
	if err != nil || len(paths) < 20 {
		t.Fatal(len(paths), err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = trust.ParseTrustedRoot(data)
		want := map[string]string{
			"trust-root-tlog-missing-validity-start_fail":     "tlogs[1].publicKey.validFor.start",
			"rekor2-timestamp-wrong-tsa-validity-borrow_fail": "timestampAuthorities[1].certChain: empty",
		}[filepath.Base(filepath.Dir(path))]
		if (want != "") != (err != nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTrustedRootNearMisses(t *testing.T) {
	t.Parallel()
	good := string(publicGood(t))
	for name, tc := range map[string]struct{ old, new, want string }{
		"media type":        {"trustedroot+json;version=0.1", "trustedroot+json;version=0.3", "mediaType"},
		"misspelt":          {`"ctlogs"`, `"ctLogs"`, "ctLogs: unknown member"},
		"duplicate":         {`"ctlogs": [`, `"ctlogs": [], "ctlogs": [`, "ctlogs: duplicate"},
		"hash":              {"SHA2_256", "SHA2_512", "tlogs[0].hashAlgorithm"},
		"details of others": {"PKIX_ECDSA_P256_SHA_256", "PKIX_ECDSA_P384_SHA_384", "keyDetails"},
		"unknown details":   {"PKIX_ED25519", "ML_DSA_87", "keyDetails"},
		"key cut":           {`"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y`, `"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2YAAAA`, "publicKey"},
		"no start":          {`"start": "2021-01-12T11:53:27.000Z"`, ``, "validFor.start"},
		"ends before":       {`"end": "2022-12-31T23:59:59.999Z"`, `"end": "2020-12-31T23:59:59.999Z"`, "ends before"},
		"no log id":         {`"keyId": "wNI9atQGlz+VWfO6LRygH4QUfY/8W4RFwiT5i5WRgB0="`, `"keyId": ""`, "logId"},
		"empty chain":       {`"certificates": [`, `"certificates": [], "x": [`, "x: unknown"},
		"broken cert":       {`MIIB+DCCAX6g`, `MIIB+DCCAX6h`, "certificateAuthorities[0].certChain.certificates[0]"},
		"time":              {"2021-01-12T11:53:27.000Z", "2021-01-12 11:53:27Z", "RFC 3339"},
		"trailing":          {"", "", "follows"},
	} {
		in := strings.Replace(good, tc.old, tc.new, 1)
		if name == "trailing" {
			in = good + "{}"
		}
		if in == good {
			t.Errorf("%s changes nothing", name)
		}
		if _, err := trust.ParseTrustedRoot([]byte(in)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if _, err := trust.ParseTrustedRoot(make([]byte, trust.MaxSize+1)); err == nil {
		t.Error("too long a document was read")
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	start, end := time.Unix(100, 0), time.Unix(200, 0)
	w := trust.Window{Start: start, End: end}
	for s, want := range map[int64]bool{99: false, 100: true, 200: true, 201: false} {
		if w.Contains(time.Unix(s, 0)) != want {
			t.Errorf("%d: %v", s, !want)
		}
	}
	if !(trust.Window{Start: start}).Contains(time.Unix(1e10, 0)) || (trust.Window{Start: start}).Contains(time.Unix(1, 0)) {
		t.Error("open window")
	}
	if w.Contains(end.Add(time.Nanosecond)) {
		t.Error("a nanosecond after the end is in the window")
	}
}

func newCA(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestRootSpecReadsBack(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "ca")
	edPub, _, _ := ed25519.GenerateKey(rand.Reader)
	ct, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	spec := trust.RootSpec{
		CAs:    []trust.AuthoritySpec{{URI: "http://127.0.0.1:8420", Organization: "o", CommonName: "ca", Chain: []*x509.Certificate{ca}, Start: start, End: start.AddDate(1, 0, 0)}},
		TSAs:   []trust.AuthoritySpec{{URI: "http://127.0.0.1:8420/api/v1/timestamp", Chain: []*x509.Certificate{ca}, Start: start}},
		TLogs:  []trust.LogSpec{{BaseURL: "http://127.0.0.1:8420", Key: edPub, Origin: "127.0.0.1", Start: start}},
		CTLogs: []trust.LogSpec{{BaseURL: "http://127.0.0.1:8420/ct", Key: ct.Public(), Start: start}},
	}
	data, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if twice, _ := spec.JSON(); !bytes.Equal(data, twice) {
		t.Error("written differently the second time")
	}
	r, err := trust.ParseTrustedRoot(data)
	if err != nil {
		t.Fatal(err)
	}
	id := trust.NoteKeyID("127.0.0.1", edPub)
	if log := r.TLogs[0]; log.Origin != "127.0.0.1" || !bytes.Equal(log.ID, id[:]) || !edPub.Equal(log.Key) || !log.ValidFor.Start.Equal(start) {
		t.Errorf("log: %+v", log)
	}
	if a := r.CAs[0]; !a.Anchor.Equal(ca) || !a.ValidFor.End.Equal(start.AddDate(1, 0, 0)) || a.Organization != "o" {
		t.Errorf("CA: %+v", a)
	}
	spec.TLogs[0].Origin = "localhost"
	if _, err := spec.JSON(); err == nil {
		t.Error("an origin that is not the host was written")
	}
}

const signingConfig = `{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json",
"caUrls":[{"url":"https://ca.example","majorApiVersion":1,"validFor":{"start":"2024-01-01T00:00:00Z"},"operator":"a"}],
"oidcUrls":[{"url":"https://oidc.example","majorApiVersion":1,"validFor":{"start":"2024-01-01T00:00:00Z"}}],
"rekorTlogUrls":[{"url":"https://v1.example","majorApiVersion":1,"validFor":{"start":"2026-01-01T00:00:00Z"}},
 {"url":"https://old.example","majorApiVersion":2,"validFor":{"start":"2024-01-01T00:00:00Z","end":"2025-06-01T00:00:00Z"},"operator":"a"},
 {"url":"https://new.example","majorApiVersion":2,"validFor":{"start":"2025-01-01T00:00:00Z"},"operator":"b"}],
"rekorTlogConfig":{"selector":"ANY"},
"tsaUrls":[{"url":"https://tsa.example/api/v1/timestamp","majorApiVersion":1,"validFor":{"start":"2024-01-01T00:00:00Z"}}],
"tsaConfig":{"selector":"EXACT","count":1}}`

func first(pick func(time.Time) trust.Choice) func(time.Time) (string, bool) {
	return func(now time.Time) (string, bool) {
		c := pick(now)
		if len(c.URLs) == 0 {
			return "", c.Need != 0
		}
		return c.URLs[0], true
	}
}

func TestSigningConfig(t *testing.T) {
	t.Parallel()
	c, err := trust.ParseSigningConfig([]byte(signingConfig))
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time { d, _ := time.Parse(time.DateOnly, s); return d }
	for _, tc := range []struct {
		what string
		pick func(time.Time) (string, bool)
		at   string
		want string
	}{
		{"CA", c.CA, "2026-06-01", "https://ca.example"},
		{"CA before", c.CA, "2023-06-01", ""},
		{"OIDC", c.OIDC, "2026-06-01", "https://oidc.example"},
		{"TSA", first(c.TSAs), "2026-06-01", "https://tsa.example/api/v1/timestamp"},
		{"newest log", first(c.Logs), "2025-03-01", "https://new.example"},
		{"old log", first(c.Logs), "2024-06-01", "https://old.example"},
		{"no log yet", first(c.Logs), "2023-06-01", ""},
	} {
		if got, ok := tc.pick(at(tc.at)); got != tc.want || ok != (tc.want != "") {
			t.Errorf("%s: %q %v", tc.what, got, ok)
		}
	}
	for name, tc := range map[string]struct{ old, new, want string }{
		"media type":   {"v0.2+json", "v0.1+json", "mediaType"},
		"misspelt":     {`"caUrls"`, `"caURLs"`, "caURLs: unknown"},
		"no URL":       {"https://ca.example", "ca.example", "caUrls[0].url"},
		"password":     {"https://ca.example", "https://a:b@ca.example", "caUrls[0].url"},
		"file":         {"https://ca.example", "file:///etc", "caUrls[0].url"},
		"selector":     {`"ANY"`, `"SOME"`, "rekorTlogConfig.selector"},
		"count":        {`"count":1`, `"count":0`, "tsaConfig.count"},
		"ends before":  {`"end":"2025-06-01`, `"end":"2023-06-01`, "rekorTlogUrls[1].validFor"},
		"trailing":     {`"count":1}}`, `"count":1}}}`, "follows"},
		"count signed": {`"count":1`, `"count":-1`, "tsaConfig.count"},
	} {
		if _, err := trust.ParseSigningConfig([]byte(strings.Replace(signingConfig, tc.old, tc.new, 1))); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	for name, tc := range map[string]struct {
		old, new string
		need     int
		unmet    string
	}{
		"any":   {`"ANY"`, `"ANY"`, 1, ""},
		"none":  {`"selector":"ANY"`, ``, 1, ""},
		"all":   {`"ANY"`, `"ALL"`, 2, ""},
		"two":   {`"ANY"`, `"EXACT","count":2`, 2, ""},
		"three": {`"ANY"`, `"EXACT","count":3`, 3, "it demands 3 logs of different operators, and names 2"},
	} {
		c, err := trust.ParseSigningConfig([]byte(strings.Replace(signingConfig, tc.old, tc.new, 1)))
		if err != nil {
			t.Fatal(name, err)
		}
		got := c.Logs(at("2025-03-01"))
		if got.Need != tc.need || !slices.Equal(got.URLs, []string{"https://new.example", "https://old.example"}) {
			t.Errorf("%s: %+v", name, got)
		}
		if err := c.Unmet(at("2025-03-01")); (err == nil) != (tc.unmet == "") || err != nil && !strings.Contains(err.Error(), tc.unmet) {
			t.Errorf("%s: Unmet = %v, want %q", name, err, tc.unmet)
		}
	}
	if err := c.Unmet(at("2023-03-01")); err == nil || !strings.Contains(err.Error(), "it demands timestamp authorities, and none") {
		t.Errorf("before the TSA's time: Unmet = %v", err)
	}
	if err := c.Unmet(at("2025-03-01")); err != nil {
		t.Errorf("one of any: Unmet = %v", err)
	}
}

func TestSigningConfigSpecReadsBack(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	data, err := trust.SigningConfigSpec{CAURL: "http://h:1", OIDCURL: "http://h:1", LogURL: "http://h:1", LogV1URL: "http://old:1", TSAURL: "http://h:1/api/v1/timestamp", Operator: "me", Start: start}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	c, err := trust.ParseSigningConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, pick := range []func(time.Time) (string, bool){c.CA, c.OIDC, first(c.Logs), first(c.TSAs)} {
		if _, ok := pick(start); !ok {
			t.Error("a service is missing")
		}
	}
	if url, _ := first(c.Logs)(start); url != "http://h:1" || c.Unmet(start) != nil {
		t.Errorf("the log is %s, unmet %v; what signs with v2 does not see a v1 log", url, c.Unmet(start))
	}
}

func FuzzParseTrustedRoot(f *testing.F) {
	f.Add(publicGood(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := trust.ParseTrustedRoot(data)
		if err != nil {
			return
		}
		for _, a := range r.CAs {
			if a.Anchor == nil {
				t.Fatal("a CA without an anchor")
			}
		}
		for _, l := range append(r.TLogs, r.CTLogs...) {
			if l.Key == nil || len(l.ID) == 0 {
				t.Fatal("a log without key or id")
			}
		}
	})
}

func FuzzParseSigningConfig(f *testing.F) {
	f.Add([]byte(signingConfig))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := trust.ParseSigningConfig(data); err == nil {
			c.Logs(time.Unix(1.7e9, 0))
		}
	})
}
