package sourcepolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// known is what an evaluation knows of one source, however often it occurs.
type known struct {
	facts  Facts
	failed map[string]error // what could not be found out, by Ask.Key

	generation int // counts what was learnt
	provenance *Provenance
	materials  []Material
}

// node is a source in the tree of a source and its materials.
type node struct {
	name     string // "", "material 2", "material 2 of material 0"
	src      Source
	named    *Input // what the name says; only Material for what is no source of ours
	depth    int
	known    *known
	children []*node
	above    map[string]bool // keys of the sources on the way here

	filled *Input // from the name and the facts of a generation of known
	as     int
}

// ask is told that a policy read what an answer decides.
type ask func(n *node, a Ask)

// fail says that an answer cannot be had, for good.
func (k *known) fail(a Ask, err error) { k.failKey(a.Key(), err) }

func (k *known) failKey(key string, err error) {
	if k.failed == nil {
		k.failed = map[string]error{}
	}
	k.failed[key] = err
}

// learn takes new facts over, checks them, and fails those that cannot be right.
func (n *node) learn(f Facts) {
	k := n.known
	k.facts.learn(f)
	k.generation++
	if p := k.facts.Provenance; p != nil && k.provenance == nil && k.failed[string(ImageProvenance)] == nil {
		var err error
		if k.provenance, k.materials, err = parseProvenance(p); err != nil {
			k.fail(Ask{Fact: ImageProvenance}, err)
		}
	}
	if g := k.facts.Git; g != nil && n.named.Git != nil {
		if err := n.named.Git.agrees(g); err != nil {
			k.fail(Ask{Fact: GitRef}, err)
			k.fail(Ask{Fact: GitObjects}, err)
		}
	}
	if o := k.facts.Objects; o != nil && n.named.Git != nil && k.failed[string(GitObjects)] == nil {
		if _, _, err := o.parse(); err != nil {
			k.fail(Ask{Fact: GitObjects}, err)
		}
	}
	if d := k.facts.Checksum; d != "" && n.named.Image != nil && n.named.Image.Checksum != "" && n.named.Image.Checksum != string(d) {
		for _, facts := range factsOf["image"] { // nothing that was found is of this image
			k.fail(Ask{Fact: facts.fact}, fmt.Errorf("%s was found under the digest %s", d, n.named.Image.Checksum))
		}
	}
}

// agrees reports why what was found is not what the name says.
func (g *Git) agrees(f *GitRefFact) error {
	full := strings.HasPrefix(f.Ref, "refs/") || isObjectID(f.Ref)
	switch {
	case !isObjectID(f.Checksum) || !isObjectID(f.CommitChecksum) || len(f.Checksum) != len(f.CommitChecksum):
		return errors.New("the object ids that were found are none")
	case !full:
		return fmt.Errorf("the ref %q that was found is not a full name", clip(f.Ref))
	case g.Ref != "" && g.Ref != f.Ref && !g.IsCommitRef:
		return fmt.Errorf("the ref %s was found under the name %s", clip(f.Ref), clip(g.Ref))
	case g.IsCommitRef && g.Checksum != f.CommitChecksum:
		return fmt.Errorf("the commit %s was found under the id %s", f.CommitChecksum, g.Checksum)
	}
	return nil
}

// parse reads the objects and holds them against their ids.
func (o *GitObjectsFact) parse() (*git.Commit, *git.Tag, error) {
	commit, why := git.ParseCommit(o.Commit)
	if why != nil {
		return nil, nil, errors.New(why.Message)
	}
	if commit.ID != o.CommitChecksum {
		return nil, nil, fmt.Errorf("the commit object is %s, and %s was wanted", commit.ID, o.CommitChecksum)
	}
	if o.Checksum == o.CommitChecksum {
		return commit, nil, nil
	}
	if o.Tag == nil {
		return nil, nil, fmt.Errorf("the tag object %s is missing", o.Checksum)
	}
	tag, why := git.ParseTag(o.Tag)
	if why != nil {
		return nil, nil, errors.New(why.Message)
	}
	if tag.ID != o.Checksum {
		return nil, nil, fmt.Errorf("the tag object is %s, and %s was wanted", tag.ID, o.Checksum)
	}
	if tag.Object != o.CommitChecksum {
		return nil, nil, fmt.Errorf("the tag object names %s, and %s was wanted", tag.Object, o.CommitChecksum)
	}
	return commit, tag, nil
}

// inputs are the objects as policies see them.
func (o *GitObjectsFact) inputs() (*Commit, *Tag, error) {
	c, t, err := o.parse()
	if err != nil {
		return nil, nil, err
	}
	commit := &Commit{
		Tree: c.Tree, Parents: c.Parents, Message: strings.TrimSuffix(c.Message, "\n"),
		Author:    Actor{c.Author.Name, c.Author.Email, when(c.Author.When)},
		Committer: Actor{c.Committer.Name, c.Committer.Email, when(c.Committer.When)},
	}
	commit.PGPSignature, commit.SSHSignature = claimed(c.Signature)
	if t == nil {
		return commit, nil, nil
	}
	tag := &Tag{
		Object: t.Object, Type: t.Type, Tag: t.Name, Message: strings.TrimSuffix(t.Message, "\n"),
		Tagger: Actor{t.Tagger.Name, t.Tagger.Email, when(t.Tagger.When)},
	}
	tag.PGPSignature, tag.SSHSignature = claimed(t.Signature)
	return commit, tag, nil
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// claimed is what a signature says of itself.
func claimed(s git.Signature) (*PGPSignature, *SSHSignature) {
	if version, id, ok := s.OpenPGP(); ok {
		return &PGPSignature{Version: version, KeyID: id}, nil
	}
	if s.Kind == "ssh" {
		return nil, &SSHSignature{Version: 1, PubKey: s.KeyHint()}
	}
	return nil, nil
}

// input is all that is known of the source, without env and what the evaluation adds.
func (n *node) input() *Input {
	if n.filled != nil && n.as == n.known.generation {
		return n.filled
	}
	in, f := *n.named, &n.known.facts
	switch {
	case in.Image != nil:
		image := *in.Image
		image.fill(f, n.known)
		in.Image = &image
	case in.HTTP != nil:
		http := *in.HTTP
		http.Checksum = string(f.Checksum)
		in.HTTP = &http
	case in.Git != nil:
		g := *in.Git
		g.fill(f, n.known)
		in.Git = &g
	}
	n.filled, n.as = &in, n.known.generation
	return &in
}

func (i *Image) fill(f *Facts, k *known) {
	if f.Checksum != "" {
		i.Checksum = string(f.Checksum)
	}
	if c := f.Config; c != nil {
		i.CreatedTime, i.Env, i.Labels = c.CreatedTime, c.Env, c.Labels
		i.User, i.Volumes, i.WorkingDir = c.User, c.Volumes, c.WorkingDir
	}
	i.HasProvenance, i.Provenance = f.Attested, k.provenance
	if f.Signatures != nil {
		i.Signatures = *f.Signatures
	}
	if f.Attestations != nil {
		i.Attestations = *f.Attestations
	}
}

func (g *Git) fill(f *Facts, k *known) {
	if r := f.Git; r != nil && k.failed[string(GitRef)] == nil {
		if !g.IsCommitRef {
			g.setRef(r.Ref)
			g.IsCommitRef = false // the name is none
			g.Ref = r.Ref
		}
		g.setChecksum(r.Checksum, r.CommitChecksum)
	}
	if o := f.Objects; o != nil && k.failed[string(GitObjects)] == nil {
		g.Commit, g.Tag, _ = o.inputs() // checked by learn
	}
}

// object is the source as a policy's document. Members that are not known ask.
func (p *pass) object(n *node) rego.Object {
	e := p.evaluation
	in := *n.input()
	in.Env, in.Build = e.req.Env, e.req.Build
	in.Env.Depth = n.depth
	e.lockedInput(n, &in)
	o, _ := toJSON(reflect.ValueOf(in)).(rego.Object)
	n.traps(o, p.ask)
	p.unsaid(n, o)
	if n.known.provenance != nil {
		e.grow(n)
		list := make([]rego.Object, len(n.children))
		for i, c := range n.children {
			list[i] = p.object(c)
		}
		if image, _ := o["image"].(rego.Object); len(list) > 0 {
			if provenance, ok := image["provenance"].(rego.Object); ok {
				provenance["materials"] = list
			}
		}
	}
	return o
}

// factsOf names the facts with the members that they decide.
var factsOf = map[string][]struct {
	fact    Fact
	members []string
}{
	"image": {
		{ImageChecksum, []string{"checksum"}},
		{ImageConfig, []string{"createdTime", "env", "labels", "user", "volumes", "workingDir"}},
		{ImageAttested, []string{"hasProvenance"}},
		{ImageProvenance, []string{"provenance"}},
		{ImageSignatures, []string{"signatures"}},
		{ImageAttestations, []string{"attestations"}},
	},
	"git": {
		{GitRef, []string{"ref", "tagName", "branch", "checksum", "commitChecksum", "isAnnotatedTag", "isSHA256"}},
		{GitObjects, []string{"commit", "tag"}},
	},
	"http": {{HTTPChecksum, []string{"checksum"}}},
}

// traps puts one where a fact is missing.
func (n *node) traps(o rego.Object, ask ask) {
	for kind, facts := range factsOf {
		source, ok := o[kind].(rego.Object)
		if !ok {
			continue
		}
		for _, f := range facts {
			a := Ask{Fact: f.fact}
			failed := n.known.failed[a.Key()] != nil
			if n.known.facts.has(a) && !failed || !failed && n.saidByName(f.fact) {
				continue
			}
			read := rego.Unknown(func() { ask(n, a) })
			for _, m := range f.members {
				if failed || !n.memberByName(m) {
					source[m] = read
				}
			}
		}
	}
}

// saidByName reports whether the name alone says all that the fact would.
func (n *node) saidByName(f Fact) bool {
	switch {
	case n.named.Image != nil:
		return f == ImageChecksum && n.named.Image.Checksum != ""
	case n.named.Git != nil:
		return f == GitRef && n.named.Git.IsCommitRef
	}
	return false
}

// memberByName reports whether the name decides a member of a checkout that is not
// looked up yet: a full ref says whether it is a tag or a branch.
func (n *node) memberByName(m string) bool {
	g := n.named.Git
	return g != nil && g.Ref != "" && (m == "ref" || m == "tagName" || m == "branch")
}

// grow makes the nodes of the materials.
func (e *Evaluation) grow(n *node) {
	if n.children != nil || len(n.known.materials) == 0 {
		return
	}
	above := map[string]bool{n.src.key(): true}
	for k := range n.above {
		above[k] = true
	}
	n.children = make([]*node, len(n.known.materials))
	for i, m := range n.known.materials {
		name := fmt.Sprintf("material %d", i)
		if n.name != "" {
			name += " of " + n.name
		}
		c := &node{name: name, depth: n.depth + 1, above: above, named: &Input{}, known: &known{}}
		n.children[i] = c
		if src, err := m.source(n.src.Platform); err == nil {
			if in, err := SourceToInput(src); err == nil {
				c.src, c.named, c.known = src, in, e.knownOf(src)
			}
		}
		named := *c.named
		named.Material = &m
		c.named = &named
		if above[c.src.key()] || c.depth > maxMaterialDepth {
			// A material that is made of itself has no facts of its own.
			c.known = &known{}
			for _, f := range factsOf["image"] {
				c.known.fail(Ask{Fact: f.fact}, fmt.Errorf("%s is a material of itself, or lies deeper than %d levels", clip(c.src.shown()), maxMaterialDepth))
			}
		}
	}
}

// knownOf is what is known of a source, the same wherever it occurs.
func (e *Evaluation) knownOf(src Source) *known {
	k := e.known[src.key()]
	if k == nil {
		k = &known{}
		e.known[src.key()] = k
	}
	return k
}

// toJSON is a value of the input's types as encoding/json would write it.
func toJSON(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case time.Time:
		return x.Format(time.RFC3339Nano)
	case json.RawMessage:
		return rawJSON(x)
	case []string, map[string]string:
		return x
	}
	switch v.Kind() {
	case reflect.Pointer:
		return toJSON(v.Elem())
	case reflect.Bool:
		return v.Bool()
	case reflect.String:
		return v.String()
	case reflect.Int:
		return int(v.Int())
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(toJSON(v.Index(i)))
		}
		return list
	case reflect.Map:
		m := make(rego.Object, v.Len())
		for it := v.MapRange(); it.Next(); {
			m[it.Key().String()] = orNull(it.Value())
		}
		return m
	case reflect.Struct:
		fields := fieldsOf(v.Type())
		o := make(rego.Object, len(fields))
		for _, f := range fields {
			if m := v.Field(f.index); !f.omitEmpty || !isEmpty(m) {
				o[f.name] = toJSON(m)
			}
		}
		return o
	}
	panic("Input has a member of type " + v.Type().String())
}

func orNull(v reflect.Value) any {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return nil
	}
	return plain(toJSON(v))
}

// plain is a list's element in the engine's plain types.
func plain(v any) any {
	if o, ok := v.(rego.Object); ok {
		m := make(map[string]any, len(o))
		for k, v := range o {
			m[k] = plain(v)
		}
		return m
	}
	return v
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	}
	return v.IsZero()
}

func rawJSON(data json.RawMessage) any {
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil
	}
	return v
}
