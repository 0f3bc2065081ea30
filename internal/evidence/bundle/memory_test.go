//go:build !race

// The race detector keeps books about all memory: under it this measures those, and
// takes many minutes. The tests without it measure what users get.

package bundle_test

import (
	"encoding/base64"
	"runtime"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/hmtest/hostile"
)

// inputs are inputs that try to make a reader take much memory or time: each is
// as large as the largest that is read, or nearly.
var inputs = map[string]func() []byte{
	"deep":           func() []byte { return fill(`{"messageSignature":`, `[`, ``) },
	"deep, in place": func() []byte { return fill(`{"verificationMaterial":{"tlogEntries":[`, `[`, ``) },
	"many entries":   func() []byte { return fill(`{"verificationMaterial":{"tlogEntries":[`, `{},`, `{}]}}`) },
	"many hashes": func() []byte {
		return fill(`{"verificationMaterial":{"tlogEntries":[{"inclusionProof":{"hashes":[`, `"",`, `""]}}]}}`)
	},
	"many tokens": func() []byte {
		return fill(`{"verificationMaterial":{"timestampVerificationData":{"rfc3161Timestamps":[`, `{"signedTimestamp":""},`, `{}]}}}`)
	},
	"many signatures": func() []byte { return fill(`{"dsseEnvelope":{"signatures":[`, `{},`, `{}]}}`) },
	"huge number":     func() []byte { return fill(`{"verificationMaterial":{"tlogEntries":[{"logIndex":`, `9`, `}]}}`) },
	"quoted number":   func() []byte { return fill(`{"verificationMaterial":{"tlogEntries":[{"logIndex":"`, `9`, `"}]}}`) },
	"escaped number":  func() []byte { return fill(`{"verificationMaterial":{"tlogEntries":[{"logIndex":"`, `\u0039`, `"}]}}`) },
	"long name":       func() []byte { return fill(`{"`, `a`, `":1}`) },
	"escaped name":    func() []byte { return fill(`{"`, `\u0061`, `":1}`) },
	"many names":      func() []byte { return fill(`{`, `"mediaType":"",`, `"a":1}`) },
	"long text":       func() []byte { return fill(`{"mediaType":"`, `a`, `"}`) },
	"escaped text":    func() []byte { return fill(`{"mediaType":"`, `\n`, `"}`) },
	"long checkpoint": func() []byte {
		return fill(`{"verificationMaterial":{"tlogEntries":[{"inclusionProof":{"checkpoint":{"envelope":"`, `\n`, `"}}}]}}`)
	},
	"long enum":       func() []byte { return fill(`{"messageSignature":{"messageDigest":{"algorithm":"`, `\n`, `"}}}`) },
	"number as enum":  func() []byte { return fill(`{"messageSignature":{"messageDigest":{"algorithm":`, `1`, `}}}`) },
	"payload":         func() []byte { return fill(envelope, `AAAA`, `"}}`) },
	"escaped payload": func() []byte { return fill(envelope, `\u0041AAA`, `"}}`) },
	"broken payload":  func() []byte { return fill(envelope, `AAAA`, `*"}}`) },
	"broken lines":    func() []byte { return fill(envelope, `AAAA\n`, `"}}`) },
	"spaces":          func() []byte { return fill(`{`, ` `, `}`) },
	"no end":          func() []byte { return fill(`{"mediaType":"`, `\"`, ``) },
	"statement deep":  func() []byte { return statementOf(`{"_type":"t","predicate":`, `[`, ``) },
	"annotations": func() []byte {
		return statementOf(`{"subject":[{"annotations":{`, `"%d":"",`, `"a":""}}]}`)
	},
	"many annotated": func() []byte {
		return statementOf(`{"subject":[`, `{"digest":{"a":"b"},"annotations":{"a":"b"}},`, `{}]}`)
	},
	"many digests": func() []byte { return statementOf(`{"subject":[{"digest":{`, `"%d":"",`, `"a":""}}]}`) },
	"predicate of names": func() []byte {
		return statementOf(`{"_type":"t","predicateType":"p","predicate":{`, `"%d":1,`, `"a":1}}`)
	},
	"predicate of escaped names": func() []byte {
		return statementOf(`{"_type":"t","predicateType":"p","predicate":{`, `"\u0061%d`+strings.Repeat("x", 200)+`":1,`, `"a":1}}`)
	},
	"predicate of objects": func() []byte {
		object := `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1,"r":1},`
		return statementOf(`{"_type":"t","predicateType":"p","predicate":{"a":[`, object, `1]}}`)
	},
	"predicate of names, deep": func() []byte {
		return statementOf(`{"_type":"t","predicateType":"p","predicate":`, `{"a":1,"b":`, ``)
	},
}

const envelope = `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":""}},"dsseEnvelope":{"signatures":[{"sig":"AAAA"}],"payloadType":"application/vnd.in-toto+json","payload":"`

// fill is before, as many pieces as there is room for, and after. A piece with a
// %d is numbered.
func fill(before, piece, after string) []byte {
	return hostile.Fill(bundle.MaxSize, before, piece, after)
}

// statementOf is a bundle with a statement that is filled.
func statementOf(before, piece, after string) []byte {
	payload := hostile.Fill(bundle.MaxSize/4*3-1024, before, piece, after)
	out := make([]byte, 0, bundle.MaxSize)
	out = append(out, envelope...)
	out = base64.StdEncoding.AppendEncode(out, payload)
	return append(out, `"}}`...)
}

// read reads a bundle and what it signs; whether they can be read is no matter.
func read(data []byte) {
	if c, err := bundle.Parse(data); err == nil && c.Envelope != nil {
		_, _ = bundle.ParseStatement(c.Envelope.Payload)
	}
}

// TestHostileMemory: no input makes reading take more than 64 MB besides one copy
// of the input, little garbage included. It must not run beside others.
func TestHostileMemory(t *testing.T) {
	for name, input := range inputs {
		data := input()
		hostile.Measure(t, name, len(data), func() { read(data) })
		runtime.KeepAlive(data)
	}
}
