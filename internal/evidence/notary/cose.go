package notary

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Labels of COSE (RFC 9052, 3.1; RFC 9360).
const (
	labelAlgorithm   = 1
	labelCritical    = 2
	labelContentType = 3
	labelKeyID       = 4
	labelX5Bag       = 32
	labelX5Chain     = 33
	labelX5T         = 34
	labelX5U         = 35
)

// coseAlgorithms are IANA's numbers (RFC 9053, 2.1; RFC 8230, 2).
var coseAlgorithms = map[int64]string{-7: "ES256", -35: "ES384", -36: "ES512", -37: "PS256", -38: "PS384", -39: "PS512"}

// maxUnix is the end of the year 9999, the last that RFC 3339 can write.
const maxUnix = 253402300799

// parseCOSE reads COSE_Sign1_Tagged (RFC 9052, 4.2).
func parseCOSE(data []byte) (*evidence.Claim, error) {
	r := &cborReader{data: data}
	if tag, err := r.want(cborTag, "the envelope"); err != nil || tag != 18 {
		return nil, errors.New("it is no COSE_Sign1 with its tag 18")
	}
	if n, err := r.want(cborArray, "COSE_Sign1"); err != nil || n != 4 {
		return nil, errors.New("it is no COSE_Sign1 with four parts")
	}
	start := r.pos
	signed, err := r.bytes("the protected bucket")
	if err != nil {
		return nil, err
	}
	rawProtected := data[start:r.pos]
	var p protected
	if err := p.readCOSE(signed); err != nil {
		return nil, fmt.Errorf("protected headers: %w", err)
	}
	e := &evidence.NotaryEnvelope{}
	if err := p.check(e); err != nil {
		return nil, err
	}
	var u unprotected
	if err := u.readCOSE(r); err != nil {
		return nil, fmt.Errorf("unprotected headers: %w", err)
	}
	e.SigningAgent = u.agent
	start = r.pos
	if e.Payload, err = r.bytes("the payload (a detached one is not read)"); err != nil {
		return nil, err
	}
	rawPayload := data[start:r.pos]
	if e.Signature, err = r.bytes("the signature"); err != nil {
		return nil, err
	}
	if r.pos != len(data) {
		return nil, errors.New("something follows the envelope")
	}
	c, err := claim(evidence.FormatNotaryCOSE, MediaTypeCOSE, e, u.chain, u.token)
	if err != nil {
		return nil, err
	}
	e.Signed = sigStructure(rawProtected, rawPayload)
	return c, nil
}

// sigStructure is what the signature is over (RFC 9052, 4.4), without external
// data; both parts are byte strings as encoded.
func sigStructure(protected, payload []byte) []byte {
	const context = "\x84\x6aSignature1"
	out := make([]byte, 0, len(context)+len(protected)+1+len(payload))
	out = append(append(out, context...), protected...)
	return append(append(out, 0x40), payload...)
}

// readCOSE reads the protected bucket.
func (p *protected) readCOSE(data []byte) error {
	if len(data) > maxProtected {
		return fmt.Errorf("%d bytes; at most %d are read", len(data), maxProtected)
	}
	r := &cborReader{data: data}
	var all []string
	err := r.header(func(l label) error {
		all = append(all, l.String())
		if l.isText {
			return p.textHeader(r, l.text)
		}
		return p.numberHeader(r, l.number)
	})
	if err != nil {
		return err
	}
	if r.pos != len(data) {
		return errors.New("something follows them")
	}
	for _, name := range p.critical {
		if !slices.Contains(all, name) {
			return fmt.Errorf("%s is marked as critical and is not there", clip(name))
		}
	}
	return nil
}

func (p *protected) numberHeader(r *cborReader, n int64) (err error) {
	switch n {
	case labelAlgorithm:
		alg, err := r.label()
		if err != nil {
			return err
		}
		if p.algorithm = coseAlgorithms[alg.number]; alg.isText || p.algorithm == "" {
			return fmt.Errorf("the algorithm %s is none that signs here", clip(alg.String()))
		}
	case labelCritical:
		return p.readCritical(r)
	case labelContentType:
		p.contentType, err = r.text("the content type")
		return err
	case labelX5Chain:
		return errors.New("the certificate chain is in the protected bucket, where nobody looks for it")
	default:
		p.extended = append(p.extended, fmt.Sprint(n))
		return otherHeader(r, n)
	}
	return nil
}

// otherHeader takes headers that say nothing to a verifier of these signatures
// and refuses those that change what an envelope means: IVs, countersignatures,
// CWT claims, the unknown.
func otherHeader(r *cborReader, n int64) error {
	switch n {
	case labelKeyID:
		_, err := r.bytes("the key identifier")
		return err
	case labelX5Bag, labelX5T, labelX5U:
		return r.skip(0)
	}
	return fmt.Errorf("the header %d is not known here", n)
}

func (p *protected) textHeader(r *cborReader, name string) (err error) {
	switch name {
	case headerScheme:
		p.scheme, err = r.text("the signing scheme")
	case headerSigningTime:
		p.hasSigning = true
		p.signingTime, err = r.time(name)
	case headerAuthenticTime:
		p.hasAuthen = true
		p.authentic, err = r.time(name)
	case headerExpiry:
		p.hasExpiry = true
		p.expiry, err = r.time(name)
	default:
		p.extended = append(p.extended, name)
		err = r.skip(0)
	}
	return err
}

// readCritical reads the list of critical headers, which must have an entry.
func (p *protected) readCritical(r *cborReader) error {
	n, err := r.want(cborArray, "the list of critical headers")
	if err != nil {
		return err
	}
	if n == 0 || n > maxPairs {
		return errors.New("the list of critical headers is empty or too long")
	}
	for range n {
		l, err := r.label()
		if err != nil {
			return err
		}
		p.critical = append(p.critical, l.String())
	}
	return nil
}

// time reads an epoch-based time with its tag 1, in whole seconds.
func (r *cborReader) time(name string) (time.Time, error) {
	tag, err := r.want(cborTag, "the header "+name)
	if err != nil {
		return time.Time{}, err
	}
	if tag != 1 {
		return time.Time{}, fmt.Errorf("the header %s is no time with tag 1", name)
	}
	n, err := r.want(cborUint, "the header "+name)
	if err == nil && n > maxUnix {
		err = fmt.Errorf("the header %s is after the year 9999", name)
	}
	return time.Unix(int64(n), 0).UTC(), err
}

// unprotected are the headers that nothing signs.
type unprotected struct {
	chain [][]byte
	agent string
	token []byte
}

func (u *unprotected) readCOSE(r *cborReader) error {
	r.values = 0
	return r.header(func(l label) (err error) {
		switch {
		case l.text == headerSigningAgent:
			u.agent, err = r.text(headerSigningAgent)
		case l.text == headerTimestamp:
			u.token, err = r.bytes(headerTimestamp)
		case l.isText:
			err = r.skip(0)
		case l.number == labelX5Chain:
			err = u.readChain(r)
		default:
			err = otherHeader(r, l.number)
		}
		return err
	})
}

// readChain reads x5chain. RFC 9360 lets a single certificate stand without an
// array; the Notary Project's envelope does not.
func (u *unprotected) readChain(r *cborReader) error {
	n, err := r.want(cborArray, "the certificate chain")
	if err != nil {
		return err
	}
	if n > maxCertificates {
		return fmt.Errorf("%d certificates; at most %d are read", n, maxCertificates)
	}
	for range n {
		der, err := r.bytes("a certificate")
		if err != nil {
			return err
		}
		u.chain = append(u.chain, der)
	}
	return nil
}
