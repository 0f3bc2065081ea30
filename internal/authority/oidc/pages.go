package oidc

import (
	"bytes"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// pageData fills the login form.
type pageData struct {
	Request  string // id of the login
	Action   string // where the form goes
	Client   string // host and port of the program that asks, "" for a device
	Device   bool
	UserCode string
	Email    string
	Problem  string
	Issuer   string
}

// pages are parsed when the first one is shown, not when the program starts.
var pages = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Parse(`{{define "head"}}<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Hallmark login</title></head><body>{{end}}
{{define "login"}}{{template "head"}}
<h1>Log in to Hallmark</h1>
{{if .Device}}<p>A program wants to sign as you. Go on only if the code below is the one in your own terminal.</p>
{{else}}<p>A program on this machine ({{.Client}}) wants to sign as you. Go on only if you have just started it.</p>{{end}}
{{if .Problem}}<p role="alert"><strong>{{.Problem}}</strong></p>{{end}}
<form method="post" action="{{.Action}}" autocomplete="off">
<input type="hidden" name="request" value="{{.Request}}">
{{if .Device}}<p><label>Code in your terminal<br><input name="user_code" value="{{.UserCode}}" required></label></p>{{end}}
<p><label>E-mail address (may stay empty with a one-time code)<br><input name="email" value="{{.Email}}" size="40"></label></p>
<p><label>Login secret or one-time code<br><input name="secret" type="password" size="40" required></label></p>
<p><button>Log in</button>{{if .Device}} <button name="deny" value="yes">Refuse</button>{{end}}</p>
</form>
<p>The one-time code stands where <code>hallmark up</code> was started. <code>hallmark up user add NAME@HOST</code> makes a login secret.</p>
<p>This is {{.Issuer}}.</p>
</body></html>
{{end}}
{{define "text"}}{{template "head"}}<h1>{{.Title}}</h1><p>{{.Text}}</p></body></html>
{{end}}`))
})

// page shows the login form. redirect is where the browser goes afterwards:
// browsers apply form-action to the redirect too.
func (p *Provider) page(w http.ResponseWriter, status int, data pageData, redirect *url.URL) {
	target := "'self'"
	switch {
	case redirect != nil && strings.HasPrefix(redirect.Host, "["):
		target += " http:" // the grammar of source lists has no IPv6 addresses
	case redirect != nil:
		target += " http://" + redirect.Host
	}
	data.Issuer = p.cfg.Issuer
	render(w, status, "login", data, target)
}

func (p *Provider) errorPage(w http.ResponseWriter, status int, text string) {
	render(w, status, "text", struct{ Title, Text string }{"This login cannot go on", text}, "'none'")
}

func (p *Provider) donePage(w http.ResponseWriter, title, text string) {
	render(w, http.StatusOK, "text", struct{ Title, Text string }{title, text}, "'none'")
}

func render(w http.ResponseWriter, status int, name string, data any, formAction string) {
	var b bytes.Buffer
	if err := pages().ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; form-action "+formAction+"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Referrer-Policy", "same-origin") // "no-referrer" would make browsers send Origin: null with the form
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}
