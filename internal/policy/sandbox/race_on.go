//go:build race

package sandbox

// raceFactor is how many times memory is doubled: the race detector has a shadow of all.
const raceFactor = 12
