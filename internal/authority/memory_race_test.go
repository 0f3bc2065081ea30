//go:build race

package authority_test

// detector is how many times the memory is that the race detector needs beside ours
// (its documentation: 5 to 10).
const detector = 10
