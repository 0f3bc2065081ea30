package rules

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
)

// Codes of denials that say which condition of the library did not hold (docs/reasons.md).
const (
	CodeTagNotAnnotated = "TAG_NOT_ANNOTATED"
	CodeTagTargetType   = "TAG_TARGET_TYPE"
	CodeTagNameMismatch = "TAG_NAME_MISMATCH"
	CodeTagName         = "TAG_NAME"     // the tag's name is no version
	CodeTagUnsigned     = "TAG_UNSIGNED" // no signature verified
	CodeTagSigner       = "TAG_SIGNER"   // another key than the policy wants
	CodeQuorum          = "QUORUM_MISSING"
	CodeRejected        = "APPROVAL_REJECTED"
	CodeScanMissing     = "SCAN_MISSING"    // no trusted scan of the commit
	CodeScanIncomplete  = "SCAN_INCOMPLETE" // it did not look at everything
	CodeScanFailed      = "SCAN_FAILED"     // it found too much
	CodeNotOnBranch     = "NOT_ON_BRANCH"
	CodeNotDescendant   = "NOT_DESCENDANT" // the last release is no ancestor
	CodeBuilder         = "BUILDER_NOT_ALLOWED"
	CodePolicyYoung     = "POLICY_TOO_YOUNG"
)

// unmet says which conditions of the library did not hold in the evaluation of a policy
// that said no. Where allow is true all the same, those alone count that a denial asked
// for: others may belong to a way of being allowed that was not needed.
func (p *Policy) unmet(ctx context.Context, in *input.Document, doc map[string]any, allow bool) ([]policy.Reason, error) {
	now, err := in.Now.Time()
	if err != nil {
		return nil, err
	}
	_, conditions, err := p.engine.Trace(ctx, doc, now)
	if err != nil {
		return nil, err
	}
	var out []policy.Reason
	for _, c := range conditions {
		if allow && c.Rule != "deny_msg" && c.Rule != "decision" {
			continue
		}
		r, ok := reasonOf(c, in)
		if !ok || slices.ContainsFunc(out, func(o policy.Reason) bool { return o.Code == r.Code && o.Message == r.Message }) {
			continue
		}
		r.Message = rego.Clean(r.Message)
		out = append(out, r)
	}
	return out, nil
}

// reasonOf is a condition that did not hold, in words.
func reasonOf(c rego.Unmet, in *input.Document) (policy.Reason, bool) {
	r := policy.Reason{Subject: short(in)}
	say := func(code, format string, args ...any) (policy.Reason, bool) {
		r.Code, r.Message = code, fmt.Sprintf(format, args...)
		return r, true
	}
	arg := func(i int) any {
		if i < len(c.Args) {
			return c.Args[i]
		}
		return nil
	}
	switch c.Name {
	case "release_tag", "signed_tag_by", "hsm_signed_tag":
		return tagReason(c.Name, texts(arg(0)), in)
	case "quorum":
		return quorum(in, texts(arg(0)), arg(1), signed, "")
	case "hardware_quorum":
		return quorum(in, texts(arg(0)), arg(1), hardware, "with a key in hardware")
	case "quorum_from":
		sources := texts(arg(2))
		return quorum(in, texts(arg(0)), arg(1), func(a input.Approval) bool { return slices.Contains(sources, a.Source) }, "by "+strings.Join(sources, ", "))
	case "not_rejected_by":
		var who []string
		for _, a := range in.Approvals {
			if a.Decision == "reject" && slices.Contains(texts(arg(0)), a.Principal) {
				who = append(who, fmt.Sprintf("%s rejected it: %q", a.Principal, a.Comment))
			}
		}
		return say(CodeRejected, "%s", listed(who, "somebody rejected it"))
	case "no_self_approval":
		return say(CodeQuorum, "nobody approved besides those who made the commit and the tag or started the run")
	case "scanner_passed":
		tool, _ := arg(0).(string)
		limit, _ := arg(1).(string)
		return scanReason(tool, limit, in)
	case "on_branch":
		return say(CodeNotOnBranch, "commit %s is not contained in %v; it is in %s", in.Git.CommitChecksum, arg(0), listed(in.Ancestry.ContainedIn, "no protected branch"))
	case "descends_from_last_release":
		if in.Ancestry.LastReleaseIsAncestor == nil {
			return say(CodeNotDescendant, "whether the last release is an ancestor of commit %s is not known", in.Git.CommitChecksum)
		}
		last := "the last release"
		if l := in.Ancestry.LastRelease; l != nil {
			last = fmt.Sprintf("%s (%s)", l.Tag, l.Commit)
		}
		return say(CodeNotDescendant, "%s is no ancestor of commit %s", last, in.Git.CommitChecksum)
	case "builder_in":
		return say(CodeBuilder, "the builder %q is none of %s", in.Builder.URI, listed(texts(arg(0)), "none"))
	case "min_policy_age":
		at := in.Policy.EffectiveAt
		if at == nil || in.Policy.StoredAt == nil {
			return say(CodePolicyYoung, "the policy must be in force for %v, and since when it is is not known", arg(0))
		}
		return say(CodePolicyYoung, "the policy must be in force for %v, and is since %s", arg(0), max(*at, *in.Policy.StoredAt))
	}
	return r, false
}

// short names what is built on few columns: "v1.4.0 56ae342".
func short(in *input.Document) string {
	name := in.Git.TagName
	if name == "" {
		name = in.Git.Ref
	}
	return rego.Clean(name + " " + in.Git.CommitChecksum[:min(7, len(in.Git.CommitChecksum))])
}

func tagReason(name string, keys []string, in *input.Document) (policy.Reason, bool) {
	r := policy.Reason{Subject: short(in)}
	tag := in.Git.Tag
	say := func(code, format string, args ...any) (policy.Reason, bool) {
		r.Code, r.Message = code, fmt.Sprintf(format, args...)
		return r, true
	}
	switch {
	case tag == nil:
		r.Hint = "hallmark tag makes an annotated and signed tag"
		return say(CodeTagNotAnnotated, "%s is no annotated tag", in.Git.Ref)
	case !tag.NameMatchesRef:
		return say(CodeTagNameMismatch, "%s holds the tag object that was made as %q: an old tag was put under another name", in.Git.Ref, tag.Tag)
	case name == "release_tag" && tag.Type != "commit":
		return say(CodeTagTargetType, "the tag is of a %s, and must be of a commit", tag.Type)
	case name == "release_tag":
		return say(CodeTagName, "%q is not v and a semantic version, such as v1.2.3", tag.Tag)
	case tag.Signer == nil && tag.SSHSignature == nil && tag.PGPSignature == nil:
		r.Hint = "hallmark tag makes an annotated and signed tag"
		return say(CodeTagUnsigned, "tag %s has no signature that verified with a key of the policy's authority", tag.Tag)
	case tag.Signer == nil:
		return say(CodeTagSigner, "tag %s is not signed by a key of the policy's authority; wanted is %s", tag.Tag, listed(keys, "none"))
	}
	s := tag.Signer
	who := fmt.Sprintf("tag %s is signed by %s (%s %s, %s)", tag.Tag, s.Principal, s.Kind, s.Fingerprint, s.Protection)
	wanted := slices.Contains(keys, s.Fingerprint) || slices.ContainsFunc(s.Roles, func(role string) bool { return slices.Contains(keys, "role:"+role) })
	if wanted && name == "hsm_signed_tag" {
		return say(CodeTagSigner, "%s, whose key is not in an HSM", who)
	}
	return say(CodeTagSigner, "%s, which is none of %s", who, listed(keys, "none"))
}

func signed(a input.Approval) bool { return a.Source == "signed" }

func hardware(a input.Approval) bool {
	return signed(a) && (a.Protection == "hsm" || a.Protection == "fido")
}

func quorum(in *input.Document, names []string, n any, counts func(input.Approval) bool, how string) (policy.Reason, bool) {
	var have, rejected, missing []string
	for _, a := range in.Approvals {
		if a.Decision == "reject" {
			rejected = append(rejected, a.Principal)
		}
	}
	for _, name := range names {
		if !slices.Contains(rejected, name) && slices.ContainsFunc(in.Approvals, func(a input.Approval) bool {
			return a.Decision == "approve" && a.Principal == name && counts(a)
		}) {
			have = append(have, name)
		} else {
			missing = append(missing, name)
		}
	}
	if how != "" {
		how = " " + how
	}
	r := policy.Reason{Code: CodeQuorum, Subject: short(in), Hint: "hallmark approve " + rego.Clean(cmp.Or(in.Git.TagName, in.Git.Ref))}
	r.Message = fmt.Sprintf("%d of %v approvals%s", len(have), n, how)
	if have != nil {
		r.Message += " (" + strings.Join(have, ", ") + ")"
	}
	wanted := "some"
	if number, ok := n.(json.Number); ok {
		if i, err := number.Int64(); err == nil {
			wanted = map[bool]string{true: "one", false: fmt.Sprint(max(i-int64(len(have)), 0))}[i-int64(len(have)) == 1]
		}
	}
	r.Message += fmt.Sprintf(". Missing %s of: %s", wanted, listed(missing, "nobody, for the policy names too few"))
	if rejected != nil {
		r.Message += ". Rejected by " + strings.Join(rejected, ", ")
		r.Hint = "" // no further approval helps
	}
	return r, true
}

func scanReason(tool, limit string, in *input.Document) (policy.Reason, bool) {
	r := policy.Reason{Code: CodeScanMissing, Subject: short(in)}
	var why []string
	var of []input.Scan
	for _, s := range in.Scans {
		switch {
		case s.Tool.Name != tool:
		case s.Commit != in.Git.CommitChecksum:
			why = append(why, fmt.Sprintf("one is of another commit (%s)", cmp.Or(s.Commit, "not said which")))
		case !s.Trusted || s.Scope == "repository":
			why = append(why, "one of scope "+s.Scope+" is not trusted")
		default:
			of = append(of, s)
		}
	}
	if of == nil {
		r.Message = fmt.Sprintf("no trusted scan by %s of this commit", tool)
		if why != nil {
			r.Message += ": " + strings.Join(why, "; ")
		}
		return r, true
	}
	whole := slices.ContainsFunc(of, func(s input.Scan) bool { return s.Completed && s.Rules >= 1 && s.Baseline == "" })
	if !whole {
		r.Code = CodeScanIncomplete
		s := of[0]
		switch {
		case !s.Completed:
			r.Message = fmt.Sprintf("the scan by %s did not complete", tool)
		case s.Rules < 1:
			r.Message = fmt.Sprintf("the scan by %s has no rules", tool)
		default:
			r.Message = fmt.Sprintf("the scan by %s leaves out what %s had", tool, s.Baseline)
		}
		return r, true
	}
	r.Code = CodeScanFailed
	var found []string
	for _, s := range of {
		found = append(found, fmt.Sprintf("%s (%d critical, %d high, %d medium, %d low, %d note)", s.MaxSeverity, s.Counts.Critical, s.Counts.High, s.Counts.Medium, s.Counts.Low, s.Counts.Note))
	}
	r.Message = fmt.Sprintf("%s found %s, and at most %s is accepted", tool, strings.Join(found, ", "), limit)
	return r, true
}

// texts are the texts of a list.
func texts(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, e := range list {
		if s, ok := e.(string); ok && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// listed is a list in words.
func listed(list []string, none string) string {
	const most = 20
	switch {
	case len(list) == 0:
		return none
	case len(list) > most:
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}
