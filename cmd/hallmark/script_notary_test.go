package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ocsp"

	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// scriptRevocable is the verb "revocable IMAGE FOLDER": a Notary Project signature of
// the image by a signer whose certificate names an OCSP responder, below a CA whose
// certificate names a revocation list; both answer on loopback until the script ends
// and say "revoked" of the signer once there is a file named revoked. FOLDER becomes
// a configuration folder of Notation's that trusts the root. REVOCATIONS is their URL.
func scriptRevocable(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: revocable IMAGE FOLDER")
	}
	ref, err := registry.ParseRef(args[0])
	ts.Check(err)
	repo, err := registry.NewClient(registry.Options{}).Open(context.Background(), ref)
	ts.Check(err)
	image, err := repo.Resolve(context.Background(), ref)
	ts.Check(err)

	w := notaryforge.NewWorld(time.Now(), nil)
	server := httptest.NewServer(revocationServer(w, ts.MkAbs("revoked")))
	ts.Defer(server.Close)
	ts.Setenv("REVOCATIONS", server.URL)
	ca, leaf := w.CATemplate("Acme CA"), w.LeafTemplate()
	ca.CRLDistributionPoints = []string{server.URL + "/root.crl"}
	leaf.OCSPServer = []string{server.URL + "/ocsp"}
	w.CA = w.Issue(w.Root, ca)
	w.Leaf = w.Issue(w.CA, leaf)
	w.MediaType, w.Digest, w.Size = image.MediaType, image.Digest.String(), image.Size

	config := ociartifact.EmptyConfigDescriptor()
	config.MediaType = "application/vnd.cncf.notary.signature"
	_, err = repo.PushBlob(context.Background(), config.MediaType, []byte(ociartifact.EmptyConfig))
	ts.Check(err)
	layer, err := repo.PushBlob(context.Background(), "application/cose", w.Envelope().COSE())
	ts.Check(err)
	manifest, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{layer}, Subject: &image})
	ts.Check(err)
	_, err = repo.Attach(context.Background(), image, manifest)
	ts.Check(err)

	store := filepath.Join(ts.MkAbs(args[1]), "truststore/x509/ca/acme")
	ts.Check(os.MkdirAll(store, 0o755))
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Root.Cert.Raw})
	ts.Check(os.WriteFile(filepath.Join(store, "root.pem"), root, 0o600))
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[1]), "trustpolicy.json"), []byte(exampleTrustPolicy), 0o600))
}

// revocationServer publishes what the world's root and CA would.
func revocationServer(w *notaryforge.World, revoked string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/root.crl", func(rw http.ResponseWriter, _ *http.Request) {
		list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: w.Now, NextUpdate: w.Now.Add(time.Hour)}
		der, err := x509.CreateRevocationList(rand.Reader, list, w.Root.Cert, w.Root.Key)
		if err == nil {
			_, _ = rw.Write(der)
		}
	})
	mux.HandleFunc("/ocsp", func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		req, err := ocsp.ParseRequest(body)
		if err != nil {
			http.Error(rw, "no OCSP request", http.StatusBadRequest)
			return
		}
		answer := ocsp.Response{SerialNumber: req.SerialNumber, ThisUpdate: time.Now().Truncate(time.Second), NextUpdate: w.Now.Add(time.Hour)}
		if _, err := os.Stat(revoked); err == nil {
			answer.Status, answer.RevokedAt = ocsp.Revoked, w.Now
		}
		der, err := ocsp.CreateResponse(w.CA.Cert, w.CA.Cert, answer, w.CA.Key)
		if err == nil {
			_, _ = rw.Write(der)
		}
	})
	return mux
}
