package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// page is the story as it is printed at the end: plain text for somebody who
// has never heard of Sigstore.
type page struct {
	chapters []chapter
	refused  []refusal
}

// chapter is one thing that worked.
type chapter struct {
	title   string
	text    string // what it means, in words
	command string // what was typed
	seen    []string
}

// refusal is one attempt that was stopped, with the reason that hallmark gave.
type refusal struct{ attempt, command, reason string }

func (p *page) add(c chapter) { p.chapters = append(p.chapters, c) }

func (p *page) print(w io.Writer, took time.Duration) {
	line := strings.Repeat("─", 78)
	fmt.Fprintf(w, "\n%s\nFROM A COMMIT TO AN ADMITTED POD\n%s\n", line, line)
	fmt.Fprint(w, wrap(`A silver hallmark says who made a thing, who tested it, of what and when. Below, a container image gets one: every step leaves evidence that anyone can check, and three gates decide whether the evidence is good enough. All of it ran on this machine, with no account anywhere.`, ""))
	for i, c := range p.chapters {
		fmt.Fprintf(w, "\n%d. %s\n", i+1, c.title)
		fmt.Fprint(w, wrap(c.text, "   "))
		if c.command != "" {
			fmt.Fprintf(w, "     $ %s\n", c.command)
		}
		for _, s := range c.seen {
			fmt.Fprintf(w, "       %s\n", s)
		}
	}
	if len(p.refused) > 0 {
		fmt.Fprintf(w, "\nAnd what was refused, each with its reason:\n")
	}
	for _, r := range p.refused {
		fmt.Fprintf(w, "\n   ✗ %s\n     $ %s\n       %s\n", r.attempt, r.command, r.reason)
	}
	fmt.Fprintf(w, "\n%s\nAll of this took %.1f seconds.\n", line, took.Seconds())
}

// wrap breaks text into lines of at most 78 columns.
func wrap(text, indent string) string {
	var b strings.Builder
	col := 0
	for _, word := range strings.Fields(text) {
		switch n := len([]rune(word)); {
		case col == 0:
			b.WriteString(indent + word)
			col = len(indent) + n
		case col+1+n > 78:
			b.WriteString("\n" + indent + word)
			col = len(indent) + n
		default:
			b.WriteString(" " + word)
			col += 1 + n
		}
	}
	return b.String() + "\n"
}
