// Package judge asks the signing policy of a repository about one release: it
// puts together what a ref leads to, who signed its tag, who approved it and what
// the CI's identity says, and lets the policy's rules decide about that
// (docs/signing-policy.md).
//
// Trusted: the policy's folder and the clock. Not trusted: the repository, its
// server, where approvals lie, and everything in either. What could not be found
// out denies or is an error; it never counts as "there is none".
package judge

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/jcs"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

// AuthorityFile names the people in a policy's folder.
const AuthorityFile = "authority.json"

// Folder is a signing policy, its people and its rules: that of a folder or, where Stored is set,
// that of a policy store.
type Folder struct {
	Dir       string
	Authority *authority.Document
	Rules     *rules.Policy
	Stored    *Stored
}

// IsFolder reports whether a folder holds a signing policy, by its authority.json.
func IsFolder(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, AuthorityFile))
	return err == nil
}

// ReadFolder reads and compiles a policy's folder: authority.json, signing.rego (or
// the proposal's file name) and, where there is one, data.json. All that is wrong with
// them comes back as reasons (AUTHORITY_…, KEY_…, POLICY_COMPILE) with the place as their
// subject; an error means that the folder cannot be read.
func ReadFolder(dir string, o rules.Options) (*Folder, []policy.Reason, error) {
	text, err := readRegular(filepath.Join(dir, AuthorityFile), authority.MaxSize)
	if err != nil {
		return nil, nil, err
	}
	people, why := authority.Parse(text)
	for i := range why {
		if why[i].Subject != "" {
			why[i].Subject = AuthorityFile + ": " + why[i].Subject
		} else {
			why[i].Subject = AuthorityFile
		}
	}
	files, more, err := rules.ReadFolder(dir)
	if err != nil {
		return nil, nil, err
	}
	var compiled *rules.Policy
	if why = append(why, more...); len(more) == 0 {
		compiled, more = rules.Load(files, o)
		why = append(why, more...)
	}
	if len(why) > 0 {
		return nil, why, nil
	}
	return &Folder{Dir: dir, Authority: people, Rules: compiled}, nil, nil
}

// Digest names the policy's text: "sha256:…" of the canonical JSON (RFC 8785) of
// {"authority": …, "policy": digest of the rules' bundle}. Approvals of a policy that no
// store has bind it, so that none of them outlives a change of people or rules.
func (f *Folder) Digest() (string, error) {
	bundle, err := jcs.Marshal(map[string]string{"policy": f.Rules.Digest()})
	if err != nil {
		return "", err
	}
	whole := fmt.Appendf(nil, `{"authority":%s,%s`, f.Authority.Canonical(), bundle[1:])
	whole, err = jcs.Transform(whole)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(whole)), nil
}

// readRegular reads a regular file of at most limit bytes.
func readRegular(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path) // first: to open a pipe waits for who writes into it
	var f *os.File
	if err == nil && st.Mode().IsRegular() {
		f, err = os.Open(path)
	} else if err == nil {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return data, err
}
