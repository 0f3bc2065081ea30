package trusted

import (
	"encoding/json"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Facts are what provenance says of a trusted build beside what BuildKit knows: at
// buildDefinition.internalParameters["hallmark:trusted-build"]. They are told to the
// daemon before it starts, not asked of it.
type Facts struct {
	Hallmark    string          `json:"hallmark"` // version
	BuilderFile evidence.Digest `json:"builderFile"`
	Tools       []Tool          `json:"tools"`
	Frontend    string          `json:"frontend"`          // image by digest, or "dockerfile.v0"
	Syntax      string          `json:"syntax,omitempty"`  // release that the Dockerfile asks for by its tag, and Frontend is
	Scanner     string          `json:"scanner,omitempty"` // image by digest
	Signed      []SignedTool    `json:"signed,omitempty"`  // those of the two that were believed for a signature
	Network     string          `json:"network"`           // of steps: NetworkHost or NetworkNone
	CI          *Claims         `json:"ci,omitempty"`      // of the certificate, nil when no job signs
	Cache       *CacheEntry     `json:"cache,omitempty"`   // that the build could take steps from
}

// CacheEntry is what an earlier build left (package cache).
type CacheEntry struct {
	Repository string          `json:"repository"` // of caches: host/path
	Digest     evidence.Digest `json:"digest"`     // of its manifest
	Ref        string          `json:"ref"`        // that it was made of
	Commit     string          `json:"commit"`
}

// Values of Facts.Network.
const (
	NetworkHost = "host" // that of the machine
	NetworkNone = "none"
)

// FactsKey is their name in the provenance.
const FactsKey = "hallmark:trusted-build"

// JSON is the object that the daemon adds to the provenance's internal parameters.
func (f Facts) JSON() ([]byte, error) { return json.Marshal(map[string]Facts{FactsKey: f}) }
