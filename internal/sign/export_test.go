package sign

// What fuzz targets call.
var (
	ReadTimestamp     = readTimestamp
	ReadLogEntry      = readLogEntry
	ParseCertificates = parseCertificates
)

// Discard reads the bundle to its end.
func (s *Signed) Discard() error {
	_, err := s.describe()
	return err
}
