package authority

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// publish writes what clients trust: to the folder and as TUF targets.
func (a *Authority) publish(st *state, ids identities) error {
	// As old as the oldest key: what was signed before a state was lost stays good.
	start := ids.ca.chain[0].NotBefore
	root, err := trust.RootSpec{
		CAs: []trust.AuthoritySpec{{URI: a.info.URL, Organization: organization,
			CommonName: ids.ca.chain[0].Subject.CommonName, Chain: ids.ca.chain,
			Start: start}},
		TSAs: []trust.AuthoritySpec{{URI: a.info.URL + timestampPath, Organization: organization,
			CommonName: ids.tsa.chain[0].Subject.CommonName, Chain: ids.tsa.chain,
			Start: ids.tsa.chain[0].NotBefore}},
		TLogs: []trust.LogSpec{
			{BaseURL: a.info.URL, Key: a.log.Public(), Origin: a.info.Host, KeyID: a.log.KeyID(), Start: start},
			{BaseURL: a.info.URL, Key: ids.logV1.key.Public(), KeyID: a.logV1.KeyID(), Start: start},
		},
		CTLogs: []trust.LogSpec{{BaseURL: a.info.URL + ctPath, Key: ids.ct.key.Public(), Start: start}},
	}.JSON()
	if err != nil {
		return fmt.Errorf("trusted root: %w", err)
	}
	signing, err := trust.SigningConfigSpec{
		CAURL: a.info.URL, OIDCURL: a.info.Issuer, LogURL: a.info.URL, LogV1URL: a.info.URL, TSAURL: a.info.URL + timestampPath,
		Operator: "hallmark up on " + a.info.Host, Start: start,
	}.JSON()
	if err != nil {
		return fmt.Errorf("signing config: %w", err)
	}
	cluster, err := a.trustRootYAML(ids)
	if err != nil {
		return fmt.Errorf("TrustRoot: %w", err)
	}
	files := map[string][]byte{
		fileTrustedRoot:   root,
		fileSigningConfig: signing,
		fileTrustRoot:     cluster,
	}
	if err := a.tuf.Publish(files); err != nil {
		return fmt.Errorf("TUF repository: %w", err)
	}
	local := map[string][]byte{fileRoot: a.tuf.RootJSON()}
	for name, data := range files {
		local[name] = data
	}
	return st.writePublished(a.cfg.Dir, local)
}

// trustRootYAML is a TrustRoot of policy.sigstore.dev for admission. It holds the
// keys themselves, so that a decision needs no answer from us.
func (a *Authority) trustRootYAML(ids identities) ([]byte, error) {
	logKey, err := publicPEM(ids.log.key.Public())
	if err != nil {
		return nil, err
	}
	logV1Key, err := publicPEM(ids.logV1.key.Public())
	if err != nil {
		return nil, err
	}
	ctKey, err := publicPEM(ids.ct.key.Public())
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `apiVersion: policy.sigstore.dev/v1alpha1
kind: TrustRoot
metadata:
  name: hallmark
spec:
  sigstoreKeys:
    certificateAuthorities:
      - subject: {organization: %[1]q, commonName: %[2]q}
        uri: %[3]q
        certChain: %[4]s
    timestampAuthorities:
      - subject: {organization: %[1]q, commonName: %[5]q}
        uri: %[6]q
        certChain: %[7]s
    tLogs:
      - baseURL: %[3]q
        hashAlgorithm: sha-256
        publicKey: %[8]s
      - baseURL: %[3]q
        hashAlgorithm: sha-256
        publicKey: %[9]s
    ctLogs:
      - baseURL: %[10]q
        hashAlgorithm: sha-256
        publicKey: %[11]s
`, organization, ids.ca.chain[0].Subject.CommonName, a.info.URL, chainPEM(ids.ca.chain),
		ids.tsa.chain[0].Subject.CommonName, a.info.URL+timestampPath, chainPEM(ids.tsa.chain),
		logKey, logV1Key, a.info.URL+ctPath, ctKey), nil
}

// publicPEM is base64 of a PEM public key, as Kubernetes writes []byte.
func publicPEM(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// chainPEM is base64 of a PEM chain.
func chainPEM(chain []*x509.Certificate) string {
	var out []byte
	for _, c := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return base64.StdEncoding.EncodeToString(out)
}
