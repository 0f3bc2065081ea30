package issuers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
)

// TestServiceAccount: a cluster's own issuer is asked as the Pod, by its certificate and
// with its token, also at the address where it says that its keys are; nobody else for whom
// the cluster does not vouch is told the token.
func TestServiceAccount(t *testing.T) {
	t.Parallel()
	s := es256(t)
	const short, long = "https://kubernetes.default.svc", "https://kubernetes.default.svc.cluster.local"
	type ask struct {
		issuer, kind string
		wildcard     bool
		jwks         string // "": where the discovery document is; else an https server
		account      bool
	}
	stranger := newStranger(t, s)
	// tried is what an API server was asked, with what came of a token.
	tried := func(a ask) (string, error) {
		t.Helper()
		r := newRemote(t, true)
		var seen []string
		jwks := a.jwks
		if jwks == "" {
			jwks = r.URL + "/openid/v1/jwks" // an address: what kubeadm's API server says
		}
		r.set(func(r *remote) {
			r.fault = func(w http.ResponseWriter, q *http.Request) {
				seen = append(seen, q.URL.Path+" "+q.Header.Get("Authorization"))
				switch q.URL.Path {
				case "/.well-known/openid-configuration":
					_ = json.NewEncoder(w).Encode(map[string]any{"issuer": a.issuer, "jwks_uri": jwks, "id_token_signing_alg_values_supported": []string{"ES256"}})
				default:
					_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{jwk(s.key.Public(), map[string]any{"kid": "1"})}})
				}
			}
		})
		account := t.TempDir()
		certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
		i := issuers.Issuer{URL: a.issuer, Wildcard: a.wildcard, ClientID: "sigstore", Type: a.kind}
		if a.wildcard {
			i.URL = "https://kubernetes.default.*.cluster.local"
		}
		if !a.account {
			i.CACert = certificate
		}
		for name, data := range map[string][]byte{"token": []byte("pod-token\n"), "ca.crt": certificate} {
			if !a.account {
				continue
			}
			if err := os.WriteFile(filepath.Join(account, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		set, err := issuers.New(issuers.Config{ServiceAccount: account, Issuers: []issuers.Issuer{i}})
		if err != nil {
			t.Fatal(err)
		}
		issuers.DialAlways(set, a.issuer, r.Listener.Addr().String(), "example.com")
		_, err = set.Authenticate(t.Context(), s.token(t, claims(a.issuer, plus(kubernetesClaims, "email", "a@b.example"))))
		return strings.Join(seen, ","), err
	}
	const both = "/.well-known/openid-configuration Bearer pod-token,/openid/v1/jwks Bearer pod-token"
	const bare = "/.well-known/openid-configuration ,/openid/v1/jwks "
	for name, tc := range map[string]struct {
		ask
		want string
		ok   bool
	}{
		"without a domain":    {ask{short, issuers.TypeKubernetes, false, "", true}, both, true},
		"kubeadm's":           {ask{long, issuers.TypeKubernetes, false, "", true}, both, true},
		"of another domain":   {ask{short + ".example.internal", issuers.TypeKubernetes, false, "", true}, both, true},
		"without an account":  {ask{long, issuers.TypeKubernetes, false, "", false}, bare, true},
		"keys elsewhere":      {ask{long, issuers.TypeKubernetes, false, stranger.URL + "/keys", true}, "/.well-known/openid-configuration Bearer pod-token", false},
		"another service":     {ask{"https://kubernetes.default.svcx", issuers.TypeKubernetes, false, "", true}, "", false},
		"another namespace":   {ask{"https://kubernetes.other.svc", issuers.TypeKubernetes, false, "", true}, "", false},
		"one of another type": {ask{long, issuers.TypeChainguard, false, "", true}, "", false},
		"one of a wildcard":   {ask{long, issuers.TypeKubernetes, true, "", true}, "", false},
	} {
		got, err := tried(tc.ask)
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if n := stranger.asked.Load(); n != 0 {
		t.Errorf("a server for which the cluster does not vouch was asked %d times", n)
	}
}

// newStranger is an issuer's server with a certificate of its own for the name that is in
// those of all others.
func newStranger(t *testing.T, s signer) *remote {
	t.Helper()
	r := new(remote)
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		r.asked.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{jwk(s.key.Public(), map[string]any{"kid": "1"})}})
	}))
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	r.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}}
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}
