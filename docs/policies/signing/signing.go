// Package signing holds the ready signing policies, for those who start one, and examples
// beside them; docs/signing-policy-rules.md describes them.
package signing

import "embed"

// Ready are the folders of the ready policies.
//
//go:embed solo team strict open
var Ready embed.FS
