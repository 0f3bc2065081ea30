package build_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// machine is an address of this machine that is not loopback: what the daemon's exec
// proxy, which has a network of its own, can reach.
func machine(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Fatal("this machine has no address but loopback: build steps reach no server here")
	return ""
}

// webServer serves a text at an address that build steps reach.
func webServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(machine(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, "http://"+r.Host+to, http.StatusFound)
			return
		}
		fmt.Fprintf(w, "this is %s\n", r.URL.Path)
	})}}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

// What RUN steps request is asked about when a policy says exec.proxy. A step that
// swallows the refusal does not save the build, and nothing gets around the proxy.
func TestExecProxy(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	url := webServer(t)
	// busybox's wget 1.35 crashes with -T. Two cases with the same step would share its result
	// in the daemon's cache, and the second would show no log.
	around := "unset http_proxy HTTP_PROXY all_proxy ALL_PROXY; timeout 5 wget -q -O /got " + url + "/good && cat /got || echo kept-$((40+2))"
	const proxied = `caps := {"exec.proxy": true}
decision := {"allow": true, "caps": caps} if input.env.capsRequest
decision := {"allow": count(deny) == 0, "deny_msg": deny} if not input.env.capsRequest
`
	for _, c := range []struct {
		name, step, rego string
		reason           policy.Reason
		log              string
	}{
		{name: "allowed", step: "wget -q -O /got " + url + "/good && cat /got", log: "this is /good",
			rego: `deny contains "only /good" if { input.http; input.http.path != "/good" }`},
		{name: "denied and swallowed", step: "wget -q -O /got " + url + "/bad || echo never mind",
			rego:   `deny contains "only /good" if { input.http; input.http.path != "/good" }`,
			reason: policy.Reason{Code: "POLICY_DENIED", Message: "only /good", Subject: url + "/bad"}},
		{name: "redirected", step: "wget -q -O /got '" + url + "/away?to=/good' && cat /got", log: "this is /good",
			rego: `deny contains "not there" if { input.http; not input.http.path in {"/good", "/away"} }`},
		{name: "redirected to what is denied", step: "wget -q -O /got '" + url + "/away?to=/bad' || echo never mind",
			rego:   `deny contains "not there" if { input.http; not input.http.path in {"/good", "/away"} }`,
			reason: policy.Reason{Code: "POLICY_DENIED", Message: "not there", Subject: url + "/bad"}},
		{name: "around the proxy", step: around, rego: `deny contains "no downloads" if input.http`, log: "kept-42"},
		{name: "without proxy nobody is asked", step: ": another step; " + around, log: "this is /good",
			rego: `decision := {"allow": false, "deny_msg": ["no downloads"]} if input.http
decision := {"allow": true} if not input.http`},
		{name: "content of what a step downloads", step: "wget -q -O /got " + url + "/good || true",
			rego:   `deny contains "another file" if input.http.checksum == "sha256:` + strings.Repeat("0", 64) + `"`,
			reason: policy.Reason{Code: "SOURCE_UNBOUND", Subject: url + "/good", Hint: "download it with ADD --checksum instead of in the step"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, context_ := source(t, map[string]string{"Dockerfile": "ARG BASE\nFROM ${BASE}\nRUN " + c.step + "\n"})
			r := request(t, w, "app/proxy-"+strings.ReplaceAll(c.name, " ", "-"), context_)
			text := c.rego
			if strings.HasPrefix(text, "deny") {
				text = proxied + text
			}
			r = judged(t, r, rules(t, "ops.rego", text, ""))
			var out strings.Builder
			r.Progress = build.NewProgress(build.ProgressPlain, &out)
			res, d := try(t, w, r)
			if d.Allowed != (c.reason.Code == "") {
				t.Fatalf("allowed: %v %+v\n%s", d.Allowed, d.Reasons, out.String())
			}
			if c.log != "" && !strings.Contains(out.String(), " "+c.log+"\n") {
				t.Errorf("log:\n%s", out.String())
			}
			if d.Allowed {
				if c.name == "allowed" {
					if p := statement(t, r, res.Attestations[0]); !strings.Contains(p, url+"/good") {
						t.Error("the provenance does not name what the step downloaded")
					}
				}
				return
			}
			got := d.Reasons[0]
			if c.reason.Message == "" {
				got.Message = ""
			}
			if got != c.reason {
				t.Errorf("reason %+v, want %+v", got, c.reason)
			}
			notPushed(t, w, r)
		})
	}
}
