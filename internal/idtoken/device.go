package idtoken

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/hallmark-dev/hallmark/internal/loopback"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// deviceAnswer is RFC 8628, 3.2.
type deviceAnswer struct {
	DeviceCode      string  `json:"device_code"`
	UserCode        string  `json:"user_code"`
	VerificationURI string  `json:"verification_uri"`
	Complete        string  `json:"verification_uri_complete"`
	ExpiresIn       float64 `json:"expires_in"` // seconds
	Interval        float64 `json:"interval"`   // seconds, 5 when absent
	Error           string  `json:"error"`
	Description     string  `json:"error_description"`
}

// device is the device authorization grant (RFC 8628) with PKCE: the person logs
// in with any browser, anywhere, and types the code that we show.
func (c *client) device(ctx context.Context) (string, error) {
	const step = "device login"
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	d, err := c.discover(ctx)
	if err != nil {
		return "", err
	}
	if err := loopback.CheckURL(step+": device authorization endpoint", d.Device, c.PlainHTTP); err != nil {
		return "", err
	}
	verifier, challenge := pkce()
	_, body, err := c.postForm(ctx, step, d.Device, url.Values{
		"client_id": {c.ClientID}, "scope": {loginScope}, "code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}, "")
	if err != nil {
		return "", err
	}
	var grant deviceAnswer
	if err := decode(step, body, &grant); err != nil {
		return "", err
	}
	if grant.Error != "" {
		return "", tokenAnswer{Error: grant.Error, Description: grant.Description}.err(step, c.Issuer)
	}
	if grant.DeviceCode == "" || grant.UserCode == "" || grant.VerificationURI == "" {
		return "", fmt.Errorf("%s: %s: the answer has no code", step, c.Issuer)
	}
	where := grant.Complete
	if where == "" {
		where = grant.VerificationURI
	}
	c.Say("To log in, open this address in a browser and check that it shows the code %s:\n%s",
		printable(grant.UserCode), printable(where))
	return c.poll(ctx, d, grant, url.Values{
		"grant_type": {deviceGrant}, "device_code": {grant.DeviceCode}, "client_id": {c.ClientID},
		"code_verifier": {verifier}, "scope": {loginScope},
	})
}

// poll asks until the person has answered (RFC 8628, 3.4 and 3.5).
func (c *client) poll(ctx context.Context, d discovery, grant deviceAnswer, form url.Values) (string, error) {
	const step = "device login: token endpoint"
	interval := 5 * time.Second
	if grant.Interval >= 1 && grant.Interval <= 60 {
		interval = time.Duration(grant.Interval * float64(time.Second))
	}
	end := c.Now().Add(loginTimeout)
	if grant.ExpiresIn > 0 && grant.ExpiresIn < loginTimeout.Seconds() {
		end = c.Now().Add(time.Duration(grant.ExpiresIn * float64(time.Second)))
	}
	for {
		c.Sleep(ctx, interval)
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("device login: nobody logged in: %w", err)
		}
		if c.Now().After(end) {
			return "", fmt.Errorf("device login: the code expired before anybody logged in")
		}
		_, body, err := c.postForm(ctx, step, d.Token, form, "")
		if err != nil {
			return "", err
		}
		var answer tokenAnswer
		if err := decode(step, body, &answer); err != nil {
			return "", err
		}
		switch answer.Error {
		case "":
			return c.accept(step, answer, "")
		case "authorization_pending":
		case "slow_down":
			interval += 5 * time.Second
		default:
			return "", answer.err(step, c.Issuer)
		}
	}
}
