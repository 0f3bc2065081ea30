package plugin

import (
	"crypto"
	_ "crypto/sha512" // SHA-384 and SHA-512
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxMessage bounds a message that must be signed whole, in bytes.
const maxMessage = 256 << 20

// Backend is what a plugin of ours does.
type Backend interface {
	Algorithms() []string // the default first
	CreateKey(algorithm string) (pem []byte, err error)
	PublicKey() (pem []byte, err error)
	// WholeMessages reports whether the key signs no digests (Ed25519).
	WholeMessages() (bool, error)
	// Sign signs a digest, or a whole message, with hash 0.
	Sign(data []byte, hash crypto.Hash) ([]byte, error)
	// Verify checks a signature of the same.
	Verify(data, sig []byte, hash crypto.Hash) error
	// About says what is said besides a public key; it is called last.
	About() Extension
}

// maxRequest bounds the second argument, in bytes.
const maxRequest = 128 << 10

// ParseRequest reads the arguments of a plugin, without the program's name. What it does
// not know in the JSON it ignores: programs that call may be newer.
func ParseRequest(args []string) (*Request, error) {
	if len(args) != 2 {
		return nil, fmt.Errorf("want two arguments, the protocol's version and a request in JSON; found %d", len(args))
	}
	if args[0] != Version {
		return nil, fmt.Errorf("the version %.20q of the protocol is not %s", args[0], Version)
	}
	if len(args[1]) > maxRequest {
		return nil, errors.New("the request is too long")
	}
	var req Request
	if err := json.Unmarshal([]byte(args[1]), &req); err != nil {
		return nil, errors.New("the request is no JSON of the protocol " + Version)
	}
	if req.Init.Version != "" && req.Init.Version != Version {
		return nil, fmt.Errorf("the version %.20q of the protocol is not %s", req.Init.Version, Version)
	}
	return &req, nil
}

// Serve answers one request; message is stdin.
func Serve(req *Request, message io.Reader, b Backend) *Response {
	resp := &Response{}
	if err := serve(req, message, b, resp); err != nil {
		return Failed(err)
	}
	if resp.PublicKey != nil || resp.CreateKey != nil {
		about := b.About()
		resp.Hallmark = &about
	}
	return resp
}

// Failed is an answer that says what failed; see [FinalError].
func Failed(err error) *Response {
	resp := &Response{Error: err.Error()}
	var final *FinalError
	if errors.As(err, &final) {
		resp.Hallmark = &Extension{Final: true, WantsPIN: final.WantsPIN}
	}
	return resp
}

// FinalError is a failure of a backend that trying again would repeat, and that may do
// harm then; see [Extension].
type FinalError struct {
	Err      error
	WantsPIN bool
}

func (e *FinalError) Error() string { return e.Err.Error() }
func (e *FinalError) Unwrap() error { return e.Err }

func serve(req *Request, message io.Reader, b Backend, resp *Response) error {
	missing := fmt.Errorf("the request has no arguments for %.40q", req.Method)
	switch req.Method {
	case MethodDefaultAlgorithm:
		resp.DefaultAlgorithm = &DefaultAlgorithm{b.Algorithms()[0]}
	case MethodSupportedAlgorithms:
		resp.SupportedAlgorithms = &Algorithms{b.Algorithms()}
	case MethodCreateKey:
		if req.CreateKey == nil {
			return missing
		}
		pem, err := b.CreateKey(req.CreateKey.Algorithm)
		if err != nil {
			return err
		}
		resp.CreateKey = &PublicKeyPEM{pem}
	case MethodPublicKey:
		pem, err := b.PublicKey()
		if err != nil {
			return err
		}
		resp.PublicKey = &PublicKeyPEM{pem}
	case MethodSign:
		if req.Sign == nil || req.Sign.Options == nil {
			return missing
		}
		data, hash, err := toSign(req, req.Sign.Options, message, b)
		if err != nil {
			return err
		}
		sig, err := b.Sign(data, hash)
		if err != nil {
			return err
		}
		resp.Sign = &Signature{sig}
	case MethodVerify:
		if req.Verify == nil || req.Verify.Options == nil {
			return missing
		}
		data, hash, err := toSign(req, req.Verify.Options, message, b)
		if err != nil {
			return err
		}
		if err := b.Verify(data, req.Verify.Signature, hash); err != nil {
			return err
		}
		resp.Verify = &struct{}{}
	default:
		return fmt.Errorf("there is no method %.40q", req.Method)
	}
	return nil
}

// toSign is what is signed: a digest, given or made of the message, or the message.
func toSign(req *Request, o *MessageOptions, message io.Reader, b Backend) (data []byte, hash crypto.Hash, err error) {
	whole, err := b.WholeMessages()
	if err != nil {
		return nil, 0, err
	}
	digest := o.Message.Digest
	if whole {
		if len(digest) != 0 {
			return nil, 0, errors.New("an Ed25519 key signs whole messages, no digests")
		}
		if data, err = io.ReadAll(io.LimitReader(message, maxMessage+1)); err == nil && len(data) > maxMessage {
			err = fmt.Errorf("a message of more than %d MiB", maxMessage>>20)
		}
		return data, 0, err
	}
	hash = crypto.Hash(req.Init.Hash)
	if o.Message.Hash != nil {
		hash = crypto.Hash(*o.Message.Hash)
	}
	if hash != crypto.SHA256 && hash != crypto.SHA384 && hash != crypto.SHA512 {
		return nil, 0, fmt.Errorf("the hash function %d is none of 5 (SHA-256), 6 (SHA-384) and 7 (SHA-512)", hash)
	}
	if len(digest) == 0 {
		h := hash.New()
		if _, err := io.Copy(h, message); err != nil {
			return nil, 0, err
		}
		digest = h.Sum(nil)
	}
	if len(digest) != hash.Size() {
		return nil, 0, fmt.Errorf("a digest of %d bytes where %v has %d", len(digest), hash, hash.Size())
	}
	return digest, hash, nil
}
