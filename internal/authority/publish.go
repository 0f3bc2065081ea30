package authority

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// publication is all that clients are told to trust, made of the terms alone: what
// is decided can be shown before anything is written.
type publication struct {
	files   map[string][]byte // of the folder and of TUF
	targets map[string][]byte // of TUF alone
	custom  map[string]json.RawMessage
}

// publish writes what clients trust: to the folder and as TUF targets. A rotation that
// was decided is done with it.
func publish(dir string, st *state, repo *tuf.Repo, p publication) error {
	targets := maps.Clone(p.targets)
	maps.Copy(targets, p.files)
	if err := st.before(tufRepository); err != nil {
		return err
	}
	if err := repo.PublishCustom(targets, p.custom); err != nil {
		return fmt.Errorf("TUF repository: %w", err)
	}
	local := maps.Clone(p.files)
	local[fileRoot] = repo.RootJSON()
	if err := st.writePublished(dir, local); err != nil {
		return err
	}
	if st.Rotating == nil {
		return nil
	}
	st.Rotating = nil
	return st.save(dir)
}

// speaker is a term with what is public of it, parsed.
type speaker struct {
	*term
	n     int
	key   crypto.PublicKey
	chain []*x509.Certificate
}

func speakers(terms map[string][]*term) (map[string][]speaker, error) {
	out := map[string][]speaker{}
	for service, all := range terms {
		for i, t := range all {
			s := speaker{term: t, n: i + 1}
			var err error
			if s.key, err = t.public(); err != nil {
				return nil, err
			}
			if s.chain, err = t.certificates(); err != nil {
				return nil, err
			}
			out[service] = append(out[service], s)
		}
	}
	return out, nil
}

// newPublication makes what an authority at these addresses publishes of its terms, and
// of what others vouch for.
func newPublication(i Info, terms map[string][]*term, f foreign) (publication, error) {
	p := publication{files: map[string][]byte{}}
	all, err := speakers(terms)
	if err != nil {
		return p, err
	}
	if p.files[fileTrustedRoot], err = trustedRoot(i, all, f); err != nil {
		return p, fmt.Errorf("trusted root: %w", err)
	}
	if p.files[fileSigningConfig], err = signingConfig(i, all); err != nil {
		return p, fmt.Errorf("signing config: %w", err)
	}
	if p.files[fileTrustRoot], err = trustRootYAML(i, all, f); err != nil {
		return p, fmt.Errorf("TrustRoot: %w", err)
	}
	p.targets, p.custom, err = olderTargets(i, all, f)
	return p, err
}

// trustedRoot has every key that ever signed, each with the time in which it is believed.
func trustedRoot(i Info, all map[string][]speaker, f foreign) ([]byte, error) {
	root := trust.RootSpec{
		CAs:  authoritySpecs(i.URL, all[ServiceCA], f.chains),
		TSAs: authoritySpecs(i.URL+timestampPath, all[ServiceTSA], f.chains),
	}
	for _, s := range all[ServiceLog] {
		root.TLogs = append(root.TLogs, trust.LogSpec{BaseURL: i.shardURL(s.n), Key: s.key, Origin: i.Host, Start: s.From, End: s.end()})
	}
	for _, s := range all[ServiceLogV1] {
		root.TLogs = append(root.TLogs, trust.LogSpec{BaseURL: i.URL, Key: s.key, Start: s.From, End: s.end()})
	}
	var err error
	if root.CTLogs, err = ctLogSpecs(i, all[ServiceCT], f.ctLogs); err != nil {
		return nil, err
	}
	return root.JSON()
}

// authoritySpecs are all chains that spoke for an authority's keys, each within its
// key's term: the one in use first, the key's own last.
func authoritySpecs(url string, all []speaker, given chains) (out []trust.AuthoritySpec) {
	for _, s := range all {
		add := func(chain []*x509.Certificate, start time.Time) {
			subject, name := chain[0].Subject, organization
			if len(subject.Organization) > 0 {
				name = subject.Organization[0]
			}
			out = append(out, trust.AuthoritySpec{URI: url, Organization: name, CommonName: subject.CommonName, Chain: chain, Start: start, End: s.end()})
		}
		for _, chain := range given.of(s.key) {
			add(chain, chain[0].NotBefore)
		}
		add(s.chain, s.From)
	}
	return out
}

// ctLogSpecs are our own CT keys and the logs elsewhere.
func ctLogSpecs(i Info, all []speaker, elsewhere []ctLog) (out []trust.LogSpec, err error) {
	for _, s := range all {
		out = append(out, trust.LogSpec{BaseURL: i.URL + ctPath, Key: s.key, Start: s.From, End: s.end()})
	}
	for _, l := range elsewhere {
		public, err := x509.ParsePKIXPublicKey(l.Key)
		if err != nil {
			return nil, err
		}
		out = append(out, trust.LogSpec{BaseURL: l.URL, Key: public, Start: l.Since})
	}
	return out, nil
}

// shardURL is the base URL of the log's nth shard. It never changes; the host is the
// origin of all of them, and their keys tell them apart.
func (i Info) shardURL(n int) string {
	if i.moved.is(n) {
		return i.moved.URL
	}
	if n == 1 {
		return i.URL
	}
	return i.URL + "/" + shardDir(ServiceLog, n)
}

// signingConfig names the services. Only the log's shards have addresses of their own:
// the other services answer at one, whichever of their keys signs.
func signingConfig(i Info, all map[string][]speaker) ([]byte, error) {
	spec := trust.SigningConfigSpec{
		CAURL: i.URL, OIDCURL: i.Issuer, LogURL: i.shardURL(1), LogV1URL: i.URL, TSAURL: i.URL + timestampPath,
		Operator: "hallmark up on " + i.Host, Start: all[ServiceCA][0].From,
	}
	logs := all[ServiceLog]
	for n := 1; n < len(logs); n++ {
		later := trust.ServiceSpec{URL: i.shardURL(n + 1), Start: logs[n].Signs}
		if n+1 < len(logs) {
			later.End = logs[n+1].Signs
		}
		spec.LaterLogs = append(spec.LaterLogs, later)
	}
	if len(logs) > 1 {
		spec.LogUntil = logs[1].Signs
	}
	return spec.JSON()
}

// olderTargets are the targets that clients read which do not know
// trusted_root.json (such as cosign 2.2): the keys as single files, by the names of
// the public instance's first repository. They know no log but Rekor v1's. Where there
// is more than one key, they go by what the metadata says that each is for; the CA's
// certificates are all in one file.
func olderTargets(i Info, all map[string][]speaker, f foreign) (map[string][]byte, map[string]json.RawMessage, error) {
	targets, custom := map[string][]byte{}, map[string]json.RawMessage{}
	var issuing chains
	for _, s := range authoritySpecs(i.URL, all[ServiceCA], f.chains) {
		issuing = append(issuing, s.Chain)
	}
	targets["fulcio_v1.crt.pem"] = pemOf(issuing.distinct())
	var rekor, ctfe []ctLog
	for _, s := range all[ServiceLogV1] {
		rekor = append(rekor, ctLog{URL: i.URL, Key: s.Key})
	}
	for _, s := range all[ServiceCT] {
		ctfe = append(ctfe, ctLog{URL: i.URL + ctPath, Key: s.Key})
	}
	for _, is := range []struct {
		name, usage string
		keys        []ctLog
	}{{"rekor", "Rekor", rekor}, {"ctfe", "CTFE", append(ctfe, f.ctLogs...)}} {
		for n, l := range is.keys {
			name := numbered(is.name, n+1) + ".pub"
			targets[name] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: l.Key})
			if len(is.keys) == 1 {
				continue
			}
			says, err := json.Marshal(map[string]any{"sigstore": map[string]string{"status": "Active", "uri": l.URL, "usage": is.usage}})
			if err != nil {
				return nil, nil, err
			}
			custom[name] = says
		}
	}
	return targets, custom, nil
}

// trustRootYAML is a TrustRoot of policy.sigstore.dev for admission. It holds the
// keys themselves, so that a decision needs no answer from us. It cannot say when a
// key is believed: it has all of them.
func trustRootYAML(i Info, all map[string][]speaker, f foreign) ([]byte, error) {
	ctLogs, err := ctLogSpecs(i, all[ServiceCT], f.ctLogs)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(`apiVersion: policy.sigstore.dev/v1alpha1
kind: TrustRoot
metadata:
  name: hallmark
spec:
  sigstoreKeys:
`)
	for _, list := range []struct {
		name string
		all  []trust.AuthoritySpec
	}{
		{"certificateAuthorities", authoritySpecs(i.URL, all[ServiceCA], f.chains)},
		{"timestampAuthorities", authoritySpecs(i.URL+timestampPath, all[ServiceTSA], f.chains)},
	} {
		fmt.Fprintf(&b, "    %s:\n", list.name)
		for _, s := range list.all {
			fmt.Fprintf(&b, "      - subject: {organization: %q, commonName: %q}\n        uri: %q\n        certChain: %s\n",
				s.Organization, s.CommonName, s.URI, base64.StdEncoding.EncodeToString(pemOf(s.Chain)))
		}
	}
	log := func(public crypto.PublicKey, url string) error {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err == nil {
			fmt.Fprintf(&b, "      - baseURL: %q\n        hashAlgorithm: sha-256\n        publicKey: %s\n",
				url, base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
		}
		return err
	}
	var errs []error
	b.WriteString("    tLogs:\n")
	for _, s := range all[ServiceLog] {
		errs = append(errs, log(s.key, i.shardURL(s.n)))
	}
	for _, s := range all[ServiceLogV1] {
		errs = append(errs, log(s.key, i.URL))
	}
	b.WriteString("    ctLogs:\n")
	for _, l := range ctLogs {
		errs = append(errs, log(l.Key, l.BaseURL))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func pemOf(chain []*x509.Certificate) (out []byte) {
	for _, c := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}
