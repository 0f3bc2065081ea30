package main

import "github.com/hallmark-dev/hallmark/internal/trust"

// defaultRoot is the trust without --trusted-root: that of the public instance,
// as this binary has it built in. It is not brought up to date: what the suite
// tests is this program, not what the network says today.
func defaultRoot(staging bool) (*trust.Root, error) {
	if staging {
		return nil, errStaging
	}
	document, _, _ := trust.EmbeddedPublicGood()
	return trust.ParseTrustedRoot(document)
}
