package monitor

import (
	"bytes"
	"html/template"
	"net/http"
	"sync"
	"time"
)

// page is for a person with a browser, also one without JavaScript or pictures.
var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/><meta name="viewport" content="width=device-width,initial-scale=1"/>
<title>{{.State}}: the Sigstore of {{.Host}}</title>
<style>
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff;overflow-wrap:anywhere}
h1{font-size:1.4rem;line-height:1.3}h2{font-size:1.1rem;margin-top:2rem}ul{padding-left:1.2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #ddd;vertical-align:top}th[scope=row]{width:40%}
code,pre{font:14px/1.5 ui-monospace,monospace}.short{white-space:nowrap}.key td{border-bottom:0;padding-bottom:0}.narrow{display:none}pre{background:#f4f4f4;padding:.8rem;white-space:pre-wrap}
.ok{color:#0a6b2d}.warning{color:#8a5a00}.failing{color:#b00020}
@media (max-width:40rem){body{margin:1rem auto}table,tbody,tr,th,td{display:block}thead{display:none}th,td{padding-right:0}th[scope=row]{width:auto;border-bottom:0;padding-bottom:0}td{padding-top:0}.key td{display:inline}.narrow{display:inline}.key{padding-top:.3rem}}
@media (prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}pre{background:#242424}th,td{border-color:#3a3a3a}a{color:#8ab4f8}.ok{color:#6fcf8b}.warning{color:#e5b567}.failing{color:#ff7b89}}
</style></head><body>
<h1>The private Sigstore of {{.Host}}</h1>
<p>{{if eq .State "ok"}}<strong class="ok">Everything works.</strong>{{else if eq .State "warning"}}<strong class="warning">It works, and needs attention.</strong>{{else}}<strong class="failing">Something does not work.</strong>{{end}}
Version {{.Version}}, running since {{.Started}}.</p>
{{if .Findings}}<ul>{{range .Findings}}<li class="{{.State}}">{{.Text}}</li>{{end}}</ul>{{end}}
<h2>Services</h2>
<table>
<tr><th scope="row">Issuer, certificates, timestamps</th><td><code>{{.URL}}</code></td></tr>
<tr><th scope="row">Registry</th><td><code>{{.Registry}}</code></td></tr>
<tr><th scope="row">TUF repository</th><td><a href="{{.TUF}}/root.json"><code>{{.TUF}}</code></a></td></tr>
{{range .Logs}}<tr><th scope="row">Log <code>{{.Origin}}</code></th><td>{{.Size}} {{if eq .Size 1}}entry{{else}}entries{{end}}{{if .Checkpoint}}, <a href="{{$.URL}}{{.Checkpoint}}">checkpoint</a>{{end}}</td></tr>
{{end}}</table>
{{range .Notes}}{{if .}}<p>{{.}}</p>{{end}}{{end}}
<h2>Keys</h2>
<table>
<thead><tr><th scope="col">for, with the SHA-256 of the public key</th><th scope="col">kind</th><th scope="col">expires</th></tr></thead>
{{range .Keys}}<tr class="key"><td><strong>{{.Name}}</strong><span class="narrow">, </span></td><td class="short">{{.Kind}}<span class="narrow">, </span></td><td class="short"><span class="narrow">expires </span>{{if .Expires}}{{.Expires}}{{else}}never{{end}}</td></tr>
<tr><td colspan="3"><code>{{.SHA256}}</code></td></tr>
{{end}}</table>
<h2>Use it</h2>
<p>On this machine, with hallmark:</p>
<pre>eval "$(hallmark up env)"
hallmark sign {{.Registry}}/IMAGE
hallmark verify --identity YOU --issuer {{.URL}} \
  {{.Registry}}/IMAGE</pre>
<p>On another machine, trust it first:</p>
<pre>hallmark trust import {{.TUF}} \
  --root-checksum {{.RootSHA256}}</pre>
<p>With cosign:</p>
<pre>cosign initialize --mirror {{.TUF}} \
  --root {{.TUF}}/root.json \
  --root-checksum {{.RootSHA256}}
cosign sign {{.Registry}}/IMAGE</pre>
<p>Compare the checksum with the one that its operator told you: this page is no proof of itself.</p>
<p><a href="{{.URL}}/healthz">Health</a> and <a href="{{.URL}}/metrics">metrics</a> for programs.</p>
</body></html>
`))
})

type pageKey struct{ Name, Kind, Expires, SHA256 string }

func (m *Monitor) page(w http.ResponseWriter, r *http.Request) {
	f := m.cfg.Facts()
	worst, found := m.findings(f)
	keys := make([]pageKey, 0, len(f.Keys))
	for _, k := range f.Keys {
		p := pageKey{Name: k.Name, Kind: k.Kind, SHA256: k.SHA256}
		if !k.Expires.IsZero() {
			p.Expires = day(k.Expires)
		}
		keys = append(keys, p)
	}
	var b bytes.Buffer
	err := pageTemplate().Execute(&b, map[string]any{
		"State": string(worst), "Findings": found, "Host": f.Registry, "URL": f.URL, "Registry": f.Registry, "TUF": f.TUF,
		"RootSHA256": f.TUFRootSHA256, "Logs": f.Logs, "Notes": f.Notes, "Keys": keys, "Version": m.cfg.Version,
		"Started": m.started.UTC().Format(time.RFC3339),
	})
	if err != nil {
		m.cfg.Log.Error("status page", "error", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(b.Bytes())
}
