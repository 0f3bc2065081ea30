package trust

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

const signingConfigMediaType = "application/vnd.dev.sigstore.signingconfig.v0.2+json"

// SigningConfig says which services sign (dev.sigstore.trustroot.v1.SigningConfig).
type SigningConfig struct {
	ca, oidc, log, tsa []service
	logs, tsas         selection
}

type service struct {
	url      string
	version  uint32
	validFor Window
	operator string
}

// selection is dev.sigstore.trustroot.v1.ServiceConfiguration: how many of the
// services a signer must use.
type selection struct {
	selector string // "", "ANY", "ALL" or "EXACT"
	count    uint32 // with EXACT
}

// The wire types are dev.sigstore.trustroot.v1.SigningConfig in protobuf's JSON mapping.
type (
	wireSigningConfig struct {
		MediaType string         `json:"mediaType"`
		CAURLs    []wireService  `json:"caUrls" strict:"max=64"`
		OIDCURLs  []wireService  `json:"oidcUrls" strict:"max=64"`
		LogURLs   []wireService  `json:"rekorTlogUrls" strict:"max=64"`
		LogConfig *wireSelection `json:"rekorTlogConfig"`
		TSAURLs   []wireService  `json:"tsaUrls" strict:"max=64"`
		TSAConfig *wireSelection `json:"tsaConfig"`
	}
	wireService struct {
		URL             string      `json:"url"`
		MajorAPIVersion uint32      `json:"majorApiVersion"`
		ValidFor        *wireWindow `json:"validFor"`
		Operator        string      `json:"operator"`
	}
	wireSelection struct {
		Selector string `json:"selector" strict:"enum"`
		Count    uint32 `json:"count"`
	}
)

// ParseSigningConfig reads a signing config of version 0.2.
func ParseSigningConfig(data []byte) (*SigningConfig, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%d bytes; at most %d are read", len(data), MaxSize)
	}
	var w wireSigningConfig
	if err := strictjson.UnmarshalProto(data, &w); err != nil {
		return nil, err
	}
	if w.MediaType != signingConfigMediaType {
		return nil, fmt.Errorf("mediaType: %q is not a Sigstore signing config of version 0.2", clip(w.MediaType))
	}
	c := &SigningConfig{}
	for _, list := range []struct {
		name string
		from []wireService
		to   *[]service
	}{
		{"caUrls", w.CAURLs, &c.ca}, {"oidcUrls", w.OIDCURLs, &c.oidc},
		{"rekorTlogUrls", w.LogURLs, &c.log}, {"tsaUrls", w.TSAURLs, &c.tsa},
	} {
		for i := range list.from {
			s, err := list.from[i].service()
			if err != nil {
				return nil, fmt.Errorf("%s[%d].%w", list.name, i, err)
			}
			*list.to = append(*list.to, s)
		}
	}
	var err error
	if c.logs, err = w.LogConfig.selection(); err != nil {
		return nil, fmt.Errorf("rekorTlogConfig.%w", err)
	}
	if c.tsas, err = w.TSAConfig.selection(); err != nil {
		return nil, fmt.Errorf("tsaConfig.%w", err)
	}
	return c, nil
}

func (w *wireService) service() (service, error) {
	s := service{url: w.URL, version: w.MajorAPIVersion, operator: w.Operator}
	u, err := url.Parse(w.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return s, fmt.Errorf("url: %q is no http(s) URL of a service", clip(w.URL))
	}
	if s.validFor, err = w.ValidFor.window(); err != nil {
		return s, fmt.Errorf("validFor: %w", err)
	}
	return s, nil
}

func (w *wireSelection) selection() (selection, error) {
	if w == nil {
		return selection{}, nil
	}
	names := map[string]string{"ALL": "ALL", "1": "ALL", "ANY": "ANY", "2": "ANY", "EXACT": "EXACT", "3": "EXACT",
		"": "", "0": "", "SERVICE_SELECTOR_UNDEFINED": ""}
	name, ok := names[w.Selector]
	if !ok {
		return selection{}, fmt.Errorf("selector: %q is unknown", clip(w.Selector))
	}
	if name == "EXACT" && w.Count == 0 {
		return selection{}, fmt.Errorf("count: 0 services to be used of EXACT")
	}
	return selection{selector: name, count: w.Count}, nil
}

// CA is the URL of the certificate authority to use at a time, of API version 1
// (which Fulcio's /api/v2 paths count as).
func (c *SigningConfig) CA(now time.Time) (string, bool) { return newest(c.ca, now) }

// OIDC is the URL of the identity provider to use at a time.
func (c *SigningConfig) OIDC(now time.Time) (string, bool) {
	return newest(c.oidc, now)
}

// Choice is which services of one kind a signer must use: Need of URLs, and any of
// them (sigstore/protobuf-specs, sigstore_trustroot.proto, ServiceConfiguration).
type Choice struct {
	// URLs are one of each operator, that which became valid last, the latest first.
	URLs []string
	Need int // 0 when none is named
}

// Logs are the transparency logs to use at a time, of API version 2.
func (c *SigningConfig) Logs(now time.Time) Choice { return choose(c.log, 2, now, c.logs) }

// TSAs are the timestamp authorities to use at a time, URLs complete with path.
func (c *SigningConfig) TSAs(now time.Time) Choice { return choose(c.tsa, 1, now, c.tsas) }

// Unmet says which demand of the config cannot be met at a time: more services
// than it names. A signer that went on with fewer would make what the config's
// owner calls too little.
func (c *SigningConfig) Unmet(now time.Time) error {
	for _, s := range []struct {
		what string
		Choice
		lapsed bool // it demands some and names some, none of which can be used now
	}{
		// A config with logs of another API version alone is one for signing with keys.
		{"logs", c.Logs(now), false},
		{"timestamp authorities", c.TSAs(now), c.tsas.selector != "" && len(c.tsa) > 0 && c.TSAs(now).Need == 0},
	} {
		switch {
		case s.lapsed:
			return fmt.Errorf("it demands %s, and none that it names can be used now", s.what)
		case s.Need > len(s.URLs) && len(s.URLs) > 0:
			return fmt.Errorf("it demands %d %s of different operators, and names %d that can be used now", s.Need, s.what, len(s.URLs))
		}
	}
	return nil
}

// choose is what a selection makes of the services of an API version.
func choose(services []service, version uint32, now time.Time, sel selection) Choice {
	latest := map[string]*service{} // by operator
	for i := range services {
		s := &services[i]
		if s.version != version || !s.validFor.Contains(now) {
			continue
		}
		if have := latest[s.operator]; have == nil || s.validFor.Start.After(have.validFor.Start) {
			latest[s.operator] = s
		}
	}
	all := slices.SortedFunc(maps.Values(latest), func(a, b *service) int {
		return cmp.Or(b.validFor.Start.Compare(a.validFor.Start), cmp.Compare(a.url, b.url))
	})
	c := Choice{Need: 1}
	for _, s := range all {
		c.URLs = append(c.URLs, s.url)
	}
	switch {
	case len(all) == 0:
		c.Need = 0
	case sel.selector == "ALL":
		c.Need = len(all)
	case sel.selector == "EXACT":
		c.Need = int(sel.count)
	}
	return c
}

// newest is the service of API version 1 that is valid now and became so last.
func newest(services []service, now time.Time) (string, bool) {
	c := choose(services, 1, now, selection{})
	if len(c.URLs) == 0 {
		return "", false
	}
	return c.URLs[0], true
}
