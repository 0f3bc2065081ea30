//go:build tools

// Package tools pins an S3 server, Versity's gateway in front of a folder, for the tests of
// a log in a bucket.
package tools

import (
	_ "github.com/versity/versitygw/cmd/versitygw"
)
