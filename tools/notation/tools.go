//go:build tools

// Package tools pins notation, the Notary Project's command, a peer that the
// interoperability tests run.
package tools

import _ "github.com/notaryproject/notation/cmd/notation"
