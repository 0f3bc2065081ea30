package sourcepolicy

import (
	"encoding/json"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// What a sandboxed policy's process is told, asks and answers, in JSON.

// order is a call: exactly one of Compile and Run is set.
type order struct {
	Policy  int           `json:"policy"` // its number, the same as long as its caller lives
	Compile *compileOrder `json:"compile,omitempty"`
	Run     *runOrder     `json:"run,omitempty"`
}

type compileOrder struct {
	Files   []File        `json:"files"`
	Folder  bool          `json:"folder"` // it has one, and asks for its files
	Print   bool          `json:"print"`
	Timeout time.Duration `json:"timeout"`
}

type compileAnswer struct {
	Impure  []string        `json:"impure,omitempty"`
	Fields  []string        `json:"fields,omitempty"`
	Reasons []policy.Reason `json:"reasons,omitempty"` // why it does not compile
}

// runOrder is a pass: all that is known.
type runOrder struct {
	Source *Source        `json:"source,omitempty"` // nil: the question about capabilities
	Env    Env            `json:"env"`
	Build  *Build         `json:"build,omitempty"`
	Locked *Locked        `json:"locked,omitempty"`
	Now    time.Time      `json:"now"`
	Known  []knownMessage `json:"known,omitempty"`
}

type knownMessage struct {
	Source Source            `json:"source"`
	Facts  Facts             `json:"facts"`
	Failed map[string]string `json:"failed,omitempty"`
}

type runAnswer struct {
	Unheard bool            `json:"unheard,omitempty"` // of this policy: it must be compiled first
	Value   json.RawMessage `json:"value,omitempty"`   // of the rule decision; none: it is undefined
	Denied  *policy.Reason  `json:"denied,omitempty"`

	Asks    []askMessage      `json:"asks,omitempty"` // what was read and is not known
	Pins    []evidence.Digest `json:"pins,omitempty"`
	Notes   []string          `json:"notes,omitempty"`
	Printed []string          `json:"printed,omitempty"`
}

type askMessage struct {
	Node string `json:"node,omitempty"` // "" is the source itself, else "material 2 of material 0"
	Ask  Ask    `json:"ask"`
}

// fileQuestion asks for a file of the policy's folder.
type fileQuestion struct {
	Name string `json:"name"`
	Read bool   `json:"read"` // its content, too
}

type fileAnswer struct {
	Size    int64  `json:"size"`
	Regular bool   `json:"regular"`
	Data    []byte `json:"data,omitempty"`
}
