package fault_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

func TestKindAndHintSurviveWrapping(t *testing.T) {
	t.Parallel()
	base := fault.Unreachablef("push: registry.example.com: refused")
	err := fault.Hint(fmt.Errorf("signing: %w", base), "is it running?")
	err = fmt.Errorf("image 3: %w", err)
	if fault.KindOf(err) != fault.Unreachable {
		t.Errorf("kind %v", fault.KindOf(err))
	}
	if fault.HintOf(err) != "is it running?" {
		t.Errorf("hint %q", fault.HintOf(err))
	}
	if fault.KindOf(errors.New("x")) != fault.Failure || fault.HintOf(errors.New("x")) != "" {
		t.Error("a plain error is a failure without a hint")
	}
	if fault.Hint(nil, "x") != nil || fault.As(fault.Usage, nil) != nil {
		t.Error("no error must stay no error")
	}
}

// A service that is not there is named once, and the hint says what to start.
func TestHTTPNothingListens(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	host := strings.TrimPrefix(gone.URL, "http://")
	_, cause := http.Get(gone.URL)
	err := fault.HTTP("get a timestamp", gone.URL+"/api?token=hunter2", cause)
	if want := "get a timestamp: " + host + ": connection refused"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	if !strings.Contains(fault.HintOf(err), host) || fault.KindOf(err) != fault.Unreachable {
		t.Errorf("hint %q, kind %v", fault.HintOf(err), fault.KindOf(err))
	}
}

// Queries may hold secrets and must not be repeated.
func TestHTTPHidesTheQuery(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection refused")
	raw := "https://log.example.com/api?token=hunter2"
	err := fault.HTTP("add to log", raw, &url.Error{Op: "Post", URL: raw, Err: cause})
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%q repeats the query", err)
	}
	if !strings.Contains(err.Error(), "log.example.com") || !strings.Contains(err.Error(), "add to log") {
		t.Errorf("%q names neither host nor step", err)
	}
	if !errors.Is(err, cause) || fault.KindOf(err) != fault.Unreachable {
		t.Errorf("%v, kind %v", err, fault.KindOf(err))
	}
}
