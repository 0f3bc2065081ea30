package registry

// Internals that the tests look at from outside.
var (
	CheckName     = checkName
	ValidTag      = validTag
	ParseManifest = parseManifest
)
