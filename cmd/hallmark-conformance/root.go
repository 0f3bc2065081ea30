package main

import (
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// defaultRoot is the trust without --trusted-root.
func defaultRoot(staging bool) (*trust.Root, error) {
	if staging {
		return nil, errStaging
	}
	return nil, fault.Usagef("--trusted-root is missing")
}
