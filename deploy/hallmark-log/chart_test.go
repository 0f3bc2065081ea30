package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const chartFolder = "../helm/hallmark-authority"

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render is what helm template prints, document by document. Values that the schema
// refuses are an error.
func render(c *chart.Chart, values string) ([]string, error) {
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		return nil, err
	}
	all, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: "sig", Namespace: "trust", IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return nil, err
	}
	var docs []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".tpl") {
			continue
		}
		for _, doc := range strings.Split("\n"+files[name], "\n---") {
			if strings.TrimSpace(doc) != "" {
				docs = append(docs, doc)
			}
		}
	}
	return docs, nil
}

// objects are rendered documents by "Kind name", each decoded as Kubernetes decodes it:
// a field that the API does not have is an error.
func objects(t *testing.T, docs []string) map[string]any {
	t.Helper()
	out := map[string]any{}
	for _, doc := range docs {
		var meta struct {
			metav1.TypeMeta
			Metadata metav1.ObjectMeta `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(doc), &meta); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		var v any
		switch meta.APIVersion + " " + meta.Kind {
		case "apps/v1 StatefulSet":
			v = new(appsv1.StatefulSet)
		case "apps/v1 Deployment":
			v = new(appsv1.Deployment)
		case "v1 Service":
			v = new(corev1.Service)
		case "v1 ServiceAccount":
			v = new(corev1.ServiceAccount)
		case "v1 ConfigMap":
			v = new(corev1.ConfigMap)
		case "networking.k8s.io/v1 Ingress":
			v = new(networkingv1.Ingress)
		case "networking.k8s.io/v1 NetworkPolicy":
			v = new(networkingv1.NetworkPolicy)
		case "policy/v1 PodDisruptionBudget":
			v = new(policyv1.PodDisruptionBudget)
		case "monitoring.coreos.com/v1 ServiceMonitor":
			v = new(map[string]any)
		default:
			t.Fatalf("an object of kind %s %s; what the chart may make has a list", meta.APIVersion, meta.Kind)
		}
		if err := yaml.UnmarshalStrict([]byte(doc), v); err != nil {
			t.Errorf("%s %s: %v\n%s", meta.Kind, meta.Metadata.Name, err, doc)
		}
		name := meta.Kind + " " + meta.Metadata.Name
		if out[name] != nil {
			t.Errorf("%s is there twice", name)
		}
		out[name] = v
	}
	return out
}

const everything = `
url: https://sigstore.example.com:8443
replicas: {enabled: true, keysSecret: replica-keys, environmentSecret: replica-pins}
log: {enabled: true}
ingress: {enabled: true, className: nginx, annotations: {nginx.ingress.kubernetes.io/backend-protocol: HTTPS}}
serviceMonitor: {enabled: true}
caConfig: {configMap: issuers}
up: {keysSecret: up-keys, environmentSecret: up-pins}
networkPolicy: {enabled: true, from: [{namespaceSelector: {matchLabels: {name: ingress}}}]}
`

// TestChart: the chart makes what its values say, which Kubernetes takes, and which
// hallmark and hallmark-log take from it.
func TestChart(t *testing.T) {
	t.Parallel()
	c := loadChart(t)
	minimal := []string{"ServiceAccount sig", "StatefulSet sig", "Service sig", "NetworkPolicy sig-up"}
	all := append(slices.Clone(minimal), "Deployment sig-replica", "Service sig-replica", "NetworkPolicy sig-replica", "PodDisruptionBudget sig-replica",
		"StatefulSet sig-log", "Service sig-log", "NetworkPolicy sig-log", "PodDisruptionBudget sig-log", "ConfigMap sig-log", "Ingress sig",
		"ServiceMonitor sig-up", "ServiceMonitor sig-log")
	for name, one := range map[string]struct {
		values string
		want   []string
	}{
		"minimal":    {"url: https://sigstore.example.com", minimal},
		"everything": {everything, all},
		"gcp": {everything + "\nlog: {enabled: true, storage: {driver: gcp, bucket: log, spanner: projects/p/instances/i/databases/d}, checkpointEvery: 5s}\n" +
			"podDisruptionBudget: {enabled: false}\n", slices.DeleteFunc(slices.Clone(all), func(n string) bool { return strings.HasPrefix(n, "PodDis") })},
	} {
		t.Run(name, func(t *testing.T) {
			values := one.values
			if name == "gcp" { // a member of YAML counts once
				values = strings.Replace(values, "log: {enabled: true}\n", "", 1)
			}
			docs, err := render(c, values)
			if err != nil {
				t.Fatal(err)
			}
			got := objects(t, docs)
			slices.Sort(one.want)
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, slices.Compact(one.want)) {
				t.Errorf("objects %v\nwant %v", names, one.want)
			}
			services := map[string]bool{}
			for _, o := range got {
				if s, ok := o.(*corev1.Service); ok {
					services[s.Name] = true
				}
			}
			for name, o := range got {
				switch o := o.(type) {
				case *appsv1.StatefulSet:
					checkPod(t, name, o.Spec.Template, o.Spec.Selector, o.Spec.VolumeClaimTemplates...)
					if !services[o.Spec.ServiceName] {
						t.Errorf("%s: there is no service %s", name, o.Spec.ServiceName)
					}
				case *appsv1.Deployment:
					checkPod(t, name, o.Spec.Template, o.Spec.Selector)
				}
			}
			if o, ok := got["Deployment sig-replica"].(*appsv1.Deployment); ok {
				checkCopy(t, o.Spec.Template.Spec)
			}
			if in, ok := got["Ingress sig"].(*networkingv1.Ingress); ok {
				checkRoutes(t, in, services)
			}
			if m, ok := got["ConfigMap sig-log"].(*corev1.ConfigMap); ok {
				cfg, err := parseConfig("log.yaml", []byte(m.Data["log.yaml"]))
				if err != nil {
					t.Fatalf("hallmark-log refuses what the chart gives it: %v\n%s", err, m.Data["log.yaml"])
				}
				if cfg.Origin != "sigstore.example.com" || cfg.TLS == nil || cfg.Extends == "" {
					t.Errorf("%+v", cfg)
				}
				checkNewest(t, cfg.Newest, got[logName].(*appsv1.StatefulSet))
			}
		})
	}
}

// checkPod demands the restricted pod security standard
// (kubernetes.io/docs/concepts/security/pod-security-standards) and what makes a pod
// of ours work.
func checkPod(t *testing.T, name string, p corev1.PodTemplateSpec, selector *metav1.LabelSelector, claims ...corev1.PersistentVolumeClaim) {
	t.Helper()
	for key, value := range selector.MatchLabels {
		if p.Labels[key] != value {
			t.Errorf("%s: the pods do not have %s=%s", name, key, value)
		}
	}
	s := p.Spec.SecurityContext
	if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: the pod's security context is not restricted", name)
	}
	if p.Spec.AutomountServiceAccountToken == nil || *p.Spec.AutomountServiceAccountToken || p.Spec.HostNetwork || p.Spec.HostPID || p.Spec.HostIPC {
		t.Errorf("%s: it has more of the cluster than it needs", name)
	}
	volumes := map[string]bool{}
	for _, v := range p.Spec.Volumes {
		if v.HostPath != nil {
			t.Errorf("%s: it has a path of the host", name)
		}
		volumes[v.Name] = true
	}
	for _, claim := range claims {
		volumes[claim.Name] = true
	}
	for _, one := range p.Spec.Containers {
		s := one.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
			s.Capabilities == nil || len(s.Capabilities.Add) > 0 || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("%s: the container's security context is not restricted", name)
		}
		for _, m := range one.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s: there is no volume %s", name, m.Name)
			}
		}
		if len(one.Env) > 0 {
			t.Errorf("%s: it has variables, where a secret would be seen", name)
		}
		for _, from := range one.EnvFrom {
			if from.SecretRef == nil || from.SecretRef.Name == "" || from.ConfigMapRef != nil {
				t.Errorf("%s: its variables are not those of a Secret: %+v", name, from)
			}
		}
		checkMounted(t, name, one)
		// Who is not ready is not asked; who is not alive is started anew, which helps
		// nobody whose storage is away or whose certificate has ended.
		for path, probe := range map[string]*corev1.Probe{"/healthz": one.ReadinessProbe, "/livez": one.LivenessProbe} {
			if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Scheme != corev1.URISchemeHTTPS ||
				len(probe.HTTPGet.HTTPHeaders) != 1 || !strings.HasPrefix(probe.HTTPGet.HTTPHeaders[0].Value, "sigstore.example.com") {
				t.Errorf("%s: a probe does not ask %s as it must: %+v", name, path, probe)
			}
		}
		if p := one.StartupProbe; p != nil && (p.HTTPGet == nil || p.HTTPGet.Path != "/livez") {
			t.Errorf("%s: the startup probe does not ask /livez", name)
		}
		checkArgs(t, name, one.Args)
	}
}

const logName = "StatefulSet sig-log"

// checkNewest demands that what the log remembers is on a volume of the pod's own.
func checkNewest(t *testing.T, path string, o *appsv1.StatefulSet) {
	t.Helper()
	for _, m := range o.Spec.Template.Spec.Containers[0].VolumeMounts {
		if !within(path, m.MountPath) {
			continue
		}
		if len(o.Spec.VolumeClaimTemplates) != 1 || m.Name != o.Spec.VolumeClaimTemplates[0].Name || m.ReadOnly {
			t.Errorf("%s is on the volume %s", path, m.Name)
		}
		return
	}
	t.Errorf("%s is on no volume", path)
}

// checkMounted demands that what an argument names lies on a volume.
func checkMounted(t *testing.T, name string, one corev1.Container) {
	t.Helper()
	for _, a := range one.Args {
		_, path, _ := strings.Cut(a, "=")
		if !strings.HasPrefix(path, "/") {
			continue
		}
		if !slices.ContainsFunc(one.VolumeMounts, func(m corev1.VolumeMount) bool { return within(path, m.MountPath) }) {
			t.Errorf("%s: %s is on no volume", name, path)
		}
	}
}

// TestChartKeys: keys elsewhere and other issuers reach both programs that sign, each with
// the Secrets of its own.
func TestChartKeys(t *testing.T) {
	t.Parallel()
	c := loadChart(t)
	for values, want := range map[string]bool{everything: true, "url: https://sigstore.example.com\nreplicas: {enabled: true}\n": false} {
		docs, err := render(c, values)
		if err != nil {
			t.Fatal(err)
		}
		got := objects(t, docs)
		for name, prefix := range map[string]string{"StatefulSet sig": "up-", "Deployment sig-replica": "replica-"} {
			var p corev1.PodSpec
			switch o := got[name].(type) {
			case *appsv1.StatefulSet:
				p = o.Spec.Template.Spec
			case *appsv1.Deployment:
				p = o.Spec.Template.Spec
			}
			has := map[string]bool{}
			for _, a := range p.Containers[0].Args {
				has[a] = true
			}
			for _, v := range p.Volumes {
				if v.Name == "keys" && v.Secret != nil && v.Secret.SecretName == prefix+"keys" || v.Name == "ca-config" && v.ConfigMap != nil && v.ConfigMap.Name == "issuers" {
					has[v.Name] = true
				}
			}
			for _, from := range p.Containers[0].EnvFrom {
				has["variables"] = from.SecretRef.Name == prefix+"pins"
			}
			for _, what := range []string{"--keys=/etc/hallmark/keys/keys.yaml", "--ca-config=/etc/hallmark/ca-config/ca-config.yaml", "keys", "ca-config", "variables"} {
				if has[what] != want {
					t.Errorf("%s: %s: %v, want %v", name, what, has[what], want)
				}
			}
		}
	}
}

// TestChartDatabase: what the log reaches its database with is mounted whole, where its
// configuration looks for it, and apart from what the log is.
func TestChartDatabase(t *testing.T) {
	t.Parallel()
	c := loadChart(t)
	for driver, want := range map[string]bool{"mysql": true, "aws, bucket: bkt": true, "gcp, bucket: bkt, spanner: projects/p/instances/i/databases/d": false} {
		docs, err := render(c, "url: https://sigstore.example.com\nlog: {enabled: true, dsnSecret: the-dsn, storage: {driver: "+driver+"}}\n")
		if err != nil {
			t.Fatal(err)
		}
		got := objects(t, docs)
		config, err := parseConfig("log.yaml", []byte(got["ConfigMap sig-log"].(*corev1.ConfigMap).Data["log.yaml"]))
		if err != nil {
			t.Fatal(err)
		}
		p := got["StatefulSet sig-log"].(*appsv1.StatefulSet).Spec.Template.Spec
		at := slices.IndexFunc(p.Volumes, func(v corev1.Volume) bool {
			return v.Name == "database" && v.Secret != nil && v.Secret.SecretName == "the-dsn" && len(v.Secret.Items) == 0
		})
		mounted := slices.ContainsFunc(p.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.Name == "database" && m.ReadOnly && m.MountPath+"/dsn" == config.Storage.DSNFile
		})
		if at >= 0 != want || mounted != want || strings.Count(strings.Join(docs, "\n"), "the-dsn") != map[bool]int{true: 1}[want] {
			t.Errorf("%s: a volume %v, mounted %v, want %v", driver, at >= 0, mounted, want)
		}
	}
}

// TestChartLogKey: the log's key is in its Secret, or elsewhere with what it takes to reach it.
func TestChartLogKey(t *testing.T) {
	t.Parallel()
	c := loadChart(t)
	for values, want := range map[string]struct {
		key, password, variables string
		items                    int
	}{
		"": {"log.pem", "", "", 2},
		"keyReference: 'pkcs11:token=hsm;object=log', passwordEnv: LOG_PIN, environmentSecret: pins": {"pkcs11:token=hsm;object=log", "LOG_PIN", "pins", 1},
	} {
		docs, err := render(c, "url: https://sigstore.example.com\nlog: {enabled: true, keySecret: the-key, "+values+"}\n")
		if err != nil {
			t.Fatal(err)
		}
		got := objects(t, docs)
		config, err := parseConfig("log.yaml", []byte(got["ConfigMap sig-log"].(*corev1.ConfigMap).Data["log.yaml"]))
		if err != nil || config.Key != want.key || config.PasswordEnv != want.password {
			t.Errorf("%s: %+v, %v", values, config, err)
		}
		p := got["StatefulSet sig-log"].(*appsv1.StatefulSet).Spec.Template.Spec
		variables, items := "", 0
		for _, from := range p.Containers[0].EnvFrom {
			variables = from.SecretRef.Name
		}
		for _, v := range p.Volumes {
			if v.Projected == nil {
				continue
			}
			for _, s := range v.Projected.Sources {
				if s.Secret != nil && s.Secret.Name == "the-key" {
					items = len(s.Secret.Items)
				}
			}
		}
		if variables != want.variables || items != want.items {
			t.Errorf("%s: variables %q, %d members of the Secret", values, variables, items)
		}
	}
}

// checkCopy demands that a replica has its Secret whole: which keys there are changes.
func checkCopy(t *testing.T, p corev1.PodSpec) {
	t.Helper()
	for _, v := range p.Volumes {
		if v.Name == "copy" && (v.Secret == nil || len(v.Secret.Items) > 0) {
			t.Errorf("the replica's copy is %+v", v)
		}
	}
}

var helpFlag = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z-]+)`)

// checkArgs holds a container's arguments against what the program knows.
func checkArgs(t *testing.T, name string, args []string) {
	t.Helper()
	help := usage
	if name != logName {
		var words []string
		for _, a := range args {
			if !strings.HasPrefix(a, "-") {
				words = append(words, a)
			}
		}
		out, err := exec.Command(hallmark(t), append(words, "--help")...).Output()
		if err != nil {
			t.Fatalf("hallmark %v: %v", words, err)
		}
		help = string(out)
	} else if args[0] != "serve" {
		t.Errorf("%s: %v", name, args)
	}
	known := map[string]bool{}
	for _, m := range helpFlag.FindAllStringSubmatch(strings.ReplaceAll(help, "[--", "\n --"), -1) {
		known[m[1]] = true
	}
	for _, a := range regexp.MustCompile(`--config\b`).FindAllString(help, -1) {
		known[strings.TrimPrefix(a, "--")] = true
	}
	for _, a := range args {
		flag, _, _ := strings.Cut(a, "=")
		if strings.HasPrefix(flag, "--") && !known[strings.TrimPrefix(flag, "--")] {
			t.Errorf("%s: the program has no %s", name, flag)
		}
	}
}

// checkRoutes holds the Ingress against the table of docs/outgrown.md.
func checkRoutes(t *testing.T, in *networkingv1.Ingress, services map[string]bool) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	to := map[string]string{"127.0.0.1:8424": "sig-log", "127.0.0.1:8431 127.0.0.1:8432": "sig-replica", "127.0.0.1:8430": "sig"}
	want := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(/[^`]*)` \\| ([0-9.: ]+) \\|$").FindAllStringSubmatch(string(text), -1) {
		path := m[1]
		if path != "/" {
			path = strings.TrimSuffix(path, "/")
		}
		want[path] = to[m[2]]
	}
	got := map[string]string{}
	for _, p := range in.Spec.Rules[0].HTTP.Paths {
		got[p.Path] = p.Backend.Service.Name
		if !services[p.Backend.Service.Name] {
			t.Errorf("%s: there is no service %s", p.Path, p.Backend.Service.Name)
		}
	}
	if len(want) != 10 || !maps.Equal(got, want) {
		t.Errorf("the Ingress routes %v\nthe page says %v", got, want)
	}
	if in.Spec.Rules[0].Host != "sigstore.example.com" {
		t.Errorf("host %s", in.Spec.Rules[0].Host)
	}
}

// TestChartRefuses: values that were meant otherwise, and secrets among them, are
// refused before anything is rendered.
func TestChartRefuses(t *testing.T) {
	t.Parallel()
	c := loadChart(t)
	const url = "url: https://sigstore.example.com\n"
	for name, values := range map[string]string{
		"no url":           "",
		"plain http":       "url: http://sigstore.example.com",
		"a path":           "url: https://sigstore.example.com/x",
		"a trailing slash": "url: https://sigstore.example.com/",
		"upper case":       "url: https://Sigstore.example.com",
		"a misspelt word":  url + "replica: {enabled: true}",
		"a misspelt one":   url + "log: {enable: true}",
		"a password":       url + "registry: {usersSecret: u, password: x}",
		"a key":            url + "log: {enabled: true, key: abc}",
		"a key's path":     url + "log: {enabled: true, keyReference: log.pem}",
		"a PIN":            url + "log: {enabled: true, keyReference: 'pkcs11:token=a?pin-value=1234'}",
		"a key as name":    url + "log: {enabled: true, keyReference: \"env://-----BEGIN PRIVATE KEY-----\\nMC4=\"}",
		"no variable":      url + "log: {enabled: true, passwordEnv: 1-2}",
		"a dsn":            url + "log: {enabled: true, storage: {driver: mysql, dsn: root@/x}}",
		"posix":            url + "log: {enabled: true, storage: {driver: posix}}",
		"mysql, bucket":    url + "log: {enabled: true, storage: {driver: mysql, bucket: bbb}}",
		"aws, no bucket":   url + "log: {enabled: true, storage: {driver: aws}}",
		"gcp, no spanner":  url + "log: {enabled: true, storage: {driver: gcp, bucket: bbb}}",
		"gcp, half":        url + "log: {enabled: true, storage: {driver: gcp, bucket: bbb, spanner: projects/p}}",
		"no replicas":      url + "replicas: {enabled: true, count: 0}",
		"half a replica":   url + "replicas: {enabled: true, count: 1.5}",
		"a short digest":   url + "image: {digest: \"sha256:abc\"}",
		"no secret's name": url + "tls: {secret: \"\"}",
		"keys in values":   url + "up: {keysSecret: {ca: x}}",
		"a PIN in values":  url + "replicas: {enabled: true, environment: {PIN: x}}",
		"no ConfigMap":     url + "caConfig: {configMap: \"../x\"}",
		"issuers":          url + "caConfig: {oidc-issuers: {}}",
		"a level":          url + "up: {logLevel: trace}",
	} {
		if docs, err := render(c, values); err == nil {
			t.Errorf("%s: taken, %d documents", name, len(docs))
		}
	}
	digest := "sha256:" + strings.Repeat("a", 64)
	docs, err := render(c, url+fmt.Sprintf("image: {digest: %q}", digest))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(docs, ""), "ghcr.io/hallmark-dev/hallmark@"+digest+`"`) {
		t.Error("an image by digest is not named by it alone")
	}
}

// TestChartFiles: what helm needs is there.
func TestChartFiles(t *testing.T) {
	t.Parallel()
	c := loadChart(t)
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if len(c.Schema) == 0 || len(c.Values) == 0 {
		t.Error("the chart has no values or no schema")
	}
}
