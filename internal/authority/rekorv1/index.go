package rekorv1

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sort"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// index finds entries by what is in their bodies: the digest of the artifact,
// payload or envelope, the signer's key or certificate, and the certificate's
// names. It is made of the entries when somebody searches, so nothing about it
// can be damaged; who searches first after a start waits for it (about 20 µs for
// each entry).
//
// It is sorted runs of fixed-size postings. A run is merged into the one before
// when it has grown to half of it, so there are few and each posting is moved a
// few times only.
type index struct {
	busy chan struct{} // a lock that can be waited for with a context
	done int64         // entries that are in runs
	runs [][]posting
}

// posting is that entry has a key: the first 96 bits of the key's SHA-256.
// Entries with the same 96 bits cannot be made by chance; who makes them on
// purpose makes a search name an entry too many.
type posting struct{ key0, key1, key2, entry uint32 }

func newIndex() *index { return &index{busy: make(chan struct{}, 1)} }

func compare(a, b posting) int {
	for _, d := range [...]int64{
		int64(a.key0) - int64(b.key0), int64(a.key1) - int64(b.key1),
		int64(a.key2) - int64(b.key2), int64(a.entry) - int64(b.entry),
	} {
		if d < 0 {
			return -1
		} else if d > 0 {
			return 1
		}
	}
	return 0
}

func post(key string, entry int64) posting {
	sum := sha256.Sum256([]byte(key))
	return posting{binary.BigEndian.Uint32(sum[:]), binary.BigEndian.Uint32(sum[4:]), binary.BigEndian.Uint32(sum[8:]), uint32(entry)}
}

// search returns, newest first, the entries of view that have all of the keys
// (and) or one of them, at most limit.
func (x *index) search(ctx context.Context, view tlog.View, keys []string, and bool, limit int) ([]int64, error) {
	select {
	case x.busy <- struct{}{}:
		defer func() { <-x.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := x.catchUp(ctx, view); err != nil {
		return nil, err
	}
	count := map[uint32]int{}
	for _, key := range keys {
		for _, entry := range x.find(key) {
			count[entry]++
		}
	}
	var out []int64
	for entry, n := range count {
		if int64(entry) < view.Size() && (!and || n == len(keys)) {
			out = append(out, int64(entry))
		}
	}
	slices.SortFunc(out, func(a, b int64) int { return int(b - a) })
	return out[:min(len(out), limit)], nil
}

// find is every entry with a key, once.
func (x *index) find(key string) []uint32 {
	var out []uint32
	want := post(key, 0)
	for _, run := range x.runs {
		i := sort.Search(len(run), func(i int) bool { return compare(run[i], want) >= 0 })
		for ; i < len(run) && run[i].key0 == want.key0 && run[i].key1 == want.key1 && run[i].key2 == want.key2; i++ {
			out = append(out, run[i].entry)
		}
	}
	return out
}

// catchUp takes up the entries of view that are not in the index yet. What was
// done before ctx ended stays done.
func (x *index) catchUp(ctx context.Context, view tlog.View) error {
	const chunk = 1 << 10
	for x.done < view.Size() {
		if err := ctx.Err(); err != nil {
			return err
		}
		var run []posting
		end := min(x.done+chunk, view.Size())
		for i := x.done; i < end; i++ {
			body, err := view.Entry(i)
			if err != nil {
				return err
			}
			for _, key := range keysOf(body) {
				run = append(run, post(key, i))
			}
		}
		slices.SortFunc(run, compare)
		x.add(slices.Compact(run))
		x.done = end
	}
	return nil
}

func (x *index) add(run []posting) {
	for n := len(x.runs); n > 0 && len(x.runs[n-1]) <= 2*len(run); n-- {
		run = merge(x.runs[n-1], run)
		x.runs = x.runs[:n-1]
	}
	x.runs = append(x.runs, run)
}

func merge(a, b []posting) []posting {
	out := make([]posting, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if compare(a[0], b[0]) <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// The keys of the index. Their first byte keeps the kinds apart.
func hashKey(algorithm, value string) string { return "h" + algorithm + ":" + strings.ToLower(value) }
func nameKey(name string) string             { return "n" + strings.ToLower(name) }
func verifierKey(text []byte) string {
	sum := sha256.Sum256(text)
	return "v" + hex.EncodeToString(sum[:])
}

// keysOf are the search keys of an entry's body, which we wrote.
func keysOf(body []byte) []string {
	var w struct {
		APIVersion string          `json:"apiVersion"`
		Kind       string          `json:"kind"`
		Spec       json.RawMessage `json:"spec"`
	}
	if strictjson.Unmarshal(body, &w) != nil {
		return nil
	}
	var keys []string
	if w.Kind == kindHashedrekord {
		var h hashedrekordWire
		if strictjson.Unmarshal(w.Spec, &h) != nil {
			return nil
		}
		keys = append(keys, hashKey(h.Data.Hash.Algorithm, h.Data.Hash.Value))
		return append(keys, verifierKeys(h.Signature.PublicKey.Content)...)
	}
	var d struct {
		EnvelopeHash hashWire `json:"envelopeHash"`
		PayloadHash  hashWire `json:"payloadHash"`
		Signatures   []struct {
			Signature string `json:"signature"`
			Verifier  []byte `json:"verifier"`
		} `json:"signatures"`
	}
	if strictjson.Unmarshal(w.Spec, &d) != nil {
		return nil
	}
	keys = append(keys, hashKey(d.EnvelopeHash.Algorithm, d.EnvelopeHash.Value), hashKey(d.PayloadHash.Algorithm, d.PayloadHash.Value))
	for _, s := range d.Signatures {
		keys = append(keys, verifierKeys(s.Verifier)...)
	}
	return keys
}

// verifierKeys are the key of the verifier itself and those of the names in its
// certificate.
func verifierKeys(text []byte) []string {
	keys := []string{verifierKey(text)}
	v, err := readVerifier(text)
	if err != nil || v.cert == nil {
		return keys
	}
	names := append(slices.Clone(v.cert.EmailAddresses), v.cert.DNSNames...)
	for _, u := range v.cert.URIs {
		names = append(names, u.String())
	}
	for _, ip := range v.cert.IPAddresses {
		names = append(names, net.IP(ip).String())
	}
	for _, n := range names {
		keys = append(keys, nameKey(n))
	}
	return keys
}

// The query of POST /api/v1/index/retrieve.
type queryWire struct {
	Email     *string `json:"email"`
	Hash      *string `json:"hash"`
	Operator  *string `json:"operator"`
	PublicKey *struct {
		Format  string  `json:"format" strict:"required"`
		Content []byte  `json:"content"`
		URL     *string `json:"url"`
	} `json:"publicKey"`
}

// maxQuery bounds a name to search for.
const maxQuery = 2 << 10

// keys are what is searched for, and whether an entry must have all of them.
func (q *queryWire) keys() (keys []string, and bool, err error) {
	if q.Operator != nil {
		switch *q.Operator {
		case "and":
			and = true
		case "or", "":
		default:
			return nil, false, fmt.Errorf("operator %.20q is neither and nor or", *q.Operator)
		}
	}
	if q.Hash != nil && *q.Hash != "" {
		algorithm, value, ok := strings.Cut(*q.Hash, ":")
		if !ok {
			algorithm, value = map[int]string{40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}[len(algorithm)], algorithm
		}
		digits := map[string]int{"sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}[algorithm]
		if _, err := hex.DecodeString(value); err != nil || digits == 0 || len(value) != digits {
			return nil, false, fmt.Errorf("hash %.160q is not hex digits of a SHA-256, SHA-384 or SHA-512", *q.Hash)
		}
		keys = append(keys, hashKey(algorithm, value))
	}
	if q.Email != nil && *q.Email != "" {
		if len(*q.Email) > maxQuery {
			return nil, false, fmt.Errorf("email: %d bytes; at most %d are read", len(*q.Email), maxQuery)
		}
		keys = append(keys, nameKey(*q.Email))
	}
	if q.PublicKey != nil {
		if q.PublicKey.Format != "x509" {
			return nil, false, fmt.Errorf("publicKey.format: %.20q; entries here have keys of format x509", q.PublicKey.Format)
		}
		v, err := readVerifier(q.PublicKey.Content)
		if err != nil {
			return nil, false, fmt.Errorf("publicKey.content: %w", err)
		}
		keys = append(keys, verifierKey(v.text))
	}
	return keys, and, nil
}
