package fetch_test

import (
	"crypto/rand"
	"crypto/x509"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
	"github.com/hallmark-dev/hallmark/internal/trust/revocation"
	"github.com/hallmark-dev/hallmark/internal/trust/revocation/fetch"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestChains fetches from a server that publishes what a CA would, and what it would not.
func TestChains(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	asked := map[string]int{}
	list := func(by *notaryforge.Authority) []byte {
		return must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: w.Now, NextUpdate: w.Now.Add(time.Hour)}, by.Cert, by.Key))
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path]++
		switch r.URL.Path {
		case "/ca.crl":
			_, _ = rw.Write(list(w.CA))
		case "/stranger.crl":
			_, _ = rw.Write(list(w.Issue(w.Root, w.CATemplate("Acme CA"))))
		case "/ocsp":
			req, err := ocsp.ParseRequest(must(io.ReadAll(r.Body)))
			if err != nil || r.Method != http.MethodPost {
				http.Error(rw, "no", http.StatusBadRequest)
				return
			}
			_, _ = rw.Write(must(ocsp.CreateResponse(w.CA.Cert, w.CA.Cert, ocsp.Response{SerialNumber: req.SerialNumber, ThisUpdate: w.Now, NextUpdate: w.Now.Add(time.Hour)}, w.CA.Key)))
		default:
			http.NotFound(rw, r)
		}
	}))
	defer server.Close()
	c := w.LeafTemplate()
	c.CRLDistributionPoints = []string{server.URL + "/ca.crl", server.URL + "/stranger.crl", "ldap://directory/x", server.URL + "/absent.crl"}
	c.OCSPServer = []string{server.URL + "/absent", server.URL + "/ocsp"}
	leaf := w.Issue(w.CA, c).Cert
	chain := []*x509.Certificate{leaf, w.CA.Cert, w.Root.Cert}
	got := fetch.Fetcher{Client: server.Client()}.Chains(t.Context(), chain, chain)
	if len(got.CRLs) != 1 || len(got.OCSP) != 1 || asked["/ca.crl"] != 1 || asked["/ocsp"] != 1 {
		t.Fatalf("%d CRLs, %d responses, asked %v", len(got.CRLs), len(got.OCSP), asked)
	}
	if got.CRLs[0].URL != server.URL+"/ca.crl" || got.OCSP[0].About != leaf {
		t.Errorf("a list of %s, a response about %s", got.CRLs[0].URL, got.OCSP[0].About.Subject)
	}
	var errs []string
	for _, err := range got.Errors {
		errs = append(errs, err.Error())
	}
	all := strings.Join(errs, "\n")
	for _, want := range []string{"stranger.crl: a CRL: it is not signed by", "ldap://directory/x: only http", "absent.crl: it answered 404", "/absent: it answered 404"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	for _, set := range []*revocation.Set{must(revocation.New([][]byte{got.CRLs[0].DER}, nil)), must(revocation.New(nil, [][]byte{got.OCSP[0].DER}))} {
		if a := set.Check(leaf, w.CA.Cert, time.Time{}, w.Now); a.Status != revocation.Good {
			t.Errorf("%+v", a)
		}
	}
}
