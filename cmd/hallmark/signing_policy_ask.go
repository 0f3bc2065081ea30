package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

// interview asks somebody at a terminal for what the flags of init do not say.
type interview struct {
	app *app
	ctx context.Context
	in  *untilEnd
}

func (a *app) interview(ctx context.Context) *interview {
	return &interview{app: a, ctx: ctx, in: &untilEnd{Reader: a.Stdin}}
}

// untilEnd knows whether there is more to read: Ctrl-D is no answer that can be asked for
// again.
type untilEnd struct {
	io.Reader
	ended bool
}

func (r *untilEnd) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.ended = r.ended || errors.Is(err, io.EOF)
	return n, err
}

// ask asks until the answer is acceptable. Ctrl-C ends it, although nobody answers.
func (i *interview) ask(question string, accept func(string) error) (string, error) {
	for {
		fmt.Fprint(i.app.Stderr, question)
		type answer struct {
			line []byte
			err  error
		}
		got := make(chan answer, 1)
		go func() {
			line, err := readLine(i.in)
			got <- answer{line, err}
		}()
		select {
		case <-i.ctx.Done():
			fmt.Fprintln(i.app.Stderr)
			return "", context.Cause(i.ctx)
		case a := <-got:
			if a.err != nil {
				return "", a.err
			}
			text := strings.TrimSpace(string(a.line))
			err := accept(text)
			if err == nil {
				return text, nil
			}
			i.app.Say("%s", cli.OneLine(err.Error()))
			if i.in.ended {
				return "", errors.New("the answers ended before the questions did")
			}
		}
	}
}

// people asks who approves, what signs tags, and for the rules.
func (i *interview) people(o *signingInitOptions) error {
	var err error
	if o.people, err = i.principals("Name of somebody who approves releases", nil); err != nil || len(o.people) == 0 {
		return err
	}
	if len(o.machines) == 0 {
		if o.machines, err = i.principals("Name of a machine that signs the tags, for otherwise people do", o.people); err != nil {
			return err
		}
		for _, m := range o.machines {
			name, _, _ := strings.Cut(m, "=")
			said, err := i.ask("Is the key of "+name+" in an HSM or token, and cannot leave it? [y/N] ", func(string) error { return nil })
			if err != nil {
				return err
			}
			if yes := strings.ToLower(said); yes == "y" || yes == "yes" {
				o.protection = append(o.protection, name+"=hsm")
			}
		}
	}
	if o.ready == "" {
		usual := "team"
		if len(o.people) == 1 {
			usual = "solo"
		}
		if o.ready, err = i.ask("Rules: "+strings.Join(rules.Ready(), ", ")+" ["+usual+"] ", func(s string) error {
			if s != "" && rules.ReadyFiles(s) == nil {
				return fmt.Errorf("want one of them")
			}
			return nil
		}); err != nil {
			return err
		}
	}
	if o.approvals == 0 && len(o.people) > 1 {
		most := len(o.people)
		said, err := i.ask(fmt.Sprintf("How many of the %d must approve? [2] ", most), func(s string) error {
			if n, err := strconv.Atoi(s); s != "" && (err != nil || n < 1 || n > most) {
				return fmt.Errorf("want a number from 1 to %d", most)
			}
			return nil
		})
		if err != nil {
			return err
		}
		o.approvals, _ = strconv.Atoi(said) // 0 of nothing: the default
	}
	return nil
}

// principals asks for names with their keys, until an empty name.
func (i *interview) principals(question string, taken []string) ([]string, error) {
	var out []string
	for {
		name, err := i.ask(question+" (empty: no more): ", func(s string) error {
			if s != "" && !authority.IsName(s) {
				return fmt.Errorf("a name is up to 64 of a-z, 0-9, dot, dash and underscore")
			}
			for _, other := range append(out, taken...) {
				if s != "" && strings.HasPrefix(other, s+"=") {
					return fmt.Errorf("%s is named already", s)
				}
			}
			return nil
		})
		if err != nil || name == "" {
			return out, err
		}
		keys, err := i.ask("File with the public keys of "+name+", or ssh-agent:COMMENT: ", func(s string) error {
			_, err := readPrincipal(name + "=" + s)
			return err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, name+"="+keys)
	}
}
