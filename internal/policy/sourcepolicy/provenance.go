package sourcepolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// The predicate types of SLSA provenance that are read.
const (
	PredicateSLSA1  = "https://slsa.dev/provenance/v1"
	PredicateSLSA02 = "https://slsa.dev/provenance/v0.2"
)

// Limits of a provenance predicate.
const (
	MaxProvenance = 16 << 20 // bytes
	MaxMaterials  = 4096
	maxDepth      = 64 // of its JSON
)

// predicate is what we read of both versions of SLSA provenance: BuildKit's
// (solver/llbsolver/provenance/types) and, as far as they say the same, others'.
type predicate struct {
	BuildDefinition struct {
		BuildType          string `json:"buildType"`
		ExternalParameters struct {
			ConfigSource struct {
				URI    string            `json:"uri"`
				Digest map[string]string `json:"digest"`
				Path   string            `json:"path"`
			} `json:"configSource"`
			Request parameters `json:"request"`
		} `json:"externalParameters"`
		ResolvedDependencies []Material `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder  struct{ ID string } `json:"builder"`
		Metadata *struct {
			InvocationID string     `json:"invocationId"`
			StartedOn    *time.Time `json:"startedOn"`
			FinishedOn   *time.Time `json:"finishedOn"`
			Hermetic     bool       `json:"buildkit_hermetic"`
			Reproducible bool       `json:"buildkit_reproducible"`
			Completeness struct {
				Request              bool `json:"request"`
				ResolvedDependencies bool `json:"resolvedDependencies"`
			} `json:"buildkit_completeness"`
		} `json:"metadata"`
	} `json:"runDetails"`

	BuildType  string              `json:"buildType"` // from here on v0.2
	Builder    struct{ ID string } `json:"builder"`
	Invocation struct {
		ConfigSource struct {
			URI        string            `json:"uri"`
			Digest     map[string]string `json:"digest"`
			EntryPoint string            `json:"entryPoint"`
		} `json:"configSource"`
		Parameters parameters `json:"parameters"`
	} `json:"invocation"`
	Materials []Material `json:"materials"`
	Metadata  *struct {
		BuildInvocationID string     `json:"buildInvocationID"`
		BuildStartedOn    *time.Time `json:"buildStartedOn"`
		BuildFinishedOn   *time.Time `json:"buildFinishedOn"`
		Reproducible      bool       `json:"reproducible"`
		Hermetic          bool       `json:"https://mobyproject.org/buildkit@v1#hermetic"`
		Completeness      struct {
			Parameters  bool `json:"parameters"`
			Environment bool `json:"environment"`
			Materials   bool `json:"materials"`
		} `json:"completeness"`
	} `json:"metadata"`
}

type parameters struct {
	Frontend string            `json:"frontend"`
	Args     map[string]string `json:"args"`
}

// parseProvenance reads a predicate. The provenance is nil when the predicate says
// neither who built nor how, as in buildx. The materials are returned as they stand.
func parseProvenance(f *ProvenanceFact) (*Provenance, []Material, error) {
	if len(f.Predicate) == 0 {
		return nil, nil, nil
	}
	if len(f.Predicate) > MaxProvenance {
		return nil, nil, fmt.Errorf("the provenance has %d bytes; at most %d", len(f.Predicate), MaxProvenance)
	}
	if err := strictjson.Valid(f.Predicate, maxDepth); err != nil {
		return nil, nil, fmt.Errorf("the provenance cannot be read: %w", err)
	}
	var p predicate
	if err := json.Unmarshal(f.Predicate, &p); err != nil {
		return nil, nil, fmt.Errorf("the provenance cannot be read: %w", err)
	}
	var out *Provenance
	var materials []Material
	switch f.PredicateType {
	case PredicateSLSA1:
		out, materials = p.v1()
	case PredicateSLSA02:
		out, materials = p.v02()
	default:
		return nil, nil, fmt.Errorf("the provenance is of type %q, which is not known", clip(f.PredicateType))
	}
	if len(materials) > MaxMaterials {
		return nil, nil, fmt.Errorf("the provenance has %d materials; at most %d", len(materials), MaxMaterials)
	}
	if out == nil || out.BuildType == "" && out.BuilderID == "" {
		return nil, nil, nil
	}
	out.PredicateType, out.Verified = f.PredicateType, f.Verified
	if f.Verified {
		out.Signer = f.Signer
	}
	out.BuildArgs = buildArgs(out.RawArgs)
	return out, materials, nil
}

func (p predicate) v1() (*Provenance, []Material) {
	d, c := p.BuildDefinition, p.BuildDefinition.ExternalParameters.ConfigSource
	out := &Provenance{
		BuildType: d.BuildType, BuilderID: p.RunDetails.Builder.ID,
		ConfigSource: &ConfigSource{URI: c.URI, Digest: c.Digest, Path: c.Path},
		Frontend:     d.ExternalParameters.Request.Frontend,
		RawArgs:      d.ExternalParameters.Request.Args,
	}
	if m := p.RunDetails.Metadata; m != nil {
		out.InvocationID, out.StartedOn, out.FinishedOn = m.InvocationID, utc(m.StartedOn), utc(m.FinishedOn)
		out.Reproducible, out.Hermetic = &m.Reproducible, &m.Hermetic
		out.Completeness = &Completeness{Parameters: &m.Completeness.Request, Materials: &m.Completeness.ResolvedDependencies}
	}
	return out, d.ResolvedDependencies
}

func (p predicate) v02() (*Provenance, []Material) {
	c := p.Invocation.ConfigSource
	out := &Provenance{
		BuildType: p.BuildType, BuilderID: p.Builder.ID,
		ConfigSource: &ConfigSource{URI: c.URI, Digest: c.Digest, Path: c.EntryPoint},
		Frontend:     p.Invocation.Parameters.Frontend,
		RawArgs:      p.Invocation.Parameters.Args,
	}
	if m := p.Metadata; m != nil {
		out.InvocationID, out.StartedOn, out.FinishedOn = m.BuildInvocationID, utc(m.BuildStartedOn), utc(m.BuildFinishedOn)
		out.Reproducible, out.Hermetic = &m.Reproducible, &m.Hermetic
		out.Completeness = &Completeness{
			Parameters: &m.Completeness.Parameters, Environment: &m.Completeness.Environment, Materials: &m.Completeness.Materials,
		}
	}
	return out, p.Materials
}

func utc(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// buildArgs are the arguments that were given with --build-arg.
func buildArgs(args map[string]string) map[string]string {
	var out map[string]string
	for k, v := range args {
		if name, ok := strings.CutPrefix(k, "build-arg:"); ok && name != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = v
		}
	}
	return out
}

// source is the source that a material names, for the platform of what was built
// from it unless it says its own. The forms are BuildKit's (util/purl, and
// resolvedDependencies of its provenance).
func (m Material) source(platform string) (Source, error) {
	if len(m.URI) > MaxIdentifier {
		return Source{}, fmt.Errorf("a material of %d bytes", len(m.URI))
	}
	if rest, ok := strings.CutPrefix(m.URI, "pkg:docker/"); ok {
		return m.image(rest, platform)
	}
	if g, err := parseGitURL(m.URI); err == nil {
		http := g.scheme == "http" || g.scheme == "https"
		if !http || strings.HasSuffix(strings.ToLower(g.path), ".git") {
			return m.git(g)
		}
	}
	if strings.HasPrefix(m.URI, "https://") || strings.HasPrefix(m.URI, "http://") {
		return Source{Identifier: m.URI}, nil
	}
	return Source{}, errors.New("a material that is neither an image nor a git checkout nor a download")
}

func (m Material) git(g gitURL) (Source, error) {
	id := g.host + path.Join("/", g.path)
	if g.ref != "" || g.subdir != "" {
		id += "#" + g.ref
		if g.subdir != "" {
			id += ":" + g.subdir
		}
	}
	return Source{Identifier: gitScheme + id, Attrs: map[string]string{AttrFullRemoteURL: m.URI}}, nil
}

// image reads what follows pkg:docker/ (the package URL specification):
// [NAMESPACE/]NAME[@VERSION][?QUALIFIERS][#SUBPATH], each part percent-encoded.
func (m Material) image(s, platform string) (Source, error) {
	s, _, _ = strings.Cut(s, "#")
	s, query, _ := strings.Cut(s, "?")
	name, version := s, ""
	if i := strings.LastIndex(s, "@"); i >= 0 {
		name, version = s[:i], s[i+1:]
	}
	name, err := url.PathUnescape(name)
	if err == nil {
		version, err = url.PathUnescape(version)
	}
	var qualifiers url.Values
	if err == nil {
		qualifiers, err = url.ParseQuery(query)
	}
	if err != nil {
		return Source{}, errors.New("a material whose package URL cannot be read")
	}
	ref := strings.Trim(name, "/")
	var named string // digests that the URL names
	switch _, err := digest.Parse(version); {
	case version != "" && err == nil:
		named = version
		ref += "@" + version
	case version != "":
		ref += ":" + version
	}
	if q := qualifiers.Get("digest"); q != "" {
		if named != "" && named != q {
			return Source{}, fmt.Errorf("a material with two digests, %s and %s", quoted(named), quoted(q))
		}
		if named == "" {
			ref += "@" + q
		}
		named = q
	}
	if version == "" && named == "" {
		ref += ":latest"
	}
	src, err := m.canonical(ref)
	if err != nil {
		return Source{}, err
	}
	src.Platform = platform
	if p := qualifiers.Get("platform"); p != "" {
		if _, err := parsePlatform(p); err != nil {
			return Source{}, err
		}
		src.Platform = p
	}
	return src, nil
}

// canonical adds the digest of the material to the reference.
func (m Material) canonical(ref string) (Source, error) {
	n, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return Source{}, fmt.Errorf("a material whose reference cannot be read: %w", err)
	}
	if hex := strings.TrimSpace(m.Digest["sha256"]); hex != "" {
		d, err := digest.Parse("sha256:" + strings.TrimPrefix(hex, "sha256:"))
		if err != nil {
			return Source{}, errors.New("a material whose digest cannot be read")
		}
		if c, ok := n.(reference.Canonical); ok && c.Digest() != d {
			return Source{}, fmt.Errorf("a material that is %s by its name and %s by its digest", c.Digest(), d)
		} else if !ok {
			if n, err = reference.WithDigest(n, d); err != nil {
				return Source{}, fmt.Errorf("a material whose reference cannot be read: %w", err)
			}
		}
	}
	return Source{Identifier: imageScheme + n.String()}, nil
}
