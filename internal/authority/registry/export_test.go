package registry

// Internals that the tests look at from outside.
var (
	CheckName     = checkName
	ValidTag      = validTag
	ParseManifest = parseManifest
)

// MaxUploads is how many uploads are remembered at once.
const MaxUploads = maxUploads
