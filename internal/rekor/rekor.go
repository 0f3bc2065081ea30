// Package rekor asks a transparency log of version 1 for what it knows of an
// entry that it has promised to include (sigstore/rekor, openapi.yaml,
// GET /api/v1/log/entries).
//
// Nothing that a log answers is believed here: it is compared with the entry that
// it is to be about, and package verify judges the proof.
package rekor

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

// Limits of an answer.
const (
	maxAnswer     = 16 << 20 // bytes; an entry's body has at most 4 MiB, and the log may keep an attestation with it
	maxHashes     = 64
	maxCheckpoint = 64 << 10
	timeout       = 30 * time.Second
)

const step = "ask the log for an inclusion proof"

// ErrNoEntry says that the log has no entry at the index.
var ErrNoEntry = errors.New("the log has no entry there")

// MismatchError is an answer that is not about the entry that was asked for, or
// that has no proof of it.
type MismatchError struct{ Err error }

func (e *MismatchError) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *MismatchError) Unwrap() error { return e.Err }

func mismatch(format string, args ...any) error {
	return &MismatchError{Err: fmt.Errorf(format, args...)}
}

// Client asks logs. The zero Client is ready for use; it follows no redirects.
type Client struct {
	UserAgent string
	PlainHTTP bool         // also to logs beyond this machine
	HTTP      *http.Client // nil: one with a time limit of its own
}

// Proof asks the log at baseURL for the proof that it holds the entry. No answer is
// a fault.Unreachable; [ErrNoEntry] and a [*MismatchError] are answers that a log
// which kept its promise does not give.
func (c *Client) Proof(ctx context.Context, baseURL string, e *evidence.LogEntry) (*evidence.InclusionProof, error) {
	if err := loopback.CheckURL(step, baseURL, c.PlainHTTP); err != nil {
		return nil, err
	}
	url := strings.TrimRight(baseURL, "/") + "/api/v1/log/entries?logIndex=" + strconv.FormatInt(e.LogIndex, 10)
	answer, err := c.get(ctx, url)
	if err != nil {
		return nil, err
	}
	proof, err := readProof(answer, e)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", step, baseURL, err)
	}
	return proof, nil
}

func (c *Client) get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", step, err)
	}
	req.Header.Set("Accept", "application/json")
	if c.UserAgent != "" {
		req.Header.Set("User-Agent", c.UserAgent)
	}
	client := http.Client{}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return nil, fault.HTTP(step, url, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%s: %s: %w", step, req.URL.Host, ErrNoEntry)
	case resp.StatusCode != http.StatusOK:
		return nil, fault.Unreachablef("%s: %s: HTTP %d", step, req.URL.Host, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fault.HTTP(step, url, err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("%s: %s: %w", step, req.URL.Host, mismatch("an answer of more than %d MiB", maxAnswer>>20))
	}
	return body, nil
}

// logEntry is the LogEntry of Rekor's API: one member, named by the entry's UUID.
type logEntry map[string]struct {
	Body           string `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogID          string `json:"logID"`
	LogIndex       *int64 `json:"logIndex"`
	Verification   *struct {
		Proof *struct {
			Checkpoint string   `json:"checkpoint"`
			Hashes     []string `json:"hashes"`
			LogIndex   *int64   `json:"logIndex"`
			RootHash   string   `json:"rootHash"`
			TreeSize   int64    `json:"treeSize"`
		} `json:"inclusionProof"`
	} `json:"verification"`
}

// readProof reads an answer about the entry e: base64 is the body, hexadecimal are
// the log's id and the hashes.
func readProof(answer []byte, e *evidence.LogEntry) (*evidence.InclusionProof, error) {
	var entries logEntry
	if err := json.Unmarshal(answer, &entries); err != nil || len(entries) != 1 {
		return nil, mismatch("not the JSON of one log entry")
	}
	for _, got := range entries {
		body, err := base64.StdEncoding.DecodeString(got.Body)
		switch {
		case err != nil || !bytes.Equal(body, e.Body):
			return nil, mismatch("the log holds another entry at index %d", e.LogIndex)
		case got.LogIndex == nil || *got.LogIndex != e.LogIndex || got.IntegratedTime != e.IntegratedTime || got.LogID != hex.EncodeToString(e.LogID):
			return nil, mismatch("the log says another index, time or log of the entry")
		case got.Verification == nil || got.Verification.Proof == nil || got.Verification.Proof.LogIndex == nil:
			return nil, mismatch("there is no inclusion proof in the answer")
		}
		p := got.Verification.Proof
		out := &evidence.InclusionProof{LogIndex: *p.LogIndex, TreeSize: p.TreeSize, Checkpoint: p.Checkpoint}
		if len(p.Hashes) > maxHashes || len(p.Checkpoint) > maxCheckpoint || p.Checkpoint == "" || out.LogIndex < 0 || out.LogIndex >= out.TreeSize {
			return nil, mismatch("an inclusion proof that cannot be")
		}
		if out.RootHash, err = hash(p.RootHash); err != nil {
			return nil, err
		}
		for _, text := range p.Hashes {
			h, err := hash(text)
			if err != nil {
				return nil, err
			}
			out.Hashes = append(out.Hashes, h)
		}
		return out, nil
	}
	return nil, nil // not reached: there is one
}

// hash reads a SHA-256 in hexadecimal.
func hash(text string) ([]byte, error) {
	h, err := hex.DecodeString(text)
	if err != nil || len(h) != 32 {
		return nil, mismatch("an inclusion proof with a hash that is no SHA-256")
	}
	return h, nil
}
