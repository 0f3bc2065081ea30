package git

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Keyring holds OpenPGP certificates that may sign, and the names under which
// each of them is known to the policy.
type Keyring struct {
	entities   openpgp.EntityList
	principals map[string][]string // by fingerprint of the primary key
}

const (
	pgpPublicBegin = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	pgpPublicEnd   = "-----END PGP PUBLIC KEY BLOCK-----"
	principalsLine = "# principals:"
)

// ParseKeyring reads armored public keys as gpg --export --armor writes them,
// one block after another. A line "# principals: NAME,NAME" before a block
// gives the keys of that block their names. The user ids inside a certificate
// name nobody: whoever holds the key can write there what they like.
// Private keys, unreadable keys and text between the blocks are refused.
func ParseKeyring(data []byte) (*Keyring, error) {
	k := &Keyring{principals: map[string][]string{}}
	var names []string
	var block []string
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimRight(line, " \t\r")
		switch list, named := strings.CutPrefix(line, principalsLine); {
		case block != nil:
			if block = append(block, line); line != pgpPublicEnd {
				continue
			}
			if err := k.add(strings.Join(block, "\n")+"\n", names); err != nil {
				return nil, fmt.Errorf("the key block that ends on line %d: %w", i+1, err)
			}
			block, names = nil, nil
		case line == pgpPublicBegin:
			block = []string{line}
		case named:
			var err error
			if names, err = parseNames("principal", strings.TrimSpace(list)); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		case line != "" && line[0] != '#':
			return nil, fmt.Errorf("line %d: want armored public keys and # comments only", i+1)
		}
	}
	if block != nil {
		return nil, fmt.Errorf("the last key block has no end")
	}
	if len(k.entities) == 0 {
		return nil, fmt.Errorf("no key in it")
	}
	return k, nil
}

func (k *Keyring) add(block string, names []string) error {
	b, err := armor.Decode(strings.NewReader(block))
	if err != nil {
		return err
	}
	packets := packet.NewReader(b.Body)
	for {
		e, err := openpgp.ReadEntity(packets)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.PrivateKey != nil {
			return fmt.Errorf("it holds a private key")
		}
		fp := hex.EncodeToString(e.PrimaryKey.Fingerprint)
		if slices.ContainsFunc(k.entities, func(o *openpgp.Entity) bool {
			return bytes.Equal(o.PrimaryKey.Fingerprint, e.PrimaryKey.Fingerprint)
		}) {
			return fmt.Errorf("key %s stands twice", fp)
		}
		k.entities = append(k.entities, e)
		k.principals[fp] = names
	}
}

// openpgp verifies a detached binary signature (RFC 9580, 5.2.1): exactly one
// signature packet, no weak hash anywhere between it and the primary key, and
// key, subkey and signature valid at our clock.
func (v verification) openpgp(k *Keyring) (*policy.TagSigner, *policy.Reason) {
	sig, raw, why := v.readOpenPGP()
	if why != nil {
		return nil, why
	}
	hint := openpgpIssuer(sig)
	if k == nil {
		return nil, v.denied(CodeSigner, "is signed by openpgp %s, and the policy lists no OpenPGP key", hint)
	}
	fp, why := v.openpgpBy(k, sig, raw)
	if fp == "" {
		return nil, v.denied(CodeSigner, "is signed by openpgp %s, a key that is not listed for signing", hint)
	}
	if why != nil {
		return nil, why
	}
	return &policy.TagSigner{Kind: "openpgp", Fingerprint: fp, Principals: append([]string{}, k.principals[fp]...)}, nil
}

// readOpenPGP reads the one packet of the armor and refuses what no key can make good.
func (v verification) readOpenPGP() (*packet.Signature, []byte, *policy.Reason) {
	sig, raw, err := readSignature(v.sig.Armored)
	if err != nil {
		return nil, nil, v.denied(CodeMalformed, "has an OpenPGP signature that is not acceptable: %v", err)
	}
	if sig.SigType != packet.SigTypeBinary {
		return nil, nil, v.denied(CodeMalformed, "has an OpenPGP signature that is not over a binary document")
	}
	if weakHash(sig.Hash) {
		return nil, nil, v.denied(CodeSigner, "has an OpenPGP signature by %s that uses %v, which can be forged", openpgpIssuer(sig), sig.Hash)
	}
	return sig, raw, nil
}

// openpgpBy judges a signature with a keyring: the fingerprint of the primary key that made
// it, "" when none in the keyring may have, and why it must not count.
func (v verification) openpgpBy(k *Keyring, sig *packet.Signature, raw []byte) (fp string, why *policy.Reason) {
	key, entity, err := k.verify(sig, raw, v.sig.Payload, v.now)
	if entity == nil {
		return "", nil
	}
	fp = hex.EncodeToString(entity.PrimaryKey.Fingerprint)
	switch {
	case errors.Is(err, pgperrors.ErrKeyExpired) && key == entity.PrimaryKey:
		return fp, v.denied(CodeKeyExpired, "is signed by openpgp %s, whose key is not valid now; the date in the tag does not count", fp)
	case err != nil:
		return fp, v.denied(CodeSigner, "has a signature by openpgp %s that does not count: %v", fp, err)
	}
	return fp, v.openpgpStrength(entity, key)
}

// verify returns the key that made the signature, with an error when it must
// not count; a nil entity means that no listed signing key made it.
func (k *Keyring) verify(sig *packet.Signature, raw, payload []byte, now time.Time) (*packet.PublicKey, *openpgp.Entity, error) {
	if sig.IssuerKeyId == nil {
		return nil, nil, nil
	}
	var key *packet.PublicKey
	var owner *openpgp.Entity
	var err error
	for _, c := range k.entities.KeysByIdUsage(*sig.IssuerKeyId, packet.KeyFlagSign) {
		// Several keys may share a 64-bit id: each is tried alone, and the
		// signature's own fingerprint, when it has one, must be that key's.
		if len(sig.IssuerFingerprint) > 0 && !bytes.Equal(sig.IssuerFingerprint, c.PublicKey.Fingerprint) {
			continue
		}
		key, owner = c.PublicKey, c.Entity
		config := &packet.Config{Time: func() time.Time { return now }}
		one := oneKey{c}
		_, _, err = openpgp.VerifyDetachedSignature(one, bytes.NewReader(payload), bytes.NewReader(raw), config)
		var bad pgperrors.SignatureError
		if !errors.As(err, &bad) {
			break
		}
	}
	return key, owner, err
}

// oneKey is a keyring of one key, so that a verdict is about that key.
type oneKey struct{ key openpgp.Key }

func (o oneKey) KeysById(id uint64) []openpgp.Key {
	if o.key.PublicKey.KeyId != id {
		return nil
	}
	return []openpgp.Key{o.key}
}

func (o oneKey) KeysByIdUsage(id uint64, _ byte) []openpgp.Key { return o.KeysById(id) }
func (o oneKey) DecryptionKeys() []openpgp.Key                 { return nil }

// openpgpStrength refuses weak keys, and keys bound by a hash that can be forged.
func (v verification) openpgpStrength(e *openpgp.Entity, key *packet.PublicKey) *policy.Reason {
	bits, err := key.BitLength()
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		if err != nil || int(bits) < v.minRSA {
			return v.denied(CodeKeyTooWeak, "is signed with an RSA key of less than %d bits", v.minRSA)
		}
	case packet.PubKeyAlgoECDSA, packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoEd25519, packet.PubKeyAlgoEd448:
	default:
		return v.denied(CodeKeyKind, "is signed with an OpenPGP key of algorithm %d, which is not accepted", key.PubKeyAlgo)
	}
	bindings := []*packet.Signature{}
	if self, _ := e.PrimarySelfSignature(); self != nil {
		bindings = append(bindings, self)
	}
	for _, sub := range e.Subkeys {
		if sub.PublicKey == key {
			bindings = append(bindings, sub.Sig, sub.Sig.EmbeddedSignature)
		}
	}
	for _, b := range bindings {
		if b == nil || weakHash(b.Hash) {
			return v.denied(CodeKeyTooWeak, "is signed with an OpenPGP key that is bound to its owner with a hash that can be forged")
		}
	}
	return nil
}

func weakHash(h crypto.Hash) bool {
	switch h {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512:
		return false
	}
	return true
}

// readSignature reads the one signature packet of an armor block.
func readSignature(armored []byte) (*packet.Signature, []byte, error) {
	block, err := armor.Decode(bytes.NewReader(armored))
	if err != nil {
		return nil, nil, fmt.Errorf("its armor cannot be read")
	}
	if block.Type != openpgp.SignatureType {
		return nil, nil, fmt.Errorf("its armor is of type %q", clip(block.Type))
	}
	raw, err := io.ReadAll(io.LimitReader(block.Body, MaxTagSize))
	if err != nil {
		return nil, nil, fmt.Errorf("its armor cannot be read: %w", err)
	}
	if packetLen(raw) != len(raw) {
		return nil, nil, fmt.Errorf("it is not exactly one packet")
	}
	p, err := packet.Read(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, fmt.Errorf("its packet cannot be read: %w", err)
	}
	sig, ok := p.(*packet.Signature)
	if !ok {
		return nil, nil, fmt.Errorf("its packet is not a signature")
	}
	return sig, raw, nil
}

// packetLen is the length of the first packet with its header (RFC 9580, 4.2),
// -1 when it has none or is split into partial lengths. Counted here because
// packet readers skip what they do not know.
func packetLen(b []byte) int {
	at := func(i int) int {
		if i < len(b) {
			return int(b[i])
		}
		return 1 << 30
	}
	switch first := at(0); {
	case len(b) < 2 || len(b) > MaxTagSize || first&0x80 == 0:
		return -1
	case first&0x40 == 0: // legacy format
		switch first & 3 {
		case 0:
			return 2 + at(1)
		case 1:
			return 3 + at(1)<<8 + at(2)
		case 2:
			return 5 + at(1)<<24 + at(2)<<16 + at(3)<<8 + at(4)
		}
		return -1
	case at(1) < 192:
		return 2 + at(1)
	case at(1) < 224:
		return 3 + (at(1)-192)<<8 + at(2) + 192
	case at(1) == 255:
		return 6 + at(2)<<24 + at(3)<<16 + at(4)<<8 + at(5)
	}
	return -1
}

func openpgpHint(armored []byte) string {
	sig, _, err := readSignature(armored)
	if err != nil {
		return ""
	}
	return openpgpIssuer(sig)
}

func openpgpIssuer(sig *packet.Signature) string {
	switch {
	case len(sig.IssuerFingerprint) > 0:
		return hex.EncodeToString(sig.IssuerFingerprint)
	case sig.IssuerKeyId != nil:
		return fmt.Sprintf("%016x", *sig.IssuerKeyId)
	}
	return "an unnamed key"
}
