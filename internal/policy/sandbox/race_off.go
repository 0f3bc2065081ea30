//go:build !race

package sandbox

// raceFactor is how many times memory is doubled.
const raceFactor = 0
