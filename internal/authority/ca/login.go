package ca

import "errors"

// Identify is the one name that a certificate for this identity token would be
// for, an e-mail address or a URI, when the token is one of the issuer's. Its
// errors name the claim that failed and never show the token.
func (c *CA) Identify(raw, issuer string) (string, error) {
	id, err := c.authenticate(raw)
	if err != nil {
		return "", err
	}
	names := id.emails
	for _, u := range id.uris {
		names = append(names, u.String())
	}
	switch {
	case id.extensions.Issuer != issuer:
		return "", errors.New(`claim "iss": the token is of another issuer`)
	case len(names) != 1:
		return "", errors.New("the token names nobody, or several")
	}
	return names[0], nil
}
