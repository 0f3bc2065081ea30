package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
)

// ManyAnswer is what verify --json prints for several images.
type ManyAnswer struct {
	Allowed bool         `json:"allowed"` // all of them
	Images  []ManyResult `json:"images"`  // in the order of the call
}

// ManyResult is the answer about one of several images: as that about one, or
// why there is none.
type ManyResult struct {
	VerifyAnswer
	Error string `json:"error,omitempty"`

	err error
}

// Limits of one call.
const (
	maxList       = 1 << 20 // lines
	manyAtOnce    = 32
	maxLineLength = 4096
)

// verifyMany verifies images beside each other and answers in their order. One
// that cannot be judged never stops the others.
func (a *Commands) verifyMany(ctx context.Context, o *verifyOptions, q gate.Requirements, images []string) error {
	if o.list != "" {
		var err error
		if images, err = a.readList(o.list); err != nil {
			return err
		}
	}
	j, err := a.newJob(ctx, o, q)
	if err != nil {
		return err
	}
	j.many = true
	if !o.freshTrust {
		a.WarnOf(j.stale) // once, not for each image
	}
	results := make([]chan ManyResult, len(images))
	for i := range results {
		results[i] = make(chan ManyResult, 1)
	}
	var g errgroup.Group
	g.SetLimit(manyAtOnce)
	go func() {
		for i, image := range images {
			g.Go(func() error { results[i] <- j.one(ctx, image); return nil })
		}
	}()
	var t tally
	answer := ManyAnswer{Allowed: true, Images: []ManyResult{}}
	for i := range results {
		r := <-results[i]
		t.add(r)
		answer.Allowed = answer.Allowed && r.Allowed
		if o.asJSON {
			answer.Images = append(answer.Images, r)
		} else {
			a.printOne(r)
			a.warnOf(r)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if o.asJSON {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	}
	return a.finish(t)
}

// one judges one image; what goes wrong is in the result.
func (j *job) one(ctx context.Context, image string) ManyResult {
	if err := ctx.Err(); err != nil {
		return ManyResult{VerifyAnswer: VerifyAnswer{Ref: image, Found: []foundEvidence{}}, err: err}
	}
	result, err := j.judge(ctx, image)
	if err != nil {
		return ManyResult{VerifyAnswer: VerifyAnswer{Ref: image, Found: []foundEvidence{}}, Error: cli.OneLine(err.Error()), err: err}
	}
	return ManyResult{VerifyAnswer: *j.o.answer(image, j.q, result, j.demands(image))}
}

// printOne is one image on one line, as scripts and people read it.
func (a *Commands) printOne(r ManyResult) {
	name := cli.Plain(r.Ref)
	if d := string(r.Subject.Digest); d != "" && !strings.Contains(name, d) {
		name += "@" + d
	}
	switch {
	case r.err != nil:
		a.Print("ERROR   %s %s", name, strings.TrimPrefix(r.Error, name+": "))
	case r.Allowed:
		a.Print("ok      %s %s", name, cli.Plain(strings.Join(r.by(), ", ")))
	default:
		a.Print("DENIED  %s [%s] %s", name, r.Reasons[0].Code, cli.OneLine(r.Reasons[0].Message))
	}
}

// warnOf says what let an image pass that a person should know of.
func (a *Commands) warnOf(r ManyResult) {
	for _, w := range r.Warnings {
		a.Warn("%s: [%s] %s", cli.Plain(r.Ref), w.Code, cli.OneLine(w.Message))
	}
}

// by is who counted.
func (v *VerifyAnswer) by() []string {
	var names []string
	seen := map[string]bool{}
	for _, f := range v.Found {
		if f.Counts && !seen[f.Signer.String()] {
			seen[f.Signer.String()] = true
			names = append(names, f.Signer.String())
		}
	}
	return names
}

// tally counts outcomes for the last line and the exit code.
type tally struct {
	all, ok, denied, nothing int
	failed                   error // the first, an unreachable service only for want of another
}

func (t *tally) add(r ManyResult) {
	t.all++
	switch {
	case r.err != nil:
		if t.failed == nil || fault.KindOf(t.failed) == fault.Unreachable && fault.KindOf(r.err) != fault.Unreachable {
			t.failed = r.err
		}
	case r.Allowed:
		t.ok++
	case r.nothingFound():
		t.nothing++
	default:
		t.denied++
	}
}

// finish says how many there were of each and makes the exit code: something
// denied before something unsigned before something that could not be found out.
func (a *Commands) finish(t tally) error {
	if t.ok == t.all {
		a.Say("%d of %d verified", t.ok, t.all)
		return nil
	}
	failed := t.all - t.ok - t.denied - t.nothing
	a.Say("%d of %d verified; %d denied, %d with nothing to verify, %d could not be judged", t.ok, t.all, t.denied, t.nothing, failed)
	switch {
	case t.denied > 0:
		return cli.DeniedError{}
	case t.nothing > 0:
		return cli.DeniedError{Nothing: true}
	}
	return t.failed
}

// readList reads one image a line; empty lines and lines that begin with # are skipped.
func (a *Commands) readList(path string) ([]string, error) {
	in := a.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fault.Usagef("--file: %w", err)
		}
		defer f.Close()
		in = f
	}
	list, err := parseList(in)
	if err != nil {
		return nil, fault.Usagef("--file %s: %w", path, err)
	}
	return list, nil
}

func parseList(in io.Reader) ([]string, error) {
	var list []string
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 0, maxLineLength), maxLineLength)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		switch {
		case line == "" || line[0] == '#':
			continue
		case strings.ContainsAny(line, " \t"):
			return nil, fmt.Errorf("line %d: more than one word; want one image a line", n)
		case len(list) == maxList:
			return nil, fmt.Errorf("more than %d images", maxList)
		}
		list = append(list, line)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("no image in it")
	}
	return list, nil
}
