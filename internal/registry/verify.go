package registry

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// errOtherBytes follows a voice: "the registry sent", "the layout holds".
var errOtherBytes = errors.New("other bytes than asked for")

// verifyingReader gives out a descriptor's bytes and turns io.EOF into an error
// when they were not what the descriptor says.
type verifyingReader struct {
	rc    io.ReadCloser
	voice string
	left  int64
	hash  hash.Hash
	want  []byte
	err   error
}

func newVerifyingReader(rc io.ReadCloser, desc ocispec.Descriptor, voice string) *verifyingReader {
	d := evidence.Digest(desc.Digest)
	return &verifyingReader{rc: rc, voice: voice, left: desc.Size, hash: newHash(d), want: d.Bytes()}
}

// newHash is the hash of a digest that ParseDigest accepted.
func newHash(d evidence.Digest) hash.Hash {
	switch d.Algorithm() {
	case "sha384":
		return sha512.New384()
	case "sha512":
		return sha512.New()
	}
	return sha256.New()
}

func (v *verifyingReader) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.rc.Read(p)
	if int64(n) > v.left {
		n, err = 0, fmt.Errorf("%s %w: too many of them", v.voice, errOtherBytes)
	}
	v.left -= int64(n)
	_, _ = v.hash.Write(p[:n])
	switch {
	case err == io.EOF && v.left > 0:
		err = fmt.Errorf("%s %w: %d are missing", v.voice, errOtherBytes, v.left)
	case err == io.EOF && subtle.ConstantTimeCompare(v.hash.Sum(nil), v.want) != 1:
		err = fmt.Errorf("%s %w: the digest does not match", v.voice, errOtherBytes)
	}
	v.err = err
	return n, err
}

func (v *verifyingReader) Close() error { return v.rc.Close() }
