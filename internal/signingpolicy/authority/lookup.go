package authority

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// BySSH finds the holder of an SSH key.
func (d *Document) BySSH(key ssh.PublicKey) (Holder, bool) {
	h, ok := d.byID[ssh.FingerprintSHA256(key)]
	return h, ok && h.Key.Kind == SSH
}

// ByFingerprint finds the holder of a key by its [Key.ID] or by the fingerprint of an OpenPGP
// subkey.
func (d *Document) ByFingerprint(id string) (Holder, bool) {
	if h, ok := d.byID[id]; ok {
		return h, true
	}
	h, ok := d.byAlias[id]
	return h, ok
}

// ByOpenPGP finds the holder of an OpenPGP certificate by the fingerprint, in lower-case
// hexadecimal digits, of its primary key or of a subkey.
func (d *Document) ByOpenPGP(fingerprint string) (Holder, bool) {
	h, ok := d.ByFingerprint(fingerprint)
	return h, ok && h.Key.Kind == OpenPGP
}

// BySPKI finds the holder of a key, of whichever kind, by its SubjectPublicKeyInfo in DER.
func (d *Document) BySPKI(der []byte) (Holder, bool) {
	h, ok := d.byMatter[pin(der)]
	return h, ok
}

// ByIdentity finds the holder of a keyless identity.
func (d *Document) ByIdentity(issuer, subject string) (Holder, bool) {
	h, ok := d.byID[issuer+" "+subject]
	return h, ok && h.Key.Kind == Sigstore
}

// ByAccount finds the principal with an account, by its numeric id.
func (d *Document) ByAccount(host, id string) (*Principal, bool) {
	for _, name := range d.Names() {
		if p := d.Principals[name]; id != "" && p.Accounts[host] == id {
			return p, true
		}
	}
	return nil, false
}

// Names are those of all principals, sorted.
func (d *Document) Names() []string { return slices.Sorted(maps.Keys(d.Principals)) }

// Role is a role by its name.
func (d *Document) Role(name string) (*Role, bool) {
	r, ok := d.Roles[name]
	return r, ok
}

// RolesOf are the names of the roles that a principal is of, sorted.
func (d *Document) RolesOf(principal string) []string {
	names := []string{}
	for _, name := range slices.Sorted(maps.Keys(d.Roles)) {
		if d.Roles[name].Has(principal) {
			names = append(names, name)
		}
	}
	return names
}

// Keys are all keys with a use, in the order of their principals' names.
func (d *Document) Keys(use string) []Holder {
	var out []Holder
	for _, name := range d.Names() {
		for _, k := range d.Principals[name].Keys {
			if k.May(use) {
				out = append(out, Holder{d.Principals[name], k})
			}
		}
	}
	return out
}

// RoleKeys are the keys with a use of a role's principals; none of an unknown role.
func (d *Document) RoleKeys(role, use string) []Holder {
	r, ok := d.Roles[role]
	if !ok {
		return nil
	}
	return slices.DeleteFunc(d.Keys(use), func(h Holder) bool { return !r.Has(h.Principal.Name) })
}

// Warnings are what a person should know who accepts the document.
func (d *Document) Warnings() []policy.Reason {
	var out []policy.Reason
	for _, name := range slices.Sorted(maps.Keys(d.Roles)) {
		r := d.Roles[name]
		for _, e := range r.Evidence {
			if e != Signed {
				out = append(out, policy.Reason{Code: CodeWeakEvidence, Subject: "roles." + name + ".evidence",
					Message: "role " + name + " accepts " + e + ": it is PAT-strength, one leaked access token of a person is enough to agree for them",
					Hint:    "have people sign, and write evidence: [\"signed\"]"})
			}
		}
	}
	return out
}

// Canonical is the document in canonical form (RFC 8785), with only what it said: defaults are
// not written into it.
func (d *Document) Canonical() []byte { return slices.Clone(d.canonical) }

// Digest is "sha256:…" of the canonical form.
func (d *Document) Digest() string { return pin(d.canonical) }

// pin is "sha256:" and the digest of data.
func pin(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }
