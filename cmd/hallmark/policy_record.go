package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// defaultRecords is where policy record writes to.
const defaultRecords = "sources.json"

func newPolicyRecordCommand(a *app) *cobra.Command {
	o := policyEvalOptions{record: defaultRecords}
	c := &cobra.Command{
		Use:   "record [SOURCE]",
		Short: "Write down what policies see of real sources, for their tests",
		Long: `Ask source policies as policy eval does, and write what they saw of each source into
one JSON file, an object with a member for each source. A test that says

  with input as load_json("sources.json")["alpine:3.20"]

then judges the source as it was, and fetches nothing. Of several platforms of one
source the names are like "alpine:3.20 linux/arm64"; of what has the same name
otherwise, like "https://example.com/a?… (2)". Whether the policies allow it is
not asked; what could not be found out is an error, and nothing is written.

Logins and queries of URLs are left out. What an image says of itself is not.`,
		Example: `  hallmark policy record
  hallmark policy record 127.0.0.1:8420/app:1.0 -f Dockerfile.rego --out app.json`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: a.policyAsk(&o),
	}
	o.add(c)
	c.Flags().StringVar(&o.record, "out", defaultRecords, "write to `FILE`")
	return c
}

// recorded writes what the policies saw.
func (j *policyJob) recorded(answer *policyEvalAnswer) error {
	platforms := map[string]int{}
	for _, s := range answer.Sources {
		platforms[s.Source]++
	}
	records := map[string]json.RawMessage{}
	var denied policy.Decision
	for _, s := range answer.Sources {
		if s.unknown != nil {
			denied.Reasons = append(denied.Reasons, s.Reasons...)
			continue
		}
		name := s.Source
		if platforms[s.Source] > 1 && s.Platform != "" {
			name += " " + s.Platform
		}
		// Without its login and query one URL may be named as another, which saw something else.
		free := name
		for n := 2; records[free] != nil && !bytes.Equal(records[free], s.Input); n++ {
			free = fmt.Sprintf("%s (%d)", name, n)
		}
		records[free] = s.Input
	}
	if len(denied.Reasons) > 0 {
		return j.deny(answer, denied)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(records); err != nil {
		return err
	}
	if err := writeOut(j.o.record, out.Bytes()); err != nil {
		return fmt.Errorf("write %s: %w", j.o.record, err)
	}
	j.app.Print("recorded  %d sources in %s", len(records), j.o.record)
	return nil
}

// writeOut replaces a file as a whole. What is there and no regular file, a device, a pipe or a
// link, stays what it is, and is written to.
func writeOut(name string, data []byte) error {
	if st, err := os.Lstat(name); err != nil || st.Mode().IsRegular() {
		return durable.WriteFile(name, data, 0o644)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
