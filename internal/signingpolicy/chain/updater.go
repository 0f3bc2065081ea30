package chain

import (
	"fmt"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Names of Fulcio's extensions (sigstore/fulcio, docs/oid-info.md), as package verify calls them.
const (
	extRunner    = "runnerEnvironment"               // .1.11
	extSourceURI = "sourceRepositoryURI"             // .1.12
	extCommit    = "sourceRepositoryDigest"          // .1.13
	extRef       = "sourceRepositoryRef"             // .1.14
	extRepoID    = "sourceRepositoryIdentifier"      // .1.15
	extOwnerURI  = "sourceRepositoryOwnerURI"        // .1.16
	extOwnerID   = "sourceRepositoryOwnerIdentifier" // .1.17
	extTrigger   = "buildTrigger"                    // .1.20
	hostedRunner = "github-hosted"
)

// updater verifies that the updater's workflow signed a record, running for the repository that the
// record is about, on the branch and commit that it names.
func (rules *Rules) updater(r *record.Record) error {
	bad := func(code, format string, args ...any) error {
		return refuse(code, r.Key, "only the updater's workflow, run by the repository itself, makes records", "version %d of the policy of %s %s",
			r.Version, r.Key, fmt.Sprintf(format, args...))
	}
	if r.Claim == nil {
		return bad(CodeBadUpdater, "is not signed")
	}
	subject := r.ProposalDigest
	if r.Policy != nil {
		subject = r.Policy.Bundle
	}
	v, reasons := rules.Verifier.Claim(r.Claim, verify.Artifact{Digests: []evidence.Digest{subject}})
	switch {
	case v == nil:
		return bad(CodeBadUpdater, "is not signed by its updater: %s", reasons[0])
	case len(v.Times()) == 0:
		return bad(CodeBadUpdater, "is signed at no time that anybody vouches for")
	}
	signer := v.Signer()
	if !rules.known(signer) {
		return bad(CodeBadUpdater, "is signed by %s, which is not the updater", signer)
	}
	ext := signer.Extensions
	if !rules.AnyRunner && ext[extRunner] != hostedRunner {
		return bad(CodeBadUpdater, "is signed by an updater on a runner of kind %q, not %s", ext[extRunner], hostedRunner)
	}
	if t := ext[extTrigger]; t != "push" && t != "workflow_dispatch" {
		return bad(CodeBadUpdater, "is signed by an updater that was started by %q, not by push or workflow_dispatch", t)
	}
	host, kind, number := repokey.Parts(r.Key)
	id, uri := ext[extRepoID], ext[extSourceURI]
	if kind == "owner" {
		id, uri = ext[extOwnerID], ext[extOwnerURI]
	}
	switch {
	case id != number || !strings.HasPrefix(strings.ToLower(uri), "https://"+host+"/"):
		return bad(CodeOtherRepo, "is signed by an updater that ran for %s (id %s)", uri, id)
	case !strings.EqualFold(uri, "https://"+r.Name):
		return bad(CodeBadUpdater, "says that the name is %s; its updater ran for %s", r.Name, uri)
	case ext[extOwnerID] != r.OwnerID:
		return bad(CodeBadUpdater, "says that the owner is %s; its updater ran for %s", r.OwnerID, ext[extOwnerID])
	case ext[extRef] != r.Source.Ref || ext[extCommit] != r.Source.Commit:
		return bad(CodeBadUpdater, "says that it is of %s at %s; its updater ran for %s at %s", r.Source.Ref, r.Source.Commit, ext[extRef], ext[extCommit])
	}
	return nil
}

func (rules *Rules) known(s evidence.Signer) bool {
	for _, m := range rules.updaters {
		if m.Match(s) {
			return true
		}
	}
	return false
}
