package sourcepolicy

import (
	"bytes"
	"encoding/json"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Shown is the source's identifier for people: without what may be a secret, and short.
func (s Source) Shown() string { return s.shown() }

// Redacted is the input for people: as [fault.Redact] has its texts, and the values of
// input.http.query left out. What the image itself says to whoever pulls it (labels,
// environment, statements) stays as it is. An error is one of JSON.
func (in *Input) Redacted() (json.RawMessage, error) {
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // a predicate's stay as they are
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(redacted(v, ""))
}

// redacted leaves out secrets of a value; in is the name of the member that holds it.
func redacted(v any, in string) any {
	switch v := v.(type) {
	case string:
		return fault.Redact(v)
	case []any:
		for i := range v {
			v[i] = redacted(v[i], in)
		}
	case map[string]any:
		if values, ok := v["query"].(map[string]any); ok && in == "http" {
			for name := range values {
				values[name] = []any{"…"}
			}
		}
		for name := range v {
			if in == "image" && (name == "labels" || name == "env" || name == "attestations") {
				continue
			}
			v[name] = redacted(v[name], name)
		}
	}
	return v
}
