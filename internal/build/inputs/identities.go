package inputs

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/spelling"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// Identity is a login at a registry by the job's identity token instead of a password.
type Identity struct {
	Type   string            // "dockerhub", "aws-ecr" or "gcp-wif"
	Fields map[string]string // those of identityTypes
}

// identityTypes are the fields of each type, each with a form that leaves no place for a
// secret. All are required but those of identityDefaults.
var identityTypes = map[string]map[string]func() *regexp.Regexp{
	"dockerhub": {
		"username":      pattern.New(`^[a-z0-9][a-z0-9_-]{1,63}$`),
		"connection_id": pattern.New(`^[0-9A-Za-z-]{8,64}$`),
		"registry":      pattern.New(`^(docker|dhi)\.io$`),
	},
	"aws-ecr": {
		"registry":       pattern.New(`^(public\.ecr\.aws|[0-9]{12}\.dkr[.-]ecr[a-z0-9.-]{1,80})$`),
		"role-to-assume": pattern.New(`^arn:aws[a-z-]{0,10}:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,128}$`),
		"region":         pattern.New(`^[a-z]{2,4}(-[a-z]{2,12}){1,3}-[0-9]$`),
	},
	"gcp-wif": {
		"registry":                   pattern.New(`^([a-z0-9-]{1,40}\.)?(pkg\.dev|gcr\.io)$|^[a-z0-9-]{1,40}-docker\.pkg\.dev$`),
		"workload_identity_provider": pattern.New(`^projects/[0-9]{1,20}/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}/providers/[a-z0-9-]{4,32}$`),
		"service_account":            pattern.New(`^[a-z0-9-]{1,63}@[a-z0-9.-]{1,80}\.gserviceaccount\.com$`),
		"project_id":                 pattern.New(`^[a-z][a-z0-9-]{4,28}[a-z0-9]$`),
	},
}

var identityDefaults = map[string]map[string]string{"dockerhub": {"registry": "docker.io"}}

// secretNames are fields that people write by mistake.
var secretNames = pattern.New(`(?i)pass|secret|token|key|credential|auth`)

// identities reads registry-identities, a list in YAML. No value comes into an error:
// it may be a secret that does not belong there.
func (r *reader) identities() []Identity {
	text := r.values["registry-identities"]
	if strings.TrimSpace(text) == "" {
		return nil
	}
	docs, err := strictyaml.Documents("registry-identities", []byte(text))
	if err != nil || len(docs) != 1 {
		r.fail("registry-identities", "this is not one document in YAML without anchors, tags and duplicates")
		return nil
	}
	var entries []map[string]strictyaml.Plain
	if err := docs[0].Decode(&entries); err != nil {
		r.fail("registry-identities", "this is not a list of entries, each with type and single values")
		return nil
	}
	var list []Identity
	for _, e := range entries {
		id := r.identity(e)
		if slices.ContainsFunc(list, func(o Identity) bool { return o.Type == id.Type }) {
			r.fail("registry-identities", "more than one entry of type %s", id.Type)
		}
		list = append(list, id)
	}
	return list
}

func (r *reader) identity(e map[string]strictyaml.Plain) Identity {
	id := Identity{Type: e["type"].Value, Fields: map[string]string{}}
	fields, ok := identityTypes[id.Type]
	if !ok {
		r.fail("registry-identities", "an entry has no type of %s", strings.Join(slices.Sorted(maps.Keys(identityTypes)), ", "))
		return Identity{}
	}
	known := slices.Sorted(maps.Keys(fields))
	for _, name := range slices.Sorted(maps.Keys(e)) {
		if _, ok := fields[name]; ok || name == "type" {
			continue
		}
		if secretNames().MatchString(name) {
			r.fail("registry-identities", "line %d: a field for a secret; secrets go into registry-auths, which is a secret of the workflow", e[name].Pos.Line)
		}
		r.fail("registry-identities", "line %d: %s has no such field%s", e[name].Pos.Line, id.Type, spelling.Hint(name, known))
	}
	for _, name := range known {
		value := cmp.Or(e[name].Value, identityDefaults[id.Type][name])
		if !fields[name]().MatchString(value) {
			r.fail("registry-identities", "%s: %s is missing or has not the form of one", id.Type, name)
		}
		id.Fields[name] = value
	}
	return id
}
