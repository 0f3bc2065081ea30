//go:build tools

// Package tools pins cosign, the peer that the interoperability tests and the
// benchmarks run. It has a module of its own so that the versions that cosign
// was released with are the versions it is built with.
package tools

import _ "github.com/sigstore/cosign/v3/cmd/cosign"
