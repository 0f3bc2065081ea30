package witness

// FailWrites has a server's next writes of its state fail: a disk that is full.
func (s *Server) FailWrites(err error) {
	old := s.write
	s.write = func(path string, data []byte) error {
		if err != nil {
			return err
		}
		return old(path, data)
	}
}

// ParseRequest is for fuzzing.
func ParseRequest(body []byte) ([]byte, error) {
	r, err := parseRequest(body)
	if err != nil {
		return nil, err
	}
	return r.encode(), nil
}
