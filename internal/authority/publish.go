package authority

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"

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
	n   int
	key crypto.PublicKey
	// chains are those of CA and TSA, the present one first.
	chains [][]*x509.Certificate
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
			chain, err := t.certificates()
			if err != nil {
				return nil, err
			}
			if s.chains, err = t.former(); err != nil {
				return nil, err
			}
			if len(chain) > 0 {
				s.chains = append([][]*x509.Certificate{chain}, s.chains...)
			}
			out[service] = append(out[service], s)
		}
	}
	return out, nil
}

// newPublication makes what an authority at these addresses publishes of its state.
func newPublication(i Info, st *state) (publication, error) {
	p := publication{files: map[string][]byte{}}
	all, err := speakers(st.Keys)
	if err != nil {
		return p, err
	}
	if p.files[fileTrustedRoot], err = trustedRoot(i, all, st.CTLogs); err != nil {
		return p, fmt.Errorf("trusted root: %w", err)
	}
	if p.files[fileSigningConfig], err = signingConfig(i, all); err != nil {
		return p, fmt.Errorf("signing config: %w", err)
	}
	if p.files[fileTrustRoot], err = trustRootYAML(i, all, st.CTLogs); err != nil {
		return p, fmt.Errorf("TrustRoot: %w", err)
	}
	p.targets, p.custom, err = olderTargets(i, all, st.CTLogs)
	return p, err
}

// trustedRoot has every key that ever signed, each with the time in which it is believed.
func trustedRoot(i Info, all map[string][]speaker, elsewhere []ctLog) ([]byte, error) {
	var root trust.RootSpec
	authorities := func(s speaker, url string) (out []trust.AuthoritySpec) {
		for _, chain := range s.chains {
			out = append(out, trust.AuthoritySpec{URI: url, Organization: organizationOf(chain[0]), CommonName: chain[0].Subject.CommonName,
				Chain: chain, Start: s.From, End: s.end()})
		}
		return out
	}
	for _, s := range all[ServiceCA] {
		root.CAs = append(root.CAs, authorities(s, i.URL)...)
	}
	for _, s := range all[ServiceTSA] {
		root.TSAs = append(root.TSAs, authorities(s, i.URL+timestampPath)...)
	}
	for _, s := range all[ServiceLog] {
		root.TLogs = append(root.TLogs, trust.LogSpec{BaseURL: i.shardURL(s.n), Key: s.key, Origin: i.treeName(s.n), Start: s.From, End: s.end()})
	}
	for _, s := range all[ServiceLogV1] {
		root.TLogs = append(root.TLogs, trust.LogSpec{BaseURL: i.URL, Key: s.key, Start: s.From, End: s.end()})
	}
	for _, s := range all[ServiceCT] {
		root.CTLogs = append(root.CTLogs, trust.LogSpec{BaseURL: i.URL + ctPath, Key: s.key, Start: s.From, End: s.end()})
	}
	for _, l := range elsewhere {
		public, err := x509.ParsePKIXPublicKey(l.Key)
		if err != nil {
			return nil, err
		}
		root.CTLogs = append(root.CTLogs, trust.LogSpec{BaseURL: l.URL, Key: public, Start: l.Since})
	}
	return root.JSON()
}

// organizationOf is the organization of a certificate's subject, ours if it names none.
func organizationOf(c *x509.Certificate) string {
	if len(c.Subject.Organization) == 0 {
		return organization
	}
	return c.Subject.Organization[0]
}

// shardURL is the base URL of the log's nth shard. It never changes; the host is its
// origin, and where several have one, their keys tell them apart.
func (i Info) shardURL(n int) string {
	if i.moved.is(n) {
		return i.moved.URL
	}
	if n == 1 {
		return i.URL
	}
	base := i.URL
	if name := i.treeName(n); name != i.Host {
		base = withHost(base, name)
	}
	return base + "/" + shardDir(ServiceLog, n)
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
func olderTargets(i Info, all map[string][]speaker, elsewhere []ctLog) (map[string][]byte, map[string]json.RawMessage, error) {
	targets, custom := map[string][]byte{}, map[string]json.RawMessage{}
	var certificates []*x509.Certificate
	for _, s := range all[ServiceCA] {
		for _, c := range slices.Concat(s.chains...) {
			if !slices.ContainsFunc(certificates, c.Equal) { // chains share a root
				certificates = append(certificates, c)
			}
		}
	}
	targets["fulcio_v1.crt.pem"] = pemOf(certificates)
	type key struct {
		name, url string
		der       []byte
	}
	keys := map[string][]key{}
	for _, s := range all[ServiceLogV1] {
		keys["Rekor"] = append(keys["Rekor"], key{numbered("rekor", s.n), i.URL, s.Key})
	}
	for _, s := range all[ServiceCT] {
		keys["CTFE"] = append(keys["CTFE"], key{numbered("ctfe", s.n), i.URL + ctPath, s.Key})
	}
	for n, l := range elsewhere {
		keys["CTFE"] = append(keys["CTFE"], key{numbered("ctfe-elsewhere", n+1), l.URL, l.Key})
	}
	for usage, list := range keys {
		for _, k := range list {
			targets[k.name+".pub"] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.der})
			if len(list) == 1 {
				continue
			}
			says, err := json.Marshal(map[string]any{"sigstore": map[string]string{"status": "Active", "uri": k.url, "usage": usage}})
			if err != nil {
				return nil, nil, err
			}
			custom[k.name+".pub"] = says
		}
	}
	return targets, custom, nil
}

// trustRootYAML is a TrustRoot of policy.sigstore.dev for admission. It holds the
// keys themselves, so that a decision needs no answer from us. It cannot say when a
// key is believed: it has all of them.
func trustRootYAML(i Info, all map[string][]speaker, elsewhere []ctLog) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`apiVersion: policy.sigstore.dev/v1alpha1
kind: TrustRoot
metadata:
  name: hallmark
spec:
  sigstoreKeys:
`)
	authorities := func(what, service, url string) {
		fmt.Fprintf(&b, "    %s:\n", what)
		for _, s := range all[service] {
			for _, chain := range s.chains {
				fmt.Fprintf(&b, "      - subject: {organization: %q, commonName: %q}\n        uri: %q\n        certChain: %s\n",
					organizationOf(chain[0]), chain[0].Subject.CommonName, url, base64.StdEncoding.EncodeToString(pemOf(chain)))
			}
		}
	}
	log := func(key []byte, url string) {
		fmt.Fprintf(&b, "      - baseURL: %q\n        hashAlgorithm: sha-256\n        publicKey: %s\n",
			url, base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key})))
	}
	authorities("certificateAuthorities", ServiceCA, i.URL)
	authorities("timestampAuthorities", ServiceTSA, i.URL+timestampPath)
	b.WriteString("    tLogs:\n")
	for _, s := range all[ServiceLog] {
		log(s.Key, i.shardURL(s.n))
	}
	for _, s := range all[ServiceLogV1] {
		log(s.Key, i.URL)
	}
	b.WriteString("    ctLogs:\n")
	for _, s := range all[ServiceCT] {
		log(s.Key, i.URL+ctPath)
	}
	for _, l := range elsewhere {
		log(l.Key, l.URL)
	}
	return b.Bytes(), nil
}

func pemOf(chain []*x509.Certificate) (out []byte) {
	for _, c := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}
