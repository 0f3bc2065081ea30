package authority_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/tsa"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
)

const year = 8766 * time.Hour

// plain opens keys that need no password.
func plain(ref authority.KeyRef) (crypto.Signer, error) {
	k, _, err := key.Open(ref.Ref, nil)
	return k, err
}

// certifiedOutside makes keys of CA and timestamp authority with their chains, without a
// password, two of each, and the file that names the first.
func certifiedOutside(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	for _, suffix := range []string{"", "2"} {
		k, cert, err := ca.NewRoot(time.Now(), "Acme", "Acme CA")
		if err != nil {
			t.Fatal(err)
		}
		tk, chain, err := tsa.NewChain(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "ca"+suffix+".pem"), pemText(cert))
		write(t, filepath.Join(dir, "tsa"+suffix+".pem"), pemText(chain[0])+pemText(chain[1]))
		for name, k := range map[string]crypto.Signer{"ca": k, "tsa": tk} {
			der, err := x509.MarshalPKCS8PrivateKey(k)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name+suffix+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
		}
	}
	write(t, filepath.Join(dir, "keys.yaml"), "ca: {key: ca.key, chain: ca.pem}\ntsa: {key: tsa.key, chain: tsa.pem}\n")
	return dir, filepath.Join(dir, "keys.yaml")
}

// requestOf is the request for a certificate of the key in a file.
func requestOf(t *testing.T, path string) []byte {
	t.Helper()
	k, _, err := key.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ca.NewCSR(k, pkix.Name{Organization: []string{"Acme"}, CommonName: "Acme " + filepath.Base(path)})
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWrongChainOfKeysFile: a chain of --keys under which the service could not sign ends
// the start and leaves no trace; the right one is taken afterwards and nothing else is
// published beside the one before.
func TestWrongChainOfKeysFile(t *testing.T) {
	t.Parallel()
	out, file := certifiedOutside(t)
	dir, _, _, _ := made(t, authority.Config{KeysFile: file, OpenKey: plain})
	now := time.Now()
	root, old := newRootCA(t, now, 20*year), newRootCA(t, now.Add(-3*year), 20*year)
	caCSR, tsaCSR := requestOf(t, filepath.Join(out, "ca.key")), requestOf(t, filepath.Join(out, "tsa.key"))
	goodCA, goodTSA := root.chain(t, caCSR, ca.PurposeCA, now, year), root.chain(t, tsaCSR, ca.PurposeTSA, now, year)
	before := folder(t, dir)
	cfg := authority.Config{Dir: dir, Listen: "127.0.0.1:0", KeysFile: file, OpenKey: plain}
	for name, tc := range map[string]struct{ file, text, want string }{
		"a TSA's certificate":   {"ca.pem", root.chain(t, caCSR, ca.PurposeTSA, now, year), "not one of a CA"},
		"without its root":      {"ca.pem", strings.TrimSuffix(goodCA, pemText(root.cert)), "does not follow it"},
		"over":                  {"ca.pem", old.chain(t, caCSR, ca.PurposeCA, now.Add(-2*year), year), "is valid from"},
		"over in a minute":      {"ca.pem", old.chain(t, caCSR, ca.PurposeCA, now.Add(-year), year+2*time.Minute), "is needed from"},
		"not yet":               {"ca.pem", root.chain(t, caCSR, ca.PurposeCA, now.Add(time.Hour), year), "is valid from"},
		"a CA's certificate":    {"tsa.pem", root.chain(t, tsaCSR, ca.PurposeCA, now, year), "timestamps alone"},
		"a TSA that is over":    {"tsa.pem", old.chain(t, tsaCSR, ca.PurposeTSA, now.Add(-2*year), year), "is valid from"},
		"a usage, not critical": {"tsa.pem", notCritical(t, root, tsaCSR), "is not critical"},
	} {
		path := filepath.Join(out, tc.file)
		saved := string(readFile(t, path))
		write(t, path, tc.text)
		if _, err := authority.Open(cfg); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "chain") {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(before, folder(t, dir)); diff != "" {
			t.Errorf("%s: the folder was changed: %s", name, diff)
		}
		write(t, path, saved)
	}
	_, end := up(t, cfg)
	end()
	write(t, filepath.Join(out, "ca.pem"), goodCA)
	write(t, filepath.Join(out, "tsa.pem"), goodTSA)
	a, end := up(t, cfg)
	if got := string(fetch(t, a.Info().URL+"/api/v1/rootCert")); got != goodCA {
		t.Error("the CA signs under another chain")
	}
	end()
	r := publishedRoot(t, dir)
	if len(r.CAs) != 2 || len(r.TSAs) != 2 {
		t.Errorf("%d CAs and %d timestamp authorities are published", len(r.CAs), len(r.TSAs))
	}
	for _, one := range append(r.CAs, r.TSAs...) {
		if one.Anchor.CheckSignatureFrom(one.Anchor) != nil {
			t.Errorf("%s is an anchor and no root", one.Anchor.Subject)
		}
	}
}

// TestUnpublishedChainIsForgotten: a start that ends before it publishes a new chain has
// signed nothing under it, so it is not believed when another one is named then.
func TestUnpublishedChainIsForgotten(t *testing.T) {
	t.Parallel()
	out, file := certifiedOutside(t)
	dir, _, _, _ := made(t, authority.Config{KeysFile: file, OpenKey: plain})
	now := time.Now()
	csr := requestOf(t, filepath.Join(out, "ca.key"))
	never, good := newRootCA(t, now, 20*year), newRootCA(t, now, 20*year)
	cfg := authority.Config{Dir: dir, Listen: "127.0.0.1:0", KeysFile: file, OpenKey: plain}
	repository := filepath.Join(dir, "tuf", "repository.sealed")
	saved := readFile(t, repository)
	write(t, filepath.Join(out, "ca.pem"), never.chain(t, csr, ca.PurposeCA, now, year))
	if err := os.Remove(repository); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Open(cfg); err == nil || !strings.Contains(err.Error(), "it is missing") {
		t.Fatal(err)
	}
	write(t, repository, string(saved))
	write(t, filepath.Join(out, "ca.pem"), good.chain(t, csr, ca.PurposeCA, now, year))
	_, end := up(t, cfg)
	end()
	r := publishedRoot(t, dir)
	for _, one := range r.CAs {
		if one.Anchor.Equal(never.cert) {
			t.Error("a chain under which nothing was signed is published")
		}
	}
	if len(r.CAs) != 2 || !r.CAs[0].Anchor.Equal(good.cert) {
		t.Errorf("%d CAs", len(r.CAs))
	}
	// Where it cannot be told what was published, all is kept.
	if err := os.Remove(filepath.Join(dir, "trusted_root.json")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(out, "ca.pem"), good.chain(t, csr, ca.PurposeCA, now, 2*year))
	_, end = up(t, cfg)
	end()
	if r := publishedRoot(t, dir); len(r.CAs) != 3 {
		t.Errorf("%d CAs, want 3", len(r.CAs))
	}
}

// TestWrongChainOfOlderFolder: nor is one taken by a folder that does not name its keys.
func TestWrongChainOfOlderFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folderV1(t), "data")
	_, body, _ := strings.Cut(string(readFile(t, filepath.Join(dir, "keys", "ca.pem"))), "\n") // the seal is a line
	block, _ := pem.Decode([]byte(body))
	out := t.TempDir()
	write(t, filepath.Join(out, "ca.key"), string(pem.EncodeToMemory(block)))
	write(t, filepath.Join(out, "keys.yaml"), "ca: {key: ca.key, chain: ca.pem}\n")
	now := time.Now()
	write(t, filepath.Join(out, "ca.pem"), newRootCA(t, now, 20*year).chain(t, requestOf(t, filepath.Join(out, "ca.key")), ca.PurposeTSA, now, year))
	before := readFile(t, filepath.Join(dir, "authority.json"))
	_, err := authority.Open(authority.Config{Dir: dir, Listen: "127.0.0.1:0", KeysFile: filepath.Join(out, "keys.yaml"), OpenKey: plain})
	if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "not one of a CA") {
		t.Error(err)
	}
	if string(readFile(t, filepath.Join(dir, "authority.json"))) != string(before) {
		t.Error("the state was changed")
	}
}

// notCritical is a chain for a TSA whose certificate does not say that timestamps are its
// only purpose in the way of RFC 3161, 2.3.
func notCritical(t *testing.T, root rootCA, csr []byte) string {
	t.Helper()
	parsed, err := ca.ParseCSR(csr)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: parsed.Subject, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(year),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}}
	der, err := x509.CreateCertificate(rand.Reader, template, root.cert, parsed.PublicKey, root.key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pemText(made) + pemText(root.cert)
}

// takeNamed starts the authority once with the chain that the file of keys names now.
func takeNamed(t *testing.T, cfg authority.Config) {
	t.Helper()
	_, end := up(t, cfg)
	end()
}

// TestRotationLeavesNoGap: what signs until the overlap is over must be certified until
// then, and what signs afterwards from then on.
func TestRotationLeavesNoGap(t *testing.T) {
	t.Parallel()
	out, file := certifiedOutside(t)
	whole, _, _, _ := made(t, authority.Config{KeysFile: file, OpenKey: plain})
	now := time.Now().UTC().Truncate(time.Second)
	root := newRootCA(t, now.Add(-5*year), 20*year)
	for _, service := range []string{"ca", "tsa"} {
		at := func(name string) string { return filepath.Join(out, service+name) }
		rotate := func(dir string, overlap time.Duration, chain string) error {
			t.Helper()
			ref, err := authority.NewKeyRef(service, at("2.key"), save(t, "chain.pem", chain), "", out)
			if err != nil {
				t.Fatal(err)
			}
			_, err = authority.Rotate(authority.RotateConfig{Dir: dir, Service: service, Key: &ref, OpenKey: plain, Overlap: overlap, Now: func() time.Time { return now }})
			return err
		}
		next := func(start time.Time, life time.Duration) string {
			return root.chain(t, requestOf(t, at("2.key")), service, start, life)
		}
		for name, tc := range map[string]struct {
			start   time.Time
			life    time.Duration
			overlap time.Duration
			want    string
		}{
			"over for a year":            {now.Add(-4 * year), 3 * year, 24 * time.Hour, "is needed from"},
			"over before it signs":       {now, 23 * time.Hour, 24 * time.Hour, "is needed from"},
			"over soon after it signs":   {now, time.Hour + 5*time.Minute, time.Hour, "is needed from"},
			"over when it signs now":     {now.Add(-4 * year), 3 * year, 0, "is needed from"},
			"begins after it signs":      {now.Add(2 * time.Hour), year, time.Hour, "is needed from"},
			"begins before it signs":     {now.Add(time.Hour), year, 2 * time.Hour, ""},
			"valid for just long enough": {now, time.Hour + 20*time.Minute, time.Hour, ""},
		} {
			dir := copyFolder(t, whole)
			before := folder(t, dir)
			err := rotate(dir, tc.overlap, next(tc.start, tc.life))
			if (err == nil) != (tc.want == "") || err != nil && (fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%s, %s: %v", service, name, err)
			}
			if diff := cmp.Diff(before, folder(t, dir)); (diff == "") != (err != nil) {
				t.Errorf("%s, %s: changed: %s", service, name, diff)
			}
		}
		// The present one ends in an hour.
		dir, saved := copyFolder(t, whole), string(readFile(t, at(".pem")))
		write(t, at(".pem"), root.chain(t, requestOf(t, at(".key")), service, now, time.Hour+time.Minute))
		takeNamed(t, authority.Config{Dir: dir, KeysFile: file, OpenKey: plain})
		write(t, at(".pem"), saved)
		good := next(now, year)
		if err := rotate(dir, 24*time.Hour, good); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "before the new key signs") || !strings.Contains(fault.HintOf(err), "--overlap 50m0s") {
			t.Errorf("%s: a gap of 23 hours: %v, %s", service, err, fault.HintOf(err))
		}
		if err := rotate(dir, 51*time.Minute, good); err == nil {
			t.Errorf("%s: the last certificate would outlive its CA's", service)
		}
		if err := rotate(copyFolder(t, dir), 50*time.Minute, good); err != nil {
			t.Errorf("%s: %v", service, err)
		}
		today := now
		now = now.Add(2 * time.Hour) // it is over
		if err := rotate(dir, time.Hour, good); err == nil || !strings.Contains(fault.HintOf(err), "--overlap 0s") {
			t.Errorf("%s: nothing signs now: %v", service, err)
		}
		if err := rotate(dir, 0, good); err != nil {
			t.Errorf("%s: %v", service, err)
		}
		now = today
	}
}

// TestHealthOfTheKeyThatSigns: while a new key is published already, it is the old one's
// certificate that counts.
func TestHealthOfTheKeyThatSigns(t *testing.T) {
	t.Parallel()
	out, file := certifiedOutside(t)
	c := new(clock)
	cfg := authority.Config{Dir: filepath.Join(t.TempDir(), "data"), KeysFile: file, OpenKey: plain, Now: c.now}
	now := c.now()
	write(t, filepath.Join(out, "ca.pem"), newRootCA(t, now, 20*year).chain(t, requestOf(t, filepath.Join(out, "ca.key")), ca.PurposeCA, now, 2*time.Hour))
	takeNamed(t, cfg)
	cfg.KeysFile = ""
	if _, err := authority.Rotate(authority.RotateConfig{Dir: cfg.Dir, Service: "ca", OpenKey: plain, Overlap: time.Hour, Now: c.now}); err != nil {
		t.Fatal(err)
	}
	health := func(dir string) (int, string) {
		a, end := up(t, authority.Config{Dir: dir, OpenKey: plain, Now: c.now})
		defer end()
		return request(t, "GET", a.Info().URL+"/healthz", "")
	}
	if status, body := health(copyFolder(t, cfg.Dir)); status != http.StatusOK || !strings.HasPrefix(body, "ok\n") {
		t.Errorf("no gap: %d %s", status, body)
	}
	// A folder in which the new key signs a day later than the certificate allows.
	path := filepath.Join(cfg.Dir, "authority.json")
	data, err := durable.ReadSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	var st map[string]any
	if err := json.Unmarshal(data, &st); err != nil {
		t.Fatal(err)
	}
	terms := st["keys"].(map[string]any)["ca"].([]any)
	signs := now.UTC().Truncate(time.Second).Add(24 * time.Hour)
	terms[0].(map[string]any)["until"], terms[1].(map[string]any)["signs"] = signs.Add(15*time.Minute), signs
	if data, err = json.Marshal(st); err == nil {
		err = durable.WriteSealed(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	a, _ := up(t, cfg)
	for _, tc := range []struct {
		at     time.Duration
		status int
		want   string
	}{
		{0, http.StatusOK, "warning: the key of the certificate authority, until "},
		{3 * time.Hour, http.StatusServiceUnavailable, "failing: the key of the certificate authority, until "},
		{25 * time.Hour, http.StatusOK, "ok\n"},
	} {
		c.set(-tc.at)
		if status, body := request(t, "GET", a.Info().URL+"/healthz", ""); status != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("after %v: %d %s", tc.at, status, body)
		}
	}
}
