//go:build tools

// Package tools pins the services that make bench measures the authority beside.
package tools

import (
	_ "github.com/sigstore/fulcio"
	_ "github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix"
	_ "github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server"
)
