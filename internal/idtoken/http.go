package idtoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

const (
	maxAnswer   = 1 << 20          // bytes of any answer
	callTimeout = 30 * time.Second // of any one request
)

// client is a Config without nil fields.
type client struct {
	Config
	http *http.Client
}

func newClient(cfg Config) *client {
	c := &client{Config: cfg}
	if c.Env == nil {
		c.Env = func(string) string { return "" }
	}
	if c.ClientID == "" {
		c.ClientID = DefaultClientID
	}
	if c.Say == nil {
		c.Say = func(string, ...any) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	var own http.Client
	if cfg.HTTPClient != nil {
		own = *cfg.HTTPClient
	}
	// A redirect could carry a bearer token or a code to another host.
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &own
	return c
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func readFull(r io.Reader, buf []byte) (int, error) {
	n, err := io.ReadFull(r, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, err
}

// call sends a request and returns status, header and body. step names it in errors,
// which show the host and neither path, query, headers nor body.
func (c *client) call(ctx context.Context, step string, req *http.Request) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.http.Do(req.WithContext(ctx))
	if err != nil {
		return nil, nil, fault.HTTP(step, req.URL.String(), err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, nil, fault.HTTP(step, req.URL.String(), err)
	}
	if len(body) > maxAnswer {
		return nil, nil, fmt.Errorf("%s: %s: the answer is longer than %d bytes", step, req.URL.Host, maxAnswer)
	}
	return resp, body, nil
}

// get is a GET that must answer 200.
func (c *client) get(ctx context.Context, step, rawURL string, header http.Header) (http.Header, []byte, error) {
	req, err := http.NewRequest(http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: the address cannot be used", step)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, body, err := c.call(ctx, step, req)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s: %s answered %s", step, req.URL.Host, http.StatusText(resp.StatusCode))
	}
	return resp.Header, body, nil
}

// postForm posts an OAuth form and returns whatever status came back.
func (c *client) postForm(ctx context.Context, step, rawURL string, form url.Values, basicUser string) (int, []byte, error) {
	req, err := http.NewRequest(http.MethodPost, rawURL, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, nil, fmt.Errorf("%s: the address cannot be used", step)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if basicUser != "" {
		req.SetBasicAuth(url.QueryEscape(basicUser), "")
	}
	resp, body, err := c.call(ctx, step, req)
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, body, nil
}

// decode reads an answer whose schema others may extend: duplicates and trailing
// data are refused, members that we do not know are not.
func decode(step string, data []byte, v any) error {
	if err := strictjson.Valid(data, 16); err != nil {
		return fmt.Errorf("%s: the answer is not strict JSON", step)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: the answer does not have the documented shape", step)
	}
	return nil
}

// discovery is the part of the provider's metadata that the flows need
// (OpenID Connect Discovery 1.0, section 3; RFC 8628, section 4).
type discovery struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Device        string   `json:"device_authorization_endpoint"`
	PKCE          []string `json:"code_challenge_methods_supported"`
}

func (c *client) discover(ctx context.Context) (discovery, error) {
	const step = "OIDC discovery"
	var d discovery
	if err := loopback.CheckURL("OIDC issuer", c.Issuer, c.PlainHTTP); err != nil {
		return d, err
	}
	_, body, err := c.get(ctx, step, strings.TrimSuffix(c.Issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return d, err
	}
	if err := decode(step, body, &d); err != nil {
		return d, err
	}
	if d.Issuer != c.Issuer {
		return d, fmt.Errorf("%s: %s says that it is the issuer %q", step, c.Issuer, d.Issuer)
	}
	for _, e := range []struct{ name, url string }{{"token endpoint", d.Token}, {"authorization endpoint", d.Authorization}} {
		if err := loopback.CheckURL(step+": "+e.name, e.url, c.PlainHTTP); err != nil {
			return d, err
		}
	}
	for _, method := range d.PKCE {
		if method == "S256" {
			return d, nil
		}
	}
	return d, fmt.Errorf("%s: %s does not offer PKCE with S256, without which a login could be stolen", step, c.Issuer)
}
