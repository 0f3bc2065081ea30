package bundlefile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Merge adds everything of another bundle. What contradicts is named, and then
// nothing is added: which of two roots, keys or pins under one name is believed
// is for a person to say. Revocations only ever add up.
func (f *File) Merge(o *File) (conflicts []string) {
	m := File{Roots: slices.Clone(f.Roots), Keys: slices.Clone(f.Keys), Pins: slices.Clone(f.Pins),
		Witnesses: slices.Clone(f.Witnesses), Quorum: f.Quorum, Notary: f.Notary.clone(), Revoked: f.Revoked.clone()}
	for _, r := range o.Roots {
		conflicts = append(conflicts, m.mergeRoot(r)...)
	}
	for _, k := range o.Keys {
		conflicts = append(conflicts, m.mergeKey(k)...)
	}
	for _, p := range o.Pins {
		if why := m.Add(p); why != nil {
			conflicts = append(conflicts, why.Message)
		}
	}
	if o.Notary != nil {
		conflicts = append(conflicts, m.notary().merge(o.Notary)...)
	}
	if o.Revoked != nil {
		r := m.revoked()
		r.Digests = append(r.Digests, o.Revoked.Digests...)
		r.Identities = append(r.Identities, o.Revoked.Identities...)
		r.Keys = append(r.Keys, o.Revoked.Keys...)
	}
	conflicts = append(conflicts, m.mergeWitnesses(o)...)
	if len(conflicts) > 0 {
		return conflicts
	}
	m.normalise()
	if err := m.check(); err != nil {
		return []string{err.Error()}
	}
	*f = m
	return nil
}

func (f *File) mergeRoot(r Root) []string {
	i := slices.IndexFunc(f.Roots, func(have Root) bool { return have.Name == r.Name })
	switch {
	case i < 0:
		f.Roots = append(f.Roots, r)
	case f.Roots[i].Source.follows(r.Source):
		if r.FetchedAt.After(f.Roots[i].FetchedAt) {
			f.Roots[i] = r
		}
	case sameJSON(f.Roots[i].TrustedRoot, r.TrustedRoot):
		// The same document from elsewhere: what says until when it is good is kept, or
		// a file of it would make it good for ever.
		if f.Roots[i].Expires == nil && r.Expires != nil {
			f.Roots[i] = r
		}
	default:
		return []string{fmt.Sprintf("there are two different trust roots %q: %s and %s", r.Name, f.Roots[i].Source, r.Source)}
	}
	return nil
}

// follows reports whether two roots are of one TUF repository, so that the newer
// replaces the older.
func (s Source) follows(o Source) bool {
	return s.Mirror != "" && s.Mirror == o.Mirror && s.RootSHA256 == o.RootSHA256
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

func (f *File) mergeKey(k Key) []string {
	for _, have := range f.Keys {
		sameKey := bytes.Equal(have.PublicKey, k.PublicKey)
		if have.Name != k.Name && !sameKey {
			continue
		}
		if have.Name == k.Name && sameKey && sameTime(have.From, k.From) && sameTime(have.Until, k.Until) {
			return nil
		}
		if !sameKey {
			return []string{fmt.Sprintf("there are two different keys %q", k.Name)}
		}
		return []string{fmt.Sprintf("the key %q is there as %q, or believed for another time", k.Name, have.Name)}
	}
	f.Keys = append(f.Keys, k)
	return nil
}

func (n *Notary) clone() *Notary {
	if n == nil {
		return nil
	}
	c := &Notary{TrustPolicy: n.TrustPolicy, BlobPolicy: n.BlobPolicy, CRLs: slices.Clone(n.CRLs), OCSP: slices.Clone(n.OCSP)}
	for _, s := range n.Stores {
		s.Certificates = slices.Clone(s.Certificates)
		c.Stores = append(c.Stores, s)
	}
	return c
}

func (r *Revoked) clone() *Revoked {
	if r == nil {
		return nil
	}
	return &Revoked{Digests: slices.Clone(r.Digests), Identities: slices.Clone(r.Identities), Keys: slices.Clone(r.Keys)}
}

func (f *File) notary() *Notary {
	if f.Notary == nil {
		f.Notary = &Notary{}
	}
	return f.Notary
}

func (f *File) revoked() *Revoked {
	if f.Revoked == nil {
		f.Revoked = &Revoked{}
	}
	return f.Revoked
}

func (n *Notary) merge(o *Notary) []string {
	if o.TrustPolicy != nil {
		if n.TrustPolicy != nil && !sameJSON(n.TrustPolicy, o.TrustPolicy) {
			return []string{"there are two different Notation trust policies"}
		}
		n.TrustPolicy = o.TrustPolicy
	}
	if o.BlobPolicy != nil {
		if n.BlobPolicy != nil && !sameJSON(n.BlobPolicy, o.BlobPolicy) {
			return []string{"there are two different Notation trust policies for files"}
		}
		n.BlobPolicy = o.BlobPolicy
	}
	for _, s := range o.Stores {
		for _, der := range s.Certificates {
			n.addCertificate(s.Type, s.Name, der)
		}
	}
	for _, c := range o.CRLs {
		n.addCRL(c)
	}
	n.OCSP = append(n.OCSP, o.OCSP...)
	return nil
}

func (n *Notary) addCertificate(kind, name string, der []byte) {
	i := slices.IndexFunc(n.Stores, func(s Store) bool { return s.Type == kind && s.Name == name })
	if i < 0 {
		n.Stores = append(n.Stores, Store{Type: kind, Name: name})
		i = len(n.Stores) - 1
	}
	n.Stores[i].Certificates = append(n.Stores[i].Certificates, der)
}

// addCRL adds a list; of one URL and issuer the newest is kept.
func (n *Notary) addCRL(c CRL) {
	for i, have := range n.CRLs {
		switch {
		case bytes.Equal(have.DER, c.DER) && have.URL == c.URL:
			if c.FetchedAt.After(have.FetchedAt) {
				n.CRLs[i] = c
			}
			return
		case have.URL == c.URL && c.URL != "" && sameIssuer(have.DER, c.DER):
			if newerCRL(c.DER, have.DER) {
				n.CRLs[i] = c
			}
			return
		}
	}
	n.CRLs = append(n.CRLs, c)
}

func (f *File) mergeWitnesses(o *File) []string {
	if len(o.Witnesses) == 0 {
		return nil
	}
	if len(f.Witnesses) > 0 && f.Quorum != o.Quorum {
		return []string{fmt.Sprintf("%d witnesses are demanded by one and %d by the other", f.Quorum, o.Quorum)}
	}
	for _, w := range o.Witnesses {
		if !slices.Contains(f.Witnesses, w) {
			f.Witnesses = append(f.Witnesses, w)
		}
	}
	f.Quorum = o.Quorum
	return nil
}
