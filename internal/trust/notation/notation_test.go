package notation_test

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const good = `{"name":"a","registryScopes":["r.example/app"],"signatureVerification":{"level":"strict"},"trustStores":["ca:acme"],"trustedIdentities":["*"]}`

// policy is a policy of statements.
func policy(statements ...string) string {
	return `{"version":"1.0","trustPolicies":[` + strings.Join(statements, ",") + `]}`
}

func swap(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(good) }

// TestParsePolicy has Notation's own rules, and what JSON alone would forgive.
func TestParsePolicy(t *testing.T) {
	t.Parallel()
	other := swap(`"a"`, `"b"`, "r.example/app", "r.example/other")
	skip := `{"name":"s","registryScopes":["*"],"signatureVerification":{"level":"skip"}}`
	verification := func(text string) string { return policy(swap(`{"level":"strict"}`, text)) }
	ids := func(text string) string { return policy(swap(`["*"]`, text)) }
	scopes := func(text string) string { return policy(swap(`["r.example/app"]`, text)) }
	stores := func(text string) string { return policy(swap(`["ca:acme"]`, text)) }
	for name, row := range map[string]struct {
		text string
		want string // part of the error; "" is none
	}{
		"good":                   {policy(good), ""},
		"several":                {policy(good, other, skip), ""},
		"all stores":             {stores(`["ca:a","signingAuthority:b.c","tsa:d-e_f","ca:a"]`), ""},
		"other version":          {strings.Replace(policy(good), "1.0", "1.1", 1), "version"},
		"no version":             {strings.Replace(policy(good), `"version":"1.0",`, "", 1), "version"},
		"no statements":          {policy(), "trustPolicies"},
		"unknown member":         {policy(swap(`"name"`, `"x":1,"name"`)), "unknown member"},
		"member in capitals":     {policy(swap(`"trustStores"`, `"TrustStores"`)), "unknown member"},
		"level twice":            {verification(`{"level":"strict","level":"audit"}`), "duplicate"},
		"trailing":               {policy(good) + "{}", "follows"},
		"no name":                {policy(swap(`"a"`, `""`)), "name"},
		"one name twice":         {policy(good, swap("r.example/app", "r.example/other")), "name"},
		"one scope twice":        {policy(good, swap(`"a"`, `"b"`)), "registryScopes"},
		"one scope twice in one": {scopes(`["r.example/app","r.example/app"]`), "twice"},
		"two for everything":     {policy(skip, swap(`"r.example/app"`, `"*"`)), "registryScopes"},
		"no scopes":              {scopes(`[]`), "registryScopes"},
		"everything and one":     {scopes(`["*","r.example/app"]`), "alone"},
		"prefix":                 {scopes(`["r.example/*"]`), "wildcard"},
		"tag":                    {scopes(`["r.example/app:v1"]`), "host/repository"},
		"scheme":                 {scopes(`["https://r.example/app"]`), "host/repository"},
		"no host":                {scopes(`["app"]`), "host/repository"},
		"capitals":               {scopes(`["r.example/App"]`), "host/repository"},
		"port":                   {scopes(`["r.example:5000/a/b_c/d__e/f-g"]`), ""},
		"global":                 {policy(swap(`"name"`, `"globalPolicy":true,"name"`)), "globalPolicy"},
		"no level":               {verification(`{}`), "level"},
		"unknown level":          {verification(`{"level":"Strict"}`), "level"},
		"override":               {verification(`{"level":"audit","override":{"authenticity":"enforce","revocation":"skip"}}`), ""},
		"override integrity":     {verification(`{"level":"strict","override":{"integrity":"log"}}`), "integrity cannot"},
		"override unknown":       {verification(`{"level":"strict","override":{"Expiry":"log"}}`), "no check"},
		"override to nothing":    {verification(`{"level":"strict","override":{"expiry":"warn"}}`), "none of"},
		"skip expiry":            {verification(`{"level":"strict","override":{"expiry":"skip"}}`), "only revocation"},
		"skip authenticity":      {verification(`{"level":"audit","override":{"authenticity":"skip"}}`), "only revocation"},
		"override skip":          {policy(`{"name":"s","registryScopes":["*"],"signatureVerification":{"level":"skip","override":{"expiry":"log"}}}`), "nothing can be overridden"},
		"skip with stores":       {verification(`{"level":"skip"}`), "must be empty"},
		"timestamps":             {verification(`{"level":"strict","verifyTimestamp":"afterCertExpiry"}`), ""},
		"timestamps sometimes":   {verification(`{"level":"strict","verifyTimestamp":"sometimes"}`), "verifyTimestamp"},
		"no stores":              {stores(`[]`), "both"},
		"no identities":          {ids(`[]`), "both"},
		"store without type":     {stores(`["acme"]`), "does not begin"},
		"store of unknown type":  {stores(`["CA:acme"]`), "does not begin"},
		"store a path":           {stores(`["ca:../x"]`), "not named"},
		"store the parent":       {stores(`["ca:.."]`), "not named"},
		"everybody and one":      {ids(`["*","x509.subject:C=US,ST=WA,O=A"]`), "alone"},
		"no kind":                {ids(`["C=US,ST=WA,O=A"]`), "what kind"},
		"for a plugin":           {ids(`["plugin:x"]`), ""},
		"subject":                {ids(`["x509.subject: C=US, ST=WA, O=A"]`), ""},
		"state as S":             {ids(`["x509.subject:C=US,S=WA,O=A"]`), ""},
		"no subject":             {ids(`["x509.subject:"]`), "no attribute"},
		"no country":             {ids(`["x509.subject:ST=WA,O=A"]`), "C is missing"},
		"no state":               {ids(`["x509.subject:C=US,O=A"]`), "ST is missing"},
		"no organisation":        {ids(`["x509.subject:C=US,ST=WA,CN=A"]`), "O is missing"},
		"country twice":          {ids(`["x509.subject:C=US,C=DE,ST=WA,O=A"]`), "twice"},
		"several values":         {ids(`["x509.subject:C=US+ST=WA,O=A"]`), "several values"},
		"hexadecimal":            {ids(`["x509.subject:C=US,ST=WA,O=#0401"]`), "hexadecimal"},
		"semicolon":              {ids(`["x509.subject:C=US;ST=WA;O=A"]`), "escaped"},
		"backslash at the end":   {ids(`["x509.subject:C=US,ST=WA,O=A\\"]`), "backslash"},
		"needless backslash":     {ids(`["x509.subject:C=US,ST=WA,O=\\zA"]`), "backslash"},
		"escaped":                {ids(`["x509.subject:C=US,ST=WA,O=\\ A\\, B\\2c \\\\"]`), ""},
		"empty value":            {ids(`["x509.subject:C=US,ST=WA,O=A,CN="]`), "no value"},
		"overlap":                {ids(`["x509.subject:C=US,ST=WA,O=A","x509.subject:C=US,ST=WA,O=A,CN=x"]`), "overlaps"},
		"the same":               {ids(`["x509.subject:C=US,ST=WA,O=A","x509.subject:O=A,ST=WA,C=US"]`), "overlaps"},
		"no overlap":             {ids(`["x509.subject:C=US,ST=WA,O=A","x509.subject:C=US,ST=WA,O=B"]`), ""},
	} {
		_, err := notation.ParsePolicy([]byte(row.text))
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v; want %q", name, err, row.want)
		}
	}
}

// TestBlobPolicy: a policy for files has no scopes, and at most one statement for all.
func TestBlobPolicy(t *testing.T) {
	t.Parallel()
	statement := func(name, more, level string) string {
		trust := `,"trustStores":["ca:acme"],"trustedIdentities":["*"]`
		if level == "skip" {
			trust = ""
		}
		return `{"name":"` + name + `",` + more + `"signatureVerification":{"level":"` + level + `"}` + trust + `}`
	}
	global := `"globalPolicy":true,`
	for name, row := range map[string]struct {
		text string
		all  string
		bad  bool
	}{
		"one for all":  {policy(statement("x", "", "audit"), statement("y", global, "strict")), "y", false},
		"none for all": {policy(statement("x", "", "audit")), "", false},
		"two for all":  {policy(statement("x", global, "audit"), statement("y", global, "strict")), "", true},
		"skip all":     {policy(statement("x", global, "skip")), "", true},
		"with scopes":  {policy(good), "", true},
	} {
		p, err := notation.ParseBlobPolicy([]byte(row.text))
		switch {
		case row.bad != (err != nil):
			t.Errorf("%s: %v", name, err)
		case err == nil && row.all == "" && p.ForFiles() != nil, row.all != "" && p.ForFiles().Name != row.all:
			t.Errorf("%s: %+v", name, p.ForFiles())
		}
	}
}

// folder writes Notation's configuration with the world's root in ca:acme.
func folder(t *testing.T, w *notaryforge.World, change func(dir string)) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "trustpolicy.json"), []byte(policy(good)))
	write(t, filepath.Join(dir, "truststore/x509/ca/acme/root.crt"), w.Root.Cert.Raw)
	if change != nil {
		change(dir)
	}
	return dir
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFromFolder reads Notation's folders by Notation's rules.
func TestFromFolder(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	block := func(typ string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}) }
	store := func(dir, name string) string { return filepath.Join(dir, "truststore/x509/ca/acme", name) }
	self := w.Issue(nil, w.LeafTemplate())
	for name, row := range map[string]struct {
		change func(dir string)
		count  int // certificates in ca:acme
		want   string
	}{
		"DER": {nil, 1, ""},
		"PEM, two in a file": {func(dir string) {
			write(t, store(dir, "more.pem"), slices.Concat([]byte("a comment\n"), block("CERTIFICATE", w.CA.Cert.Raw), block("CERTIFICATE", self.Cert.Raw)))
		}, 3, ""},
		"two in DER":           {func(dir string) { write(t, store(dir, "more.cer"), slices.Concat(w.CA.Cert.Raw, self.Cert.Raw)) }, 3, ""},
		"no store":             {func(dir string) { os.RemoveAll(filepath.Join(dir, "truststore")) }, -1, ""},
		"another store broken": {func(dir string) { write(t, filepath.Join(dir, "truststore/x509/ca/other/x"), []byte("x")) }, 1, ""},
		"newer name wins": {func(dir string) {
			write(t, filepath.Join(dir, "trustpolicy.oci.json"), []byte(policy(swap("acme", "none"))))
		}, -1, ""},
		"no policy": {func(dir string) { os.Remove(filepath.Join(dir, "trustpolicy.json")) }, 0, "no trustpolicy.json"},
		"policy a link": {func(dir string) {
			os.Rename(filepath.Join(dir, "trustpolicy.json"), filepath.Join(dir, "x"))
			os.Symlink("x", filepath.Join(dir, "trustpolicy.json"))
		}, 0, "links"},
		"policy broken":      {func(dir string) { write(t, filepath.Join(dir, "trustpolicy.json"), []byte("{")) }, 0, "want"},
		"empty store":        {func(dir string) { os.Remove(store(dir, "root.crt")) }, 0, "0 certificates"},
		"no certificate":     {func(dir string) { write(t, store(dir, "README"), []byte("hello")) }, 0, "no certificate"},
		"a key":              {func(dir string) { write(t, store(dir, "key.pem"), block("PRIVATE KEY", []byte("x"))) }, 0, "PRIVATE KEY"},
		"a leaf":             {func(dir string) { write(t, store(dir, "leaf.crt"), w.Leaf.Cert.Raw) }, 0, "neither a CA's"},
		"certificate a link": {func(dir string) { os.Symlink("root.crt", store(dir, "link.crt")) }, 0, "links"},
		"folder in a store":  {func(dir string) { os.Mkdir(store(dir, "sub"), 0o700) }, 0, "not a regular file"},
		"store a link": {func(dir string) {
			os.Rename(filepath.Dir(store(dir, "x")), filepath.Join(dir, "elsewhere"))
			os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Dir(store(dir, "x")))
		}, 0, "links"},
		"tsa not a root": {func(dir string) {
			write(t, filepath.Join(dir, "trustpolicy.json"), []byte(policy(swap(`["ca:acme"]`, `["ca:acme","tsa:acme"]`))))
			write(t, filepath.Join(dir, "truststore/x509/tsa/acme/ca.crt"), w.CA.Cert.Raw)
		}, 0, "tsa store"},
	} {
		trust, err := notation.FromFolder(folder(t, w, row.change))
		if row.want != "" {
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s: %v; want %q", name, err, row.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		certs, ok := trust.Store(notation.StoreName{Type: "ca", Name: "acme"})
		if ok != (row.count >= 0) || ok && len(certs) != row.count {
			t.Errorf("%s: %d certificates, %v", name, len(certs), ok)
		}
	}
}

// TestParts: a trust that goes through JSON is the same trust.
func TestParts(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	p := must(notation.ReadFolder(folder(t, w, nil)))
	var back notation.Parts
	if err := json.Unmarshal(must(json.Marshal(p)), &back); err != nil {
		t.Fatal(err)
	}
	a, b := must(notation.New(p)), must(notation.New(back))
	if a.Generation != b.Generation || a.Generation == "" || len(a.Policy.Statements) != 1 {
		t.Errorf("%+v, %+v", a, b)
	}
	back.Stores = append(back.Stores, notation.Store{Type: "ca", Name: "x", Certificates: notaryforge.Chain(w.CA)})
	if c := must(notation.New(back)); c.Generation == a.Generation {
		t.Error("another trust has the same generation")
	}
	for name, change := range map[string]func(p *notation.Parts){
		"store twice": func(p *notation.Parts) { p.Stores = append(p.Stores, p.Stores[0]) },
		"store empty": func(p *notation.Parts) { p.Stores = []notation.Store{{Type: "ca", Name: "x"}} },
		"store of no type": func(p *notation.Parts) {
			p.Stores = []notation.Store{{Name: "x", Certificates: notaryforge.Chain(w.Root)}}
		},
		"CRL broken":         func(p *notation.Parts) { p.CRLs = [][]byte{{1}} },
		"OCSP broken":        func(p *notation.Parts) { p.OCSP = [][]byte{{1}} },
		"blob policy broken": func(p *notation.Parts) { p.BlobPolicy = []byte("{}") },
	} {
		q := must(notation.ReadFolder(folder(t, w, nil)))
		change(&q)
		if _, err := notation.New(q); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzPolicy: no policy makes the reader panic, and a statement that is read has
// what it needs.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(policy(good)))
	f.Add([]byte(policy(swap(`["*"]`, `["x509.subject:C=US,ST=WA,O=\\ A\\, B\\2c \\\\"]`))))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := notation.ParsePolicy(data)
		if err != nil {
			return
		}
		for _, s := range p.Statements {
			if s.Name == "" || len(s.Scopes) == 0 || s.Level != "skip" && len(s.Stores) == 0 || s.Action(notation.Integrity) == notation.Log {
				t.Errorf("%+v", s)
			}
		}
	})
}

// TestCRLCache reads files as notation-go 1.3.2 writes them.
func TestCRLCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), []byte(`{"baseCRL":"AQ=="}`))
	write(t, filepath.Join(dir, "b"), []byte(`{"baseCRL":"Ag==","deltaCRL":"Aw=="}`))
	got, err := notation.ReadCRLCache(dir)
	if err != nil || len(got) != 1 || string(got[0]) != "\x01" {
		t.Errorf("%v, %v", got, err)
	}
	write(t, filepath.Join(dir, "c"), []byte("{}"))
	if got, err := notation.ReadCRLCache(dir); err == nil {
		t.Errorf("a file of another kind is read as %v", got)
	}
	if _, err := notation.ReadCRLCache(filepath.Join(dir, "absent")); err == nil {
		t.Error("a folder that is not there is read")
	}
}

// TestOnDisk: an image on disk has no repository, so only the statement for
// everything is for it.
func TestOnDisk(t *testing.T) {
	t.Parallel()
	policy := func(scope string) *notation.Policy {
		p, err := notation.ParsePolicy([]byte(`{"version":"1.0","trustPolicies":[{"name":"p","registryScopes":["` + scope + `"],"signatureVerification":{"level":"skip"}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for repository, want := range map[string]bool{"oci:layout": true, "oci:/abs/layout": true, "oci-archive:x.tar": true, "docker-archive:./x.tar": true,
		"example.com/app": true, "layout": false, "": false, "example.com/App": false, "http://example.com/app": false} {
		if got := policy("*").For(repository) != nil; got != want {
			t.Errorf("%q under *: %v", repository, got)
		}
		if got := policy("example.com/app").For(repository) != nil; got != (repository == "example.com/app") {
			t.Errorf("%q under a repository's scope: %v", repository, got)
		}
	}
}
