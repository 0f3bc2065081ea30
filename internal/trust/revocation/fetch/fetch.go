// Package fetch downloads CRLs and OCSP responses for certificate chains, for
// those who prepare trust. Verification never fetches.
//
// The addresses come from the certificates: fetch for chains of authorities that
// are trusted, not for what a stranger signed. What comes back is parsed and must
// be signed by the issuer before it is handed out.
package fetch

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/hallmark-dev/hallmark/internal/trust/revocation"
)

// List is a CRL in DER, with the address that it is published at.
type List struct {
	URL string
	DER []byte
}

// Response is an OCSP response in DER, with the certificate that it is about.
type Response struct {
	About *x509.Certificate
	DER   []byte
}

// Result is what was fetched.
type Result struct {
	CRLs []List
	OCSP []Response
	// Errors are about single addresses; the others were fetched.
	Errors []error
}

// Fetcher downloads. The zero Fetcher uses http.DefaultClient and the real clock.
type Fetcher struct {
	Client *http.Client
	Now    func() time.Time
}

// attempt bounds one request.
const attempt = 20 * time.Second

// Chains fetches for every certificate of the chains, each leaf first, what their
// issuers publish about them: all CRLs that they name, and an answer of the first
// OCSP responder that gives a usable one.
func (f Fetcher) Chains(ctx context.Context, chains ...[]*x509.Certificate) Result {
	var out Result
	seen := map[string]bool{}
	for _, chain := range chains {
		for i := range len(chain) - 1 {
			f.certificate(ctx, &out, seen, chain[i], chain[i+1])
		}
	}
	return out
}

func (f Fetcher) certificate(ctx context.Context, out *Result, seen map[string]bool, cert, issuer *x509.Certificate) {
	for _, u := range cert.CRLDistributionPoints {
		if seen[u] {
			continue
		}
		seen[u] = true
		der, err := f.do(ctx, http.MethodGet, u, nil, revocation.MaxCRL)
		if err == nil {
			err = f.usable(cert, issuer, der, nil)
		}
		if err != nil {
			out.Errors = append(out.Errors, fmt.Errorf("CRL %s: %w", u, err))
			continue
		}
		out.CRLs = append(out.CRLs, List{u, der})
	}
	key := "ocsp " + string(cert.Raw)
	if seen[key] {
		return
	}
	seen[key] = true
	for _, u := range cert.OCSPServer {
		der, err := f.ask(ctx, u, cert, issuer)
		if err != nil {
			out.Errors = append(out.Errors, fmt.Errorf("OCSP %s: %w", u, err))
			continue
		}
		out.OCSP = append(out.OCSP, Response{cert, der})
		return
	}
}

// ask posts an OCSP request (RFC 6960, A.1). Responders know certificates by
// SHA-1, which names them here and protects nothing.
func (f Fetcher) ask(ctx context.Context, u string, cert, issuer *x509.Certificate) ([]byte, error) {
	req, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: crypto.SHA1})
	if err != nil {
		return nil, err
	}
	der, err := f.do(ctx, http.MethodPost, u, req, revocation.MaxOCSP)
	if err != nil {
		return nil, err
	}
	return der, f.usable(cert, issuer, nil, der)
}

// usable reports why fetched material says nothing about a certificate.
func (f Fetcher) usable(cert, issuer *x509.Certificate, crl, response []byte) error {
	var crls, responses [][]byte
	if crl != nil {
		crls = [][]byte{crl}
	}
	if response != nil {
		responses = [][]byte{response}
	}
	s, err := revocation.New(crls, responses)
	if err != nil {
		return err
	}
	now := time.Now
	if f.Now != nil {
		now = f.Now
	}
	// A partial CRL is no answer alone, and still worth keeping.
	if a := s.Check(cert, issuer, time.Time{}, now()); a.Status == revocation.Unknown && a.Why != "" {
		return errors.New(a.Why)
	}
	return nil
}

func (f Fetcher) do(ctx context.Context, method, u string, body []byte, limit int) ([]byte, error) {
	if p, err := url.Parse(u); err != nil || !slices.Contains([]string{"http", "https"}, p.Scheme) {
		return nil, errors.New("only http and https addresses are fetched")
	}
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/ocsp-request")
	}
	client := f.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("it answered more than %d bytes", limit)
	}
	return data, err
}
