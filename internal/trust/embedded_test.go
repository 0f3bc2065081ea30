package trust_test

import (
	"os"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// The embedded trusted root is the very target that the public instance's TUF
// targets role signed, and nothing beside it.
func TestEmbeddedPublicGoodIsSigned(t *testing.T) {
	t.Parallel()
	root, err := metadata.Root().FromBytes(trust.PublicGood().Root)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("testdata/public-good-targets.json")
	if err != nil {
		t.Fatal(err)
	}
	targets, err := metadata.Targets().FromBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := root.VerifyDelegate(metadata.TARGETS, targets); err != nil {
		t.Fatal(err)
	}
	document, of, stale := trust.EmbeddedPublicGood()
	if err := targets.Signed.Targets["trusted_root.json"].VerifyLengthHashes(document); err != nil {
		t.Error(err)
	}
	parsed, err := trust.ParseTrustedRoot(document)
	if err != nil {
		t.Fatal(err)
	}
	if len(parsed.TLogs) != 2 || len(parsed.CTLogs) != 2 || len(parsed.CAs) != 2 || len(parsed.TSAs) != 1 {
		t.Errorf("%d logs, %d CT logs, %d CAs, %d TSAs", len(parsed.TLogs), len(parsed.CTLogs), len(parsed.CAs), len(parsed.TSAs))
	}
	if stale.Sub(of) > 366*24*time.Hour || !stale.After(of) {
		t.Errorf("of %s, stale after %s", of, stale)
	}
	document[len(document)/2] ^= 1 // a caller's copy
	if again, _, _ := trust.EmbeddedPublicGood(); targets.Signed.Targets["trusted_root.json"].VerifyLengthHashes(again) != nil {
		t.Error("a caller changed the embedded root")
	}
}
