package admission_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/admission"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/policy/clusterimage"
	"github.com/hallmark-dev/hallmark/internal/policy/cuelang"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// cluster is an authority, its registry and the TrustRoot that leads to it.
type cluster struct {
	*hmtest.Running
	t    *testing.T
	root string // the TrustRoot document
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	r := hmtest.Authority(t)
	root, err := os.ReadFile(r.Info.TrustRoot)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{Running: r, t: t, root: string(root) + "\n---\n"}
}

func (c *cluster) signer(email string) *sign.Signer {
	c.t.Helper()
	token, err := idtoken.Parse(c.Token(email))
	if err != nil {
		c.t.Fatal(err)
	}
	data, err := os.ReadFile(c.SigningConfig)
	if err != nil {
		c.t.Fatal(err)
	}
	config, err := trust.ParseSigningConfig(data)
	if err != nil {
		c.t.Fatal(err)
	}
	s, err := sign.New(sign.Config{Services: sign.ServicesFrom(config, time.Now(), true), Token: token})
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *cluster) target(image string) sign.Target {
	c.t.Helper()
	ref, err := registry.ParseRef(image)
	if err != nil {
		c.t.Fatal(err)
	}
	repo, err := registry.NewClient(registry.Options{}).Open(c.t.Context(), ref)
	if err != nil {
		c.t.Fatal(err)
	}
	desc, err := repo.Resolve(c.t.Context(), ref)
	if err != nil {
		c.t.Fatal(err)
	}
	return sign.Target{Repo: repo, Desc: desc}
}

func (c *cluster) sign(image, email string) {
	c.t.Helper()
	at := c.target(image)
	st, err := sign.ImageStatement(at.Digest(), nil)
	if err == nil {
		_, err = c.signer(email).Attach(c.t.Context(), at, st)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) attest(image, email, predicateType, predicate string) {
	c.t.Helper()
	at := c.target(image)
	st, err := sign.AttestStatement("", at.Digest(), predicateType, []byte(predicate))
	if err == nil {
		_, err = c.signer(email).Attach(c.t.Context(), at, st)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// review judges a Pod with the images by the policies and the cluster's TrustRoot.
func (c *cluster) review(policies string, objects ...*admission.Object) []admission.Verdict {
	c.t.Helper()
	set, err := clusterimage.Parse([]clusterimage.File{{Name: "p.yaml", Data: []byte(c.root + policies)}}, clusterimage.Compilers{
		CUE: func(file string, text []byte) (clusterimage.StatementPolicy, error) {
			return cuelang.Compile(file, text)
		},
		Rego: func(file string, text []byte) (clusterimage.StatementPolicy, error) {
			return rego.CompileAttestation(map[string][]byte{file + ".rego": text}, rego.AttestationOptions{})
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	fetch := func(ctx context.Context, r clusterimage.Remote) ([]byte, error) {
		t := trust.TUF{Mirror: r.Mirror, Root: r.Root}
		got, err := t.Targets(ctx, r.Target)
		return got[r.Target], err
	}
	a, err := admission.New(admission.Config{Policies: set, Registry: registry.NewClient(registry.Options{}),
		Verifier: func(ctx context.Context, t clusterimage.Trust) (*verify.Verifier, error) {
			root, err := set.TrustRoots[t.Root].Resolve(ctx, fetch)
			if err != nil {
				return nil, err
			}
			return verify.New(verify.Config{Roots: []*trust.Root{root}})
		}})
	if err != nil {
		c.t.Fatal(err)
	}
	verdicts, err := a.Review(c.t.Context(), objects)
	if err != nil {
		c.t.Fatal(err)
	}
	return verdicts
}

func remoteRoot(mirror string, root []byte) string {
	return fmt.Sprintf("apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: hallmark}\nspec: {remote: {mirror: %q, root: %s}}\n---\n",
		mirror, base64.StdEncoding.EncodeToString(root))
}

func podOf(t *testing.T, images ...string) *admission.Object {
	t.Helper()
	text := "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n"
	for _, i := range images {
		text += "  - image: \"" + i + "\"\n"
	}
	objects, err := admission.ParseObjects("pod.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return objects[0]
}

// policyFor demands a signature by email, or with more attestations.
func (c *cluster) policyFor(email, more string) string {
	return fmt.Sprintf(`apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {name: image-policy}
spec:
  images: [{glob: "%s/knabben/**"}]
  authorities:
  - name: rita
    keyless: {trustRootRef: hallmark, identities: [{issuer: "%s", subject: %s}]}
%s`, c.Registry, c.Info.Issuer, email, more)
}

func first(v []admission.Verdict) string {
	if v[0].Images[0].Allowed {
		return ""
	}
	return v[0].Images[0].Reasons[0].String()
}

func TestReview(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	signed := strings.Split(c.Image("knabben/netshoot", "signed"), "@")
	unsigned := c.Image("knabben/test", "unsigned")
	c.sign(signed[0]+"@"+signed[1], "rita@example.org")
	rita := c.policyFor("rita@example.org", "")

	pod := podOf(t, signed[0]+":latest", signed[0]+":latest")
	v := c.review(rita, pod)
	pinned := signed[0] + ":latest@" + signed[1]
	if !v[0].Allowed || v[0].Images[1].Pinned != pinned || pod.Images[0].Ref() != pinned {
		t.Fatalf("%+v", v)
	}
	var b bytes.Buffer
	if err := admission.WriteYAML(&b, []*admission.Object{pod}); err != nil || strings.Count(b.String(), pinned) != 2 {
		t.Error(b.String(), err)
	}
	for name, tc := range map[string]struct{ policies, image, want string }{
		"pinned":          {rita, pinned, ""},
		"unsigned":        {rita, unsigned, "NO_SIGNATURES policy image-policy, authority rita: no signatures found"},
		"stranger":        {c.policyFor("eve@example.org", ""), pinned, "WRONG_IDENTITY policy image-policy, authority rita: signed by rita@example.org"},
		"no policy":       {rita, strings.Replace(c.Image("nicolaka/netshoot", "x"), "@", ":latest@", 1), "NO_MATCHING_POLICY no matching policies"},
		"unknown tag":     {rita, signed[0] + ":nosuch", "IMAGE_UNRESOLVED"},
		"unknown digest":  {rita, signed[0] + "@" + string(evidence.SHA256([]byte("x"))), "IMAGE_UNRESOLVED"},
		"bad image":       {rita, "Bad Image!!", "IMAGE_INVALID"},
		"layout":          {rita, "oci:/tmp/x", "IMAGE_INVALID"},
		"attested":        {c.policyFor("rita@example.org", "    attestations: [{name: sbom, predicateType: cyclonedx}]\n"), pinned, "NO_ATTESTATION"},
		"tag and nothing": {rita, signed[0], ""}, // :latest
	} {
		got := first(c.review(tc.policies, podOf(t, tc.image)))
		if tc.want == "" && got != "" || !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}

	// Attested content, in CUE and Rego.
	c.attest(pinned, "rita@example.org", evidence.PredicateCycloneDX, `{"specVersion":"1.4","metadata":{"tools":[{"name":"syft"}]}}`)
	for rule, want := range map[string]string{
		`{type: cue, data: "predicate: metadata: tools: [{name: \"syft\"}]"}`:                                            "",
		`{type: cue, data: "predicate: metadata: tools: [{name: \"trivy\"}]"}`:                                           `ATTESTATION_POLICY policy image-policy, authority rita: attestation sbom: predicate.metadata.tools.0.name: conflicting values "syft" and "trivy"`,
		`{type: cue, data: "predicate: specVersion: \"1.5\""}`:                                                           `ATTESTATION_POLICY policy image-policy, authority rita: attestation sbom: predicate.specVersion: conflicting values "1.4" and "1.5"`,
		`{type: cue, data: "predicate: nothing: \"x\""}`:                                                                 "ATTESTATION_POLICY policy image-policy, authority rita: attestation sbom: predicate.nothing: the policy wants this field",
		`{type: rego, data: "package sigstore\nisCompliant { input.predicate.specVersion == \"1.4\" }"}`:                 "",
		`{type: rego, data: "package sigstore\nisCompliant[r] { r := {\"result\": false, \"error\": \"want trivy\"} }"}`: "ATTESTATION_POLICY policy image-policy, authority rita: attestation sbom: want trivy",
	} {
		got := first(c.review(c.policyFor("rita@example.org", "    attestations: [{name: sbom, predicateType: cyclonedx, policy: "+rule+"}]\n"), podOf(t, pinned)))
		if want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", rule, got, want)
		}
	}

	// The same through TUF; and a TUF root that is not this authority's.
	keys := c.root
	rootJSON, err := os.ReadFile(filepath.Join(c.Dir, "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	c.root = remoteRoot(c.URL+"/tuf", rootJSON)
	if got := first(c.review(rita, podOf(t, pinned))); got != "" {
		t.Error("through TUF:", got)
	}
	c.root = remoteRoot(c.URL+"/tuf", bytes.Replace(rootJSON, []byte(`"sig":"`), []byte(`"sig":"00`), 1))
	if v := c.review(rita, podOf(t, pinned)); v[0].Allowed || v[0].Images[0].Err == nil {
		t.Errorf("a broken TUF root: %+v", v[0].Images[0])
	}
	c.root = keys

	// Two containers, one of them unsigned: each is answered, nothing is pinned.
	mixed := podOf(t, signed[0]+":latest", unsigned)
	if v := c.review(rita, mixed); v[0].Allowed || !v[0].Images[0].Allowed || v[0].Images[1].Allowed || mixed.Images[0].Ref() != signed[0]+":latest" {
		t.Errorf("%+v", v)
	}
	// Neither their order nor another object beside them changes that.
	turned, alone := podOf(t, unsigned, signed[0]+":latest"), podOf(t, signed[0]+":latest")
	v = c.review(rita, turned, alone)
	if v[0].Allowed || turned.Images[1].Ref() != signed[0]+":latest" || !v[1].Allowed || alone.Images[0].Ref() != pinned {
		t.Errorf("%+v", v)
	}

	// A registry that does not answer denies, and says that it is not known.
	c.Stop()
	v = c.review(rita, podOf(t, signed[0]+":latest"))
	one := v[0].Images[0]
	if v[0].Allowed || one.Err == nil || fault.KindOf(one.Err) != fault.Unreachable || one.Reasons[0].Code != "UNDECIDED" || !strings.Contains(one.Reasons[0].Message, c.Registry) {
		t.Errorf("%+v", one)
	}
}
