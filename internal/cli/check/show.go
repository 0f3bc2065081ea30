package check

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// ShowAnswer is what `hallmark show --json` prints: one object. Nothing in it is
// verified. docs/json.md, "show", says the same.
type ShowAnswer struct {
	Image    string `json:"image"`    // the reference as it was understood, in full
	Verified bool   `json:"verified"` // always false: show verifies nothing
	showNode
}

// showNode is one manifest and what hangs on it.
type showNode struct {
	Ref           string           `json:"ref"`                     // host/repo@sha256:…, to fetch this very thing
	Digest        evidence.Digest  `json:"digest,omitempty"`        // of the manifest
	How           string           `json:"how,omitempty"`           // where it was listed: referrers-api, referrers-tag, legacy-tag, layout
	Format        string           `json:"format"`                  // image, index, buildkit-attestation, sigstore-bundle-v0.3, notary-signature, …
	MediaType     string           `json:"mediaType,omitempty"`     // of the manifest
	ArtifactType  string           `json:"artifactType,omitempty"`  // as the manifest says
	PredicateType string           `json:"predicateType,omitempty"` // as annotated
	Platform      string           `json:"platform,omitempty"`      // linux/arm64/v8
	About         string           `json:"about,omitempty"`         // digest of the image that a BuildKit attestation manifest names
	Created       *time.Time       `json:"created,omitempty"`       // as annotated
	Size          int64            `json:"size"`                    // bytes of what the manifest lists: layers, or manifests
	ClaimedSigner *evidence.Signer `json:"claimedSigner,omitempty"` // identity and issuer, or key: as claimed, not verified
	LogIndex      *int64           `json:"claimedLogIndex,omitempty"`
	Statements    []showStatement  `json:"statements,omitempty"` // unsigned in-toto statements of an attestation manifest
	Note          string           `json:"note,omitempty"`       // why it is not read as a signature
	Error         string           `json:"error,omitempty"`      // why it could not be read
	Attached      []showNode       `json:"attached,omitempty"`   // its referrers
	Manifests     []showNode       `json:"manifests,omitempty"`  // of an index
}

type showStatement struct {
	PredicateType string `json:"predicateType"`
	Digest        string `json:"digest"` // of the blob that holds it
	Size          int64  `json:"size"`
}

type showOptions struct {
	asJSON   bool
	platform string
}

// Show is the command show.
func (a *Commands) Show() *cobra.Command {
	var o showOptions
	c := &cobra.Command{
		Use:   "show IMAGE",
		Short: "Show everything that is attached to an image",
		Long: `Show a tree of everything that is attached to an image: signatures,
attestations and what is attached to those, for an index also its images and
BuildKit's attestation manifests, each with its own reference.

Nothing is verified: signers and times are what each thing claims.`,
		Example: `  hallmark show 127.0.0.1:8420/app:1.0
  hallmark show 127.0.0.1:8420/app:1.0 --json
  hallmark show oci:layout:1.0`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error { return a.show(c.Context(), argv[0], o) },
	}
	c.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object")
	c.Flags().StringVar(&o.platform, "platform", "", "only this image of an index, as `OS/ARCH[/VARIANT]`")
	return c
}

func (a *Commands) show(ctx context.Context, image string, o showOptions) error {
	ref, err := registry.ParseRef(image)
	if err != nil {
		return err
	}
	repo, err := a.RegistryClient().Open(ctx, ref)
	if err != nil {
		return err
	}
	desc, err := repo.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	tree, err := collect.Tree(ctx, repo, desc, o.platform, collect.Options{})
	if err != nil {
		return err
	}
	answer := ShowAnswer{Image: ref.String(), showNode: newShowNode(tree)}
	if o.asJSON {
		return a.PrintJSON(answer)
	}
	a.printTree(answer)
	return nil
}

func newShowNode(n *collect.Node) showNode {
	s := showNode{
		Ref: n.Where.Ref, Digest: n.Where.Digest, How: n.Where.How, Format: n.Format,
		MediaType: n.Manifest.MediaType, ArtifactType: n.ArtifactType, PredicateType: n.PredicateType,
		Platform: n.Platform, About: n.About, Size: n.Size, Note: n.Note,
	}
	if !n.Created.IsZero() {
		s.Created = &n.Created
	}
	if n.Err != nil {
		s.Error = cli.OneLine(n.Err.Error())
	}
	if n.Claim != nil {
		s.addClaim(n.Claim)
	}
	for _, st := range n.Statements {
		s.Statements = append(s.Statements, showStatement{st.PredicateType, st.Layer.Digest.String(), st.Layer.Size})
	}
	for _, m := range n.Manifests {
		s.Manifests = append(s.Manifests, newShowNode(m))
	}
	for _, m := range n.Attached {
		s.Attached = append(s.Attached, newShowNode(m))
	}
	return s
}

func (s *showNode) addClaim(c *evidence.Claim) {
	signer, err := collect.ClaimedSigner(c)
	if err != nil {
		s.Error = cli.OneLine(err.Error())
	} else {
		s.ClaimedSigner = &signer
	}
	if len(c.LogEntries) > 0 {
		s.LogIndex = &c.LogEntries[0].LogIndex
	}
}

func (a *Commands) printTree(answer ShowAnswer) {
	a.Print("%s", cli.Plain(answer.Image))
	if answer.empty() {
		a.printNode(answer.showNode, "")
		a.Print("nothing is attached")
		return
	}
	a.Print("Nothing below is verified: signers and times are claims. hallmark verify checks them.")
	a.printNode(answer.showNode, "")
	a.printBranches(answer.showNode, "")
}

// empty reports whether neither the node nor any manifest below it has anything attached.
func (s *showNode) empty() bool {
	for _, m := range s.Manifests {
		if !m.empty() || len(m.Statements) > 0 {
			return false
		}
	}
	return len(s.Attached) == 0
}

func (a *Commands) printBranches(s showNode, indent string) {
	below := append(append([]showNode{}, s.Attached...), s.Manifests...)
	for i, child := range below {
		branch, deeper := "├─ ", "│  "
		if i == len(below)-1 {
			branch, deeper = "└─ ", "   "
		}
		a.Print("%s%s%s", indent, branch, child.headline())
		a.printNode(child, indent+deeper)
		a.printBranches(child, indent+deeper)
	}
}

// signatures are the formats that hold nothing but signatures, and say no type.
var signatures = []evidence.Format{evidence.FormatCosignSignature, evidence.FormatNotaryJWS, evidence.FormatNotaryCOSE}

// headline says what a node is.
func (s *showNode) headline() string {
	head := s.Format
	switch {
	case s.Platform != "":
		head = s.Platform + " " + head
	case s.Format == collect.FormatOther && s.ArtifactType != "":
		head = s.ArtifactType
	}
	switch s.PredicateType {
	case "":
		if slices.Contains(signatures, evidence.Format(s.Format)) {
			head = "signature (" + head + ")"
		}
	case evidence.PredicateSign:
		head = "signature (" + head + ")"
	default:
		head = "attestation " + s.PredicateType + " (" + head + ")"
	}
	return cli.Plain(head)
}

// printNode prints the lines below a headline.
func (a *Commands) printNode(s showNode, indent string) {
	a.Print("%s%s", indent, cli.Plain(s.Ref))
	size := cli.ReadableSize(s.Size)
	if s.Created != nil {
		size = s.Created.Format(time.RFC3339) + ", " + size
	}
	a.Print("%s%s", indent, size)
	if s.ClaimedSigner != nil {
		signer := s.ClaimedSigner.String()
		if s.ClaimedSigner.Identity == "" && s.ClaimedSigner.Key == "" && s.ClaimedSigner.Subject == "" {
			signer = "nobody named"
		}
		a.Print("%ssigner claimed, not verified: %s", indent, cli.Plain(signer))
	}
	if s.About != "" {
		a.Print("%sabout %s", indent, cli.Plain(s.About))
	}
	for _, st := range s.Statements {
		a.Print("%sunsigned %s %s, %s", indent, cmp.Or(attestation.KindOf(st.PredicateType), "statement"), cli.Plain(st.PredicateType), cli.ReadableSize(st.Size))
	}
	if s.Note != "" {
		a.Print("%snote: %s", indent, cli.Plain(s.Note))
	}
	if s.Error != "" {
		a.Print("%scannot be read: %s", indent, cli.Plain(s.Error))
	}
}
