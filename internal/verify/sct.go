package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"math/bits"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var oidSCT = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}

// sctID is oidSCT in DER.
const sctID = "\x2b\x06\x01\x04\x01\xd6\x79\x02\x04\x02"

// sct is a signed certificate timestamp (RFC 6962, 3.2).
type sct struct {
	logID      []byte
	timestamp  uint64 // milliseconds since 1970
	extensions []byte
	algorithm  uint8 // SignatureAlgorithm of TLS: 1 RSA, 3 ECDSA
	sig        []byte
}

func (s *sct) time() time.Time { return time.UnixMilli(int64(s.timestamp)) }

// maxSCTs bounds the list in one certificate.
const maxSCTs = 16

// parseSCTs reads the SCT list that a CA embedded in a certificate.
func parseSCTs(cert *x509.Certificate) ([]sct, *refusal) {
	var value []byte
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidSCT) {
			value = e.Value
		}
	}
	if value == nil {
		return nil, refuse(SCTBad, "the certificate carries no SCT: nothing shows that a certificate transparency log has seen it")
	}
	in := cryptobyte.String(value)
	var octets, list cryptobyte.String
	if !in.ReadASN1(&octets, cbasn1.OCTET_STRING) || !in.Empty() || !octets.ReadUint16LengthPrefixed(&list) || !octets.Empty() || list.Empty() {
		return nil, refuse(SCTBad, "the certificate's list of SCTs cannot be read")
	}
	var out []sct
	for !list.Empty() {
		var one cryptobyte.String
		if len(out) == maxSCTs || !list.ReadUint16LengthPrefixed(&one) {
			return nil, refuse(SCTBad, "the certificate's list of SCTs cannot be read")
		}
		s, ok := parseSCT(one)
		if !ok {
			return nil, refuse(SCTBad, "an SCT of the certificate cannot be read")
		}
		out = append(out, s)
	}
	return out, nil
}

func parseSCT(in cryptobyte.String) (sct, bool) {
	var s sct
	var version, hashAlg uint8
	var ext, sig cryptobyte.String
	ok := in.ReadUint8(&version) && version == 0 &&
		in.ReadBytes(&s.logID, 32) &&
		in.ReadUint64(&s.timestamp) && s.timestamp < 1<<62 &&
		in.ReadUint16LengthPrefixed(&ext) &&
		in.ReadUint8(&hashAlg) && hashAlg == 4 && // SHA-256
		in.ReadUint8(&s.algorithm) &&
		in.ReadUint16LengthPrefixed(&sig) && in.Empty()
	s.extensions, s.sig = ext, sig
	return s, ok
}

// checkSCT wants an SCT by a trusted log over the certificate as issued by one
// of the issuers. It returns when that log first saw it.
func (j judge) checkSCT(leaf *x509.Certificate, chains []chain) (time.Time, *chain, *refusal) {
	scts, r := parseSCTs(leaf)
	if r != nil {
		return time.Time{}, nil, r
	}
	entry, ok := newPrecertEntry(leaf.RawTBSCertificate)
	if !ok {
		return time.Time{}, nil, refuse(SCTBad, "the certificate's SCT extension cannot be taken out")
	}
	var why *refusal
	for i := range scts {
		for l := range j.root.CTLogs {
			log := &j.root.CTLogs[l]
			if !bytes.Equal(log.ID, scts[i].logID) {
				continue
			}
			if !log.ValidFor.Contains(scts[i].time()) {
				why = refuse(SCTBad, "the SCT is of %s; the trust root believes its log %s", stamp(scts[i].time()), log.ValidFor)
				continue
			}
			for c := range chains {
				if entry.verify(log.Key, &scts[i], chains[c].issuer()) {
					return scts[i].time(), &chains[c], nil
				}
			}
			why = refuse(SCTBad, "the SCT by %s is not over this certificate", log.BaseURL)
		}
	}
	if why == nil {
		why = refuse(SCTBad, "no SCT of the certificate is by a log of the trust root, which knows who issued it: the trust root is older than the certificate of %s, and the log's key was replaced since; or the SCT is not the log's", stamp(leaf.NotBefore)).
			hint("%s", refresh)
	}
	return time.Time{}, nil, why
}

// precertEntry is what a log's SCT is a signature over (RFC 6962, 3.2), but for
// what differs from SCT to SCT: the time and the issuer's key, whose places are
// left free, and the extensions, which follow.
type precertEntry []byte

// Places in a precertEntry: version and type of signature (2 bytes), the time
// (8), the type of entry (2), the hash of the issuer's key (32), the certificate.
const (
	entryTime   = 2
	entryType   = entryTime + 8
	entryIssuer = entryType + 2
	entryTBS    = entryIssuer + sha256.Size
)

// verify checks the signature of an SCT over the entry.
func (p precertEntry) verify(key crypto.PublicKey, s *sct, issuer *x509.Certificate) bool {
	switch key.(type) {
	case *ecdsa.PublicKey:
		if s.algorithm != 3 {
			return false
		}
	case *rsa.PublicKey:
		if s.algorithm != 1 {
			return false
		}
	default:
		return false
	}
	if len(s.extensions) >= 1<<16 {
		return false
	}
	binary.BigEndian.PutUint64(p[entryTime:], s.timestamp)
	keyHash := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	copy(p[entryIssuer:entryTBS], keyHash[:])
	b := binary.BigEndian.AppendUint16(p, uint16(len(s.extensions)))
	return verifyData(key, crypto.SHA256, append(b, s.extensions...), s.sig)
}

// newPrecertEntry is the entry of a certificate's signed part as the log saw it:
// without the one SCT extension. Everything else keeps its bytes.
func newPrecertEntry(raw []byte) (precertEntry, bool) {
	in := cryptobyte.String(raw)
	var tbs, wrapped, list cryptobyte.String
	if !in.ReadASN1(&tbs, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, false
	}
	extTag := cbasn1.Tag(3).ContextSpecific().Constructed()
	before := tbs
	for !tbs.Empty() && !tbs.PeekASN1Tag(extTag) {
		var element cryptobyte.String
		var tag cbasn1.Tag
		if !tbs.ReadAnyASN1Element(&element, &tag) {
			return nil, false
		}
	}
	before = before[:len(before)-len(tbs)]
	if !tbs.ReadASN1(&wrapped, extTag) || !wrapped.ReadASN1(&list, cbasn1.SEQUENCE) || !wrapped.Empty() {
		return nil, false
	}
	rest := tbs
	head, tail, ok := aroundSCT(list)
	if !ok {
		return nil, false
	}
	kept := len(head) + len(tail)
	size := len(before) + wrappedSize(wrappedSize(kept)) + len(rest)
	if size >= 1<<24-8 {
		return nil, false
	}
	out := make([]byte, entryTBS, entryTBS+3+len(raw)+64) // 64: extensions, which are rare and short
	out[entryType+1] = 1                                  // precert_entry; version and type of signature are 0
	size = wrappedSize(size)
	out = append(out, byte(size>>16), byte(size>>8), byte(size))
	out = appendHeader(out, cbasn1.SEQUENCE, len(before)+wrappedSize(wrappedSize(kept))+len(rest))
	out = append(out, before...)
	out = appendHeader(out, extTag, wrappedSize(kept))
	out = appendHeader(out, cbasn1.SEQUENCE, kept)
	return append(append(append(out, head...), tail...), rest...), true
}

// aroundSCT is what is before and after the one SCT extension in a list of them.
func aroundSCT(list cryptobyte.String) (head, tail []byte, ok bool) {
	whole, found := list, false
	for !list.Empty() {
		at := len(whole) - len(list)
		var extension, id cryptobyte.String
		if !list.ReadASN1(&extension, cbasn1.SEQUENCE) || !extension.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) {
			return nil, nil, false
		}
		if string(id) != sctID {
			continue
		}
		if found {
			return nil, nil, false
		}
		head, tail, found = whole[:at], list, true
	}
	return head, tail, found
}

// wrappedSize is the size of a DER element with content of n bytes and a tag of one.
func wrappedSize(n int) int {
	size := n + 2
	if n >= 0x80 {
		for l := n; l > 0; l >>= 8 {
			size++
		}
	}
	return size
}

// appendHeader appends tag and length of a DER element with content of n bytes.
func appendHeader(b []byte, tag cbasn1.Tag, n int) []byte {
	b = append(b, byte(tag))
	if n < 0x80 {
		return append(b, byte(n))
	}
	bytes := (bits.Len(uint(n)) + 7) / 8
	b = append(b, 0x80|byte(bytes))
	for i := bytes - 1; i >= 0; i-- {
		b = append(b, byte(n>>(8*i)))
	}
	return b
}
