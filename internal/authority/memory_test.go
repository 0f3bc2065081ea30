//go:build !race

package authority_test

const detector = 1
