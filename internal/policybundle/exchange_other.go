//go:build !linux

package policybundle

// exchange gives next the name of dir.
func exchange(next, dir string) error { return replace(next, dir) }
