package registry

import (
	"testing"
)

// FuzzFallbackIndex feeds the fallback tag's index, which anybody with push
// rights can write, to the reader and the merge.
func FuzzFallbackIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"a/b","digest":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","size":3}]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[null,1,{},{"digest":"sha256:1","size":-1}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		index, err := parseFallback(data)
		if err != nil {
			return
		}
		before := len(index.entries())
		if list := index.referrers(); len(list) < before && len(list) <= MaxReferrers {
			t.Fatalf("%d entries, %d listed", before, len(list))
		}
		own := Describe("a/b", data)
		known, order := ownEntry(own)
		index.merge(known, &order)
		if len(index.entries()) < before {
			t.Fatal("merging lost entries")
		}
		if _, ok := index.entries()[own.Digest]; !ok {
			t.Fatal("the own entry is not there")
		}
		if index.merge(known, &order) {
			t.Fatal("a second merge found something lacking")
		}
	})
}
