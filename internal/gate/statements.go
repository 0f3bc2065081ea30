package gate

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/assess"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// readStatement is an unsigned statement that was read, or why it could not be.
type readStatement struct {
	*attestation.Statement
	err error
}

// statement reads a statement, once.
func (e *Evidence) statement(ctx context.Context, repo *registry.Repository, s collect.Statement) readStatement {
	e.mu.Lock()
	defer e.mu.Unlock()
	if have, ok := e.read[s.Layer.Digest]; ok {
		return have
	}
	st, err := collect.ReadStatement(ctx, repo, s)
	e.read[s.Layer.Digest] = readStatement{st, err}
	return e.read[s.Layer.Digest]
}

// reading turns BuildKit's statements about one image into facts of its input.
type reading struct {
	*question
	in       *policy.Input
	about    evidence.Digest // the image
	unsigned []evidence.Statement
	// What was read of statements that somebody signed, and of others.
	readSigned, readUnsigned budget
}

// Limits of the builders' statements that are read about one image: who may push can
// attach any number of them.
const (
	maxOfManifest = 8         // of one attestation manifest
	maxStatements = 256       // of all that somebody signed, and of all that nobody did
	maxBytes      = 256 << 20 // of the same
)

// budget is what was read so far.
type budget struct {
	count int
	bytes int64
}

// afford reports whether one more statement of a size may be read.
func (b *budget) afford(size int64) bool {
	b.count++
	b.bytes += size
	return b.count <= maxStatements && b.bytes <= maxBytes
}

// attest replaces the attestation manifests about the image among tried by what
// their statements say. A statement is attested by who signed its attestation
// manifest (one of all) and, where the index lists that manifest, by who signed
// the index (inherited). Small manifests come before large ones, and those that nobody
// signed do not take the place of others.
func (s *reading) attest(ctx context.Context, e *Evidence, tried, all []Tried, inherited []policy.Fact) []Tried {
	read := make([][]Tried, len(tried))
	by := make([][]policy.Fact, len(tried))
	var order []int
	for i, t := range tried {
		read[i] = []Tried{t}
		if t.Item.Format != collect.FormatBuildKit || t.Item.Err != nil || t.Item.About != string(s.about) {
			continue
		}
		order = append(order, i)
		by[i] = s.signers(t.Item, all, inherited)
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(tried[a].Item.Size, tried[b].Item.Size)
	})
	for _, i := range order {
		if of := s.statements(ctx, e, tried[i].Item, by[i]); len(of) > 0 {
			read[i] = of
		}
	}
	return slices.Concat(read...)
}

// signers are who signed what holds an attestation manifest's statements.
func (s *reading) signers(it collect.Item, all []Tried, inherited []policy.Fact) []policy.Fact {
	var by []policy.Fact
	if s.lists(it) {
		by = append(by, inherited...)
	}
	for _, signature := range all {
		if signature.Covers != "" && signature.Covers == it.Where.Digest {
			f := signature.Verified.Fact(signature.Item.Where)
			f.About = signature.Covers
			by = append(by, f)
		}
	}
	return by
}

// lists reports whether the index lists an attestation manifest about the image.
func (c *question) lists(it collect.Item) bool {
	return c.index != nil && slices.ContainsFunc(c.index.Attestations, func(a attestation.Entry) bool {
		return evidence.Digest(a.Manifest.Digest) == it.Where.Digest && string(a.About) == it.About
	})
}

// statements reads those of the wanted types. Each gives a fact for each signer
// that covers it.
func (s *reading) statements(ctx context.Context, e *Evidence, it collect.Item, by []policy.Fact) []Tried {
	var out []Tried
	n, room := 0, &s.readUnsigned
	if len(by) > 0 {
		room = &s.readSigned
	}
	for _, one := range it.Statements {
		if !slices.Contains(s.question.Statements, one.PredicateType) {
			continue
		}
		item := it
		item.PredicateType, item.Layer, item.Size, item.Statements = one.PredicateType, one.Layer, one.Layer.Size, nil
		if n++; n > maxOfManifest || !room.afford(one.Layer.Size) {
			item.Err = fmt.Errorf("not read: at most %d statements of one attestation manifest are, and %d with %d bytes about one image", maxOfManifest, maxStatements, maxBytes)
			return append(out, Tried{Item: item, Reasons: []policy.Reason{itemReason(item)}})
		}
		st := e.statement(ctx, s.Repo, one)
		switch {
		case st.err != nil:
			item.Err = st.err
			out = append(out, Tried{Item: item, Reasons: []policy.Reason{itemReason(item)}})
		case !st.IsAbout(s.about):
			out = append(out, Tried{Item: item, Reasons: []policy.Reason{{Code: verify.WrongSubject, Subject: it.Where.Ref,
				Message: fmt.Sprintf("a statement of the attestation manifest about %s is about something else", s.about)}}})
		case len(by) == 0:
			s.unsigned = append(s.unsigned, *st.Statement.Statement)
			item.Note = "a statement that no verified signature covers: unsigned"
			out = append(out, Tried{Item: item})
		default:
			for _, signer := range by {
				out = append(out, s.fact(item, st, signer))
			}
		}
	}
	return out
}

// fact is a statement under the name of who signed what holds it.
func (s *reading) fact(item collect.Item, st readStatement, signer policy.Fact) Tried {
	f := signer
	f.Format, f.PredicateType, f.Predicate, f.Statement = evidence.FormatBuildKit, st.PredicateType, st.Predicate, st.Raw
	f.Annotations, f.Where = nil, item.Where
	if why := assess.CheckBuilder(f); why != nil {
		return Tried{Item: item, Reasons: []policy.Reason{*why}}
	}
	s.in.Attestations = append(s.in.Attestations, f)
	item.Note = "covered by a signature of " + string(f.About)
	return Tried{Item: item, Fact: &f, Place: Place{Attestation: true, Index: len(s.in.Attestations) - 1}}
}

// inside reads what builders say about the images of an index that was judged
// itself and allowed: what its signers signed lists their attestation manifests.
func (c *question) inside(ctx context.Context, r *Result) []Inside {
	var out []Inside
	signed := slices.Clone(r.Input.Signatures)
	for i := range signed {
		signed[i].About = c.root.Digest()
	}
	for _, image := range c.index.Images {
		in := policy.Input{}
		s := reading{question: c, in: &in, about: evidence.Digest(image.Digest)}
		s.attest(ctx, c.root, r.Tried, r.Tried, signed)
		out = append(out, Inside{Image: s.about, Platform: collect.Platform(image), Attestations: in.Attestations, Unsigned: s.unsigned})
	}
	return out
}
