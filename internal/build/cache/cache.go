// Package cache keeps what the steps of trusted builds made, for later builds of the same
// source: BuildKit's cache manifests in a repository, each signed with a statement of our
// own about what it was made for.
//
// An entry is reused only when who signs this build signed it, and both the statement and
// what the certificate says are about the same repository id, the same builder, and the ref
// of this build or the default branch. What a pull request or a fork makes is never kept, and
// such a job takes only what the default branch made. No entry denies a build: one that does
// not pass is left out, with the reasons, and the steps run.
//
// All of an entry is fetched, and compared with its digests, before BuildKit sees a byte of
// it. BuildKit 0.33 reads the manifest and the table of steps and results that it fetches
// from a registry itself without comparing either (containerd, content.ReadBlob), so that a
// registry could say there which result a step had.
//
// Trusted: who signs, and the default branch that the git server names. Not trusted: the
// registry, which can withhold entries, or show an older one of the same ref, up to [MaxAge].
package cache

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// PredicateType is that of the statement about a cache manifest.
const PredicateType = "https://github.com/hallmark-dev/hallmark/build-cache/v1"

// MaxAge is how long an entry is reused after it was signed, where a trusted time says when
// that was: of a key without timestamps none does.
const MaxAge = 30 * 24 * time.Hour

// Codes of this package (docs/reasons.md). All of them are warnings.
const (
	CodeUnverified = "CACHE_UNVERIFIED" // nobody who counts signed the entry
	CodeOther      = "CACHE_OTHER"      // signed, for another repository, ref, builder or build
	CodeClaims     = "CACHE_CLAIMS"     // its statement says what the certificate does not
	CodeEvent      = "CACHE_EVENT"      // made by, or to be made by, a pull request or another event whose builds are not kept
	CodeBroken     = "CACHE_BROKEN"     // what the registry sends is not the entry, or no cache
	CodePublic     = "CACHE_PUBLIC"     // everybody could read there what a private source made
	CodeUnused     = "CACHE_UNUSED"     // this build takes nothing from a cache
	CodeNotKept    = "CACHE_NOT_KEPT"   // this build is complete, and leaves nothing for others
)

// MaxStatement is the size of the largest predicate that is read, in bytes.
const MaxStatement = 64 << 10

// Entry is what the statement about a cache manifest says. There is no time in it, which
// nobody could check: when it was signed, the signature's trusted times say.
type Entry struct {
	Repository   string `json:"repository" strict:"required"` // URL; of a job as its certificate has it
	RepositoryID string `json:"repositoryID"`                 // the forge's, which no other repository gets later; "" of who is no job
	Ref          string `json:"ref" strict:"required"`        // full name
	Commit       string `json:"commit" strict:"required"`
	Event        string `json:"event"` // that started the job; "" of who is no job

	Builder Builder `json:"builder" strict:"required"`

	Scope     string   `json:"scope" strict:"required"` // a name that the caller chose
	Platforms []string `json:"platforms" strict:"required,max=64"`
	Network   string   `json:"network" strict:"required"` // of steps: "host" or "none"
}

// Builder is the version of a builder: all that makes a result beside the source.
type Builder struct {
	Hallmark string          `json:"hallmark" strict:"required"` // version
	File     evidence.Digest `json:"file" strict:"required"`     // of the builder file
	BuildKit string          `json:"buildkitd" strict:"required"`
	Runc     string          `json:"runc" strict:"required"` // SHA-256 of what runs, as BuildKit
	// Workflow is the commit of the workflow, where that is not of the source itself; whose
	// it is the identity of who signs says.
	Workflow string `json:"workflow"`
}

// JSON is the predicate. Platforms must not be nil.
func (e *Entry) JSON() ([]byte, error) { return json.Marshal(e) }

// Parse reads a predicate, strictly: two readers must not understand it differently.
func Parse(predicate []byte) (*Entry, error) {
	if len(predicate) > MaxStatement {
		return nil, fmt.Errorf("longer than %d bytes", MaxStatement)
	}
	e := new(Entry)
	if err := strictjson.Unmarshal(predicate, e); err != nil {
		return nil, err
	}
	if b := &e.Builder; slices.Contains([]string{e.Repository, e.Ref, e.Commit, e.Scope, e.Network, b.Hallmark, string(b.File), b.BuildKit, b.Runc}, "") {
		return nil, errors.New("a required member is empty")
	}
	return e, nil
}

// tag is the tag under which a repository of caches has the entry of a ref by a signer: what
// tells entries apart that are not to be reused for each other. It is a place to look, no proof.
func (e *Entry) tag(ref, signer string) string {
	return fmt.Sprintf("hallmark-cache-%.20x", sha256.Sum256(fmt.Appendf(nil, "%q", append(e.told()[:], ref, signer))))
}

// six are members of an entry that are compared with those of another.
type six = [6]string

var (
	told      = &six{"repository", "repository id", "builder", "scope", "platforms", "network"}
	certified = &six{"repository", "repository id", "ref", "commit", "event", "workflow's commit"}
)

// told are what must be the same for an entry to be reused, beside the ref; lists are quoted,
// so that no two are the same text.
func (e *Entry) told() *six {
	return &six{e.Repository, e.RepositoryID, fmt.Sprintf("%q", &e.Builder), e.Scope, fmt.Sprintf("%q", e.Platforms), e.Network}
}

// certified are what a certificate says, too.
func (e *Entry) certified() *six {
	return &six{e.Repository, e.RepositoryID, e.Ref, e.Commit, e.Event, e.Builder.Workflow}
}

// differs names the first in which two differ, with both values; "" when there is none.
func differs(format string, names, a, b *six) string {
	for i, name := range names {
		if a[i] != b[i] {
			return fmt.Sprintf(format, name, a[i], b[i])
		}
	}
	return ""
}

// events are those whose builds are kept: what is built is the branch's or tag's own commit,
// and who caused it may push there, start jobs there, or is the clock. GitHub's event_name and
// GitLab's pipeline_source.
var events = [...]string{"push", "schedule", "workflow_dispatch", "release", "create", "web", "api", "trigger", "pipeline"}

// origin says why what a build of this ref and event makes is not kept, "" when it may be.
func (e *Entry) origin(job bool) string {
	switch {
	case !strings.HasPrefix(e.Ref, "refs/heads/") && !strings.HasPrefix(e.Ref, "refs/tags/"):
		return fmt.Sprintf("%q is neither a branch nor a tag", e.Ref)
	case job && !slices.Contains(events[:], e.Event):
		return fmt.Sprintf("the event %q is none whose builds others may rely on", e.Event)
	}
	return ""
}

// foreign reports whether a build of this ref and event may be of what others propose: a
// pull request, a fork, or something that is no branch or tag.
func (e *Entry) foreign() bool {
	return e.origin(false) != "" || strings.Contains(e.Event, "pull_request") || strings.Contains(e.Event, "merge_request")
}
