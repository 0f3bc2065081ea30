package collect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Limits of a file with several bundles.
const (
	maxFile        = 256 << 20 // bytes
	maxFileBundles = 1000
)

// File reads a bundle file of at most 64 MiB.
func File(path string) (*Item, error) {
	limit := Options{}.withDefaults().MaxBundle
	data, err := readFile(path, limit)
	if err != nil {
		return nil, err
	}
	it := fileItem(path, data)
	if it.Err != nil {
		return nil, malformed("bundle %s: %w", path, it.Err)
	}
	return &it, nil
}

// Files reads a file that holds one bundle or several: a bundle, the answer of
// GitHub's attestations API ({"attestations":[{"bundle":…}]}), or a bundle on
// each line, as gh attestation download writes it. A bundle that cannot be read
// is an item with an Err and does not stand in the way of the others; an error
// means that the file holds none.
func Files(path string) ([]Item, error) {
	data, err := readFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	texts, err := bundleTexts(data)
	if err != nil {
		return nil, malformed("%s: %w", path, err)
	}
	var items []Item
	for i, text := range texts {
		if i == maxFileBundles {
			items = append(items, Item{Where: evidence.Location{How: "file", Ref: path}, Format: FormatBundle,
				Err: malformed("%d of its %d bundles were not read: at most %d are", len(texts)-i, len(texts), maxFileBundles)})
			break
		}
		it := fileItem(path, text)
		if len(texts) > 1 {
			it.Where.Ref = fmt.Sprintf("%s#%d", path, i+1)
		}
		items = append(items, it)
	}
	return items, nil
}

// bundleTexts are the bundles of a file, in order, each unread. Neither lines
// nor lists are signed, but a text that reads in two ways is refused all the same.
func bundleTexts(data []byte) ([][]byte, error) {
	var lines [][]byte
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			lines = append(lines, line)
		}
	}
	switch {
	case len(lines) == 0:
		return nil, errors.New("it is empty")
	case len(lines) > 1 && isObject(lines[0]):
		return lines, nil
	}
	var document map[string]json.RawMessage
	if err := strictjson.Unmarshal(data, &document); err != nil {
		return [][]byte{data}, nil // the bundle's own reader says what is wrong
	}
	list, ok := document["attestations"]
	if !ok {
		return [][]byte{data}, nil
	}
	var entries []map[string]json.RawMessage
	if err := strictjson.Unmarshal(list, &entries); err != nil {
		return nil, fmt.Errorf("attestations: %w", err)
	}
	var texts [][]byte
	for i, e := range entries {
		text, ok := e["bundle"]
		if !ok || string(text) == "null" {
			return nil, fmt.Errorf("attestations[%d]: it has no bundle; GitHub may have given only its address (bundle_url)", i)
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return nil, errors.New("it has no attestations")
	}
	return texts, nil
}

// isObject reports whether a line is one whole JSON object.
func isObject(line []byte) bool {
	return line[0] == '{' && strictjson.Valid(line, strictjson.MaxDepth) == nil
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, malformed("bundle %s is larger than %d bytes", path, limit)
	}
	return data, nil
}

func fileItem(path string, data []byte) Item {
	it := Item{
		Where:  evidence.Location{How: "file", Ref: path, Digest: evidence.SHA256(data), Size: int64(len(data))},
		Format: FormatBundle,
		Size:   int64(len(data)),
	}
	if limit := (Options{}).withDefaults().MaxBundle; it.Size > limit {
		it.Err = malformed("a bundle of %d bytes; at most %d are read", it.Size, limit)
		return it
	}
	claim, err := bundle.Parse(data)
	if err != nil {
		it.Err = &MalformedError{Err: err}
		return it
	}
	it.Claim, it.Format = claim, string(claim.Format)
	return it
}
