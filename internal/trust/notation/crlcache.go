package notation

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/strictjson"
	"github.com/hallmark-dev/hallmark/internal/trust/revocation"
)

// cachedCRL is a file of notation's cache.
type cachedCRL struct {
	Base  []byte `json:"baseCRL" strict:"required"`
	Delta []byte `json:"deltaCRL"`
}

// ReadCRLCache reads the CRLs that notation has fetched (~/.cache/notation/crl), in
// DER. A CRL that notation completes with a delta is left out: alone it would say
// good of what the delta revokes.
func ReadCRLCache(dir string) ([][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		data, err := readRegular(path, 2*revocation.MaxCRL)
		if err != nil {
			return nil, err
		}
		var c cachedCRL
		if err := strictjson.Unmarshal(data, &c); err != nil {
			return nil, fmt.Errorf("%s is no CRL of notation's cache: %w", path, err)
		}
		if len(c.Delta) == 0 {
			out = append(out, c.Base)
		}
	}
	return out, nil
}
