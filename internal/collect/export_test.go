package collect

// WithMaxNodes is o for trees of at most n nodes.
func WithMaxNodes(o Options, n int) Options { o.maxNodes = n; return o }

// BundleTexts is for the fuzz target.
func BundleTexts(data []byte) ([][]byte, error) { return bundleTexts(data) }
