package strictjson

// HasNull reports whether a text that was read has a null anywhere, which [Unmarshal] reads into
// pointers as if the member were not there: formats in which one document has one spelling
// refuse it.
func HasNull(data []byte) bool {
	inString := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			inString = !inString
		case c == '\\':
			i++ // only in strings
		case c == 'n' && !inString:
			return true
		}
	}
	return false
}
