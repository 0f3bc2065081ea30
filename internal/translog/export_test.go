package translog

// CheckBundle is for fuzzing: what a bundle of w entries holds, unverified.
func CheckBundle(raw []byte, w int) ([][]byte, error) { return checkBundle(raw, w, nil) }
