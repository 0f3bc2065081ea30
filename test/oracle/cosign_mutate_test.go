package oracle_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
)

// cosignCase is one changed image signature.
type cosignCase struct {
	what string
	base *cosignBase
	m    *material
}

// deliberate are the changes that an attacker would think of, each for every base
// that it can be made of. A change may say that it does not apply.
func (w *cosignWorld) deliberate() []cosignCase {
	var out []cosignCase
	for _, b := range w.bases {
		add := func(what string, change func(m *material) bool) {
			m := b.good[0].clone()
			if change(m) {
				out = append(out, cosignCase{what, b, m})
			}
		}
		always := func(what string, change func(m *material)) {
			add(what, func(m *material) bool { change(m); return true })
		}
		always("another image's", func(m *material) { *m = *b.other.clone() })
		always("a stranger's", func(m *material) { *m = *b.stranger.clone() })
		always("not its content", func(m *material) { m.unbound, m.content = true, b.good[1].content })
		always("another size", func(m *material) { m.bind(); m.unbound = true; m.layer().set("size", number(len(m.content)+1)) })
		always("another layer type", func(m *material) { m.layer().set("mediaType", text("text/plain")) })
		always("no layers", func(m *material) { m.bind(); m.manifest.get("layers").elements = nil })
		always("schema 1", func(m *material) { m.manifest.set("schemaVersion", number(1)) })
		always("no media type", func(m *material) { m.manifest.drop("mediaType") })
		always("an unknown member", func(m *material) { m.manifest.set("unknown", number(1)) })
		always("the config is an image's", func(m *material) { m.manifest.get("config").set("mediaType", text(ocispec.MediaTypeImageConfig)) })
		always("annotated", func(m *material) {
			m.manifest.set("annotations", &node{kind: '{', members: []member{{"dev.sigstore.bundle.predicateType", text("https://example.com/x")}, {"x", text("y")}}})
		})
		always("about the other image", func(m *material) {
			m.manifest.set("subject", jsonNode(fmt.Appendf(nil, `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d}`, w.digest(1), len(w.images[1].data))))
		})
		if b.good[0].suffix == "" {
			w.deliberateReferrers(b, add)
		} else {
			w.deliberateTags(b, add)
		}
		if b.signed != nil {
			for _, p := range payloads(string(w.digest(0)), string(w.digest(1))) {
				out = append(out, cosignCase{"signed: " + p[0], b, b.signed([]byte(p[1]))})
			}
		}
	}
	return out
}

func (w *cosignWorld) deliberateReferrers(b *cosignBase, add func(string, func(m *material) bool)) {
	add("after a stranger's", func(m *material) bool { m.also = []*material{b.stranger.clone(), b.other.clone()}; return true })
	add("listed without a type", func(m *material) bool {
		m.listed = func(d *ocispec.Descriptor) { d.ArtifactType, d.Annotations = "", nil }
		return true
	})
	add("listed by the config's type", func(m *material) bool {
		m.listed = func(d *ocispec.Descriptor) { d.ArtifactType = ocispec.MediaTypeEmptyJSON }
		return true
	})
	add("listed with another size", func(m *material) bool { m.listed = func(d *ocispec.Descriptor) { d.Size++ }; return true })
	add("without a subject", func(m *material) bool { m.manifest.drop("subject"); return true })
	add("without an artifact type", func(m *material) bool { m.manifest.drop("artifactType"); return true })
	add("a newer version", func(m *material) bool {
		m.content = bytes.ReplaceAll(m.content, []byte("bundle.v0.3+json"), []byte("bundle.v0.4+json"))
		return true
	})
	for _, path := range []string{".verificationMaterial.certificate", ".verificationMaterial.publicKey", ".verificationMaterial.tlogEntries", ".verificationMaterial.timestampVerificationData",
		".dsseEnvelope", ".dsseEnvelope.signatures", ".dsseEnvelope.payload", ".verificationMaterial.tlogEntries[0].inclusionProof.checkpoint", ".verificationMaterial.tlogEntries[0].canonicalizedBody"} {
		for i, from := range []*material{b.good[1], b.stranger, b.other} {
			add(fmt.Sprintf("%s of %s", path, []string{"the other signature", "a stranger's", "the other image's"}[i]), func(m *material) bool {
				mine, theirs := jsonNode(m.content), jsonNode(from.content).at(path)
				if mine.at(path) == nil || theirs == nil {
					return false
				}
				*mine.at(path) = *theirs.clone()
				m.content = []byte(mine.String())
				return true
			})
		}
	}
}

func (w *cosignWorld) deliberateTags(b *cosignBase, add func(string, func(m *material) bool)) {
	for i, from := range []*material{b.good[1], b.stranger, b.other} {
		whose := []string{"the other signature's", "a stranger's", "the other image's"}[i]
		for _, note := range cosignNotes {
			add(note+" is "+whose, func(m *material) bool {
				if m.annotation(note) == "" || m.annotation(note) == from.annotation(note) {
					return false
				}
				m.setAnnotation(note, from.annotation(note))
				return true
			})
		}
		add("content is "+whose, func(m *material) bool { m.content = from.content; return true })
	}
	for _, note := range cosignNotes {
		for what, change := range map[string]func(m *material){"missing": func(m *material) { m.dropAnnotation(note) }, "empty": func(m *material) { m.setAnnotation(note, "") }} {
			add(note+" "+what, func(m *material) bool {
				if m.annotation(note) == "" {
					return false
				}
				change(m)
				return true
			})
		}
	}
	add("its envelope with a space", func(m *material) bool { m.content = append(m.content, ' '); return b.good[0].suffix == ".att" })
	add("its envelope with a key's name", func(m *material) bool {
		m.content = bytes.Replace(m.content, []byte(`"keyid":""`), []byte(`"keyid":"x"`), 1)
		return b.good[0].suffix == ".att"
	})
	add("logged by the digest of what was signed", func(m *material) bool {
		if b.good[0].suffix == ".sig" || m.annotation(noteBundle) == "" {
			return false
		}
		l := w.forged.CosignLayer(w.forged.Claim(forge.ClaimOptions{Payload: w.statement(0), Logs: []string{"v1 hashedrekord"}}), nil)
		*m = *layerMaterial(w.t, ".att", l)
		return true
	})
	add("a stranger's layer before it", func(m *material) bool { m.addLayer(0, b.stranger); return true })
	add("another image's layer after it", func(m *material) bool { m.addLayer(1, b.other); return true })
	add("the same layer twice", func(m *material) bool { m.addLayer(1, b.good[0]); return true })
	add("a Docker manifest", func(m *material) bool {
		m.mediaType = "application/vnd.docker.distribution.manifest.v2+json"
		m.manifest.set("mediaType", text(m.mediaType))
		return true
	})
	add("an index", func(m *material) bool {
		m.mediaType = ocispec.MediaTypeImageIndex
		m.manifest.set("mediaType", text(m.mediaType))
		return true
	})
	add("certificate and chain in one", func(m *material) bool {
		if m.annotation(noteCert) == "" {
			return false
		}
		m.setAnnotation(noteCert, m.annotation(noteCert)+m.annotation(noteChain))
		return true
	})
	add("chain turned round", func(m *material) bool {
		blocks := strings.SplitAfter(m.annotation(noteChain), "-----END CERTIFICATE-----\n")
		if len(blocks) < 2 {
			return false
		}
		m.setAnnotation(noteChain, blocks[1]+blocks[0])
		return true
	})
	add("a chain of another instance", func(m *material) bool {
		if m.annotation(noteChain) == "" {
			return false
		}
		m.setAnnotation(noteChain, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: forge.New(forge.Options{}).CA.Cert.Raw})))
		return true
	})
}

// payloads are what the right signer could have signed for another purpose, or in
// another way: names and texts.
func payloads(image, other string) [][2]string {
	const reference = `"identity":{"docker-reference":"r.test/app"}`
	good := `{"critical":{` + reference + `,"image":{"docker-manifest-digest":"` + image + `"},"type":"cosign container image signature"},"optional":{"env":"prod"}}`
	with := func(name, old, new string) [2]string { return [2]string{name, strings.Replace(good, old, new, 1)} }
	return [][2]string{
		{"as it should be", good},
		{"spaces", "\n " + strings.ReplaceAll(good, ",", " ,\t") + "\r\n"},
		with("the other image", image, other),
		with("capitals in the digest", image, "sha256:"+strings.ToUpper(image[7:])),
		with("another algorithm", image, "sha512:"+image[7:]),
		with("no algorithm", image, image[7:]),
		with("a space in the digest", image, image+" "),
		with("escapes", "sha256", `\u0073ha256`),
		with("another type", "cosign container image signature", "atomic container signature"),
		with("no type", `,"type":"cosign container image signature"`, ""),
		with("no digest", `"docker-manifest-digest":"`+image+`"`, ""),
		with("no reference", reference, `"identity":{}`),
		with("the digest twice, the other image first", `"docker-manifest-digest"`, `"docker-manifest-digest":"`+other+`","docker-manifest-digest"`),
		with("the digest twice, the other image last", `"},"type"`, `","docker-manifest-digest":"`+other+`"},"type"`),
		with("the digest in capitals", "docker-manifest-digest", "Docker-Manifest-Digest"),
		with("the image twice", `"type"`, `"image":{"docker-manifest-digest":"`+other+`"},"type"`),
		with("critical twice", `{"critical"`, `{"critical":{`+reference+`,"image":{"docker-manifest-digest":"`+other+`"},"type":"x"},"critical"`),
		with("an unknown critical member", `"type"`, `"unless":"revoked","type"`),
		with("an unknown member", `"optional"`, `"more":1,"optional"`),
		with("optional null", `{"env":"prod"}`, "null"),
		with("no optional", `,"optional":{"env":"prod"}`, ""),
		with("optional a list", `{"env":"prod"}`, `["env"]`),
		with("optional deep", `"prod"`, `{"a":[1,2.5e3,null,{"b":true}]}`),
		{"something after it", good + "{}"},
		{"a byte order mark", "\ufeff" + good},
		{"null", "null"},
	}
}

// random is one change by chance of a base, of the part that chance picks.
func (w *cosignWorld) random(r *rand.Rand, b *cosignBase) cosignCase {
	for {
		m, other := b.good[0].clone(), b.good[1]
		d := choice(r, documents(m))
		was, theirs := d.get(m), d.get(other)
		var now []byte
		var how string
		if d.kind == '{' {
			now, how = mutateJSON(r, was, theirs)
		} else {
			now, how = mutateText(r, was, theirs, d.kind)
		}
		if now != nil && !bytes.Equal(was, now) {
			d.set(m, now)
			return cosignCase{d.name + ": " + how, b, m}
		}
	}
}

// mutateJSON changes a document as bundles are changed; nil when the kind of
// change that chance picks cannot be made of it.
func mutateJSON(r *rand.Rand, data, other []byte) ([]byte, string) {
	tree := jsonNode(data)
	m := choose(r)
	if strings.HasPrefix(m.kind, "decoded") || m.kind == "base64" {
		if len(all(tree, isBytes)) == 0 {
			return nil, ""
		}
	}
	if m.kind == "text" && len(all(tree, isText)) == 0 {
		return nil, ""
	}
	out, what := m.change(r, data, tree, jsonNode(other))
	return out, m.kind + " " + what
}

// mutateText changes base64 ('b') or PEM ('p').
func mutateText(r *rand.Rand, data, other []byte, kind byte) ([]byte, string) {
	s, theirs := string(data), string(other)
	at := r.IntN(len(s))
	flip := func(b []byte) []byte { b[r.IntN(len(b))] ^= 1 << r.IntN(8); return b }
	list := []struct{ how, text string }{
		{"bit", string(flip([]byte(s)))}, {"cut", s[:at]}, {"a character less", s[:at] + s[at+1:]}, {"the other's", theirs}, {"both", s + theirs},
		{"twice", s + s}, {"space before", " " + s}, {"line break after", s + "\n"}, {"space after", s + " "}, {"text before", "x" + s}, {"halves", s[len(s)/2:] + s[:len(s)/2]},
	}
	if kind == 'b' {
		raw, _ := base64.StdEncoding.DecodeString(s)
		list = append(list, []struct{ how, text string }{
			{"decoded bit", base64.StdEncoding.EncodeToString(flip(bytes.Clone(raw)))}, {"url", base64.URLEncoding.EncodeToString(raw)},
			{"no padding", base64.RawStdEncoding.EncodeToString(raw)}, {"line break", s[:at] + "\n" + s[at:]}, {"hexadecimal", fmt.Sprintf("%x", raw)},
			{"a byte more", base64.StdEncoding.EncodeToString(append(bytes.Clone(raw), 0))},
		}...)
	} else if block, rest := pem.Decode(data); block != nil {
		encode := func(b *pem.Block) string { return string(pem.EncodeToMemory(b)) + string(rest) }
		list = append(list, []struct{ how, text string }{
			{"decoded bit", encode(&pem.Block{Type: block.Type, Bytes: flip(bytes.Clone(block.Bytes))})},
			{"decoded bit", encode(&pem.Block{Type: block.Type, Bytes: flip(bytes.Clone(block.Bytes))})},
			{"CRLF", strings.ReplaceAll(s, "\n", "\r\n")}, {"header", encode(&pem.Block{Type: block.Type, Headers: map[string]string{"A": "b"}, Bytes: block.Bytes})},
			{"another type", encode(&pem.Block{Type: "X509 CERTIFICATE", Bytes: block.Bytes})}, {"comment", "subject=alice\n" + s}, {"a byte more", encode(&pem.Block{Type: block.Type, Bytes: append(bytes.Clone(block.Bytes), 0)})},
			{"spaces between lines", strings.ReplaceAll(s, "\n", "\n\n")}, {"no line breaks", strings.ReplaceAll(s, "\n", "")},
		}...)
	}
	c := choice(r, list)
	return []byte(c.text), c.how
}
