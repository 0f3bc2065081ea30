package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"unicode"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// ErrNotFound is in the chain of every error about a tag, manifest or blob that
// is not there.
var ErrNotFound = errors.New("no such tag or manifest")

// fail says what went wrong at a step, for people: which host, what it
// answered, and what to do. URLs lose their queries (they may hold signatures of
// a storage service) and foreign text its control characters.
func (b *remoteBackend) fail(step string, err error) error {
	if err == nil {
		return nil
	}
	var status *errcode.ErrorResponse
	switch {
	case errors.As(err, new(*fault.Error)), errors.Is(err, context.Canceled):
		return fault.As(fault.KindOf(err), fmt.Errorf("%s: %w", step, err))
	case errors.As(err, &status):
		return b.failStatus(step, status)
	case errors.Is(err, errdef.ErrNotFound):
		return b.failNotFound(step)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return b.failLogin(step, "it asks for a login")
	case errors.Is(err, errOtherBytes):
		return fmt.Errorf("%s: %w", step, err)
	}
	if host, cause, ok := b.network(err); ok {
		e := fault.Unreachablef("%s: cannot reach %s: %s", step, host, cause)
		if strings.Contains(cause, "not HTTPS") {
			return fault.Hint(e, "give the registry TLS, or use --plain-http if the network between is yours")
		}
		return e
	}
	return fmt.Errorf("%s: %s", step, foreign(err.Error()))
}

func (b *remoteBackend) failNotFound(step string) error {
	return fmt.Errorf("%s: %w", strings.TrimPrefix(step, "resolve "), ErrNotFound)
}

func (b *remoteBackend) failLogin(step, why string) error {
	return fault.Hint(fmt.Errorf("%s: %s: %s", step, b.host, why),
		"log in with docker login %s, or anything that writes the docker configuration", strings.SplitN(b.name, "/", 2)[0])
}

func (b *remoteBackend) failStatus(step string, status *errcode.ErrorResponse) error {
	host, said := b.host, ""
	if status.URL != nil && status.URL.Host != "" {
		host = status.URL.Host
	}
	if len(status.Errors) > 0 {
		said = ": " + foreign(strings.TrimSpace(status.Errors[0].Code+" "+status.Errors[0].Message))
	}
	switch code := status.StatusCode; {
	case code == http.StatusUnauthorized:
		return b.failLogin(step, "there is no login, or it is not accepted"+said)
	case code == http.StatusForbidden:
		return fault.Hint(fmt.Errorf("%s: %s forbids it%s", step, host, said),
			"the login may not do this here; ask the owner of %s for access", b.name)
	case code == http.StatusMisdirectedRequest:
		return fault.Hint(fmt.Errorf("%s: %s goes by another name, and answers under that one only", step, host),
			"name the registry as it names itself; of hallmark up it is HALLMARK_REGISTRY in: hallmark up env")
	case code == http.StatusNotFound && (said == "" || !strings.Contains(step, "push")):
		return b.failNotFound(step)
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500:
		return fault.Unreachablef("%s: %s answered %d %s%s", step, host, code, http.StatusText(code), said)
	default:
		return fmt.Errorf("%s: %s answered %d %s%s", step, host, code, http.StatusText(code), said)
	}
}

// network recognises failures of the way to a host and names host and cause.
func (b *remoteBackend) network(err error) (host, cause string, ok bool) {
	host = b.host
	var ue *url.Error
	if errors.As(err, &ue) {
		ok = true
		if u, perr := url.Parse(ue.URL); perr == nil && u.Host != "" {
			host = u.Host
		}
		err = ue.Err
	}
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		return host, "DNS does not know the name " + foreign(dns.Name), true
	case errors.Is(err, syscall.ECONNREFUSED):
		return host, "connection refused", true
	case errors.As(err, &cert), errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.HostnameError)):
		return host, "TLS: " + foreign(err.Error()), true
	case ok && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return host, "it speaks plain HTTP, not HTTPS", true
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return host, "no answer in time", true
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return host, "the connection broke off", true
	case ok || errors.As(err, new(*net.OpError)):
		return host, foreign(err.Error()), true
	}
	return "", "", false
}

// foreign makes text from outside fit for a terminal and a log.
func foreign(s string) string {
	const most = 300
	s = printable(s)
	for i := 0; ; {
		scheme := strings.Index(s[i:], "://")
		if scheme < 0 {
			break
		}
		i += scheme + 3
		end := len(s)
		if j := strings.IndexAny(s[i:], " \"'<>"); j >= 0 {
			end = i + j
		}
		if q := strings.IndexByte(s[i:end], '?'); q >= 0 {
			s = s[:i+q] + "?…" + s[end:]
		}
	}
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
