package interop_test

import (
	"encoding/hex"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/policy/clusterimage"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// TestTrustRootIsTheTrustedRoot: the TrustRoot that up writes for admission
// holds the same keys as its trusted_root.json.
func TestTrustRootIsTheTrustedRoot(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	data, err := os.ReadFile(r.TrustedRoot)
	if err != nil {
		t.Fatal(err)
	}
	want, err := trust.ParseTrustedRoot(data)
	if err != nil {
		t.Fatal(err)
	}
	yaml, err := os.ReadFile(r.Info.TrustRoot)
	if err != nil {
		t.Fatal(err)
	}
	policy := []byte(`apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {name: p}
spec:
  images: [{glob: "**"}]
  authorities: [{keyless: {trustRootRef: hallmark, identities: [{issuer: "http://a", subject: b}]}}]
`)
	set, err := clusterimage.Parse([]clusterimage.File{{Name: "r.yaml", Data: yaml}, {Name: "p.yaml", Data: policy}}, clusterimage.Compilers{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := set.TrustRoots["hallmark"].Resolve(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := func(r *trust.Root) (out []string) {
		for _, list := range [][]trust.Authority{r.CAs, r.TSAs} {
			for _, a := range list {
				out = append(out, a.URI)
				for _, c := range append(slices.Clone(a.Intermediates), a.Leaf, a.Anchor) {
					if c != nil {
						out = append(out, c.Subject.String(), evidence.SHA256(c.Raw).Hex())
					}
				}
			}
		}
		for _, list := range [][]trust.LogKey{r.TLogs, r.CTLogs} {
			for _, l := range list {
				out = append(out, l.BaseURL, l.Origin, hex.EncodeToString(l.ID))
			}
		}
		return out
	}
	if diff := cmp.Diff(keys(want), keys(got)); diff != "" || len(keys(got)) < 10 {
		t.Error(diff)
	}
}
