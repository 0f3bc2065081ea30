// Package clusterimage is the admission policy of a cluster in the format of the
// Sigstore policy-controller: ClusterImagePolicy (policy.sigstore.dev/v1beta1 and
// v1alpha1) says which images need whose signatures and attestations, TrustRoot
// says under which keys.
//
// The documents are read strictly: a field that is unknown, misspelt, given
// twice or not supported yet is an error with file, line and path. A policy that
// is only half understood would admit what its author meant to stop.
//
// Policies that match an image are all demanded; within one policy any authority
// is enough; an image that no policy matches is denied.
//
// Trusted: the policy folder; an attacker who can modify it decides what runs.
// Not trusted: image names and evidence.
package clusterimage

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// StatementPolicy judges one verified in-toto statement. It is safe for
// concurrent use; an error means that ctx ended.
type StatementPolicy interface {
	Check(ctx context.Context, statement []byte) (policy.Decision, error)
}

// Compilers make statement policies of policy.data; file names the place for errors.
type Compilers struct {
	CUE  func(file string, text []byte) (StatementPolicy, error)
	Rego func(file string, text []byte) (StatementPolicy, error)
}

// Set is all policies and trust roots of a folder. It is not modified after
// parsing and safe for concurrent use.
type Set struct {
	Policies   []*Policy
	TrustRoots map[string]*TrustRoot
}

// Policy is one ClusterImagePolicy.
type Policy struct {
	Name        string
	Warn        bool // mode: warn
	Authorities []Authority
	Rule        StatementPolicy // spec.policy, on what the authorities matched; nil: any of them is enough

	globs []Glob
}

// Authority is who may vouch for an image. Exactly one of Static, Keyless and Key is set.
type Authority struct {
	Name         string
	Static       *Static
	Keyless      *Keyless
	Key          *Key
	Attestations []Attestation // when there are some, they are demanded instead of a signature
	BundlesOnly  bool          // cosign's older formats do not count
}

// Static decides without looking at signatures.
type Static struct {
	Pass    bool
	Message string // for a fail
}

// Keyless demands a certificate's identity under a trust root.
type Keyless struct {
	Identities   []policy.Matcher // any
	TrustRootRef string           // name of a TrustRoot; "" is Sigstore's public good instance
}

// Key demands a signature by one key.
type Key struct {
	Public      crypto.PublicKey
	Fingerprint string // "sha256:…" of the DER SubjectPublicKeyInfo
}

// Attestation demands a verified statement of a type that satisfies a policy.
type Attestation struct {
	Name          string
	PredicateType string          // URI
	Policy        StatementPolicy // nil: any statement of the type
}

// Trust is what the facts for an authority must be verified under.
type Trust struct {
	Root string // TrustRoot by name; "" with a nil Key is the public good instance
	Key  *Key   // a bare key instead
}

func (t Trust) String() string {
	switch {
	case t.Key != nil:
		return "key " + t.Key.Fingerprint
	case t.Root == "":
		return "Sigstore's public good instance"
	}
	return "TrustRoot " + t.Root
}

// File is a file of a policy folder.
type File struct {
	Name string
	Data []byte
}

// Limits of a policy folder.
const (
	maxFiles = 1000
	maxTotal = 32 << 20 // bytes
)

// Load reads a file or all files of a folder. Files of a folder must be YAML or
// JSON by their name; hidden ones (.git, ..data of a mounted ConfigMap) are not
// policy.
func Load(path string, c Compilers) (*Set, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Usagef("policy %s: %w", path, err)
	}
	names := []string{path}
	if info.IsDir() {
		if names, err = folder(path); err != nil {
			return nil, err
		}
	}
	var files []File
	total := 0
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		if total += len(data); total > maxTotal {
			return nil, fmt.Errorf("policy %s: more than %d bytes", path, maxTotal)
		}
		files = append(files, File{Name: name, Data: data})
	}
	return Parse(files, c)
}

func folder(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(name) // follows links, as in a mounted ConfigMap
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		switch filepath.Ext(e.Name()) {
		case ".yaml", ".yml", ".json":
			if info.Mode().IsRegular() && info.Size() <= maxTotal {
				names = append(names, name)
				continue
			}
		}
		return nil, fault.Hint(fmt.Errorf("policy: %s is no policy file", name),
			"a policy folder holds .yaml, .yml and .json files and nothing else, so that nothing in it is overlooked")
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("policy: no .yaml file in %s", dir)
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("policy: more than %d files in %s", maxFiles, dir)
	}
	return names, nil
}
