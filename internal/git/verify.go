package git

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sshsignature"
)

// SignatureNamespace is the SSHSIG namespace of git's signatures.
const SignatureNamespace = "git"

// minRSABits is the smallest RSA modulus of a signing key.
const minRSABits = 2048

// Names of the trust files in a policy directory.
const (
	SignersFile = "allowed_signers"
	KeyringFile = "keyring.asc"
)

// Trust is whose signatures count. It comes from the owner of the policy,
// never from the repository that is judged. The zero Trust trusts nobody.
type Trust struct {
	Signers *Signers // SSH keys
	Keyring *Keyring // OpenPGP keys
}

// LoadTrust reads allowed_signers and keyring.asc of a policy directory; each
// may be missing, but not both. A damaged file is an error that names it.
func LoadTrust(dir string) (Trust, error) {
	var t Trust
	for name, limit := range map[string]int64{SignersFile: MaxSignersSize, KeyringFile: MaxKeyringSize} {
		path := filepath.Join(dir, name)
		data, err := readLimited(path, limit)
		if os.IsNotExist(err) {
			continue
		}
		if err == nil && name == SignersFile {
			t.Signers, err = ParseSigners(data)
		} else if err == nil {
			t.Keyring, err = ParseKeyring(data)
		}
		if err != nil {
			return Trust{}, fmt.Errorf("reading %s: %w", path, err)
		}
	}
	if t.Signers == nil && t.Keyring == nil {
		return Trust{}, fault.Hint(fmt.Errorf("%s has neither %s nor %s: nobody may sign a tag", dir, SignersFile, KeyringFile),
			"write one line per key into %s: NAME namespaces=\"git\" KEY-TYPE KEY; a signing policy has its keys in authority.json: hallmark signing-policy init", filepath.Join(dir, SignersFile))
	}
	return t, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("not a regular file")}
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return os.ReadFile(path)
}

// VerifyTag says who signed the tag that stands at ref: exactly one of the
// answers is not nil. A key counts when it is listed and valid at now; the
// tagger's date is the signer's own claim and plays no part.
func (t Trust) VerifyTag(tag *Tag, ref string, now time.Time) (*policy.TagSigner, *policy.Reason) {
	if why := tag.standsAt(ref); why != nil {
		return nil, why
	}
	return t.verify(tag.Signature, tag.what(), tag.ID, now)
}

// standsAt refuses a tag under another name, and one of something else than a commit.
func (t *Tag) standsAt(ref string) *policy.Reason {
	if ref != "refs/tags/"+t.Name {
		return reason(CodeNameMismatch, ref, "tag the commit under its own name and sign that tag",
			"%s holds the tag object signed as %q; an old signed tag was put under a new name", ref, t.Name)
	}
	if t.Type != "commit" {
		return reason(CodeTargetType, t.ID, "tag the commit itself",
			"tag %s points to a %s, not to a commit", t.Name, t.Type)
	}
	return nil
}

func (t *Tag) what() string { return fmt.Sprintf("tag %s (%s)", t.Name, short(t.ID)) }

// VerifyCommit says who signed a commit, as VerifyTag does for a tag.
func (t Trust) VerifyCommit(c *Commit, now time.Time) (*policy.TagSigner, *policy.Reason) {
	return t.verify(c.Signature, "commit "+short(c.ID), c.ID, now)
}

func (t Trust) verify(sig Signature, what, id string, now time.Time) (*policy.TagSigner, *policy.Reason) {
	v := verification{sig: sig, what: what, id: id, now: now, minRSA: minRSABits}
	switch sig.Kind {
	case "ssh":
		return v.ssh(t.Signers)
	case "openpgp":
		return v.openpgp(t.Keyring)
	case "":
		return nil, reason(CodeUnsigned, id, "sign it: git tag -s", "%s is not signed", what)
	}
	return nil, v.denied(CodeSigner, "is signed with %s; signatures of this kind are not accepted, only ssh and openpgp", sig.Kind)
}

// verification is one signature being judged.
type verification struct {
	sig  Signature
	what string // for messages: "tag v1.0.0 (0123456789ab)"
	id   string
	now  time.Time

	minRSA int    // bits
	hint   string // "" for that about the files of a policy directory
}

func (v verification) denied(code, format string, args ...any) *policy.Reason {
	hint := "have it signed by a key that " + SignersFile + " of the policy directory lists"
	if v.sig.Kind == "openpgp" {
		hint = "have it signed by a key that " + KeyringFile + " of the policy directory holds"
	}
	hint = cmp.Or(v.hint, hint)
	if code == CodeMalformed {
		hint = "make the tag anew with git tag -s"
	}
	return reason(code, v.id, hint, "%s %s", v.what, fmt.Sprintf(format, args...))
}

// sshCodes are the codes of what is wrong with an SSH signature.
var sshCodes = map[sshsignature.Problem]string{
	sshsignature.Malformed: CodeMalformed, sshsignature.Kind: CodeKeyKind, sshsignature.TooWeak: CodeKeyTooWeak,
	sshsignature.Unverified: CodeSigner, sshsignature.NotTouched: CodeSigner, sshsignature.OtherPurpose: CodeWrongNamespace,
}

// ssh verifies an SSHSIG signature by a key that is listed.
func (v verification) ssh(signers *Signers) (*policy.TagSigner, *policy.Reason) {
	sig, why := v.readSSH()
	if why != nil {
		return nil, why
	}
	entries := signers.find(sig.Key.Marshal())
	fingerprint := ssh.FingerprintSHA256(sig.Key)
	if len(entries) == 0 && sig.Namespace == SignatureNamespace {
		return nil, v.denied(CodeSigner, "is signed by ssh %s, a key that is not listed", fingerprint)
	}
	if why := v.checkSSH(sig); why != nil {
		return nil, why
	}
	principals, r := v.principals(entries, fingerprint)
	if r != nil {
		return nil, r
	}
	return &policy.TagSigner{Kind: "ssh", Fingerprint: fingerprint, Principals: principals}, nil
}

// readSSH reads the one SSHSIG of the armor.
func (v verification) readSSH() (*sshsignature.Signature, *policy.Reason) {
	blob, err := sshsignature.Unarmor(v.sig.Armored)
	if err != nil {
		return nil, v.denied(CodeMalformed, "has an SSH signature that cannot be read: %v", err)
	}
	sig, err := sshsignature.Parse(blob)
	if err != nil {
		return nil, v.denied(sshCodes[sshsignature.ProblemOf(err)], "%v", err)
	}
	return sig, nil
}

// checkSSH checks that the key which the signature names made it, for git, and is strong enough.
func (v verification) checkSSH(sig *sshsignature.Signature) *policy.Reason {
	if err := sig.Verify(v.sig.Payload, SignatureNamespace, v.minRSA); err != nil {
		return v.denied(sshCodes[sshsignature.ProblemOf(err)], "%v", err)
	}
	return nil
}

// principals joins the names of all lines that list the key for git now.
func (v verification) principals(entries []signer, fingerprint string) ([]string, *policy.Reason) {
	var names []string
	var why *policy.Reason
	for _, e := range entries {
		switch {
		case e.namespaces != nil && !slices.Contains(e.namespaces, SignatureNamespace):
			if why == nil {
				why = v.denied(CodeSigner, "is signed by ssh %s, which %s line %d lists for %s only",
					fingerprint, SignersFile, e.line, strings.Join(e.namespaces, ", "))
			}
		case !e.after.IsZero() && v.now.Before(e.after):
			why = v.denied(CodeKeyExpired, "is signed by ssh %s, which is valid only after %s (%s line %d)",
				fingerprint, e.after.UTC().Format(time.RFC3339), SignersFile, e.line)
		case !e.before.IsZero() && !v.now.Before(e.before):
			why = v.denied(CodeKeyExpired, "is signed by ssh %s, which was valid only before %s (%s line %d); the date in the tag does not count",
				fingerprint, e.before.UTC().Format(time.RFC3339), SignersFile, e.line)
		default:
			names = append(names, e.principals...)
		}
	}
	if len(names) == 0 {
		return nil, why
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// KeyHint is the fingerprint of the key that a signature claims to be made
// with, "" when it does not say. Nothing about it is verified.
func (s Signature) KeyHint() string {
	switch s.Kind {
	case "ssh":
		if blob, err := sshsignature.Unarmor(s.Armored); err == nil {
			return sshsignature.ClaimedKey(blob)
		}
		return ""
	case "openpgp":
		return openpgpHint(s.Armored)
	}
	return ""
}
