package sign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// maxAnswer bounds what is read of any service's answer: certificates, proofs
// and timestamps take a few kilobytes.
const maxAnswer = 1 << 20

// client posts to the signing services. It follows no redirects: a bearer token
// goes only where it was meant to go.
type client struct {
	http      *http.Client
	userAgent string
	secret    string // the identity token, taken out of every message
}

func newClient(s Services, secret string) *client {
	c := &http.Client{Timeout: 30 * time.Second}
	if s.HTTPClient != nil {
		copied := *s.HTTPClient
		c = &copied
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ua := s.UserAgent
	if ua == "" {
		ua = "hallmark"
	}
	return &client{http: c, userAgent: ua, secret: secret}
}

// request is one POST; step and url name it in errors.
type request struct {
	step        string // "get a certificate", …
	url         string
	body        []byte
	contentType string
	accept      string
	bearer      string
}

// post sends r and returns the body of a 200 or 201. No answer, and answers that
// say "not now", are fault.Unreachable; all others name status and message.
func (c *client) post(ctx context.Context, r request) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("%s: %s is no URL to post to", r.step, hostOf(r.url))
	}
	req.Header.Set("Content-Type", r.contentType)
	req.Header.Set("Accept", r.accept)
	req.Header.Set("User-Agent", c.userAgent)
	if r.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+r.bearer)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fault.HTTP(r.step, r.url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fault.HTTP(r.step, r.url, err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return nil, c.statusError(r, resp, body)
	}
	if len(body) > maxAnswer {
		return nil, wrong(r.step, r.url, "more than %d KiB", maxAnswer>>10)
	}
	return body, nil
}

func (c *client) statusError(r request, resp *http.Response, body []byte) error {
	status := resp.StatusCode
	text := fmt.Sprintf("HTTP %d", status)
	if m := c.message(body); m != "" {
		text += ": " + m
	}
	err := fmt.Errorf("%s: %s: %w", r.step, hostOf(r.url), errors.New(text))
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fault.As(fault.Unreachable, busyError{err, retryAfter(resp.Header)})
	case http.StatusUnauthorized, http.StatusForbidden:
		if r.bearer != "" {
			return fault.Hint(err, "the service does not take this identity token: it may be expired, or of an issuer that the service does not know")
		}
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return fault.Hint(err, "redirects are not followed; name the service's final URL in the signing config")
	}
	return err
}

// retryAfter is how many seconds a service asks to be left alone (RFC 9110,
// 10.2.3), 0 when it does not say.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// message is what a service says about its refusal, made fit to be shown: one
// short line of printable ASCII, without the token and without long words, which
// are tokens, keys or payloads that the service echoes.
func (c *client) message(body []byte) string {
	text := string(body[:min(len(body), 16<<10)])
	var known struct {
		Message          string `json:"message"`
		Error            any    `json:"error"`
		ErrorDescription string `json:"error_description"`
	}
	if json.Unmarshal(body, &known) == nil {
		switch e, isText := known.Error.(string); {
		case known.Message != "":
			text = known.Message
		case known.ErrorDescription != "":
			text = known.ErrorDescription
		case isText:
			text = e
		}
	} else if strings.HasPrefix(strings.TrimSpace(text), "<") {
		return "" // an HTML page of some proxy
	}
	if c.secret != "" {
		text = strings.ReplaceAll(text, c.secret, "[token]")
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text)
	words := strings.Fields(text)
	for i, w := range words {
		if len(w) > 72 {
			words[i] = "…"
		}
	}
	text = strings.Join(words, " ")
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return text
}
