package judge

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
)

// TestAnew: the hint of an approval that would not count fits its code.
func TestAnew(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		approval.CodeWrongNamespace:    "-n hallmark-approval",
		approval.CodeKeyNotOfPrincipal: "whom the statement names",
		approval.CodeNotNamed:          "people whom the policy names",
		approval.CodeKeyUse:            "people whom the policy names",
		approval.CodeOtherCommit:       "the release as it is now",
		approval.CodeOtherPolicy:       "the release as it is now",
	} {
		if got := anew(code); !strings.Contains(got, want) {
			t.Errorf("%s: %s", code, got)
		}
	}
}
