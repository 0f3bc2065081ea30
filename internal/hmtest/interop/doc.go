// Package interop holds only tests: stock tools against our authority, registry
// and signatures.
package interop
