// Package assess says in words what verified evidence protects against and what
// not, and which SLSA build level it reaches. It is a pure function of facts that
// were verified and met the caller's demands; it decides nothing.
//
// It claims the least that the facts show. Where somebody whom the caller's
// demands allow could have signed without a protection, the protection is not
// shown, whatever others signed beside.
package assess

import (
	"fmt"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Threats by their stable names.
const (
	RegistryCredentials = "registry-credentials" // stolen: who has them pushes another image
	ForgeCredentials    = "forge-credentials"    // stolen: who has them pushes commits and changes workflows
	CIToken             = "ci-token"             // leaked: the token that a CI job is given
	RogueMaintainer     = "rogue-maintainer"     // pushes an image that was not built from the source
	BuildDependency     = "build-dependency"     // malicious code that runs during the build and reaches the signer
	HostLeak            = "host-leak"            // secrets of the machine that builds or signs
)

// Protection says whether the evidence shows that one threat could not have made
// this artifact pass.
type Protection struct {
	Threat string `json:"threat"`
	Shown  bool   `json:"shown"`
	Why    string `json:"why"`
}

// SLSA is the build level of slsa.dev/spec/v1.0/levels that the evidence shows.
type SLSA struct {
	BuildLevel int    `json:"buildLevel"`        // 0 to 3
	Builder    string `json:"builder,omitempty"` // builder.id of the provenance
	Why        string `json:"why"`
	Next       string `json:"next,omitempty"` // what is missing for the next level
}

// Evidence is what is assessed.
type Evidence struct {
	// Counted are the verified facts that met the caller's demands.
	Counted []policy.Fact
	// Threshold is how many distinct signers the caller demanded.
	Threshold int
	// Attestations are all verified attestations about the artifact.
	Attestations []policy.Fact
	// Unsigned are statements about the artifact that nobody signed.
	Unsigned []evidence.Statement
}

// Assessment is the answer.
type Assessment struct {
	Protections []Protection `json:"protections"`
	SLSA        SLSA         `json:"slsa"`
}

// Of assesses the evidence. Without anything that counts nothing is protected.
func Of(e Evidence) Assessment {
	a := Assessment{SLSA: slsa(e)}
	for _, threat := range []string{RegistryCredentials, ForgeCredentials, CIToken, RogueMaintainer, BuildDependency, HostLeak} {
		a.Protections = append(a.Protections, protection(threat, e, a.SLSA))
	}
	return a
}

// protection is shown when every signer that counts shows it.
func protection(threat string, e Evidence, s SLSA) Protection {
	p := Protection{Threat: threat, Why: "nobody who is wanted signed it"}
	for i, f := range e.Counted {
		shown, why := shows(threat, kindOf(f.Signer), s)
		if i == 0 || p.Shown && !shown {
			p.Shown, p.Why = shown, why
		}
	}
	if threat == RogueMaintainer && len(e.Counted) > 0 && e.Threshold > 1 {
		p.Shown, p.Why = true, fmt.Sprintf("%d distinct signers had to agree", e.Threshold)
	}
	return p
}

// kind is what sort of signer somebody is.
type kind struct {
	what     int
	identity string
	issuer   string
	source   string // repository of the source, URL
	builder  string // the workflow that signed, URL
	hosted   bool   // on a machine of the CI's provider
}

const (
	byKey        = iota // a key or a certificate of a company's store
	byPerson            // an account's login
	byMachine           // a workload that says nothing of its source or instructions
	byOwnCI             // a CI job of the source repository itself
	byOtherBuild        // a CI job whose instructions are in another repository
)

// kindOf tells signers apart by Fulcio's extensions, which the CA vouches for.
func kindOf(s evidence.Signer) kind {
	k := kind{identity: s.Identity, issuer: s.Issuer, source: s.Extensions["sourceRepositoryURI"], builder: s.Extensions["buildSignerURI"]}
	env := s.Extensions["runnerEnvironment"]
	k.hosted = env == "github-hosted" || env == "gitlab-hosted"
	switch {
	case s.Identity == "":
		k.what = byKey
	case (k.builder == "" || k.source == "") && isPerson(s):
		k.what = byPerson
	case k.builder == "" || k.source == "":
		k.what = byMachine
	case k.builder == k.source || strings.HasPrefix(k.builder, k.source+"/"):
		k.what = byOwnCI
	default:
		k.what = byOtherBuild
	}
	return k
}

// isPerson reports whether the identity is an e-mail address and nothing in the
// certificate says that a job or a service has it. Names of other kinds are those of
// workloads: SPIFFE IDs, Kubernetes' service accounts, pipelines.
func isPerson(s evidence.Signer) bool {
	for name := range s.Extensions {
		if name != "tokenSubject" {
			return false
		}
	}
	return strings.Contains(s.Identity, "@") && !strings.Contains(s.Identity, "://") && !strings.HasSuffix(s.Identity, ".gserviceaccount.com")
}

// isForge reports whether an issuer's accounts are those of a forge.
func isForge(issuer string) bool {
	switch issuer {
	case "https://github.com/login/oauth", "https://gitlab.com", "https://codeberg.org":
		return true
	}
	return false
}

func shows(threat string, k kind, s SLSA) (bool, string) {
	const keyed = "a key signed, and nothing shows where it is kept or who can use it"
	switch threat {
	case RegistryCredentials:
		return true, "who can only push to the registry cannot make this signature"
	case BuildDependency:
		if s.BuildLevel >= 3 {
			return true, "the builder keeps what signs away from what it builds"
		}
		return false, "nothing shows that the build could not reach what signs"
	case HostLeak:
		switch {
		case k.what == byOtherBuild && k.hosted:
			return true, "it was built and signed on a fresh machine of the CI, with a key that lived for minutes"
		case k.what == byKey:
			return false, keyed
		}
		return false, "nothing shows on what machine it was signed, and what else could read its secrets"
	}
	switch k.what {
	case byKey:
		return false, keyed
	case byPerson:
		return person(threat, k)
	case byMachine:
		return false, "a workload of " + k.issuer + " signed, and nothing shows who can have it sign something else"
	case byOwnCI:
		return false, "who can push to " + k.source + " can change the workflow that signs"
	}
	switch threat {
	case ForgeCredentials:
		return true, "the workflow that signs is not in " + k.source + ": with access to that one can commit, not sign something else"
	case CIToken:
		return true, "only the builder's own jobs get the identity that signed"
	}
	return true, "the builder signs only what it built from a commit of " + k.source + " (a malicious commit is another matter)"
}

func person(threat string, k kind) (bool, string) {
	switch threat {
	case ForgeCredentials:
		if isForge(k.issuer) {
			return false, "the signer's account is one of the forge"
		}
		return true, "it was signed with a login at " + k.issuer + ", not with an account of the forge"
	case CIToken:
		return true, "a person signed, no CI job"
	}
	return false, "one person can sign alone, whatever it was built from"
}
