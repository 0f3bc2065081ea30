package policybundle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// annotationImport is how a manifest names the bundle that fills a folder.
const annotationImport = "dev.hallmark.policy.import/"

// maxImports bounds the bundles that one bundle is made of.
const maxImports = 32

// Import is another bundle, whose files fill a folder of this one. Policies import them as
// files, data.lib.base.names of lib/base/names.rego, so nothing is fetched when one is
// evaluated, and any engine that reads folders can.
type Import struct {
	Repository string // HOST/REPOSITORY
	Version    string
	Digest     evidence.Digest
}

// String is the reference by version and digest.
func (i Import) String() string {
	return i.Repository + ":" + i.Version + "@" + string(i.Digest)
}

// addImport takes the record of a bundle that was pulled into a folder.
func (b *Bundle) addImport(root *os.Root, name string) error {
	data, err := readFile(root, name, maxRecord)
	if err != nil {
		return err
	}
	r, err := parseRecord(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(b.Imports) == maxImports {
		return fmt.Errorf("more than %d bundles are imported", maxImports)
	}
	folder := path.Dir(name)
	for at := path.Dir(folder); at != "."; at = path.Dir(at) {
		if _, inside := b.Imports[at]; inside {
			return fault.Hint(fault.Usagef("%s: the folder lies in that of another import", folder),
				"what imports others is no import: pull those into folders of this policy")
		}
	}
	b.Imports[folder] = Import{r.Repository, r.Version, r.Digest}
	return nil
}

// parseImports reads the annotations of a manifest.
func (b *Bundle) parseImports(annotations map[string]string) error {
	for key, value := range annotations {
		folder, ok := strings.CutPrefix(key, annotationImport)
		if !ok {
			continue
		}
		ref, err := registry.ParseRef(value)
		if err != nil || ref.Scheme != registry.SchemeRegistry || ref.Digest == "" {
			return fmt.Errorf("the import %s is no reference by digest", clip(folder))
		}
		i := Import{ref.Name(), ref.Tag, ref.Digest}
		if v, err := CheckVersion(ref.Tag); err != nil || v != ref.Tag || i.String() != value {
			return fmt.Errorf("the import %s is no reference by version and digest", clip(folder))
		}
		if err := checkName(folder); err != nil {
			return err
		}
		b.Imports[folder] = i
	}
	if len(b.Imports) > maxImports {
		return fmt.Errorf("more than %d bundles are imported", maxImports)
	}
	return nil
}

// checkFolders demands that imports fill folders of the bundle, none of them in another's.
func (b *Bundle) checkFolders(entries []Entry) error {
	for folder := range b.Imports {
		if !slices.ContainsFunc(entries, func(e Entry) bool { return strings.HasPrefix(e.Name, folder+"/") }) {
			return fmt.Errorf("no file is in %s, which is imported", clip(folder))
		}
		for at := path.Dir(folder); at != "."; at = path.Dir(at) {
			if _, inside := b.Imports[at]; inside {
				return fmt.Errorf("the import %s lies in that of another", clip(folder))
			}
		}
	}
	return nil
}

// CheckImports demands that each folder that is filled by another bundle holds exactly that
// one's files: somebody who changed one of them publishes under the other's name else.
func (b *Bundle) CheckImports(ctx context.Context, open func(context.Context, registry.Ref) (*registry.Repository, error)) error {
	for _, folder := range slices.Sorted(maps.Keys(b.Imports)) {
		if err := b.checkImport(ctx, folder, open); err != nil {
			return fmt.Errorf("%s, imported of %s: %w", folder, b.Imports[folder], err)
		}
	}
	return nil
}

func (b *Bundle) checkImport(ctx context.Context, folder string, open func(context.Context, registry.Ref) (*registry.Repository, error)) error {
	ref, err := registry.ParseRef(b.Imports[folder].String())
	if err != nil {
		return err
	}
	repo, err := open(ctx, ref)
	if err != nil {
		return err
	}
	desc, err := repo.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	other, entries, err := fetchManifest(ctx, repo, desc)
	if err != nil {
		return err
	}
	if len(other.Imports) > 0 {
		return fault.Hint(fault.Usagef("it imports other bundles itself, and its imports name folders that are not these"),
			"pull those into the folders of this policy that their imports name")
	}
	wanted := map[string]digest.Digest{}
	for _, e := range entries {
		wanted[path.Join(folder, e.Name)] = e.Desc.Digest
	}
	hint := fmt.Sprintf("hallmark policy pull %s %s writes it as it was published", b.Imports[folder], folder)
	for name, data := range b.Files {
		if !strings.HasPrefix(name, folder+"/") {
			continue
		}
		if wanted[name] != digest.Digest(evidence.SHA256(data)) {
			return fault.Hint(fault.Usagef("%s is not the file that was published there", name), "%s", hint)
		}
		delete(wanted, name)
	}
	if len(wanted) > 0 {
		return fault.Hint(fault.Usagef("%s is missing", slices.Sorted(maps.Keys(wanted))[0]), "%s", hint)
	}
	return nil
}

// Resolve is what a reference names, nil when nothing is there.
func Resolve(ctx context.Context, repo *registry.Repository, ref registry.Ref) (*ocispec.Descriptor, error) {
	desc, err := repo.Resolve(ctx, ref)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil
	}
	return &desc, err
}
