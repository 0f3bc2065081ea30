package authority

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// publish writes what clients trust: to the folder and as TUF targets.
func (a *Authority) publish(st *state, ids identities) error {
	// As old as the oldest key: what was signed before a state was lost stays good.
	start := ids.ca.chain[0].NotBefore
	ctLogs, err := a.publishedCTLogs(ids, start)
	if err != nil {
		return err
	}
	root, err := trust.RootSpec{
		CAs:  authoritySpecs(a.info.URL, a.chains.all(ids.ca)),
		TSAs: authoritySpecs(a.info.URL+timestampPath, a.chains.all(ids.tsa)),
		TLogs: []trust.LogSpec{
			{BaseURL: a.info.URL, Key: a.log.Public(), Origin: a.info.Host, KeyID: a.log.KeyID(), Start: start},
			{BaseURL: a.info.URL, Key: ids.logV1.key.Public(), KeyID: a.logV1.KeyID(), Start: start},
		},
		CTLogs: ctLogs,
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
	targets, err := a.olderTargets(ids)
	if err != nil {
		return err
	}
	maps.Copy(targets, files)
	if err := a.tuf.Publish(targets); err != nil {
		return fmt.Errorf("TUF repository: %w", err)
	}
	local := map[string][]byte{fileRoot: a.tuf.RootJSON()}
	for name, data := range files {
		local[name] = data
	}
	return st.writePublished(a.cfg.Dir, local)
}

// olderTargets are the targets that clients read which do not know
// trusted_root.json (such as cosign 2.2): the keys as single files, by the names of
// the public instance's first repository. They know no log but Rekor v1's.
func (a *Authority) olderTargets(ids identities) (map[string][]byte, error) {
	targets := map[string][]byte{"fulcio_v1.crt.pem": pemOf(a.chains.all(ids.ca).distinct())}
	ct := ids.ct.key.Public()
	if a.ctLog != nil {
		ct = a.ctLog.Public()
	}
	for name, public := range map[string]crypto.PublicKey{"rekor.pub": ids.logV1.key.Public(), "ctfe.pub": ct} {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return nil, err
		}
		targets[name] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	return targets, nil
}

// trustRootYAML is a TrustRoot of policy.sigstore.dev for admission. It holds the
// keys themselves, so that a decision needs no answer from us.
func (a *Authority) trustRootYAML(ids identities) ([]byte, error) {
	ctLogs, err := a.publishedCTLogs(ids, ids.ca.chain[0].NotBefore)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString("apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata:\n  name: hallmark\nspec:\n  sigstoreKeys:\n")
	for _, list := range []struct {
		name string
		all  []trust.AuthoritySpec
	}{
		{"certificateAuthorities", authoritySpecs(a.info.URL, a.chains.all(ids.ca))},
		{"timestampAuthorities", authoritySpecs(a.info.URL+timestampPath, a.chains.all(ids.tsa))},
	} {
		fmt.Fprintf(&out, "    %s:\n", list.name)
		for _, s := range list.all {
			fmt.Fprintf(&out, "      - subject: {organization: %q, commonName: %q}\n        uri: %q\n        certChain: %s\n", s.Organization, s.CommonName, s.URI, chainPEM(s.Chain))
		}
	}
	for _, list := range []struct {
		name string
		all  []trust.LogSpec
	}{
		{"tLogs", []trust.LogSpec{{BaseURL: a.info.URL, Key: ids.log.key.Public()}, {BaseURL: a.info.URL, Key: ids.logV1.key.Public()}}},
		{"ctLogs", ctLogs},
	} {
		fmt.Fprintf(&out, "    %s:\n", list.name)
		for _, l := range list.all {
			key, err := publicPEM(l.Key)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&out, "      - baseURL: %q\n        hashAlgorithm: sha-256\n        publicKey: %s\n", l.BaseURL, key)
		}
	}
	return out.Bytes(), nil
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
	return base64.StdEncoding.EncodeToString(pemOf(chain))
}

func pemOf(chain []*x509.Certificate) (out []byte) {
	for _, c := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}
