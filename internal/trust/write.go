package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	commonv1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	trustrootv1 "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// RootSpec is a trusted root to be written.
type RootSpec struct {
	CAs, TSAs     []AuthoritySpec
	TLogs, CTLogs []LogSpec
}

// AuthoritySpec is an authority of a RootSpec.
type AuthoritySpec struct {
	URI, Organization, CommonName string
	Chain                         []*x509.Certificate // leaf of a TSA first, root last
	Start, End                    time.Time           // zero End: open
}

// LogSpec is a log of a RootSpec.
type LogSpec struct {
	BaseURL string
	Key     crypto.PublicKey
	// Origin is the name in the log's checkpoints; it must be the host of
	// BaseURL, because that is where readers take it from. Empty for CT logs.
	Origin string
	// KeyID is the log's identifier; nil is that of Rekor v2 (C2SP note key id)
	// for an Ed25519 key with an Origin, and else the SHA-256 of the key's
	// SubjectPublicKeyInfo.
	KeyID      []byte
	Start, End time.Time // zero End: open
}

// SigningConfigSpec is a signing config to be written; an empty URL is left out.
type SigningConfigSpec struct {
	CAURL, OIDCURL, LogURL, TSAURL string
	// LogUntil is when LogURL is not to be used any more; zero is never. LaterLogs
	// follow it.
	LogUntil  time.Time
	LaterLogs []ServiceSpec
	// LogV1URL is of a Rekor v1 log for clients that do not know v2. Those that
	// know both use the log with the newest API.
	LogV1URL string
	Operator string
	Start    time.Time
}

// ServiceSpec is a service of a SigningConfigSpec with the time in which it is used.
type ServiceSpec struct {
	URL        string
	Start, End time.Time // zero End: open
}

// JSON is the trusted_root.json, version 0.1: what all clients read. Equal specs
// give equal bytes, and what is written can be read by [ParseTrustedRoot].
func (s RootSpec) JSON() ([]byte, error) {
	w := &trustrootv1.TrustedRoot{MediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}
	for _, a := range s.CAs {
		w.CertificateAuthorities = append(w.CertificateAuthorities, a.wire())
	}
	for _, a := range s.TSAs {
		w.TimestampAuthorities = append(w.TimestampAuthorities, a.wire())
	}
	for _, list := range []struct {
		from []LogSpec
		to   *[]*trustrootv1.TransparencyLogInstance
	}{{s.TLogs, &w.Tlogs}, {s.CTLogs, &w.Ctlogs}} {
		for _, l := range list.from {
			log, err := l.wire()
			if err != nil {
				return nil, fmt.Errorf("log %s: %w", l.BaseURL, err)
			}
			*list.to = append(*list.to, log)
		}
	}
	data, err := deterministic(w)
	if err != nil {
		return nil, err
	}
	if _, err := ParseTrustedRoot(data); err != nil {
		return nil, fmt.Errorf("the trusted root would be unreadable: %w", err)
	}
	return data, nil
}

// JSON is the signing config, version 0.2.
func (s SigningConfigSpec) JSON() ([]byte, error) {
	timed := func(spec ServiceSpec, version uint32) *trustrootv1.Service {
		return &trustrootv1.Service{Url: spec.URL, MajorApiVersion: version, ValidFor: window(spec.Start, spec.End), Operator: s.Operator}
	}
	one := func(url string, version uint32) []*trustrootv1.Service {
		if url == "" {
			return nil
		}
		return []*trustrootv1.Service{timed(ServiceSpec{URL: url, Start: s.Start}, version)}
	}
	logs := one(s.LogURL, 2)
	if len(logs) > 0 {
		logs[0] = timed(ServiceSpec{s.LogURL, s.Start, s.LogUntil}, 2)
	}
	for _, l := range s.LaterLogs {
		logs = append(logs, timed(l, 2))
	}
	anyOne := &trustrootv1.ServiceConfiguration{Selector: trustrootv1.ServiceSelector_ANY}
	w := &trustrootv1.SigningConfig{
		MediaType: signingConfigMediaType,
		CaUrls:    one(s.CAURL, 1), OidcUrls: one(s.OIDCURL, 1),
		RekorTlogUrls: append(logs, one(s.LogV1URL, 1)...), RekorTlogConfig: anyOne,
		TsaUrls: one(s.TSAURL, 1), TsaConfig: anyOne,
	}
	data, err := deterministic(w)
	if err != nil {
		return nil, err
	}
	if _, err := ParseSigningConfig(data); err != nil {
		return nil, fmt.Errorf("the signing config would be unreadable: %w", err)
	}
	return data, nil
}

// deterministic takes away the spaces that protojson puts in at random.
func deterministic(m proto.Message) ([]byte, error) {
	loose, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, loose, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func window(start, end time.Time) *commonv1.TimeRange {
	w := &commonv1.TimeRange{Start: timestamppb.New(start)}
	if !end.IsZero() {
		w.End = timestamppb.New(end)
	}
	return w
}

func (a AuthoritySpec) wire() *trustrootv1.CertificateAuthority {
	w := &trustrootv1.CertificateAuthority{
		Subject:   &commonv1.DistinguishedName{Organization: a.Organization, CommonName: a.CommonName},
		Uri:       a.URI,
		CertChain: &commonv1.X509CertificateChain{},
		ValidFor:  window(a.Start, a.End),
	}
	for _, c := range a.Chain {
		w.CertChain.Certificates = append(w.CertChain.Certificates, &commonv1.X509Certificate{RawBytes: c.Raw})
	}
	return w
}

func (l LogSpec) wire() (*trustrootv1.TransparencyLogInstance, error) {
	if l.Origin != "" && l.Origin != hostOf(l.BaseURL) {
		return nil, fmt.Errorf("its origin %q is not the host of its URL; no client would find its checkpoints", l.Origin)
	}
	spki, err := x509.MarshalPKIXPublicKey(l.Key)
	if err != nil {
		return nil, err
	}
	details, err := keyDetails(l.Key)
	if err != nil {
		return nil, err
	}
	id := l.KeyID
	if id == nil {
		sum := sha256.Sum256(spki)
		if key, ok := l.Key.(ed25519.PublicKey); ok && l.Origin != "" {
			sum = NoteKeyID(l.Origin, key)
		}
		id = sum[:]
	}
	return &trustrootv1.TransparencyLogInstance{
		BaseUrl:       l.BaseURL,
		HashAlgorithm: commonv1.HashAlgorithm_SHA2_256,
		PublicKey:     &commonv1.PublicKey{RawBytes: spki, KeyDetails: details, ValidFor: window(l.Start, l.End)},
		LogId:         &commonv1.LogId{KeyId: id},
	}, nil
}

// NoteKeyID is the whole hash of which the key id of a note's Ed25519 signature
// is the first four bytes (c2sp.org/signed-note).
func NoteKeyID(name string, key ed25519.PublicKey) [32]byte {
	return sha256.Sum256(append([]byte(name+"\n\x01"), key...))
}

func keyDetails(key crypto.PublicKey) (commonv1.PublicKeyDetails, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return commonv1.PublicKeyDetails_PKIX_ED25519, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return commonv1.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256, nil
		case elliptic.P384():
			return commonv1.PublicKeyDetails_PKIX_ECDSA_P384_SHA_384, nil
		case elliptic.P521():
			return commonv1.PublicKeyDetails_PKIX_ECDSA_P521_SHA_512, nil
		}
	case *rsa.PublicKey:
		switch k.N.BitLen() {
		case 2048:
			return commonv1.PublicKeyDetails_PKIX_RSA_PKCS1V15_2048_SHA256, nil
		case 3072:
			return commonv1.PublicKeyDetails_PKIX_RSA_PKCS1V15_3072_SHA256, nil
		case 4096:
			return commonv1.PublicKeyDetails_PKIX_RSA_PKCS1V15_4096_SHA256, nil
		}
	}
	return 0, fmt.Errorf("a %T of this size is no log key that clients read", key)
}
