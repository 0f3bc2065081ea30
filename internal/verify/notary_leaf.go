package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"sync"

	"github.com/hallmark-dev/hallmark/internal/trust/notation"
)

// notaryLeaf is what the bytes of a signing certificate say: read, not believed.
type notaryLeaf struct {
	cert            *x509.Certificate
	sha256          string // hexadecimal, of the DER
	subject, issuer string
	dn              notation.DN
	noDN            error // why the subject cannot be compared
}

// notaryLeaves remembers how signing certificates read, for those that verified
// under a store: signers of the Notary Project sign for months with one certificate, and
// reading it costs a third of verifying a signature. It remembers no verdict.
type notaryLeaves struct {
	mu    sync.RWMutex
	known map[[sha256.Size]byte]*notaryLeaf
}

// maxLeaves bounds what is remembered.
const maxLeaves = 256

// read is the certificate as remembered, or read anew; nil when it cannot be read.
func (l *notaryLeaves) read(der []byte) *notaryLeaf {
	sum := sha256.Sum256(der)
	l.mu.RLock()
	leaf := l.known[sum]
	l.mu.RUnlock()
	if leaf != nil {
		return leaf
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	leaf = &notaryLeaf{cert: cert, sha256: hex.EncodeToString(sum[:]), subject: cert.Subject.String(), issuer: cert.Issuer.String()}
	leaf.dn, leaf.noDN = notation.SubjectDN(cert)
	return leaf
}

// keep remembers a certificate; when there are too many, another one goes.
func (l *notaryLeaves) keep(leaf *notaryLeaf) {
	sum := sha256.Sum256(leaf.cert.Raw)
	l.mu.RLock()
	_, known := l.known[sum]
	l.mu.RUnlock()
	if known {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[[sha256.Size]byte]*notaryLeaf{}
	}
	if len(l.known) >= maxLeaves {
		for old := range l.known {
			delete(l.known, old)
			break
		}
	}
	l.known[sum] = leaf
}
