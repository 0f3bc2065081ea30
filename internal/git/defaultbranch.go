package git

import "context"

// DefaultBranch is the full name of the default branch, refs/heads/…, as the repository
// says now.
func (s *Source) DefaultBranch(ctx context.Context) (string, error) { return s.run.head(ctx) }
