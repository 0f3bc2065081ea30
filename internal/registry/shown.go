package registry

import (
	"context"
	"errors"
	"net/http"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Shows reports whether a registry shows the manifest that ref names to the client:
// false when it wants a login, forbids it, or says that there is none. An error means
// that it said neither.
func (c *Client) Shows(ctx context.Context, ref Ref) (bool, error) {
	b := c.openRemote(ref)
	_, err := b.resolve(ctx, ref)
	var status *errcode.ErrorResponse
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, errdef.ErrNotFound), errors.Is(err, auth.ErrBasicCredentialNotFound):
		return false, nil
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden || status.StatusCode == http.StatusNotFound):
		return false, nil
	}
	return false, b.fail("ask for "+ref.String()+" without a login", err)
}
