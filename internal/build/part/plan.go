package part

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Plan is what whoever puts parts together expects of each.
type Plan struct {
	// Part is what a part of this run says, but for what is a machine's own: its platform,
	// its tools and its index. In its Facts, CI is not looked at either: the certificate is.
	*Part
	Platforms  []string          // all that are asked for, as [Normal] writes them
	File       *trusted.Builder  // the builder file here
	Extensions map[string]string // of the certificate of who puts them together, nil when that is no job
}

// Named is a part whose signature was verified: by that signer.
type Named struct {
	Name string // of its file
	*Part
	Signer evidence.Signer
}

// Check says what is wrong with a part.
func (p *Plan) Check(got *Named) []policy.Reason {
	c := &check{name: got.Name}
	c.same(CodeRun, "run", got.Run, p.Run)
	c.job(got.Signer, p.Extensions)
	c.same(CodeSource, "repository", got.Repository, p.Repository)
	c.same(CodeSource, "ref", got.Ref, p.Ref)
	c.same(CodeSource, "commit", got.Commit, p.Commit)
	c.same(CodeImage, "image", strings.Join(got.Images, ", "), strings.Join(p.Images, ", "))
	c.builder(got, p)
	for _, name := range parameters {
		if got.Parameters[name] != p.Parameters[name] {
			c.add(CodeParameters, "it was built with other "+name)
		}
	}
	if !reflect.DeepEqual(withoutRead(got.Policies), withoutRead(p.Policies)) {
		c.add(CodeParameters, "it was built under other source policies")
	}
	if !slices.Contains(p.Platforms, got.Platform) {
		c.add(CodePlatform, "it is for "+got.Platform+", which is not asked for")
	}
	return c.why
}

// Complete says which platforms are there twice, and which not at all, and whether source
// policies read the same files everywhere. Its order is that of the platforms that are asked for.
func (p *Plan) Complete(all []*Named) (ordered []*Named, why []policy.Reason) {
	c := &check{}
	for _, platform := range p.Platforms {
		var names []string
		for _, got := range all {
			if got.Platform == platform {
				names, ordered = append(names, got.Name), append(ordered, got)
			}
		}
		switch len(names) {
		case 0:
			c.add(CodePlatform, "there is no part for "+platform)
		case 1:
		default:
			c.add(CodePlatform, platform+" is there more than once: "+strings.Join(names, ", "))
		}
	}
	if why := sameFiles(ordered); why != "" {
		c.add(CodeParameters, why)
	}
	return ordered, c.why
}

// hint says what to do about a code.
func hint(code string) string {
	switch code {
	case CodeRun:
		return "run all parts and the merge anew, as one run; at GitHub: re-run all jobs, not only the failed ones"
	case CodeSigner:
		return "parts are signed by the jobs of the same workflow as the merge, or with the same key"
	case CodeSource:
		return "build all parts from the commit that the merge is for"
	case CodeBuilder:
		return "give all machines the same release and one builder file, which may name digests of several"
	case CodeParameters:
		return "give every part and the merge the same parameters and policies; only --platform differs"
	case CodePlatform:
		return "hand over one part of each platform that --platform of the merge names, of this run alone"
	case CodeImage:
		return "build all parts into the repositories that the merge is for"
	}
	return "hand over the file that --output part wrote, as it is"
}

// Reason is one about a part.
func Reason(code, name, message string) policy.Reason {
	if name != "" {
		message = "part " + name + ": " + message
	}
	return policy.Reason{Code: code, Subject: name, Message: message, Hint: hint(code)}
}

type check struct {
	name string
	why  []policy.Reason
}

func (c *check) add(code, message string) {
	for _, r := range c.why {
		if r.Code == code && code != CodeParameters { // said once
			return
		}
	}
	c.why = append(c.why, Reason(code, c.name, message))
}

func (c *check) same(code, what, got, want string) {
	if got == want {
		return
	}
	same := 0
	for same < len(got) && same < len(want) && got[same] == want[same] {
		same++
	}
	c.add(code, "its "+what+" is "+said(got, same)+", and this is for "+said(want, same))
}

// said is a value as it is shown. What is too long is shown from where it differs from the
// other: the numbers of two runs stand at the end of their URIs.
func said(s string, same int) string {
	const context = 20
	switch {
	case s == "":
		return "none"
	case len(s) > maxShown && same > context:
		s = "…" + s[same-context:]
	}
	return clip(s)
}

// builder demands the same release of Hallmark, and that what made the part is what would
// make it here. One builder file for all machines may name the tools of several
// architectures. The files of GitHub's own machines differ, as each is written for the
// tools that the machine built itself: there the commit of the workflow, which the
// certificate names and which is compared as all that it says, is what they follow from,
// and every release of BuildKit that made a part is one that the file here names.
func (c *check) builder(got *Named, p *Plan) {
	f, want := &got.Facts, &p.Facts
	c.same(CodeBuilder, "builder", got.Builder, p.Builder)
	c.same(CodeBuilder, "Hallmark", f.Hallmark, want.Hallmark)
	c.same(CodeBuilder, "frontend", f.Frontend+" "+f.Syntax, want.Frontend+" "+want.Syntax)
	c.same(CodeBuilder, "scanner", f.Scanner, want.Scanner)
	c.same(CodeBuilder, "network", f.Network, want.Network)
	same := f.BuilderFile == want.BuilderFile
	if !same && !onHosted(p.Extensions) {
		c.same(CodeBuilder, "builder file", string(f.BuilderFile), string(want.BuilderFile))
	}
	for _, tool := range f.Tools {
		if !p.File.Names(tool, same) {
			c.add(CodeBuilder, "the builder file here does not name its "+clip(tool.Name)+" "+clip(tool.Version)+", sha256:"+clip(tool.SHA256))
		}
	}
	var job *trusted.Claims
	if said := trusted.ClaimsOf(got.Signer); said.OfJob() {
		job = &said
	}
	if !reflect.DeepEqual(f.CI, job) {
		c.add(CodeSigner, "its provenance is to name another job than its certificate does")
	}
}

// onHosted reports whether a certificate is that of a job on one of GitHub's own machines,
// made for the job, of a workflow that is named by its commit.
func onHosted(extensions map[string]string) bool {
	where, commit := extensions["runnerEnvironment"], extensions["buildSignerDigest"]
	return where == "github-hosted" && commit != ""
}

// job demands that two certificates say the same of their jobs, word for word. Of who is no
// job the identity is all, which was compared when the signature was verified.
func (c *check) job(signer evidence.Signer, want map[string]string) {
	got := signer.Extensions
	if want == nil && !trusted.ClaimsOf(signer).OfJob() {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(both(got, want))) {
		code := CodeSigner
		switch {
		case name == "sourceRepositoryVisibilityAtSigning":
		case strings.HasPrefix(name, "sourceRepository"):
			code = CodeSource
		case name == "runInvocationURI":
			if code = CodeRun; ofJob(got[name]) && ofJob(want[name]) {
				continue // the statement's run is the pipeline
			}
		}
		c.same(code, name+" in the certificate", got[name], want[name])
	}
}

// both has the names of either.
func both(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	if all == nil {
		return b
	}
	maps.Copy(all, b)
	return all
}
