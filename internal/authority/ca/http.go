package ca

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

const maxRequest = 64 << 10 // bytes; a token, an RSA-4096 key and a proof are 6 KiB

// gRPC's codes, which Fulcio's error bodies carry.
const (
	codeInvalidArgument = 3
	codeUnimplemented   = 12
	codeUnavailable     = 14
	codeUnauthenticated = 16
)

// certRequest is CreateSigningCertificateRequest of Fulcio's API v2.
type certRequest struct {
	Credentials *struct {
		Token string `json:"oidcIdentityToken"`
	} `json:"credentials"`
	PublicKeyRequest *publicKeyRequest `json:"publicKeyRequest"`
	CSR              []byte            `json:"certificateSigningRequest"`
}

type publicKeyRequest struct {
	PublicKey *publicKeyText `json:"publicKey"`
	Proof     []byte         `json:"proofOfPossession"`
}

type publicKeyText struct {
	Algorithm string `json:"algorithm" strict:"enum"` // informative: the key itself says what it is
	Content   string `json:"content"`                 // PEM, PKIX
}

// Handler serves POST /api/v2/signingCert, GET /api/v2/trustBundle and
// GET /api/v2/configuration, with the JSON of Fulcio's HTTP gateway, and for older
// clients the two routes of its API v1.
func (c *CA) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, route := range map[string]struct {
		method string
		serve  http.HandlerFunc
	}{
		"/api/v2/signingCert":   {http.MethodPost, c.serveSign},
		"/api/v2/trustBundle":   {http.MethodGet, c.serveTrustBundle},
		"/api/v2/configuration": {http.MethodGet, c.serveConfiguration},
		"/api/v1/signingCert":   {http.MethodPost, c.serveSignV1},
		"/api/v1/rootCert":      {http.MethodGet, c.serveRootV1},
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != route.method {
				w.Header().Set("Allow", route.method)
				refuse(w, http.StatusMethodNotAllowed, codeUnimplemented, "want "+route.method)
				return
			}
			route.serve(w, r)
		})
	}
	return mux
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// refuse answers an error as grpc-gateway does.
func refuse(w http.ResponseWriter, status, code int, message string) {
	writeJSON(w, status, map[string]any{"code": code, "message": message, "details": []any{}})
}

// retryLater says that something else that is needed does not answer.
func retryLater(w http.ResponseWriter, message string) {
	w.Header().Set("Retry-After", "3")
	refuse(w, http.StatusServiceUnavailable, codeUnavailable, message)
}

func (c *CA) serveSign(w http.ResponseWriter, r *http.Request) {
	if leaf := c.certify(w, r, parseRequest); leaf != "" {
		writeJSON(w, http.StatusOK, map[string]any{"signedCertificateEmbeddedSct": map[string]any{
			"chain": map[string]any{"certificates": append([]string{leaf}, c.chainPEM...)}}})
	}
}

// certify reads a request with parse and answers it with a certificate, PEM. It is
// empty when the request has been refused.
func (c *CA) certify(w http.ResponseWriter, r *http.Request, parse func([]byte) (certRequest, error)) (pem string) {
	body, err := readBody(w, r)
	if err != nil {
		refuse(w, http.StatusBadRequest, codeInvalidArgument, err.Error())
		return
	}
	request, err := parse(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, codeInvalidArgument, err.Error())
		return
	}
	token, err := tokenOf(r, request)
	if err != nil {
		refuse(w, http.StatusBadRequest, codeInvalidArgument, err.Error())
		return
	}
	who, err := c.cfg.Issuers.Authenticate(r.Context(), token)
	if unavailable := new(issuers.UnavailableError); errors.As(err, &unavailable) {
		if !errors.Is(err, issuers.ErrTooSoon) { // of which anybody could fill the log
			c.cfg.Log.WarnContext(r.Context(), "an issuer's keys", "issuer", unavailable.Issuer, "error", unavailable.Err)
		}
		retryLater(w, unavailable.Message())
		return
	}
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="hallmark"`)
		refuse(w, http.StatusUnauthorized, codeUnauthenticated, "There was an error processing the identity token: "+err.Error())
		return
	}
	public, err := request.proven(who.Proof)
	if err != nil {
		refuse(w, http.StatusBadRequest, codeInvalidArgument, err.Error())
		return
	}
	leaf, err := c.issue(r.Context(), public, who)
	if refused := new(logError); errors.As(err, &refused) {
		c.cfg.Log.ErrorContext(r.Context(), "submitting a precertificate", "error", err)
		retryLater(w, err.Error())
		return
	}
	if name := (*nameError)(nil); errors.As(err, &name) {
		refuse(w, http.StatusBadRequest, codeInvalidArgument, name.Error())
		return
	}
	if outside := (*clockError)(nil); errors.As(err, &outside) { // nothing is wrong with the request
		c.cfg.Log.ErrorContext(r.Context(), "issuing a certificate", "error", err)
		refuse(w, http.StatusServiceUnavailable, codeUnavailable, outside.Error())
		return
	}
	if err != nil {
		c.cfg.Log.ErrorContext(r.Context(), "issuing a certificate", "error", err)
		refuse(w, http.StatusServiceUnavailable, codeUnavailable, "the CA cannot issue a certificate now; its log says why")
		return
	}
	c.cfg.Log.InfoContext(r.Context(), "certificate", "issuer", who.Extensions.Issuer, "subject", who.Proof)
	return certPEM(leaf)
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, errors.New("want Content-Type application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return nil, fmt.Errorf("the request cannot be read or is longer than %d bytes", maxRequest)
	}
	return body, nil
}

// parseRequest reads a body strictly. Errors say where, not what: a token could
// stand where it does not belong.
func parseRequest(body []byte) (certRequest, error) {
	var request certRequest
	if err := strictjson.UnmarshalProto(body, &request); err != nil {
		var at *strictjson.Error
		if errors.As(err, &at) && knownPath(at.Path) {
			return request, fmt.Errorf("the request is not a CreateSigningCertificateRequest: wrong at %s", at.Path)
		}
		return request, errors.New("the request is not a CreateSigningCertificateRequest")
	}
	if len(request.CSR) > 0 && request.PublicKeyRequest != nil {
		return request, errors.New("publicKeyRequest and certificateSigningRequest: want one of them")
	}
	return request, nil
}

// knownPath is a path of names of ours only.
func knownPath(path string) bool {
	switch path {
	case "credentials", "credentials.oidcIdentityToken", "publicKeyRequest", "publicKeyRequest.publicKey",
		"publicKeyRequest.publicKey.algorithm", "publicKeyRequest.publicKey.content",
		"publicKeyRequest.proofOfPossession", "certificateSigningRequest":
		return true
	}
	return false
}

// tokenOf finds the token; in both places it must be the same one.
func tokenOf(r *http.Request, request certRequest) (string, error) {
	inBody := ""
	if request.Credentials != nil {
		inBody = request.Credentials.Token
	}
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return inBody, nil
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	token = strings.TrimSpace(token)
	if len(headers) != 1 || !strings.EqualFold(scheme, "Bearer") || (inBody != "" && inBody != token) {
		return "", errors.New("want one Authorization: Bearer header, and no other token in credentials")
	}
	return token, nil
}

// proven is the key that the request shows to be the caller's, over what the token
// names: with a signature over that, or with a certificate signing request.
func (q certRequest) proven(name string) (crypto.PublicKey, error) {
	if len(q.CSR) > 0 {
		csr, err := ParseCSR(q.CSR)
		if err != nil {
			return nil, fmt.Errorf("certificateSigningRequest: %w", err)
		}
		return csr.PublicKey, nil
	}
	public, err := q.publicKey()
	if err != nil {
		return nil, err
	}
	if !proves(public, name, q.PublicKeyRequest.Proof) {
		return nil, errors.New("proofOfPossession: the signature supplied in the request could not be verified with the public key over the token's subject")
	}
	return public, nil
}

// publicKey is the caller's key if it is strong enough to sign with.
func (q certRequest) publicKey() (crypto.PublicKey, error) {
	if q.PublicKeyRequest == nil || q.PublicKeyRequest.PublicKey == nil {
		return nil, errors.New("publicKeyRequest.publicKey is missing")
	}
	der, ok := onePEM(q.PublicKeyRequest.PublicKey.Content, "PUBLIC KEY")
	if !ok {
		return nil, errors.New("publicKeyRequest.publicKey.content is not one PEM block PUBLIC KEY")
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, errors.New("publicKeyRequest.publicKey.content: the public key supplied in the request could not be parsed")
	}
	return public, strong(public)
}

func (c *CA) serveTrustBundle(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"chains": []any{map[string]any{"certificates": c.chainPEM}}})
}

func (c *CA) serveConfiguration(w http.ResponseWriter, _ *http.Request) {
	list := []any{}
	for _, i := range c.cfg.Issuers.Issuers() {
		one := map[string]any{"audience": i.ClientID, "challengeClaim": i.Challenge(), "spiffeTrustDomain": i.TrustDomain,
			"issuerType": i.Type, "subjectDomain": i.SubjectDomain, "skipEmailVerification": i.SkipEmailVerification}
		if i.Wildcard {
			one["wildcardIssuerUrl"] = i.URL
		} else {
			one["issuerUrl"] = i.URL
		}
		list = append(list, one)
	}
	writeJSON(w, http.StatusOK, map[string]any{"issuers": list})
}
