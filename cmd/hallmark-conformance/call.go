package main

import (
	"errors"
	"fmt"
	"strings"
)

// The two commands of the protocol.
const (
	cmdSign   = "sign-bundle"
	cmdVerify = "verify-bundle"
)

// call is one command line of the suite; "" is an option that was not given.
type call struct {
	command string

	bundle        string // path, written by sign-bundle
	trustedRoot   string // path
	signingConfig string // path
	identityToken string // a bearer secret
	identity      string
	issuer        string
	key           string // path of a public key in PEM
	staging       bool
	inToto        bool

	file string // a path; for verify-bundle also sha256:HEX
}

// options are where the values of a command's options go.
func (c *call) options() (values map[string]*string, switches map[string]*bool) {
	values = map[string]*string{"--bundle": &c.bundle, "--trusted-root": &c.trustedRoot}
	switches = map[string]*bool{"--staging": &c.staging}
	if c.command == cmdSign {
		values["--identity-token"], values["--signing-config"] = &c.identityToken, &c.signingConfig
		switches["--in-toto"] = &c.inToto
		return values, switches
	}
	values["--certificate-identity"], values["--certificate-oidc-issuer"], values["--key"] = &c.identity, &c.issuer, &c.key
	return values, switches
}

// parseCall reads a command line. Everything that the protocol does not have, has
// twice or leaves empty is refused: a verifier that skips an option which it does
// not know checks less than it was told to.
func parseCall(argv []string) (*call, error) {
	if len(argv) == 0 || argv[0] != cmdSign && argv[0] != cmdVerify {
		return nil, fmt.Errorf("the first argument must be %s or %s", cmdSign, cmdVerify)
	}
	c := &call{command: argv[0]}
	values, switches := c.options()
	seen := map[string]bool{}
	for rest := argv[1:]; len(rest) > 0; {
		word := rest[0]
		rest = rest[1:]
		if !strings.HasPrefix(word, "-") {
			if word == "" || c.file != "" {
				return nil, errors.New("exactly one file or digest is wanted")
			}
			c.file = word
			continue
		}
		if seen[word] {
			return nil, fmt.Errorf("%s is given twice", word)
		}
		seen[word] = true
		if on := switches[word]; on != nil {
			*on = true
			continue
		}
		value := values[word]
		switch {
		case value == nil:
			return nil, fmt.Errorf("%s has no option %.40q", c.command, word)
		case len(rest) == 0 || rest[0] == "" || strings.HasPrefix(rest[0], "--"):
			return nil, fmt.Errorf("%s is given without a value", word)
		}
		*value, rest = rest[0], rest[1:]
	}
	return c, c.check()
}
