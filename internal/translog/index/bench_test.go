package index_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/translog/index"
)

// benchEntries is how many entries the log has that is read.
const benchEntries = 100_000

// benchLog is the authority's own log with entries by 500 identities, behind a
// server on loopback. It is filled through its API, once.
var benchLog = sync.OnceValues(func() (*httptest.Server, ed25519.PublicKey) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "hallmark-logbench-") // left to the system: no test ends it
	if err != nil {
		panic(err)
	}
	l, err := tlog.Open(filepath.Join(dir, "log"), tlog.Config{Origin: "127.0.0.1", Key: key})
	if err != nil {
		panic(err)
	}
	world, signer := forge.New(forge.Options{}), forge.NewKey(elliptic.P256())
	var certs [500][]byte
	for i := range certs {
		o := forge.Workflow() // as large as certificates are
		o.URI, o.Key = fmt.Sprintf("%s-%d", o.URI, i), signer.Public()
		certs[i] = world.Leaf(o).Raw
	}
	var g errgroup.Group
	g.SetLimit(128)
	for i := range benchEntries {
		g.Go(func() error { return submit(l.Handler(), signer, certs[i%len(certs)], uint64(i)) })
	}
	if err := g.Wait(); err != nil {
		panic(err)
	}
	return httptest.NewServer(l.Handler()), l.Public()
})

func submit(h http.Handler, key *ecdsa.PrivateKey, cert []byte, n uint64) error {
	digest := sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{"digest": digest[:],
		"signature": map[string]any{"content": sig, "verifier": map[string]any{
			"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": map[string]any{"rawBytes": cert}}}}})
	if err != nil {
		return err
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/api/v2/log/entries", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if h.ServeHTTP(w, r); w.Code != http.StatusCreated {
		return fmt.Errorf("HTTP %d: %s", w.Code, w.Body)
	}
	return nil
}

// BenchmarkSearchForIdentity is a first search in a log of 100,000 entries, server
// and reader in one process: everything is fetched, verified, parsed and indexed.
func BenchmarkSearchForIdentity(b *testing.B) {
	server, public := benchLog()
	log, err := translog.NewLog("127.0.0.1", public)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	before := cpu(b)
	for range b.N {
		f, err := translog.OpenFolder(filepath.Join(b.TempDir(), "log"), log)
		if err != nil {
			b.Fatal(err)
		}
		s, err := translog.HTTPSource(b.Context(), server.URL, translog.HTTPOptions{})
		if err != nil {
			b.Fatal(err)
		}
		v, err := f.Advance(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		found := search(b, filepath.Join(f.Dir(), "index"), v.View)
		if len(found) != benchEntries/500 {
			b.Fatalf("found %d entries", len(found))
		}
	}
	all := float64(benchEntries) * float64(b.N)
	b.ReportMetric(all/b.Elapsed().Seconds(), "entries/s")
	// On a machine with other work this is what can be compared.
	b.ReportMetric(all/(cpu(b)-before), "entries/cpu-s")
}

// cpu is the processor time of this process, server and reader, in seconds.
func cpu(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkSearchAgain is a search in a log that is in the index.
func BenchmarkSearchAgain(b *testing.B) {
	server, public := benchLog()
	log, err := translog.NewLog("127.0.0.1", public)
	if err != nil {
		b.Fatal(err)
	}
	f, err := translog.OpenFolder(filepath.Join(b.TempDir(), "log"), log)
	if err != nil {
		b.Fatal(err)
	}
	s, err := translog.HTTPSource(b.Context(), server.URL, translog.HTTPOptions{})
	if err != nil {
		b.Fatal(err)
	}
	v, err := f.Advance(b.Context(), s)
	if err != nil {
		b.Fatal(err)
	}
	search(b, filepath.Join(f.Dir(), "index"), v.View)
	b.ResetTimer()
	for range b.N {
		search(b, filepath.Join(f.Dir(), "index"), v.View)
	}
}

func search(b *testing.B, dir string, v *translog.View) []int64 {
	x, err := index.Open(context.Background(), dir)
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	found, err := x.Search(b.Context(), v, index.Identity(forge.Workflow().URI+"-7"), nil)
	if err != nil {
		b.Fatal(err)
	}
	return found
}
