package rekor

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// The proof that a real log gives holds under its key, for each of its entries.
func TestProof(t *testing.T) {
	t.Parallel()
	w := forge.New(forge.Options{})
	log := w.NewRekor1()
	server := httptest.NewServer(log)
	defer server.Close()
	v, err := verify.New(verify.Config{Roots: []*trust.Root{w.Root}})
	if err != nil {
		t.Fatal(err)
	}
	var entries []evidence.LogEntry
	for i := range 7 {
		entries = append(entries, log.Add("dsse", "0.0.1", forge.JCS(map[string]any{"n": i})))
	}
	for _, e := range entries {
		proof, err := (&Client{}).Proof(t.Context(), server.URL+"/", &e)
		if err != nil {
			t.Fatal(err)
		}
		if e.Proof = proof; v.Held(&e) != nil || proof.TreeSize != 7 {
			t.Errorf("entry %d: %+v %v", e.LogIndex, proof, v.Held(&e))
		}
		other := e
		other.Body, other.Promise = []byte("{}"), nil
		if why := v.Held(&other); why == nil || why[0].Code != verify.LogProofBad {
			t.Errorf("another body: %v", why)
		}
	}
}

// What a log that kept its promise would not answer, and what says nothing.
func TestAnswers(t *testing.T) {
	t.Parallel()
	w := forge.New(forge.Options{})
	log := w.NewRekor1()
	e := log.Add("dsse", "0.0.1", []byte(`{"a":1}`))
	ask := func(handler http.HandlerFunc, e evidence.LogEntry) error {
		server := httptest.NewServer(handler)
		defer server.Close()
		_, err := (&Client{}).Proof(t.Context(), server.URL, &e)
		return err
	}
	spoiled := func(change func(entry map[string]any)) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			recorded := httptest.NewRecorder()
			log.ServeHTTP(recorded, r)
			var answer map[string]map[string]any
			if err := json.Unmarshal(recorded.Body.Bytes(), &answer); err != nil {
				t.Error(err)
			}
			for _, entry := range answer {
				change(entry)
			}
			_ = json.NewEncoder(rw).Encode(answer)
		}
	}
	inProof := func(member string, value any) http.HandlerFunc {
		return spoiled(func(entry map[string]any) {
			entry["verification"].(map[string]any)["inclusionProof"].(map[string]any)[member] = value
		})
	}
	var mismatch *MismatchError
	for name, handler := range map[string]http.HandlerFunc{
		"no JSON":              func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("<html>")) },
		"no entry":             func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("{}")) },
		"another body":         spoiled(func(entry map[string]any) { entry["body"] = "e30=" }),
		"another index":        spoiled(func(entry map[string]any) { entry["logIndex"] = 1 }),
		"another time":         spoiled(func(entry map[string]any) { entry["integratedTime"] = 1 }),
		"another log":          spoiled(func(entry map[string]any) { entry["logID"] = "00" }),
		"no verification":      spoiled(func(entry map[string]any) { delete(entry, "verification") }),
		"no proof":             spoiled(func(entry map[string]any) { entry["verification"] = map[string]any{} }),
		"no checkpoint":        inProof("checkpoint", ""),
		"index beyond tree":    inProof("logIndex", 99),
		"negative index":       inProof("logIndex", -1),
		"no index":             inProof("logIndex", nil),
		"root that is no hash": inProof("rootHash", "00"),
		"hash that is none":    inProof("hashes", []string{"zz"}),
		"more hashes than any": inProof("hashes", strings.Split(strings.Repeat(strings.Repeat("0", 64)+" ", 65), " ")),
		"endless": func(rw http.ResponseWriter, _ *http.Request) {
			for range maxAnswer>>20 + 1 {
				_, _ = rw.Write(make([]byte, 1<<20))
			}
		},
	} {
		if err := ask(handler, e); !errors.As(err, &mismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	missing := e
	missing.LogIndex++
	if err := ask(log.ServeHTTP, missing); !errors.Is(err, ErrNoEntry) {
		t.Errorf("missing: %v", err)
	}
	for name, status := range map[string]int{"busy": http.StatusServiceUnavailable, "elsewhere": http.StatusFound, "broken": http.StatusInternalServerError} {
		err := ask(func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/", status) }, e)
		if fault.KindOf(err) != fault.Unreachable {
			t.Errorf("%s: %v", name, err)
		}
	}
	closed := httptest.NewServer(log)
	closed.Close()
	if _, err := (&Client{}).Proof(t.Context(), closed.URL, &e); fault.KindOf(err) != fault.Unreachable {
		t.Errorf("closed: %v", err)
	}
	for _, url := range []string{"http://log.example.com", "log.example.com", ""} {
		if _, err := (&Client{}).Proof(t.Context(), url, &e); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", url, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	server := httptest.NewServer(log)
	defer server.Close()
	if _, err := (&Client{}).Proof(cancelled, server.URL, &e); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzReadProof(f *testing.F) {
	w := forge.New(forge.Options{})
	log := w.NewRekor1()
	log.Add("dsse", "0.0.1", []byte(`{"b":1}`))
	e := log.Add("dsse", "0.0.1", []byte(`{"a":1}`))
	recorded := httptest.NewRecorder()
	log.ServeHTTP(recorded, httptest.NewRequest(http.MethodGet, "/api/v1/log/entries?logIndex=1001", nil))
	f.Add(recorded.Body.Bytes())
	f.Add([]byte(`{"a":{"verification":null}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := readProof(data, &e)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v %v", p, err)
		}
		if p != nil && (len(p.RootHash) != 32 || p.LogIndex < 0 || p.LogIndex >= p.TreeSize || len(p.Hashes) > maxHashes) {
			t.Fatalf("%+v", p)
		}
	})
}
