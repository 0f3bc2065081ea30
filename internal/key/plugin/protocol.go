// Package plugin speaks Sigstore's protocol for KMS plugins, as client and as plugin: a
// program sigstore-kms-NAME that holds the keys NAME://… and is run once for each call.
//
// The protocol is sigstore/sigstore's pkg/signature/kms/cliplugin, version v1: the first
// argument is the version, the second one JSON with what is asked; a message comes on
// stdin; stdout gets one JSON object; the exit status says nothing.
package plugin

import "time"

// Version is the protocol's, the first argument of every call.
const Version = "v1"

// Prefix begins the name of every plugin's program.
const Prefix = "sigstore-kms-"

// The methods.
const (
	MethodDefaultAlgorithm    = "defaultAlgorithm"
	MethodSupportedAlgorithms = "supportedAlgorithms"
	MethodCreateKey           = "createKey"
	MethodPublicKey           = "publicKey"
	MethodSign                = "signMessage"
	MethodVerify              = "verifySignature"
)

// Request is the second argument: which key, and what is asked of it.
type Request struct {
	Init   Init   `json:"initOptions"`
	Method string `json:"methodName"`

	DefaultAlgorithm    *struct{}      `json:"defaultAlgorithm,omitempty"`
	SupportedAlgorithms *struct{}      `json:"supportedAlgorithms,omitempty"`
	CreateKey           *CreateKey     `json:"createKey,omitempty"`
	PublicKey           *PublicKey     `json:"publicKey,omitempty"`
	Sign                *SignMessage   `json:"signMessage,omitempty"`
	Verify              *VerifyMessage `json:"verifySignature,omitempty"`
}

// Init says which key.
type Init struct {
	Deadline *time.Time `json:"ctxDeadline,omitempty"`
	Version  string     `json:"protocolVersion"`
	// KeyResourceID is what follows NAME:// in the reference.
	KeyResourceID string `json:"keyResourceID"`
	// Hash is a crypto.Hash of Go: 5 is SHA-256, 6 SHA-384, 7 SHA-512.
	Hash uint `json:"hashFunc"`
	RPC  *RPC `json:"rpcOptions"`
}

// RPC are options for a plugin that asks a service.
type RPC struct {
	Deadline           *time.Time `json:"ctxDeadline,omitempty"`
	KeyVersion         *string    `json:"keyVersion,omitempty"`
	RemoteVerification *bool      `json:"remoteVerification,omitempty"`
}

// CreateKey asks for a new key.
type CreateKey struct {
	Deadline  *time.Time `json:"ctxDeadline,omitempty"`
	Algorithm string     `json:"algorithm"`
}

// PublicKey asks for the public half.
type PublicKey struct {
	Options *PublicKeyOptions `json:"publicKeyOptions"`
}

type PublicKeyOptions struct {
	RPC RPC `json:"rpcOptions"`
}

// SignMessage asks for a signature of stdin, or of a digest.
type SignMessage struct {
	Options *MessageOptions `json:"signOptions"`
}

// VerifyMessage asks whether a signature is good.
type VerifyMessage struct {
	Signature []byte          `json:"signature"`
	Options   *MessageOptions `json:"verifyOptions"`
}

type MessageOptions struct {
	RPC     RPC     `json:"rpcOptions"`
	Message Message `json:"messageOptions"`
}

// Message says of what: Digest, or stdin where there is none.
type Message struct {
	Digest []byte `json:"digest,omitempty"`
	Hash   *uint  `json:"hashFunc,omitempty"`
}

// Response is what stdout gets.
type Response struct {
	Error               string            `json:"errorMessage,omitempty"`
	DefaultAlgorithm    *DefaultAlgorithm `json:"defaultAlgorithm,omitempty"`
	SupportedAlgorithms *Algorithms       `json:"supportedAlgorithms,omitempty"`
	CreateKey           *PublicKeyPEM     `json:"createKey,omitempty"`
	PublicKey           *PublicKeyPEM     `json:"publicKey,omitempty"`
	Sign                *Signature        `json:"signMessage,omitempty"`
	Verify              *struct{}         `json:"verifySignature,omitempty"`

	// Hallmark is beside the protocol, which ignores what it does not know.
	Hallmark *Extension `json:"hallmark,omitempty"`
}

type DefaultAlgorithm struct {
	Name string `json:"defaultAlgorithm"`
}

type Algorithms struct {
	Names []string `json:"supportedAlgorithms"`
}

// PublicKeyPEM is one PEM block "PUBLIC KEY".
type PublicKeyPEM struct {
	PEM []byte `json:"publicKeyPEM"`
}

type Signature struct {
	Bytes []byte `json:"signature"`
}

// Extension is what our own plugins say besides.
type Extension struct {
	// Plugin is the program with its version, for people.
	Plugin string `json:"plugin,omitempty"`
	// Where says where the key was found, for people: module, token, object.
	Where string `json:"where,omitempty"`
	// Final says of an error that the same call would fail again, and may do harm:
	// each wrong PIN brings a token nearer to locking itself.
	Final bool `json:"final,omitempty"`
	// WantsPIN says that the key's token wants a PIN to sign, or to show the key, and
	// that the plugin knows none.
	WantsPIN bool `json:"wantsPIN,omitempty"`
	// Stays says that the plugin can answer more than one request; see [Stay].
	Stays bool `json:"stays,omitempty"`
}
