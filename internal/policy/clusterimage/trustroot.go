package clusterimage

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// TrustRoot is one TrustRoot. Exactly one of Remote and keys is set.
type TrustRoot struct {
	Name   string
	Remote *Remote
	root   *trust.Root // of sigstoreKeys
}

// Remote is a trusted root behind TUF.
type Remote struct {
	Mirror string // URL
	Root   []byte // root.json to start from
	Target string // name of the trusted root, default trusted_root.json
}

// FetchTarget gets a target of a TUF repository, starting from root.
type FetchTarget func(ctx context.Context, r Remote) ([]byte, error)

// Resolve is the root's trust. Only a remote one does input and output.
func (t *TrustRoot) Resolve(ctx context.Context, fetch FetchTarget) (*trust.Root, error) {
	if t.root != nil {
		return t.root, nil
	}
	if t.Remote == nil || fetch == nil {
		return nil, fmt.Errorf("TrustRoot %s cannot be resolved here", t.Name)
	}
	data, err := fetch(ctx, *t.Remote)
	if err != nil {
		return nil, fmt.Errorf("TrustRoot %s: %w", t.Name, err)
	}
	root, err := trust.ParseTrustedRoot(data)
	if err != nil {
		return nil, fmt.Errorf("TrustRoot %s: %s of %s: %w", t.Name, t.Remote.Target, t.Remote.Mirror, err)
	}
	return root, nil
}

type (
	wireTrustRoot struct {
		APIVersion string             `yaml:"apiVersion"`
		Kind       string             `yaml:"kind"`
		Metadata   wireMeta           `yaml:"metadata"`
		Spec       wireTrustSpec      `yaml:"spec"`
		Status     strictyaml.Ignored `yaml:"status"`
	}
	wireTrustSpec struct {
		Remote       *wireRemote        `yaml:"remote"`
		Repository   strictyaml.Refused `yaml:"repository"`
		SigstoreKeys *wireKeys          `yaml:"sigstoreKeys"`
		Pos          strictyaml.Pos
	}
	wireRemote struct {
		Root              string `yaml:"root"`
		Mirror            string `yaml:"mirror"`
		Targets           string `yaml:"targets"`
		TrustedRootTarget string `yaml:"trustedRootTarget"`
		Pos               strictyaml.Pos
	}
	wireKeys struct {
		CAs    []wireCA  `yaml:"certificateAuthorities"`
		TLogs  []wireLog `yaml:"tLogs"`
		CTLogs []wireLog `yaml:"ctLogs"`
		TSAs   []wireCA  `yaml:"timestampAuthorities"`
		Pos    strictyaml.Pos
	}
	wireCA struct {
		Subject struct {
			Organization string `yaml:"organization"`
			CommonName   string `yaml:"commonName"`
		} `yaml:"subject"`
		URI       string `yaml:"uri"`
		CertChain string `yaml:"certChain"`
		Pos       strictyaml.Pos
	}
	wireLog struct {
		BaseURL       string `yaml:"baseURL"`
		HashAlgorithm string `yaml:"hashAlgorithm"`
		PublicKey     string `yaml:"publicKey"`
		Pos           strictyaml.Pos
	}
)

func (p *parser) trustRoot(d *strictyaml.Document) error {
	var w wireTrustRoot
	if err := d.Decode(&w); err != nil {
		return err
	}
	if err := w.Metadata.checkName(d.Pos); err != nil {
		return err
	}
	t := &TrustRoot{Name: w.Metadata.Name}
	if p.set.TrustRoots[t.Name] != nil {
		return w.Metadata.Pos.Errorf("a second TrustRoot %q", t.Name)
	}
	if w.Spec.Pos.Line == 0 || (w.Spec.Remote == nil) == (w.Spec.SigstoreKeys == nil) {
		return d.Pos.Errorf("spec: want exactly one of remote and sigstoreKeys")
	}
	var err error
	if w.Spec.Remote != nil {
		t.Remote, err = w.Spec.Remote.parse()
	} else {
		t.root, err = w.Spec.SigstoreKeys.parse()
	}
	if err != nil {
		return err
	}
	p.set.TrustRoots[t.Name] = t
	return nil
}

func (w *wireRemote) parse() (*Remote, error) {
	r := &Remote{Mirror: w.Mirror, Target: w.TrustedRootTarget}
	if err := checkURL(w.Mirror); err != nil {
		return nil, w.Pos.Errorf("mirror %v", err)
	}
	if w.Targets != "" && w.Targets != "targets" {
		return nil, w.Pos.Errorf("targets %q is not supported yet; targets lie in the folder targets", w.Targets)
	}
	var err error
	if r.Root, err = decode64(w.Root); err != nil {
		return nil, w.Pos.Errorf("root: %v", err)
	}
	if !bytes.HasPrefix(bytes.TrimSpace(r.Root), []byte("{")) {
		return nil, w.Pos.Errorf("root: want a TUF root.json, base64")
	}
	if r.Target == "" {
		r.Target = "trusted_root.json"
	}
	return r, nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return fmt.Errorf("%q: want an http(s) URL", s)
	}
	return nil
}

// decode64 reads the base64 of a []byte field of a Kubernetes object.
func decode64(s string) ([]byte, error) {
	if s == "" {
		return nil, errors.New("missing")
	}
	data, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(data) == 0 {
		return nil, errors.New("not base64")
	}
	return data, nil
}

// parse turns keys into a trusted root by way of its one strict reader. A
// TrustRoot has no validity windows: authorities count while their certificates
// are valid, logs always.
func (w *wireKeys) parse() (*trust.Root, error) {
	if len(w.CAs) == 0 && len(w.TSAs) == 0 {
		return nil, w.Pos.Errorf("want certificateAuthorities or timestampAuthorities")
	}
	var spec trust.RootSpec
	var err error
	if spec.CAs, err = authorities(w.CAs); err != nil {
		return nil, err
	}
	if spec.TSAs, err = authorities(w.TSAs); err != nil {
		return nil, err
	}
	if spec.TLogs, err = logs(w.TLogs, true); err != nil {
		return nil, err
	}
	if spec.CTLogs, err = logs(w.CTLogs, false); err != nil {
		return nil, err
	}
	data, err := spec.JSON()
	if err != nil {
		return nil, w.Pos.Errorf("%v", err)
	}
	root, err := trust.ParseTrustedRoot(data)
	if err != nil {
		return nil, w.Pos.Errorf("%v", err)
	}
	return root, nil
}

func authorities(ws []wireCA) ([]trust.AuthoritySpec, error) {
	var out []trust.AuthoritySpec
	for _, w := range ws {
		if w.Subject.Organization == "" || w.Subject.CommonName == "" {
			return nil, w.Pos.Errorf("subject: want organization and commonName")
		}
		if err := checkURL(w.URI); err != nil {
			return nil, w.Pos.Errorf("uri %v", err)
		}
		chain, err := certificates(w.CertChain)
		if err != nil {
			return nil, w.Pos.Errorf("certChain: %v", err)
		}
		a := trust.AuthoritySpec{URI: w.URI, Organization: w.Subject.Organization, CommonName: w.Subject.CommonName, Chain: chain}
		a.Start, a.End = chain[0].NotBefore, chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotBefore.After(a.Start) {
				a.Start = c.NotBefore
			}
			if c.NotAfter.Before(a.End) {
				a.End = c.NotAfter
			}
		}
		if a.End.Before(a.Start) {
			return nil, w.Pos.Errorf("certChain: there is no time at which all certificates are valid")
		}
		out = append(out, a)
	}
	return out, nil
}

// maxChain is the longest certificate chain.
const maxChain = 16

// certificates reads base64 of PEM: the certificates of a chain, root last.
func certificates(field string) ([]*x509.Certificate, error) {
	rest, err := decode64(field)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			return nil, errors.New("want PEM certificates and nothing else, base64")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		if chain = append(chain, c); len(chain) > maxChain {
			return nil, fmt.Errorf("more than %d certificates", maxChain)
		}
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	return chain, nil
}

func logs(ws []wireLog, tlog bool) ([]trust.LogSpec, error) {
	var out []trust.LogSpec
	for _, w := range ws {
		switch w.HashAlgorithm {
		case "sha-256", "sha256", "SHA256", "SHA2_256":
		default:
			return nil, w.Pos.Errorf("hashAlgorithm %q: want sha-256", w.HashAlgorithm)
		}
		if err := checkURL(w.BaseURL); err != nil {
			return nil, w.Pos.Errorf("baseURL %v", err)
		}
		data, err := decode64(w.PublicKey)
		if err != nil {
			return nil, w.Pos.Errorf("publicKey: %v", err)
		}
		pub, err := key.ParsePublicPEM(data)
		if err != nil {
			return nil, w.Pos.Errorf("publicKey: %v", err)
		}
		l := trust.LogSpec{BaseURL: w.BaseURL, Key: pub, Start: time.Unix(0, 0)}
		if _, ok := pub.(ed25519.PublicKey); ok && tlog {
			// An Ed25519 transparency log is a Rekor v2: its name is its host.
			u, err := url.Parse(w.BaseURL)
			if err != nil {
				return nil, w.Pos.Errorf("baseURL: %v", err)
			}
			l.Origin = u.Hostname()
		}
		out = append(out, l)
	}
	return out, nil
}
