package sign

// What fuzz targets call.
var (
	ReadTimestamp     = readTimestamp
	ReadLogEntry      = readLogEntry
	ParseCertificates = parseCertificates
)
