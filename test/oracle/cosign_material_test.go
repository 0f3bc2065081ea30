package oracle_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// material is one signature or attestation as it lies in a registry: a manifest
// with one layer that counts.
type material struct {
	suffix   string // of cosign's tag, ".sig" or ".att"; "" is a referrer
	manifest *node
	content  []byte // of the first layer
	config   []byte
	blobs    [][]byte // of further layers

	raw       []byte // the manifest as it is served instead, when it is not nil
	mediaType string // with which it is served; "" is an image manifest's
	unbound   bool   // the layer is described as it was, whatever its content is now
	listed    func(d *ocispec.Descriptor)
	also      []*material // served before it: referrers, or nothing under a tag
}

func (m *material) clone() *material {
	c := *m
	c.manifest, c.content = m.manifest.clone(), bytes.Clone(m.content)
	c.blobs = slices.Clone(m.blobs)
	return &c
}

// get is an object's member, nil without one.
func (n *node) get(name string) *node {
	if n == nil {
		return nil
	}
	for i := range n.members {
		if n.members[i].name == name {
			return n.members[i].value
		}
	}
	return nil
}

// set gives an object's member a value, or adds it.
func (n *node) set(name string, v *node) {
	for i := range n.members {
		if n.members[i].name == name {
			n.members[i].value = v
			return
		}
	}
	n.members = append(n.members, member{name, v})
}

func (n *node) drop(name string) {
	n.members = slices.DeleteFunc(n.members, func(m member) bool { return m.name == name })
}

func number(i int) *node { return &node{literal: strconv.Itoa(i)} }

// layer is the descriptor of the layer that counts.
func (m *material) layer() *node { return m.manifest.get("layers").elements[0] }

// annotation is one of the layer's, "" without it.
func (m *material) annotation(name string) string {
	if v := m.layer().get("annotations").get(name); v != nil {
		return v.str()
	}
	return ""
}

func (m *material) setAnnotation(name, value string) {
	if a := m.layer().get("annotations"); a != nil {
		a.set(name, text(value))
		return
	}
	m.layer().set("annotations", &node{kind: '{', members: []member{{name, text(value)}}})
}

func (m *material) dropAnnotation(name string) { m.layer().get("annotations").drop(name) }

// bind describes the layer as its content is.
func (m *material) bind() {
	if m.unbound || m.manifest.get("layers") == nil || len(m.manifest.get("layers").elements) == 0 {
		return
	}
	l := m.layer()
	l.set("digest", text(digest.FromBytes(m.content).String()))
	l.set("size", number(len(m.content)))
}

// addLayer puts another's layer before (0) or after (1) this one's.
func (m *material) addLayer(at int, from *material) {
	m.bind()
	c := from.clone()
	c.bind()
	layers := m.manifest.get("layers")
	layers.elements = slices.Insert(layers.elements, at, c.layer())
	m.blobs, m.unbound = append(m.blobs, m.content, c.content), true
}

// publish serves it as attached to an image of a repository.
func (m *material) publish(c *credulousRegistry, repository string, image servedManifest) {
	for _, more := range m.also {
		more.publish(c, repository, image)
	}
	m.bind()
	for _, b := range append([][]byte{m.content, m.config}, m.blobs...) {
		c.blob(repository, digest.FromBytes(b).String(), b)
	}
	if m.unbound { // what is served is not what its digest says
		if d := m.manifest.at(".layers[0].digest"); d != nil && !slices.ContainsFunc(m.blobs, func(b []byte) bool { return digest.FromBytes(b).String() == d.str() }) {
			c.blob(repository, d.str(), m.content)
		}
	}
	served := servedManifest{ocispec.MediaTypeImageManifest, m.raw}
	if m.mediaType != "" {
		served.mediaType = m.mediaType
	}
	if m.raw == nil {
		served.data = []byte(m.manifest.String())
	}
	d := digest.FromBytes(image.data)
	if m.suffix != "" {
		c.put(repository, served, "sha256-"+d.Encoded()+m.suffix)
		return
	}
	desc := ocispec.Descriptor{MediaType: served.mediaType, Digest: c.put(repository, served), Size: int64(len(served.data))}
	var shown struct {
		ArtifactType string
		Annotations  map[string]string
	}
	if json.Unmarshal(served.data, &shown) == nil { // as registries show it
		desc.ArtifactType, desc.Annotations = shown.ArtifactType, shown.Annotations
	}
	if m.listed != nil {
		m.listed(&desc)
	}
	c.list(repository, desc)
}

// document is a part of a material that is changed as a text of its own.
type document struct {
	name string
	kind byte // '{' JSON, 'p' PEM, 'b' base64
	get  func(m *material) []byte
	set  func(m *material, data []byte)
}

// inside is JSON in base64 in a JSON document: get takes it out, set puts it back.
func inside(d document, name, path string) document {
	return document{name, '{', func(m *material) []byte {
		at := jsonNode(d.get(m)).at(path)
		if at == nil {
			return nil
		}
		data, _ := base64.StdEncoding.DecodeString(at.str())
		return data
	}, func(m *material, data []byte) {
		tree := jsonNode(d.get(m))
		*tree.at(path) = *text(base64.StdEncoding.EncodeToString(data))
		d.set(m, []byte(tree.String()))
	}}
}

func jsonNode(data []byte) *node {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	n, err := readNode(d)
	if err != nil {
		return &node{kind: '{'}
	}
	return n
}

func annotated(name, short string, kind byte) document {
	return document{short, kind, func(m *material) []byte { return []byte(m.annotation(name)) }, func(m *material, data []byte) { m.setAnnotation(name, string(data)) }}
}

// Names of cosign's annotations.
const (
	noteSignature = "dev.cosignproject.cosign/signature"
	noteBundle    = "dev.sigstore.cosign/bundle"
	noteStamp     = "dev.sigstore.cosign/rfc3161timestamp"
	noteCert      = "dev.sigstore.cosign/certificate"
	noteChain     = "dev.sigstore.cosign/chain"
)

var cosignNotes = []string{noteSignature, noteBundle, noteStamp, noteCert, noteChain}

// documents are all that a material has.
func documents(m *material) []document {
	content := document{"content", '{', func(m *material) []byte { return m.content }, func(m *material, data []byte) { m.content = data }}
	promise := annotated(noteBundle, "promise", '{')
	all := []document{
		{"manifest", '{', func(m *material) []byte { m.bind(); return []byte(m.manifest.String()) }, func(m *material, data []byte) { m.raw = data }},
		content, promise, annotated(noteStamp, "timestamp", '{'),
		annotated(noteSignature, "signature", 'b'), annotated(noteCert, "certificate", 'p'), annotated(noteChain, "chain", 'p'),
		inside(content, "statement", ".payload"), inside(content, "statement", ".dsseEnvelope.payload"),
		inside(promise, "log entry", ".Payload.body"), inside(content, "log entry", ".verificationMaterial.tlogEntries[0].canonicalizedBody"),
	}
	return slices.DeleteFunc(all, func(d document) bool { return len(d.get(m)) == 0 })
}
