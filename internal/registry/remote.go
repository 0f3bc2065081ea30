package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// remoteBackend is a repository behind the distribution API.
type remoteBackend struct {
	client *Client
	repo   *remote.Repository
	name   string // host/repository
	host   string // what is connected to; registry-1.docker.io for docker.io
}

var _ backend = (*remoteBackend)(nil)

func (b *remoteBackend) voice() string { return "the registry sent" }

func (b *remoteBackend) resolve(ctx context.Context, ref Ref) (ocispec.Descriptor, error) {
	name := ref.short()
	desc, err := b.repo.Manifests().Resolve(ctx, name)
	if err == nil || answered(err) {
		return desc, err
	}
	// The registry answered HEAD without digest or length: ask for the manifest itself.
	desc, data, err := b.getManifest(ctx, name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return Describe(desc.MediaType, data), nil
}

// answered reports whether asking again in another way is pointless.
func answered(err error) bool {
	var status *errcode.ErrorResponse
	var network *url.Error
	return errors.Is(err, errdef.ErrNotFound) || errors.As(err, &status) || errors.As(err, &network) || errors.Is(err, context.Canceled)
}

// getManifest fetches whatever a tag or digest names, at most MaxManifest bytes.
func (b *remoteBackend) getManifest(ctx context.Context, name string) (ocispec.Descriptor, []byte, error) {
	desc, rc, err := b.repo.Manifests().FetchReference(ctx, name)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, MaxManifest+1))
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	if len(data) > MaxManifest {
		return ocispec.Descriptor{}, nil, errors.New("the manifest is larger than 4 MiB")
	}
	return desc, data, nil
}

func (b *remoteBackend) openManifest(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.MediaType != "" {
		rc, err := b.repo.Manifests().Fetch(ctx, desc)
		if err == nil || answered(err) {
			return rc, err
		}
		// The listing that the descriptor is from names another media type or size
		// than the registry now does. The bytes decide.
	}
	_, rc, err := b.repo.Manifests().FetchReference(ctx, desc.Digest.String())
	return rc, err
}

func (b *remoteBackend) openBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return b.repo.Blobs().Fetch(ctx, desc)
}

func (b *remoteBackend) pushBlob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if b.client.knowsBlob(b.name, desc) {
		return nil
	}
	if err := b.repo.Blobs().Push(ctx, desc, r); err != nil {
		return err
	}
	b.client.rememberBlob(b.name, desc)
	return nil
}

func (b *remoteBackend) pushManifest(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) error {
	if tag == "" {
		tag = desc.Digest.String()
	}
	return b.repo.Manifests().PushReference(ctx, desc, bytes.NewReader(data), tag)
}

func (b *remoteBackend) deleteManifest(ctx context.Context, desc ocispec.Descriptor) error {
	return b.repo.Manifests().Delete(ctx, desc)
}

func (b *remoteBackend) tags(ctx context.Context) ([]string, error) {
	var all []string
	err := b.repo.Tags(ctx, "", func(page []string) error {
		all = append(all, page...)
		return nil
	})
	return all, err
}

// errEnough ends a listing that is longer than anybody reads.
var errEnough = errors.New("enough")

// errNoAPI says that the referrers API is not there.
var errNoAPI = errors.New("no referrers API")

// referrers asks the API, and the fallback tag where there is no API or where
// it lists nothing: registries that gained the API do not always list what was
// attached before (and an empty answer is rare and cheap to double-check). Where
// it lists something the tag is not read, so that a listing is one request: what
// only the tag lists counts as withheld by the registry (THREATS.md).
func (b *remoteBackend) referrers(ctx context.Context, subject ocispec.Descriptor) ([]Referrer, error) {
	if !b.client.lacksAPI(b.name) {
		list, err := b.referrersByAPI(ctx, subject)
		if err != nil && !errors.Is(err, errNoAPI) {
			return list, err
		}
		if len(list) > 0 {
			return list, nil
		}
	}
	index, err := b.getFallback(ctx, subject)
	if err != nil {
		return nil, err
	}
	return index.referrers(), nil
}

// referrersByAPI returns errNoAPI when the registry does not have it, and what
// was listed with a *TooManyReferrersError when the pages do not end: large
// annotations make small pages, and must not hide the rest.
func (b *remoteBackend) referrersByAPI(ctx context.Context, subject ocispec.Descriptor) ([]Referrer, error) {
	var list []Referrer
	err := b.repo.Referrers(ctx, subject, "", func(page []ocispec.Descriptor) error {
		for _, d := range page {
			if _, err := evidence.ParseDigest(d.Digest.String()); err != nil {
				continue // an entry that cannot be fetched
			}
			list = append(list, Referrer{Descriptor: d, How: HowAPI})
		}
		if len(list) > MaxReferrers {
			return errEnough
		}
		return nil
	})
	var status *errcode.ErrorResponse
	switch {
	case errors.Is(err, errEnough):
		return list, nil
	case errors.Is(err, errdef.ErrTooManyPages):
		return list, &TooManyReferrersError{Listed: len(list)}
	case errors.Is(err, errdef.ErrUnsupported):
		b.client.setLacksAPI(b.name)
		return nil, errNoAPI
	case errors.As(err, &status):
		switch status.StatusCode {
		case http.StatusNotFound: // with NAME_UNKNOWN: the repository is not there, perhaps yet
			return nil, errNoAPI
		case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
			b.client.setLacksAPI(b.name)
			return nil, errNoAPI
		}
	}
	return list, err
}
