package approval

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/hallmark-dev/hallmark/internal/cms"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sshsignature"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

type (
	wireEnvelope struct {
		Payload     []byte          `json:"payload" strict:"required"`
		PayloadType string          `json:"payloadType" strict:"required"`
		Signatures  []wireSignature `json:"signatures" strict:"required"`
	}
	wireSignature struct {
		KeyID *string `json:"keyid,omitempty"`
		Sig   []byte  `json:"sig" strict:"required"`
	}
)

const maxKeyID = 2048 + 2048 + 1

func parse(data []byte) (*Envelope, *policy.Reason) {
	w, why := parseEnvelope(data)
	if why != nil {
		return nil, why
	}
	s, why := parsePayload(w.Payload)
	if why != nil {
		return nil, why
	}
	e := &Envelope{Statement: *s, ID: ID(w.Payload), Payload: w.Payload, Signature: w.Signatures[0].Sig}
	if id := w.Signatures[0].KeyID; id != nil {
		e.KeyID = *id
	}
	return e, nil
}

// parseEnvelope reads the DSSE envelope without what is in it.
func parseEnvelope(data []byte) (*wireEnvelope, *policy.Reason) {
	if len(data) > MaxSize {
		return nil, malformed("", "has %d bytes; at most %d are read", len(data), MaxSize)
	}
	var w wireEnvelope
	if err := strictjson.Unmarshal(data, &w); err != nil {
		var e *strictjson.Error
		if errors.As(err, &e) {
			return nil, malformed(e.Path, "has an envelope that cannot be read: %v", err)
		}
		return nil, malformed("", "has an envelope that cannot be read: %v", err)
	}
	switch {
	case strictjson.HasNull(data):
		return nil, malformed("", "has an envelope with a null")
	case w.PayloadType != PayloadType:
		return nil, malformed("payloadType", "holds %q, not %s", clip(w.PayloadType), PayloadType)
	case len(w.Signatures) != 1:
		return nil, malformed("signatures", "has %d signatures; one person signs one approval", len(w.Signatures))
	case len(w.Signatures[0].Sig) == 0:
		return nil, malformed("signatures[0].sig", "has an empty signature")
	}
	if id := w.Signatures[0].KeyID; id != nil && (len(*id) > maxKeyID || !utf8.ValidString(*id)) {
		return nil, malformed("signatures[0].keyid", "has a keyid of %d bytes", len(*id))
	}
	return &w, nil
}

// seal makes the envelope of a payload. The keyid is for who looks for a key; nobody believes it.
func seal(payload, signature []byte, keyid string) ([]byte, error) {
	if _, why := parsePayload(payload); why != nil {
		return nil, errors.New(why.Message)
	}
	w := wireEnvelope{Payload: payload, PayloadType: PayloadType, Signatures: []wireSignature{{Sig: signature}}}
	if keyid != "" {
		w.Signatures[0].KeyID = &keyid
	}
	data, err := json.Marshal(w)
	if err == nil && len(data) > MaxSize {
		err = errors.New("the approval is larger than is read: " + strconv.Itoa(len(data)) + " bytes")
	}
	return data, err
}

func attach(pae, signature []byte) ([]byte, error) {
	payload, err := payloadOf(pae)
	if err != nil {
		return nil, err
	}
	binary, err := unarmor(signature)
	if err != nil {
		return nil, err
	}
	if kindOf(binary) == "" {
		return nil, errors.New("the signature is of no known kind: ssh-keygen -Y sign, gpg --detach-sign, a detached CMS signature or a Sigstore bundle")
	}
	return seal(payload, binary, claimedKey(binary))
}

// payloadOf takes the payload out of its pre-authentication encoding.
func payloadOf(pae []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(pae, []byte("DSSEv1 "+strconv.Itoa(len(PayloadType))+" "+PayloadType+" "))
	size, payload, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || string(size) != strconv.Itoa(len(payload)) {
		return nil, errors.New("the file is not what hallmark approve --export wrote: its bytes must not change, not even a last newline")
	}
	return payload, nil
}

// unarmor gives the binary form of a signature.
func unarmor(signature []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(signature, []byte("-----BEGIN SSH SIGNATURE-----")):
		return sshsignature.Unarmor(signature)
	case bytes.HasPrefix(signature, []byte("-----BEGIN PGP SIGNATURE-----")):
		return git.UnarmorOpenPGP(signature)
	case bytes.HasPrefix(signature, []byte("-----BEGIN ")):
		return cms.Unarmor(signature)
	}
	return signature, nil
}

// Kinds of signatures are told apart by their first byte.
const (
	kindSSH      = "ssh"
	kindOpenPGP  = "openpgp"
	kindX509     = "x509"
	kindSigstore = "sigstore"
)

// kindOf is the kind of a binary signature, "" of none.
func kindOf(signature []byte) string {
	switch {
	case bytes.HasPrefix(signature, []byte("SSHSIG")):
		return kindSSH
	case len(signature) == 0:
		return ""
	case signature[0] == 0x30:
		return kindX509
	case signature[0] == '{':
		return kindSigstore
	case signature[0]&0x80 != 0:
		return kindOpenPGP
	}
	return ""
}

// claimedKey is what a signature itself says by which key it is, "" where it does not. Keyless
// and CMS signatures do not say it in few bytes.
func claimedKey(signature []byte) string {
	switch kindOf(signature) {
	case kindSSH:
		return sshsignature.ClaimedKey(signature)
	case kindOpenPGP:
		return git.OpenPGPIssuer(signature)
	}
	return ""
}
