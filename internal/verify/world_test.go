package verify_test

import (
	"crypto/sha512"
	"encoding/hex"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// world is a forged Sigstore and the test that judges its claims.
type world struct {
	*forge.World
	t testing.TB
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{forge.New(forge.Options{}), t}
}

func must[T any](v T, err error) T { return forge.Must(v, err) }

// files is the world's artifact as a file: with all of its digests.
func files() verify.Artifact {
	artifact := forge.Artifact
	sum384, sum512 := sha512.Sum384(artifact), sha512.Sum512(artifact)
	return verify.Artifact{Content: artifact, Digests: []evidence.Digest{evidence.SHA256(artifact),
		evidence.Digest("sha384:" + hex.EncodeToString(sum384[:])), evidence.Digest("sha512:" + hex.EncodeToString(sum512[:]))}}
}

// under believes one trust root.
func under(root *trust.Root) verify.Config { return verify.Config{Roots: []*trust.Root{root}} }

// judge judges a claim about the world's artifact.
func (w *world) judge(c *evidence.Claim, cfg verify.Config) (*verify.Verified, string) {
	w.t.Helper()
	if len(cfg.Roots) == 0 {
		cfg.Roots = under(w.Root).Roots
	}
	v, err := verify.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ok, reasons := v.Claim(c, files())
	if (ok == nil) == (len(reasons) == 0) {
		w.t.Fatalf("verified %v and reasons %v", ok, reasons)
	}
	if ok == nil {
		return nil, reasons[0].String()
	}
	return ok, ""
}
