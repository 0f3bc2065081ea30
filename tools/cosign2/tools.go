//go:build tools

// Package tools pins cosign 2, the older client that the tests of the Rekor v1
// log run. It needs a module of its own because cosign 2 and 3 want different
// versions of what they share.
package tools

import _ "github.com/sigstore/cosign/v2/cmd/cosign"
