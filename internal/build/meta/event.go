package meta

import (
	"encoding/json"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// MaxEvent bounds the event file; GitHub sends at most 25 MB.
const MaxEvent = 25 << 20

// Event is what metadata needs of the event that started a job, as GitHub writes it to
// the file GITHUB_EVENT_PATH ("Webhook events and payloads"). It is a file of the runner:
// what must hold (commit, ref, repository) comes from the identity token, not from here.
type Event struct {
	Repository    Repository
	Private       bool
	DefaultBranch string
	BaseRef       string
	CommitTime    time.Time // of the commit sha, zero when the event does not say it
	Number        string    // of the pull request, digits; "" without one
}

// ReadEvent reads an event about the commit sha. Members are read by their exact names;
// the many others are left alone.
func ReadEvent(data []byte, sha string) (Event, error) {
	if len(data) > MaxEvent {
		return Event{}, fault.Usagef("event: %d bytes; at most %d are read", len(data), MaxEvent)
	}
	o, err := members(data)
	if err != nil {
		return Event{}, fault.Usagef("event: %w", err)
	}
	repository := o.member("repository")
	e := Event{
		Repository: Repository{Name: repository.text("name"), Description: repository.text("description"),
			URL: repository.text("html_url"), License: repository.member("license").text("spdx_id")},
		Private:       string(repository["private"]) != "false", // not said: private
		DefaultBranch: repository.text("default_branch"),
		BaseRef:       o.text("base_ref"),
	}
	if base := o.member("pull_request").member("base").text("ref"); base != "" {
		e.BaseRef = base
	}
	if number := string(o["number"]); numberPattern().MatchString(number) {
		e.Number = number
	}
	if head := o.member("head_commit"); sha != "" && head.text("id") == sha {
		e.CommitTime, _ = time.Parse(time.RFC3339, head.text("timestamp"))
	}
	return e, nil
}

var numberPattern = pattern.New(`^[1-9][0-9]{0,17}$`)

// Ref is the ref that rules look at in a job that event started for ref. One for
// pull_request_target has the ref of the branch that the pull request goes to, and is tagged
// as the pull request's, as docker/metadata-action does: not as the branch, nor edge.
func (e Event) Ref(event, ref string) (string, error) {
	switch {
	case event != "pull_request_target":
		return ref, nil
	case e.Number == "":
		return "", fault.Usagef("event: pull_request_target without the number of the pull request")
	}
	return "refs/pull/" + e.Number + "/merge", nil
}

// object is a JSON object of which only some members are looked at; nil is one without.
type object map[string]json.RawMessage

func members(data []byte) (object, error) {
	if err := strictjson.Valid(data, strictjson.MaxDepth); err != nil {
		return nil, err
	}
	var o object
	err := strictjson.Unmarshal(data, (*map[string]json.RawMessage)(&o))
	return o, err
}

func (o object) member(name string) object {
	var m map[string]json.RawMessage
	if strictjson.Unmarshal(o[name], &m) != nil {
		return nil
	}
	return m
}

func (o object) text(name string) string {
	var s string
	if strictjson.Unmarshal(o[name], &s) != nil {
		return ""
	}
	return s
}
