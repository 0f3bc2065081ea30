package notary_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/notary"
	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// vectors are others' envelopes by file name.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, pattern := range []string{"*.cose", "*.jws.json"} {
		for _, path := range must(filepath.Glob(filepath.Join("testdata", pattern))) {
			out[filepath.Base(path)] = must(os.ReadFile(path))
		}
	}
	if len(out) != 12 {
		t.Fatalf("%d vectors", len(out))
	}
	return out
}

func mediaType(name string) string {
	if strings.HasSuffix(name, ".cose") {
		return notary.MediaTypeCOSE
	}
	return notary.MediaTypeJWS
}

// TestVectors reads what notation-core-go writes.
func TestVectors(t *testing.T) {
	t.Parallel()
	for name, data := range vectors(t) {
		c, err := notary.Parse(mediaType(name), data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n := c.Notary
		authority := strings.Contains(name, "authority")
		wantAlg := map[string]string{"ec256": "ES256", "ec384": "ES384", "rsa30": "PS384"}[name[:5]]
		if len(c.Certificates) != 2 || len(c.Timestamps) != 0 || n.Algorithm != wantAlg || n.ContentType != notary.MediaTypePayload ||
			n.SigningAgent != "notation-core-go/1.3.0" || n.SigningTime.Year() < 2025 || n.Expiry.IsZero() == authority || len(n.Extended) == 1 != authority {
			t.Errorf("%s: %+v", name, n)
		}
		p, err := notary.ParsePayload(n.Payload)
		if err != nil || p.Size != 16724 || p.Annotations["io.wabbit-networks.buildId"] != "123" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

// TestBytesThatDoNotCount: no byte of an envelope can be left out, doubled or
// followed by another, and no envelope reads as the other kind.
func TestBytesThatDoNotCount(t *testing.T) {
	t.Parallel()
	for name, data := range vectors(t) {
		if name[:5] != "ec256" {
			continue
		}
		kind := mediaType(name)
		for i := range data {
			if _, err := notary.Parse(kind, data[:i]); err == nil {
				t.Fatalf("%s: its first %d bytes are read", name, i)
			}
		}
		other := map[string]string{notary.MediaTypeCOSE: notary.MediaTypeJWS, notary.MediaTypeJWS: notary.MediaTypeCOSE}[kind]
		for _, row := range []struct {
			kind string
			data []byte
		}{{kind, append(bytes.Clone(data), 0)}, {kind, append(bytes.Clone(data), data...)}, {other, data}, {"application/json", data}, {"", data}} {
			if _, err := notary.Parse(row.kind, row.data); err == nil {
				t.Errorf("%s read as %q with %d bytes", name, row.kind, len(row.data))
			}
		}
	}
}

// TestSpellings: each value has one spelling.
func TestSpellings(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	cose, jws := w.Envelope().COSE(), w.Envelope().JWS()
	replace := func(data []byte, old, new string) []byte {
		t.Helper()
		if bytes.Count(data, []byte(old)) == 0 {
			t.Fatalf("no %q", old)
		}
		return bytes.Replace(data, []byte(old), []byte(new), 1)
	}
	const agent = "io.cncf.notary.signingAgent"
	member := func(change func(m map[string]any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(jws, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		return must(json.Marshal(m))
	}
	header := func(change func(h map[string]any)) []byte {
		return member(func(m map[string]any) {
			var h map[string]any
			if err := json.Unmarshal(must(base64.RawURLEncoding.DecodeString(m["protected"].(string))), &h); err != nil {
				t.Fatal(err)
			}
			change(h)
			m["protected"] = base64.RawURLEncoding.EncodeToString(must(json.Marshal(h)))
		})
	}
	protected := func(m map[string]any) string { return m["protected"].(string) }
	for name, row := range map[string]struct {
		kind string
		data []byte
	}{
		"array of five":            {notary.MediaTypeCOSE, append(replace(cose, "\xd2\x84", "\xd2\x85"), 0)},
		"array without length":     {notary.MediaTypeCOSE, append(replace(cose, "\xd2\x84", "\xd2\x9f"), 0xff)},
		"other tag":                {notary.MediaTypeCOSE, replace(cose, "\xd2\x84", "\xd1\x84")},
		"tag in two bytes":         {notary.MediaTypeCOSE, replace(cose, "\xd2\x84", "\xd8\x12\x84")},
		"array in two bytes":       {notary.MediaTypeCOSE, replace(cose, "\xd2\x84", "\xd2\x98\x04")},
		"text in three bytes":      {notary.MediaTypeCOSE, replace(cose, "\x6bnotaryforge", "\x78\x0bnotaryforge")},
		"text not UTF-8":           {notary.MediaTypeCOSE, replace(cose, "notaryforge", "notaryforg\xff")},
		"agent a byte string":      {notary.MediaTypeCOSE, replace(cose, "\x6bnotaryforge", "\x4bnotaryforge")},
		"unprotected not a map":    {notary.MediaTypeCOSE, replace(cose, "\xa2\x18\x21", "\x82\x18\x21")},
		"unprotected header twice": {notary.MediaTypeCOSE, replace(replace(cose, "\xa2\x18\x21", "\xa3\x18\x21"), "\x78\x1b"+agent, "\x78\x1b"+agent+"\x60\x78\x1b"+agent)},
		"algorithm unprotected":    {notary.MediaTypeCOSE, replace(cose, "\xa2\x18\x21", "\xa3\x01\x26\x18\x21")},
		"countersignature":         {notary.MediaTypeCOSE, replace(cose, "\xa2\x18\x21", "\xa3\x0b\x40\x18\x21")},
		"unprotected with a tag":   {notary.MediaTypeCOSE, replace(cose, "\xa2\x18\x21", "\xa3\x61x\xc0\x60\x18\x21")},
		"unprotected with a float": {notary.MediaTypeCOSE, replace(cose, "\xa2\x18\x21", "\xa3\x61x\xf9\x3c\x00\x18\x21")},
		"undefined":                {notary.MediaTypeCOSE, replace(cose, "\xa2\x18\x21", "\xa3\x61x\xf7\x18\x21")},
		"false in two bytes":       {notary.MediaTypeCOSE, replace(cose, "\xa2\x18\x21", "\xa3\x61x\xf8\x14\x18\x21")},
		"map with a key twice":     {notary.MediaTypeCOSE, replace(cose, "\xa2\x18\x21", "\xa3\x61x\xa2\x01\x01\x01\x02\x18\x21")},
		"too deep":                 {notary.MediaTypeCOSE, replace(cose, "\xa2\x18\x21", "\xa3\x61x"+strings.Repeat("\x81", 9)+"\x00\x18\x21")},

		"no payload":          {notary.MediaTypeJWS, member(func(m map[string]any) { delete(m, "payload") })},
		"signatures, a list":  {notary.MediaTypeJWS, member(func(m map[string]any) { m["signatures"] = []any{} })},
		"another member":      {notary.MediaTypeJWS, member(func(m map[string]any) { m["kid"] = "x" })},
		"member in capitals":  {notary.MediaTypeJWS, member(func(m map[string]any) { m["Payload"] = m["payload"]; delete(m, "payload") })},
		"a member twice":      {notary.MediaTypeJWS, replace(jws, `{"header"`, `{"signature":"AA","header"`)},
		"another header":      {notary.MediaTypeJWS, member(func(m map[string]any) { m["header"].(map[string]any)["jku"] = "https://x" })},
		"padding":             {notary.MediaTypeJWS, member(func(m map[string]any) { m["protected"] = protected(m) + "=" })},
		"line break":          {notary.MediaTypeJWS, member(func(m map[string]any) { m["protected"] = protected(m)[:4] + "\n" + protected(m)[4:] })},
		"standard alphabet":   {notary.MediaTypeJWS, member(func(m map[string]any) { m["signature"] = "+/" + m["signature"].(string)[2:] })},
		"stray bits":          {notary.MediaTypeJWS, member(func(m map[string]any) { m["signature"] = "AB" })},
		"x5c in base64url":    {notary.MediaTypeJWS, member(func(m map[string]any) { m["header"].(map[string]any)["x5c"] = []string{"-_-_"} })},
		"x5c without padding": {notary.MediaTypeJWS, member(func(m map[string]any) { m["header"].(map[string]any)["x5c"] = []string{"AA"} })},
		"null expiry":         {notary.MediaTypeJWS, header(func(h map[string]any) { h["io.cncf.notary.expiry"] = nil })},
		"expiry in capitals":  {notary.MediaTypeJWS, header(func(h map[string]any) { h["io.cncf.notary.Expiry"] = "2020-01-01T00:00:00Z" })},
		"crit with a long s":  {notary.MediaTypeJWS, header(func(h map[string]any) { h["io.cncf.notary.ſigningTime"] = "x" })},
		"payload not encoded": {notary.MediaTypeJWS, header(func(h map[string]any) { h["b64"] = false })},
		"crit names signingTime": {notary.MediaTypeJWS, header(func(h map[string]any) {
			h["crit"] = []string{"io.cncf.notary.signingScheme", "io.cncf.notary.signingTime"}
		})},
		"crit names alg": {notary.MediaTypeJWS, header(func(h map[string]any) { h["crit"] = []string{"io.cncf.notary.signingScheme", "alg"} })},
	} {
		if c, err := notary.Parse(row.kind, row.data); err == nil {
			t.Errorf("%s: read as %+v", name, c.Notary)
		}
	}
	// What may stand among the headers that nobody signs.
	for name, data := range map[string][]byte{
		"text and list": replace(cose, "\xa2\x18\x21", "\xa3\x61x\x83\x01\xa1\x61y\xf6\x40\x18\x21"),
		"x5t":           replace(cose, "\xa2\x18\x21", "\xa3\x18\x22\x82\x2f\x41x\x18\x21"),
		"key id":        replace(cose, "\xa2\x18\x21", "\xa3\x04\x41x\x18\x21"),
	} {
		if _, err := notary.Parse(notary.MediaTypeCOSE, data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPayloads: descriptors that are not quite ones.
func TestPayloads(t *testing.T) {
	t.Parallel()
	digest := string(evidence.SHA256(nil))
	for name, row := range map[string]struct {
		text string
		good bool
	}{
		"good":               {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":0}}`, true},
		"more":               {`{"x":null,"targetArtifact":{"y":[1],"mediaType":"a/b","digest":"` + digest + `","size":7}}`, true},
		"known, typed":       {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":7,"urls":["u"],"data":"AA==","artifactType":"t","platform":{"os":"linux","architecture":"arm"}}}`, true},
		"empty":              {`{}`, false},
		"no target":          {`{"targetArtifact":null}`, false},
		"capital target":     {`{"TargetArtifact":{},"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":0}}`, false},
		"capital digest":     {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","Digest":"x","size":0}}`, false},
		"target twice":       {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":0},"targetArtifact":{}}`, false},
		"digest twice":       {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","digest":"` + digest + `","size":0}}`, false},
		"no size":            {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `"}}`, false},
		"size a text":        {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":"7"}}`, false},
		"size a fraction":    {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":7.0}}`, false},
		"size negative":      {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":-1}}`, false},
		"short digest":       {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest[:70] + `","size":7}}`, false},
		"digest in capitals": {`{"targetArtifact":{"mediaType":"a/b","digest":"sha256:` + strings.ToUpper(digest[7:]) + `","size":7}}`, false},
		"no media type":      {`{"targetArtifact":{"mediaType":"","digest":"` + digest + `","size":7}}`, false},
		"annotation no text": {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":7,"annotations":{"a":1}}}`, false},
		"annotation twice":   {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":7,"annotations":{"a":"1","a":"2"}}}`, false},
		"urls no list":       {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":7,"urls":"u"}}`, false},
		"trailing":           {`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":7}}x`, false},
	} {
		if p, err := notary.ParsePayload([]byte(row.text)); (err == nil) != row.good {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

// TestMemory: hostile envelopes of the largest size take little.
func TestMemory(t *testing.T) {
	const size = notary.MaxSize - 1024
	pad := func(pre string, unit string, post string) []byte {
		n := (size - len(pre) - len(post)) / len(unit)
		return []byte(pre + strings.Repeat(unit, n) + post)
	}
	w := notaryforge.NewWorld(time.Now(), nil)
	cose := w.Envelope().COSE()
	i := bytes.Index(cose, []byte("\xa2\x18\x21"))
	jws := string(w.Envelope().JWS())
	chain := strings.Index(jws, `"x5c":["`) + len(`"x5c":["`)
	payload := strings.Index(jws, `"payload":"`) + len(`"payload":"`)
	inputs := map[string][]byte{
		"empty lists":   pad(string(cose[:i])+"\xa3\x61x\x9a\x01\xff\x00\x00", "\x80", ""),
		"lists of ones": pad(string(cose[:i])+"\xa3\x61x\x9a\x01\xff\x00\x00", "\x81\x01", ""),
		"deep lists":    pad(string(cose[:i])+"\xa3\x61x", "\x81", ""),
		"maps":          pad(string(cose[:i])+"\xa3\x61x\x9a\x01\xff\x00\x00", "\xa1\x01\x01", ""),
		"certificates":  pad(string(cose[:i])+"\xa1\x18\x21\x9a\x01\xff\x00\x00", "\x40", ""),
		"long text":     pad(string(cose[:i])+"\xa1\x61x\x7a\x01\xff\x00\x00", "x", ""),
		"claims 4 GiB":  pad(string(cose[:i])+"\xa1\x61x\x5a\xff\xff\xff\xff", "x", ""),
		"protected":     pad("\xd2\x84\x5a\x01\xff\x00\x00\xa1\x61x\x9a\x01\xfe\x00\x00", "\x80", ""),

		"x5c":           pad(jws[:chain], "AAAA", jws[chain:]),
		"x5c, many":     pad(jws[:chain], `AAAA","`, jws[chain:]),
		"payload text":  pad(jws[:payload], "AAAA", jws[payload:]),
		"escapes":       pad(jws[:payload], `\u0041`, jws[payload:]),
		"members":       pad("{", `"a":"",`, "}"),
		"deep JSON":     pad("", "[", ""),
		"blanks":        pad("", " ", jws),
		"member's name": pad(`{"`, "x", `":1}`),
	}
	for name, data := range inputs {
		kind := notary.MediaTypeCOSE
		if data[0] != 0xd2 {
			kind = notary.MediaTypeJWS
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c, err := notary.Parse(kind, data)
		if err == nil {
			_, err = notary.ParsePayload(c.Notary.Payload)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
			t.Errorf("%s: %d bytes allocated for %d (%v)", name, n, len(data), err)
		}
	}
	if _, err := notary.Parse(notary.MediaTypeJWS, make([]byte, notary.MaxSize+1)); err == nil {
		t.Error("more than the limit is read")
	}
}

// TestPayloadMemory: the largest payload of the most members.
func TestPayloadMemory(t *testing.T) {
	digest := string(evidence.SHA256(nil))
	var b strings.Builder
	b.WriteString(`{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":7,"annotations":{`)
	for i := 0; b.Len() < notary.MaxPayload-64; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + string(must(json.Marshal(i))) + `":""`)
	}
	b.WriteString("}}}")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := notary.ParsePayload([]byte(b.String()))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d bytes allocated for %d (%v)", n, b.Len(), err)
	}
}

// FuzzParse: no envelope makes the parser panic, and what it reads is consistent.
func FuzzParse(f *testing.F) {
	for name, data := range vectors(f) {
		f.Add(mediaType(name) == notary.MediaTypeCOSE, data)
	}
	f.Fuzz(func(t *testing.T, cose bool, data []byte) {
		kind := notary.MediaTypeJWS
		if cose {
			kind = notary.MediaTypeCOSE
		}
		c, err := notary.Parse(kind, data)
		if err != nil {
			return
		}
		n := c.Notary
		if len(c.Certificates) == 0 || len(n.Payload) == 0 || len(n.Signature) == 0 || len(n.Critical) == 0 || n.SigningTime.IsZero() && cose || len(n.Signed) < len(n.Payload) {
			t.Errorf("%+v", n)
		}
	})
}

// FuzzPayload: no payload makes the parser panic.
func FuzzPayload(f *testing.F) {
	for name, data := range vectors(f) {
		f.Add(must(notary.Parse(mediaType(name), data)).Notary.Payload)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := notary.ParsePayload(data); err == nil && (p.MediaType == "" || p.Size < 0 || p.Digest.Bytes() == nil) {
			t.Errorf("%+v", p)
		}
	})
}
