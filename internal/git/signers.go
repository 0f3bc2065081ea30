package git

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Signers is an allowed-signers list: which SSH keys may sign, under which
// names, from when to when (ssh-keygen(1), "ALLOWED SIGNERS").
type Signers struct{ entries []signer }

// signer is one line of the list.
type signer struct {
	line       int
	principals []string
	namespaces []string // nil: any
	after      time.Time
	before     time.Time
	key        ssh.PublicKey
	blob       []byte
}

// ParseSigners reads the file format of OpenSSH's allowed signers, less
// leniently: principals and namespaces are names, not patterns, since a policy
// asks for them by name; cert-authority lines, unknown and repeated options
// are refused. Dates without a Z are local time, as OpenSSH reads them.
// An error names the line; nothing of a file with an error is used.
func ParseSigners(data []byte) (*Signers, error) {
	if len(data) > MaxSignersSize {
		return nil, fmt.Errorf("more than %d bytes", MaxSignersSize)
	}
	s := &Signers{}
	for i, line := range strings.Split(string(data), "\n") {
		if trimmed := strings.TrimLeft(line, " \t"); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		e, err := parseSigner(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		e.line = i + 1
		s.entries = append(s.entries, e)
	}
	return s, nil
}

func parseSigner(line string) (signer, error) {
	var e signer
	for _, c := range []byte(line) {
		if (c < 0x20 && c != '\t') || c == 0x7f {
			return e, fmt.Errorf("a control character (are its lines ended by CR LF?)")
		}
	}
	fields, err := splitFields(line)
	if err != nil {
		return e, err
	}
	if len(fields) < 3 {
		return e, fmt.Errorf("want: principals [options] key-type key")
	}
	if e.principals, err = parseNames("principal", fields[0]); err != nil {
		return e, err
	}
	rest := fields[1:]
	if !isKeyType(rest[0]) {
		if err := e.options(rest[0]); err != nil {
			return e, err
		}
		rest = rest[1:]
	}
	if len(rest) < 2 || !isKeyType(rest[0]) {
		return e, fmt.Errorf("no key of a known type")
	}
	e.blob, err = base64.StdEncoding.Strict().DecodeString(rest[1])
	if err != nil {
		return e, fmt.Errorf("its key is not base64")
	}
	if e.key, err = ssh.ParsePublicKey(e.blob); err != nil {
		return e, fmt.Errorf("its key cannot be read: %w", err)
	}
	if e.key.Type() != rest[0] || !bytes.Equal(e.key.Marshal(), e.blob) {
		return e, fmt.Errorf("its key is not of the type %s that the line says", rest[0])
	}
	return e, nil
}

// keyTypes are the kinds of keys that may sign.
var keyTypes = [...]string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSA,
	ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
}

func isKeyType(s string) bool { return slices.Contains(keyTypes[:], s) }

// splitFields splits at blanks that are not inside double quotes.
func splitFields(line string) ([]string, error) {
	var fields []string
	var cur strings.Builder
	quoted := false
	for _, c := range []byte(line) {
		switch {
		case c == '"':
			quoted = !quoted
			cur.WriteByte(c)
		case (c == ' ' || c == '\t') && !quoted:
			if cur.Len() > 0 {
				fields = append(fields, cur.String())
				cur.Reset()
			}
		default:
			cur.WriteByte(c)
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quotation mark is not closed")
	}
	if cur.Len() > 0 {
		fields = append(fields, cur.String())
	}
	return fields, nil
}

// parseNames reads a comma-separated list of plain names.
func parseNames(what, s string) ([]string, error) {
	names := strings.Split(s, ",")
	for i, n := range names {
		if n == "" || slices.Contains(names[:i], n) {
			return nil, fmt.Errorf("an empty or repeated %s", what)
		}
		if strings.ContainsAny(n, `*?!"' `+"\t") {
			return nil, fmt.Errorf("%s %q: want a plain name, patterns and quotes are not accepted", what, clip(n))
		}
	}
	return names, nil
}

// options reads name="value" pairs separated by commas.
func (e *signer) options(s string) error {
	seen := map[string]bool{}
	for s != "" {
		i := strings.IndexAny(s, `,=`)
		name := s
		if i >= 0 {
			name = s[:i]
		}
		if strings.EqualFold(name, "cert-authority") {
			return fmt.Errorf("cert-authority is not supported: list the signing keys themselves")
		}
		rest, ok := strings.CutPrefix(s[len(name):], `="`)
		value, rest, closed := strings.Cut(rest, `"`)
		if !ok || !closed {
			return fmt.Errorf("option %q: want name=\"value\" or a key type", clip(name))
		}
		if seen[name] {
			return fmt.Errorf("option %s stands twice", clip(name))
		}
		seen[name] = true
		if err := e.option(name, value); err != nil {
			return err
		}
		if s = rest; s != "" {
			if s, ok = strings.CutPrefix(s, ","); !ok || s == "" {
				return fmt.Errorf("options are separated by single commas")
			}
		}
	}
	if !e.before.IsZero() && !e.after.Before(e.before) {
		return fmt.Errorf("valid-after is not before valid-before")
	}
	return nil
}

func (e *signer) option(name, value string) (err error) {
	switch name {
	case "namespaces":
		e.namespaces, err = parseNames("namespace", value)
	case "valid-after":
		e.after, err = parseSignerTime(value)
	case "valid-before":
		e.before, err = parseSignerTime(value)
	default:
		err = fmt.Errorf("option %q is not known", clip(name))
	}
	return err
}

// parseSignerTime reads YYYYMMDD[HHMM[SS]][Z].
func parseSignerTime(s string) (time.Time, error) {
	digits, utc := strings.CutSuffix(s, "Z")
	loc := time.Local
	if utc {
		loc = time.UTC
	}
	layout := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(digits)]
	t, err := time.ParseInLocation(layout, digits, loc)
	if layout == "" || err != nil {
		return time.Time{}, fmt.Errorf("time %q: want YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with Z for UTC", clip(s))
	}
	return t, nil
}

// find returns the lines that list a key.
func (s *Signers) find(blob []byte) []signer {
	var found []signer
	if s != nil {
		for _, e := range s.entries {
			if bytes.Equal(e.blob, blob) {
				found = append(found, e)
			}
		}
	}
	return found
}

// Len is the number of keys listed, lines counted.
func (s *Signers) Len() int {
	if s == nil {
		return 0
	}
	return len(s.entries)
}
