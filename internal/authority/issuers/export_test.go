package issuers

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
)

// Remembered is how many issuers a set remembers.
func Remembered(s *Set) int { return len(s.remotes.all) }

// ParseAnswers reads what an issuer may answer.
func ParseAnswers(data []byte) {
	_, _ = parseMetadata(data)
	_, _ = parseKeys(data)
}

// DialAlways makes the set connect to one address for an issuer's own host, by the name
// that is in all certificates.
func DialAlways(s *Set, issuerURL, address, name string) {
	r, err := s.remotes.remote(s.issuers[0], issuerURL)
	if err != nil {
		panic(err)
	}
	transport := r.client.Transport.(*http.Transport)
	own, err := url.Parse(issuerURL)
	if err != nil {
		panic(err)
	}
	transport.DialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
		if to == own.Host+":443" {
			to = address
		}
		return new(net.Dialer).DialContext(ctx, network, to)
	}
	if transport.TLSClientConfig == nil {
		transport.TLSClientConfig = new(tls.Config)
	}
	transport.TLSClientConfig.ServerName = name
}
