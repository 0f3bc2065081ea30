package ledger

// Hashed is a map whose shards a test wrote.
func (m *Map) Hashed() *Map {
	m.hash()
	return m
}
