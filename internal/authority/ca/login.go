package ca

import (
	"context"
	"errors"
)

// Identify is the one name that a certificate for this identity token would be
// for, an e-mail address or a URI, when the token is one of the issuer's. Its
// errors name the claim that failed and never show the token.
func (c *CA) Identify(ctx context.Context, raw, issuer string) (string, error) {
	id, err := c.cfg.Issuers.AuthenticateFrom(ctx, raw, issuer)
	if err != nil {
		return "", err
	}
	names := id.Names()
	if len(names) != 1 {
		return "", errors.New("the token names nobody, or several")
	}
	return names[0], nil
}
