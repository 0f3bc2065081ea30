package index

import "context"

// OpenSmall opens an index whose segments cover 512 entries.
func OpenSmall(ctx context.Context, dir string) (*Index, error) { return open(ctx, dir, 512) }
