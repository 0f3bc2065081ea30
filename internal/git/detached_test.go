package git

import (
	"bytes"
	"crypto"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// TestDetached: a signature is verified with the hash of the file and the suffix, and
// every way of not being that signature by that key at that time is refused.
func TestDetached(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(when time.Time) *packet.Config {
		return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA512, Time: func() time.Time { return when }}
	}
	key := func(config *packet.Config) (*openpgp.Entity, *Keyring) {
		e, err := openpgp.NewEntity("a", "", "a@example.org", config)
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		w, err := armor.Encode(&buf, openpgp.PublicKeyType, nil)
		if err == nil {
			err = e.Serialize(w)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		ring, err := ParseKeyring(append(buf.Bytes(), '\n'))
		if err != nil {
			t.Fatal(err)
		}
		return e, ring
	}
	e, ring := key(at(made))
	_, stranger := key(at(made))
	short := at(made)
	short.KeyLifetimeSecs = 3600
	brief, briefRing := key(short)
	sign := func(e *openpgp.Entity, config *packet.Config) []byte {
		var buf bytes.Buffer
		if err := openpgp.ArmoredDetachSign(&buf, e, strings.NewReader("file"), config); err != nil {
			t.Fatal(err)
		}
		return append(buf.Bytes(), '\n')
	}
	sum := func(d *Detached, body string) []byte {
		h := crypto.SHA512.New()
		h.Write([]byte(body))
		h.Write(d.Suffix())
		return h.Sum(nil)
	}
	parse := func(armored []byte) *Detached {
		d, err := ParseDetached(armored)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	now := made.Add(48 * time.Hour)
	good := parse(sign(e, at(made.Add(time.Hour))))
	if good.Algorithm() != "sha512" {
		t.Error(good.Algorithm())
	}
	if err := good.Verify(ring, sum(good, "file"), now); err != nil {
		t.Error(err)
	}
	expires := at(made.Add(time.Hour))
	expires.SigLifetimeSecs = 3600
	early := at(made)
	for name, tc := range map[string]struct {
		d    *Detached
		ring *Keyring
		sum  []byte
		now  time.Time
	}{
		"another file":       {good, ring, sum(good, "File"), now},
		"a stranger's key":   {good, stranger, sum(good, "file"), now},
		"short hash":         {good, ring, sum(good, "file")[:32], now},
		"before the key":     {good, ring, sum(good, "file"), made.Add(-time.Hour)},
		"signature is old":   {parse(sign(e, expires)), ring, sum(parse(sign(e, expires)), "file"), now},
		"key is old":         {parse(sign(brief, early)), briefRing, sum(parse(sign(brief, early)), "file"), now},
		"before it was made": {good, ring, sum(good, "file"), made.Add(30 * time.Minute)},
	} {
		if err := tc.d.Verify(tc.ring, tc.sum, tc.now); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	for name, armored := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "cut": sign(e, at(made))[:100],
		"another armor": []byte(strings.Replace(string(sign(e, at(made))), "PGP SIGNATURE", "PGP MESSAGE", -1)),
	} {
		if _, err := ParseDetached(armored); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

// FuzzDetached: whatever stands in a signature file, reading it ends and does not panic.
func FuzzDetached(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP SIGNATURE-----\n\nwsBzBAABCAAnBQ\n-----END PGP SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, armored []byte) {
		if d, err := ParseDetached(armored); err == nil {
			_ = d.Verify(&Keyring{}, make([]byte, d.sig.Hash.Size()), time.Now())
		}
	})
}
