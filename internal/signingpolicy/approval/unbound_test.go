package approval_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
)

// packets are those of an armored certificate.
func packets(t *testing.T, armored []byte) (out [][]byte) {
	t.Helper()
	block, err := armor.Decode(bytes.NewReader(armored))
	if err != nil {
		t.Fatal(err)
	}
	r := packet.NewOpaqueReader(block.Body)
	for {
		p, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := p.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		out = append(out, b.Bytes())
	}
}

// TestUnboundSubkey is row 23: a subkey of somebody else, put behind erin's certificate with or
// without the signature that binds it to its own certificate, makes no certificate that is accepted.
func TestUnboundSubkey(t *testing.T) {
	t.Parallel()
	var certs [2][][]byte
	for i := range certs {
		home, err := os.MkdirTemp("", "hm")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent").Run()
			_ = os.RemoveAll(home)
		})
		armored, err := gpg{home}.make()
		if err != nil {
			t.Fatal(err)
		}
		certs[i] = packets(t, []byte(armored))
	}
	erin, mallory := certs[0], certs[1]
	for name, list := range map[string][][]byte{
		"with its own binding":    append(erin[:len(erin):len(erin)], mallory[len(mallory)-2:]...),
		"without":                 append(erin[:len(erin):len(erin)], mallory[len(mallory)-2]),
		"with erin's for another": append(erin[:len(erin):len(erin)], mallory[len(mallory)-2], erin[len(erin)-1]),
		"instead of hers":         append(erin[:len(erin)-2:len(erin)-2], mallory[len(mallory)-2], erin[len(erin)-1]),
	} {
		var b bytes.Buffer
		w, err := armor.Encode(&b, "PGP PUBLIC KEY BLOCK", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range list {
			if _, err := w.Write(raw); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		text, err := marshal(object{
			"principals": object{"erin": object{"keys": openpgpKeys(b.String())}},
			"roles":      object{"update": object{"threshold": 1, "principals": []string{"erin"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, why := authority.Parse(text); len(why) != 1 || why[0].Code != "AUTHORITY_MALFORMED" {
			t.Errorf("%s: %+v", name, why)
		}
	}
}

func openpgpKeys(certificate string) list {
	return list{object{"kind": "openpgp", "publicKey": certificate, "protection": "software", "uses": list{"approve", "update"}}}
}
