//go:build tools

// Package tools pins Sigstore's own half of its protocol for KMS plugins: its client's
// tests, which are run against our plugin, and its handler, of which the plugin below is
// made that our client is tested with.
package tools

import (
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/google/go-cmp/cmp/cmpopts"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/cliplugin"
)
