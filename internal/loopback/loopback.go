// Package loopback knows which hosts are this very machine. Services there are
// spoken to in plain HTTP without a flag; all others only when asked for.
package loopback

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Host reports whether host, with or without a port, is localhost, in
// 127.0.0.0/8, or [::1]. Names are not resolved: DNS may lie.
func Host(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Zone() == "" && ip.Unmap().IsLoopback()
}

// CheckURL refuses a service URL that is neither https nor on this machine,
// unless plainHTTP allows it. what names the service in the error.
func CheckURL(what, raw string, plainHTTP bool) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fault.Usagef("%s: %q is not an http or https URL", what, fault.Redact(raw))
	}
	if u.Scheme == "http" && !plainHTTP && !Host(u.Host) {
		return fault.Hint(fault.Usagef("%s: plain HTTP to %s, which is not this machine", what, u.Host),
			"use https, or --plain-http if the network between is yours")
	}
	return nil
}
