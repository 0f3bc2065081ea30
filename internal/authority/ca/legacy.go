package ca

import (
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Fulcio's API v1, which cosign 2 and its contemporaries speak: the same request
// in another dress, answered with PEM.

const pemChain = "application/pem-certificate-chain"

// legacyRequest is CreateSigningCertificateRequest of Fulcio's API v1.
type legacyRequest struct {
	PublicKey *struct {
		Algorithm string `json:"algorithm"` // informative: the key itself says what it is
		Content   []byte `json:"content"`   // PKIX, DER or PEM
	} `json:"publicKey"`
	Proof []byte `json:"signedEmailAddress"`
	CSR   []byte `json:"certificateSigningRequest"`
}

// parseLegacyRequest reads a body strictly, as parseRequest does.
func parseLegacyRequest(body []byte) (certRequest, error) {
	var legacy legacyRequest
	var request certRequest
	if strictjson.UnmarshalProto(body, &legacy) != nil {
		return request, errors.New("the request is not a CreateSigningCertificateRequest of API v1")
	}
	if len(legacy.CSR) > 0 {
		if legacy.PublicKey != nil {
			return request, errors.New("publicKey and certificateSigningRequest: want one of them")
		}
		request.CSR = legacy.CSR
		return request, nil
	}
	if legacy.PublicKey == nil {
		return request, errors.New("publicKey is missing")
	}
	content := string(legacy.PublicKey.Content)
	if !strings.HasPrefix(content, "-----BEGIN ") {
		content = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: legacy.PublicKey.Content}))
	}
	// What they have in common is read in one place.
	request.PublicKeyRequest = new(publicKeyRequest)
	request.PublicKeyRequest.PublicKey = &publicKeyText{Content: content}
	request.PublicKeyRequest.Proof = legacy.Proof
	return request, nil
}

func (c *CA) serveSignV1(w http.ResponseWriter, r *http.Request) {
	if leaf := c.certify(w, r, parseLegacyRequest); leaf != "" {
		writePEM(w, http.StatusCreated, leaf+strings.Join(c.chainPEM, ""))
	}
}

func (c *CA) serveRootV1(w http.ResponseWriter, _ *http.Request) {
	writePEM(w, http.StatusOK, strings.Join(c.chainPEM, ""))
}

func writePEM(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", pemChain)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}
