package plugin

var (
	CheckSignature = checkSignature
	Decode         = decode
)
