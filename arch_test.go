// Package hallmark_test holds the rules that keep the code's shape: who may
// import whom, what each binary may link, which library has which one importer,
// and that every package says what it is. ARCHITECTURE.md says the same in words.
package hallmark_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/hallmark-dev/hallmark/"

// layers gives each package its layer: a package imports only lower layers. The
// longest matching prefix counts.
var layers = map[string]int{
	"internal/evidence":               0,
	"internal/policy":                 1,
	"internal/fault":                  0,
	"internal/durable":                1,
	"internal/spelling":               0,
	"internal/sorted":                 0,
	"internal/pattern":                0,
	"internal/sha1collision":          0,
	"internal/cms":                    0,
	"internal/jcs":                    0,
	"internal/sshsignature":           0,
	"internal/strictjson":             0,
	"internal/strictyaml":             0,
	"internal/loopback":               1,
	"internal/evidence/bundle":        10,
	"internal/ociartifact":            10,
	"internal/registry":               11,
	"internal/trust":                  11,
	"internal/key":                    10,
	"internal/idtoken":                10,
	"internal/rekor":                  10,
	"internal/git":                    10,
	"internal/policy/rego":            10,
	"internal/policy/cuelang":         10,
	"internal/policy/sandbox":         10,
	"internal/policy/sourcepolicy":    12,
	"internal/policybundle":           12,
	"docs/policies/signing":           0,
	"internal/collect":                20,
	"internal/translog":               12,
	"internal/translog/rekor":         21,
	"internal/translog/index":         22,
	"internal/translog/watch":         23,
	"internal/verify":                 20,
	"internal/sign":                   20,
	"internal/visibility":             20,
	"internal/authority/tlog":         19,
	"internal/authority/":             20,
	"internal/authority/postings":     18,
	"internal/authority/witness":      18,
	"internal/authority":              21,
	"internal/assess":                 20,
	"internal/signingpolicy":          11,
	"internal/signingpolicy/ledger":   13,
	"internal/signingpolicy/chain":    21,
	"internal/signingpolicy/store":    22,
	"internal/signingpolicy/proposal": 22,
	"internal/signingpolicy/inforce":  22,
	"internal/signingpolicy/keyless":  21,
	"internal/gate":                   30,
	"internal/rewrite":                30,
	"internal/sourcefacts":            31,
	"internal/policy/clusterimage":    31,
	"internal/lockfile":               10,
	"internal/webfile":                10,
	"internal/build":                  40,
	"internal/admission":              40,
	"internal/cli":                    50,
	"internal/cli/check":              51,
	"internal/hmtest":                 90,
	"cmd/":                            100,
	"demo":                            100,
	"bench":                           100,
	"internal/evidence/simplesigning": 10,
	"internal/evidence/attestation":   11,
	"internal/evidence/notary":        10,
	"internal/evidence/convert":       11,
}

// heavy lists the libraries that only one package may import, with that package.
var heavy = map[string][]string{
	"github.com/open-policy-agent/opa":                  {"internal/policy/rego"},
	"cuelang.org/go":                                    {"internal/policy/cuelang"},
	"github.com/moby/buildkit":                          {"internal/build"},
	"oras.land/oras-go":                                 {"internal/registry"},
	"github.com/theupdateframework/go-tuf":              {"internal/trust", "internal/authority/tuf"}, // client and server
	"github.com/veraison/go-cose":                       {"internal/hmtest/notaryforge"},              // signs in tests; what is signed is read by our own
	"github.com/fxamacker/cbor":                         {"internal/hmtest/notaryforge"},
	"github.com/spiffe/go-spiffe":                       {"internal/idtoken"},
	"github.com/ebitengine/purego":                      {"internal/key/pkcs11"}, // loads modules of others into the process
	"github.com/ProtonMail/go-crypto":                   {"internal/git"},
	"github.com/hiddeco/sshsig":                         {"internal/sshsignature"},
	"github.com/spf13/cobra":                            {"internal/cli", "cmd/hallmark"},
	"github.com/sigstore/protobuf-specs":                {"internal/evidence/bundle", "internal/trust"},
	"github.com/secure-systems-lab/go-securesystemslib": {"internal/key", "internal/authority/tuf"}, // cosign.key; TUF canonical JSON
}

// forbidden are prefixes that a binary may not link besides those that none may,
// with the reason. Every binary has its entry.
var forbidden = map[string]map[string]string{
	"cmd/hallmark": {
		"github.com/ebitengine/purego": "modules of others are loaded by sigstore-kms-pkcs11 alone",
	},
	"cmd/sigstore-kms-pkcs11": {
		"net/http":                      "it asks no service",
		"github.com/open-policy-agent/": "it signs and does nothing else",
		"cuelang.org/":                  "it signs and does nothing else",
		"github.com/moby/buildkit":      "it signs and does nothing else",
		"github.com/spf13/cobra":        "it has one call",
	},
	"cmd/hallmark-verify": {
		"github.com/open-policy-agent/": "it judges no policy files",
		"cuelang.org/":                  "it judges no policy files",
		"github.com/moby/buildkit":      "it builds nothing",
		"google.golang.org/grpc":        "it serves nothing",
		"filippo.io/":                   "it issues nothing",
		module + "internal/sign":        "it signs nothing",
		module + "internal/build":       "it builds nothing",
		module + "internal/authority":   "it serves nothing",
		module + "internal/admission":   "it admits nothing",
		module + "internal/policy/":     "it judges no policy files",
		module + "internal/git":         "it looks at no source",
		module + "internal/idtoken":     "it is nobody",
		"github.com/ebitengine/purego":  "it loads no modules",
	},
	"cmd/hallmark-conformance": {
		"github.com/open-policy-agent/": "it judges no policies",
		"cuelang.org/":                  "it judges no policies",
		"github.com/moby/buildkit":      "it builds nothing",
		"github.com/ebitengine/purego":  "it loads no modules",
	},
}

// noBinary are prefixes that no binary may link.
var noBinary = map[string]string{
	"k8s.io/":                                    "4 ms of start-up and 22 MB: what needs Kubernetes in the CLI uses plain HTTP",
	"github.com/compose-spec/":                   "4 ms of start-up: compose files are read with a YAML decoder",
	"github.com/aws/":                            "no cloud SDK",
	"github.com/Azure/azure-sdk":                 "no cloud SDK",
	"cloud.google.com/go":                        "no cloud SDK",
	"github.com/sigstore/sigstore-go":            "an oracle in tests, not our verifier",
	"github.com/sigstore/cosign":                 "a peer",
	"runtime/cgo":                                "a static binary",
	"github.com/open-policy-agent/opa/v1/rego":   "3 MB of WebAssembly, planner and bundles: topdown evaluates",
	"github.com/open-policy-agent/opa/v1/bundle": "policies are files, read and bounded by us",
	module + "internal/hmtest":                   "for tests only",
}

// rules that do not follow from layers.
var never = map[string]map[string]string{
	"internal/verify": {"internal/policy/": "verify proves, policy judges"},
	"internal/sign":   {"internal/authority": "sign speaks HTTP, so private and public Sigstore are one path"},
}

type pkg struct {
	ImportPath   string
	Dir          string
	Doc          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// packages is every package of the module, without and never with tests' own variants.
var packages = sync.OnceValues(func() ([]pkg, error) { return golist("./...") })

func golist(patterns ...string) ([]pkg, error) {
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Doc,GoFiles,Imports,TestImports,XTestImports,Deps"}, patterns...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New(stderr.String())
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

func mustPackages(t *testing.T) []pkg {
	t.Helper()
	ps, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	if len(ps) < 10 {
		t.Fatalf("go list found only %d packages", len(ps))
	}
	return ps
}

// layer is the layer of a package and the rule that gave it; -1 without one.
func layer(path string) (int, string) {
	best, rule := -1, ""
	for prefix, l := range layers {
		matches := path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
		if matches && len(prefix) > len(rule) {
			best, rule = l, prefix
		}
	}
	return best, rule
}

func TestLayers(t *testing.T) {
	for _, p := range mustPackages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		if path == strings.TrimSuffix(module, "/") {
			continue
		}
		l, rule := layer(path)
		if l < 0 {
			t.Errorf("%s has no layer: add it to layers and to ARCHITECTURE.md", path)
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			tl, trule := layer(to)
			// Packages under one rule are one idea and may import each other.
			if tl > l || tl == l && trule != rule && l != 0 {
				t.Errorf("%s (layer %d) imports %s (layer %d): arrows go only downward", path, l, to, tl)
			}
			for banned, why := range never[path] {
				if strings.HasPrefix(to, banned) {
					t.Errorf("%s imports %s: %s", path, to, why)
				}
			}
		}
	}
}

func TestHeavyLibrariesHaveOneImporter(t *testing.T) {
	used := map[string]bool{}
	for _, p := range mustPackages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, imp := range p.Imports {
			for lib, importers := range heavy {
				if imp != lib && !strings.HasPrefix(imp, lib+"/") {
					continue
				}
				used[lib] = true
				ok := false
				for _, i := range importers {
					ok = ok || path == i || strings.HasPrefix(path, i+"/")
				}
				if !ok {
					t.Errorf("%s imports %s, which only %v may", path, imp, importers)
				}
			}
		}
	}
	for lib := range heavy {
		if !used[lib] {
			t.Errorf("nobody imports %s: delete its rule", lib)
		}
	}
}

func TestBinariesLinkOnlyWhatTheyMay(t *testing.T) {
	byPath := map[string]pkg{}
	for _, p := range mustPackages(t) {
		byPath[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	for bin := range forbidden {
		if _, ok := byPath[bin]; !ok {
			t.Errorf("no package %s", bin)
		}
	}
	for path, p := range byPath {
		if !strings.HasPrefix(path, "cmd/") {
			continue
		}
		if _, ok := forbidden[path]; !ok {
			t.Errorf("%s has no rules: add it to forbidden", path)
		}
		for _, dep := range p.Deps {
			for _, banned := range []map[string]string{noBinary, forbidden[path]} {
				for prefix, why := range banned {
					if isBelow(dep, prefix) {
						t.Errorf("%s links %s: %s", path, dep, why)
					}
				}
			}
		}
	}
}

// isBelow reports whether a prefix of forbidden means the package. Of our own packages
// "internal/sign" is that one and those in it, not "internal/signingpolicy".
func isBelow(dep, prefix string) bool {
	if strings.HasPrefix(prefix, module) && !strings.HasSuffix(prefix, "/") {
		return dep == prefix || strings.HasPrefix(dep, prefix+"/")
	}
	return strings.HasPrefix(dep, prefix)
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range mustPackages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestFilesCanBeSeenWhole(t *testing.T) {
	walkTree(t, ".go", func(path string, data []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		if n := bytes.Count(data, []byte("\n")); n > 600 {
			t.Errorf("%s has %d lines; 600 is the limit", path, n)
		}
	})
}

// TestTreeStandsAlone: a newcomer's clone has neither of these folders, nor this machine's.
func TestTreeStandsAlone(t *testing.T) {
	words := []string{"." + "./shared/", ".libr" + "ary", "/wor" + "k/main", "/ro" + "ot/"}
	walkTree(t, "", func(path string, data []byte) {
		// The public-good TUF root is data of others; a KMS key ring in it is called root.
		if strings.Contains(path, "testdata/") || strings.HasSuffix(path, "tufroot/public-good-root.json") || !isText(data) {
			return
		}
		s := bufio.NewScanner(bytes.NewReader(data))
		s.Buffer(nil, 1<<24)
		for n := 1; s.Scan(); n++ {
			for _, w := range words {
				if strings.Contains(s.Text(), w) {
					t.Errorf("%s:%d names %s, which other machines do not have", path, n, w)
				}
			}
		}
	})
}

func isText(data []byte) bool { return bytes.IndexByte(data[:min(len(data), 512)], 0) < 0 }

// walkTree calls f for every file that git tracks or would track, with the given ending.
func walkTree(t *testing.T, suffix string, f func(path string, data []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == ".git" || path == "bin" || path == ".hallmark"):
			return filepath.SkipDir
		case path == ".git": // a file in a worktree
			return nil
		case d.IsDir() || !d.Type().IsRegular() || !strings.HasSuffix(path, suffix):
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f(path, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
