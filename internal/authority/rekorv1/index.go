package rekorv1

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/postings"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// index finds entries by what is in their bodies: the digest of the artifact,
// payload or envelope, the signer's key or certificate, and the certificate's
// names. It lies on disk beside the log and is made of the log's entries (about 20 µs
// for each) soon after they came, at the latest when somebody searches. What of it is
// not on disk when the log is opened is made again.
type index struct {
	busy chan struct{} // a lock that can be waited for with a context
	m    *postings.Map
	done int64 // entries that are in it

	came chan struct{} // something was added to the log
	quit chan struct{}
	idle sync.WaitGroup
}

// searchDir is the index's folder in the log's.
const searchDir = "search"

// indexDelay is how long entries gather before they are taken up.
const indexDelay = 200 * time.Millisecond

// openIndex opens the index of a log.
func openIndex(dir string, log *tlog.Log, logger *slog.Logger) (*index, error) {
	m, err := postings.Open(filepath.Join(dir, searchDir), postings.Options{})
	if err != nil {
		return nil, err
	}
	x := &index{busy: make(chan struct{}, 1), m: m, came: make(chan struct{}, 1), quit: make(chan struct{})}
	covered, mark := m.Covered()
	if view := log.View(); covered <= view.Size() {
		root, err := view.RootAt(covered)
		if err != nil && !errors.As(err, new(*durable.CorruptError)) {
			return nil, errors.Join(err, m.Close())
		}
		if err == nil && string(root[:]) == string(mark) {
			x.done = covered
		}
	}
	if x.done == 0 && covered > 0 { // another log's
		if err := x.reset(); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	x.note()
	x.idle.Go(func() { x.follow(log, logger) })
	return x, nil
}

// reset forgets everything.
func (x *index) reset() error {
	x.done = 0
	return x.m.Reset()
}

// note says that the log has grown.
func (x *index) note() {
	select {
	case x.came <- struct{}{}:
	default:
	}
}

// follow takes up what comes, until the index is closed.
func (x *index) follow(log *tlog.Log, logger *slog.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-x.quit
		cancel()
	}()
	for {
		select {
		case <-x.came:
		case <-x.quit:
			return
		}
		select {
		case <-time.After(indexDelay):
		case <-x.quit:
			return
		}
		if err := x.locked(ctx, func() error { return x.catchUp(ctx, log.View()) }); err != nil && ctx.Err() == nil {
			logger.Error("the log's search index was not extended", "error", err)
		}
	}
}

func (x *index) close() error {
	close(x.quit)
	x.m.Stop() // for whose writes the follower may be waiting
	x.idle.Wait()
	return x.m.Close()
}

func (x *index) locked(ctx context.Context, do func() error) error {
	select {
	case x.busy <- struct{}{}:
		defer func() { <-x.busy }()
		return do()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func post(key string) postings.Key {
	sum := sha256.Sum256([]byte(key))
	return postings.Key(sum[:])
}

// search returns, newest first, the entries of view that have all of the keys
// (and) or one of them, at most limit.
func (x *index) search(ctx context.Context, view tlog.View, keys []string, and bool, limit int) (out []int64, err error) {
	err = x.locked(ctx, func() error {
		out, err = x.find(ctx, view, keys, and, limit)
		if !errors.Is(err, errIndexDamaged) {
			return err
		}
		if err := x.reset(); err != nil {
			return err
		}
		out, err = x.find(ctx, view, keys, and, limit)
		return err
	})
	return out, err
}

// errIndexDamaged tells a damaged index, which is made again, from a damaged entry.
var errIndexDamaged = errors.New("the search index is damaged")

func (x *index) find(ctx context.Context, view tlog.View, keys []string, and bool, most int) ([]int64, error) {
	limit := most
	if err := x.catchUp(ctx, view); err != nil {
		return nil, err
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if and && len(keys) > 1 {
		limit = math.MaxInt // of each key: any of them may be the last one of the others
	}
	var all []uint32
	for i, key := range keys {
		entries, err := x.m.Newest(post(key), view.Size(), limit)
		if errors.As(err, new(*durable.CorruptError)) {
			return nil, fmt.Errorf("%w: %w", errIndexDamaged, err)
		} else if err != nil {
			return nil, err
		}
		slices.Sort(entries)
		entries = slices.Compact(entries)
		if and && i > 0 {
			all = both(all, entries)
		} else {
			all = append(all, entries...)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	slices.Reverse(all)
	out := make([]int64, min(len(all), most))
	for i := range out {
		out[i] = int64(all[i])
	}
	return out, nil
}

// both is what is in two ascending lists; it takes the place of the first.
func both(a, b []uint32) []uint32 {
	out := a[:0]
	for _, entry := range a {
		if _, found := slices.BinarySearch(b, entry); found {
			out = append(out, entry)
		}
	}
	return out
}

// catchUp takes up the entries of view that are not in the index yet. What was
// done before ctx ended stays done.
func (x *index) catchUp(ctx context.Context, view tlog.View) error {
	for ; x.done < view.Size(); x.done++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		body, err := view.Entry(x.done)
		if err != nil {
			return err
		}
		if err := x.m.Room(); durable.NoRoom(err) {
			return &tlog.RoomError{Err: err}
		}
		if x.m.Full() {
			root, err := view.RootAt(x.done)
			if err != nil {
				return err
			}
			if err := x.m.Flush(x.done, root[:], nil); err != nil {
				return errors.Join(err, x.reset()) // the next one begins anew
			}
		}
		for _, key := range keysOf(body) {
			x.m.Add(post(key), uint32(x.done))
		}
	}
	x.m.Made()
	return nil
}

// The keys of the index. Their first byte keeps the kinds apart.
func hashKey(algorithm, value string) string { return "h" + algorithm + ":" + strings.ToLower(value) }
func nameKey(name string) string             { return "n" + strings.ToLower(name) }
func verifierKey(text []byte) string {
	sum := sha256.Sum256(text)
	return "v" + hex.EncodeToString(sum[:])
}

// keysOf are the search keys of an entry's body, which we wrote, each once.
func keysOf(body []byte) []string {
	keys := allKeys(body)
	slices.Sort(keys)
	return slices.Compact(keys)
}

func allKeys(body []byte) []string {
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
