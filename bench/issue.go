package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"time"
)

// keylessRequest is all that a client needs for one keyless signature, but for the
// certificate, which it is given on the way.
type keylessRequest struct {
	query, entry []byte
	key          int
	signed       answered
}

// keyless is the three steps from token to proof, as cosign does them: certificate,
// timestamp, log entry.
type keyless struct {
	keys     []signer
	bodies   [][]byte // asking for a certificate, one of each key
	header   string
	requests []keylessRequest
}

func (k *keyless) prepare(n, round int) error {
	k.requests = make([]keylessRequest, n)
	return prepared(n, round, k.keys, func(i int, s signer, message []byte) error {
		digest, sig, err := s.sign(message)
		if err != nil {
			return err
		}
		query, err := timestampQuery(sig)
		k.requests[i] = keylessRequest{query, entryRequest(digest, sig, nil), i % len(k.keys), answered{digest: digest, sig: sig, key: &s.key.PublicKey}}
		return err
	})
}

// side does the steps at the services with these addresses.
func (k *keyless) side(ca, tsa, log string, said *answers, pids ...int) side {
	return side{processes: pids, do: func(c *caller, i int) (err error) {
		r := k.requests[i]
		x := r.signed
		answer, err := c.post(ca, "/api/v2/signingCert", k.header, k.bodies[r.key], 200)
		if err != nil {
			return err
		}
		chain, err := chainOf(answer)
		if err != nil {
			return err
		}
		if i%checkEach == 0 { // the answers of one service lie in one buffer
			x.chain = bytes.Clone(answer)
		}
		if x.stamp, err = c.post(tsa, stampPath, queryHeader, r.query, 200); err != nil {
			return err
		}
		if i%checkEach == 0 {
			x.stamp = bytes.Clone(x.stamp)
		}
		entry := append(base64.StdEncoding.AppendEncode(r.entry[:len(r.entry):len(r.entry)], chain[0]), entryEnd...)
		if x.entry, err = c.post(log, "/api/v2/log/entries", jsonHeader, entry, 201); err == nil {
			said.keep(i, x)
		}
		return err
	}}
}

// keylessIssues measures the whole way from a token to a proof.
func (b *bench) keylessIssues(ctx context.Context) (rows []row, err error) {
	k := &keyless{}
	if k.keys, err = newSigners(); err != nil {
		return nil, err
	}
	at, _, err := b.lab.oursAt()
	if err != nil {
		return nil, err
	}
	rekor, _, err := b.startRekor(ctx)
	if err != nil {
		return nil, err
	}
	defer rekor.stop()
	ctLog, err := playCTLog()
	if err != nil {
		return nil, err
	}
	defer ctLog.stop()
	fulcio, err := b.startFulcio(ctx, ctLog)
	if err != nil {
		return nil, err
	}
	defer fulcio.stop()
	stamper, err := b.startTSA(ctx)
	if err != nil {
		return nil, err
	}
	defer stamper.stop()
	said, theirs, err := b.bothAnswers(rekor, fulcio, stamper)
	if err != nil {
		return nil, err
	}
	ours := k.side(at, at, at, said, b.lab.up.Process.Pid)
	peer := k.side(fulcio.address, stamper.address, rekor.address, theirs, fulcio.process(), stamper.process(), rekor.process())
	made := 0
	for _, load := range []struct {
		period
		rate string
	}{
		{period{manyClients, 2 * time.Second, 3 * time.Second, 20_000}, ">= 500"},
		{period{crowd, 4 * time.Second, 4 * time.Second, 20_000}, ""},
	} {
		x, y, err := b.inTurn(ctx, load.period, ours, peer, func(int) (err error) {
			if k.bodies, k.header, err = b.certRequests(ctx, k.keys); err != nil {
				return err
			}
			made++
			return k.prepare(load.operations, made)
		})
		if err != nil {
			return nil, err
		}
		rows = append(rows, rowsOf(fmt.Sprintf("keyless: token to proof, %d clients", load.clients), "signatures", x, y, load.rate, "", "")...)
	}
	if err = said.signatures(); err == nil && !b.alone {
		err = theirs.signatures()
	}
	return rows, err
}
