package verify_test

import (
	"bytes"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// A certificate that a timestamp brings and nobody asks for, as an authority's root,
// must be DER all the same: other readers read it.
func TestTimestampsBrokenCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	whole := w.TSARoot.Cert.Raw
	at := bytes.Index(whole, w.TSARoot.Cert.RawSubject) + 1 // the length of its name
	broken := bytes.Clone(whole)
	broken[at] = 0xc2
	for name, c := range map[string]struct {
		root []byte
		want string
	}{"whole": {whole, ""}, "broken": {broken, verify.TimeUntrusted}} {
		claim := w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Tokens: []forge.TokenOptions{{Embed: [][]byte{w.TSA.Cert.Raw, c.root}}}})
		if c.want != "" {
			w.refused(name, claim, verify.Config{}, c.want)
		} else if ok, why := w.judge(claim, verify.Config{}); ok == nil {
			t.Errorf("%s: %s", name, why)
		}
	}
}
