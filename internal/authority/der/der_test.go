package der_test

import (
	"bytes"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/der"
)

// TestLikeTheStandardLibrary: at every length that is encoded in another way.
func TestLikeTheStandardLibrary(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 127, 128, 255, 256, 1<<16 - 1, 1 << 16, 1<<24 - 1, 1 << 24} {
		content := make([]byte, n)
		want, err := asn1.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		if got := der.Element(der.OctetString, content[:n/2], nil, content[n/2:]); !bytes.Equal(got, want) {
			t.Errorf("%d bytes begin with %x, want %x", n, got[:min(8, len(got))], want[:min(8, len(want))])
		}
	}
	for _, text := range []string{"0", "1", "127", "128", "255", "256", "170141183460469231731687303715884105727", "170141183460469231731687303715884105728"} {
		n, _ := new(big.Int).SetString(text, 10)
		want, err := asn1.Marshal(n)
		if got := der.Natural(n); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x, %v", text, got, want, err)
		}
	}
	zone := time.FixedZone("", 3600)
	for _, at := range []time.Time{
		time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2049, 12, 31, 23, 59, 59, 999, time.UTC),
		time.Date(2050, 1, 1, 0, 30, 0, 0, zone), time.Date(2050, 1, 1, 1, 0, 0, 0, zone), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	} {
		want, err := asn1.Marshal(at.UTC())
		if got := der.Time(at); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, want %q, %v", at, got, want, err)
		}
		want, err = asn1.MarshalWithParams(at.UTC(), "generalized")
		if got := der.Generalized(at); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, want %q, %v", at, got, want, err)
		}
	}
	oid := asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	want, err := asn1.Marshal(struct{ ID asn1.ObjectIdentifier }{oid})
	if got, gerr := der.Algorithm(oid); err != nil || gerr != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if _, err := der.Algorithm(asn1.ObjectIdentifier{9, 9}); err == nil {
		t.Error("took an object identifier that there is not")
	}
	if der.Context(3, true) != 0xa3 || der.Context(6, false) != 0x86 {
		t.Error("context tags")
	}
}
