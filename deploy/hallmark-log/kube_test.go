package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/hallmark-dev/hallmark/internal/hmtest/output"
)

// cluster is a real kube-apiserver on a real etcd, without nodes and controllers: what takes
// or refuses objects, fills in defaults and admits pods.
type cluster struct {
	t      *testing.T
	url    string
	client *http.Client
}

// newCluster starts one, which ends with the test.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	apiserver, etcd := filepath.Join(builtTools(), "kube-apiserver"), filepath.Join(builtTools(), "etcd")
	for _, path := range []string{apiserver, etcd} {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%v: run tools/install.sh test", err)
		}
	}
	dir := t.TempDir()
	address := freeAddress(t)
	ip, port, _ := net.SplitHostPort(address)
	ca := issue(t, dir, "ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	issue(t, dir, "server", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.ParseIP(ip)}}, ca)
	admin := issue(t, dir, "admin", &x509.Certificate{Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca)
	in := func(name string) string { return filepath.Join(dir, name) }
	store := "http://" + freeAddress(t)
	peers := "http://" + freeAddress(t)
	etcdEnded := runUntilEnd(t, "etcd", etcd, "--data-dir="+in("etcd"), "--unsafe-no-fsync", "--log-level=error", "--listen-client-urls="+store, "--advertise-client-urls="+store,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers)
	ended := runUntilEnd(t, "kube-apiserver", apiserver, "--etcd-servers="+store, "--bind-address="+ip, "--advertise-address="+ip, "--secure-port="+port, "--cert-dir="+dir,
		"--endpoint-reconciler-type=none", "--tls-cert-file="+in("server.crt"), "--tls-private-key-file="+in("server.key"), "--client-ca-file="+in("ca.crt"),
		"--anonymous-auth=false", "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-signing-key-file="+in("ca.key"), "--service-account-key-file="+in("ca.crt"))
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	c := &cluster{t, "https://" + address, &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{*admin}}}}}
	for { // as long as the machine takes: go test has a limit
		status, _, err := c.try("GET", "/api/v1/namespaces/kube-system", "", nil)
		if err == nil && status == http.StatusOK {
			return c
		}
		select {
		case <-etcdEnded:
			t.Fatal("etcd has ended")
		case <-ended:
			t.Fatalf("kube-apiserver has ended; it answered %d, %v", status, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// runUntilEnd starts a program that ends with the test, also with one that is killed, and
// shows what it said if that fails. The channel is closed when it has ended.
func runUntilEnd(t *testing.T, name, path string, args ...string) (ended <-chan struct{}) {
	t.Helper()
	var said output.Buffer
	c := exec.Command(path, args...)
	c.Stdout, c.Stderr = &said, &said
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() { _ = c.Wait(); close(over) }()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-over
		if text := said.String(); t.Failed() {
			t.Logf("%s: %s", name, text[max(0, len(text)-4000):])
		}
	})
	return over
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := ownAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// issue makes a key and its certificate, by itself without a CA, as files.
func issue(t *testing.T, dir, name string, c *x509.Certificate, by *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if c.Subject.CommonName == "" {
		c.Subject.CommonName = name
	}
	parent, signer := c, crypto.Signer(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey.(crypto.Signer)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for file, data := range map[string][]byte{name + ".crt": certificate, name + ".key": secret} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(certificate, secret)
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

// try asks the API. A warning in the answer fails the test.
func (c *cluster) try(method, path, contentType string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequest(method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	for _, w := range resp.Header.Values("Warning") {
		c.t.Errorf("%s %s: warning %s", method, path, w)
	}
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func (c *cluster) must(method, path string, body any) []byte {
	c.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	status, answer, err := c.try(method, path, "application/json", data)
	if err != nil || status/100 != 2 {
		c.t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
	}
	return answer
}

// namespace makes one that takes only restricted pods.
func (c *cluster) namespace(name string) {
	c.t.Helper()
	c.must("POST", "/api/v1/namespaces", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name,
		"labels": map[string]string{"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}})
}

// apply is kubectl apply --server-side --validate=strict.
func (c *cluster) apply(namespace string, object map[string]any) (status int, answer []byte) {
	c.t.Helper()
	meta := object["metadata"].(map[string]any)
	version, kind := object["apiVersion"].(string), object["kind"].(string)
	base := "/apis/" + version
	if !strings.Contains(version, "/") {
		base = "/api/" + version
	}
	plural := strings.ToLower(kind) + "s"
	if rest, ok := strings.CutSuffix(plural, "ys"); ok { // NetworkPolicy
		plural = rest + "ies"
	} else if kind == "Ingress" {
		plural = "ingresses"
	}
	data, err := json.Marshal(object)
	if err != nil {
		c.t.Fatal(err)
	}
	path := fmt.Sprintf("%s/namespaces/%s/%s/%s?fieldManager=test&fieldValidation=Strict", base, namespace, plural, meta["name"])
	status, answer, err = c.try("PATCH", path, "application/apply-patch+yaml", data)
	if err != nil {
		c.t.Fatal(err)
	}
	return status, answer
}

// dropped is what of want, which was sent, is not in got, which was stored.
func dropped(path string, want, got any) []string {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		var out []string
		for name, value := range w {
			if value == nil || reflect.DeepEqual(value, map[string]any{}) || reflect.DeepEqual(value, []any{}) {
				continue // says nothing
			}
			out = append(out, dropped(path+"."+name, value, g[name])...)
		}
		return out
	case []any:
		g, _ := got.([]any)
		if len(g) != len(w) {
			return []string{fmt.Sprintf("%s: %v instead of %v", path, got, want)}
		}
		var out []string
		for i := range w {
			out = append(out, dropped(fmt.Sprintf("%s[%d]", path, i), w[i], g[i])...)
		}
		return out
	}
	if !reflect.DeepEqual(want, got) {
		return []string{fmt.Sprintf("%s: %v instead of %v", path, got, want)}
	}
	return nil
}

// TestChartOnKubernetes applies all that the chart renders to a real API server, as kubectl
// does with strict validation: nothing is refused, warned of or dropped, a second time changes
// nothing, pods are admitted where only restricted ones are, and what the server fills in is
// what the chart counts on. What is almost right is refused, with the name of what is wrong.
func TestChartOnKubernetes(t *testing.T) {
	t.Parallel()
	c, chart := newCluster(t), loadChart(t)
	objectsOf := func(values string) (out []map[string]any) {
		t.Helper()
		docs, err := render(chart, values)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range docs {
			var o map[string]any
			if err := yaml.Unmarshal([]byte(strings.ReplaceAll(doc, "namespace: trust", "")), &o); err != nil {
				t.Fatal(err)
			}
			if o["kind"] != "ServiceMonitor" { // the Prometheus operator's, whose definition is not here
				out = append(out, o)
			}
		}
		return out
	}
	gcp := strings.Replace(everything, "log: {enabled: true}\n", "log: {enabled: true, storage: {driver: gcp, bucket: log, spanner: projects/p/instances/i/databases/d}, checkpointEvery: 5s}\n", 1)
	for name, values := range map[string]string{"minimal": "url: https://sigstore.example.com", "everything": everything, "gcp": gcp} {
		c.namespace(name)
		workloads := map[string]map[string]any{}
		for _, o := range objectsOf(values) {
			title := fmt.Sprint(name, ": ", o["kind"], " ", o["metadata"].(map[string]any)["name"])
			versions := map[string]bool{}
			for range 2 {
				status, answer := c.apply(name, o)
				if status/100 != 2 {
					t.Fatalf("%s is refused: %d %s", title, status, answer)
				}
				var stored map[string]any
				if err := json.Unmarshal(answer, &stored); err != nil {
					t.Fatal(err)
				}
				for _, d := range dropped("", o, stored) {
					t.Errorf("%s: %s", title, d)
				}
				versions[fmt.Sprint(stored["metadata"].(map[string]any)["resourceVersion"])] = true
				c.checkDefaults(title, answer)
				workloads[title] = stored
			}
			if len(versions) != 1 {
				t.Errorf("%s: applying it again changes it", title)
			}
		}
		for title, stored := range workloads {
			c.checkAdmitted(name, title, stored)
		}
	}

	// Near misses. The schema of the chart leaves to Kubernetes what is Kubernetes' own.
	c.namespace("wrong")
	for what, wrong := range map[string]struct{ values, want string }{
		"a peer's misspelt field":  {"url: https://sigstore.example.com\nnetworkPolicy: {from: [{namespaceSelectors: {}}]}", ".spec.ingress[0].from[0].namespaceSelectors: field not declared in schema"},
		"a limit that is no size":  {"url: https://sigstore.example.com\nup: {resources: {limits: {memory: 1GB}}}", "quantities must match the regular expression"},
		"a request over the limit": {"url: https://sigstore.example.com\nup: {resources: {requests: {memory: 2Gi}, limits: {memory: 1Gi}}}", "must be less than or equal to memory limit"},
		"a label that is none":     {"url: https://sigstore.example.com\nnetworkPolicy: {from: [{podSelector: {matchLabels: {app: \"not a label\"}}}]}", "a valid label must be"},
	} {
		refused := false
		for _, o := range objectsOf(wrong.values) {
			if status, answer := c.apply("wrong", o); status/100 != 2 {
				refused = true
				if !strings.Contains(string(answer), wrong.want) {
					t.Errorf("%s: %d %s", what, status, answer)
				}
			}
		}
		if !refused {
			t.Errorf("%s is taken", what)
		}
	}
}

// checkDefaults holds what the server has filled in to what the chart counts on.
func (c *cluster) checkDefaults(title string, stored []byte) {
	c.t.Helper()
	var kind struct{ Kind string }
	_ = json.Unmarshal(stored, &kind)
	read := func(v any) {
		if err := json.Unmarshal(stored, v); err != nil {
			c.t.Fatal(err)
		}
	}
	pod := func(p corev1.PodSpec) {
		c.t.Helper()
		if p.RestartPolicy != corev1.RestartPolicyAlways || p.TerminationGracePeriodSeconds == nil || *p.TerminationGracePeriodSeconds < 30 {
			c.t.Errorf("%s: restart %s, grace %v", title, p.RestartPolicy, p.TerminationGracePeriodSeconds)
		}
	}
	switch kind.Kind {
	case "StatefulSet":
		var o appsv1.StatefulSet
		read(&o)
		pod(o.Spec.Template.Spec)
		keep := o.Spec.PersistentVolumeClaimRetentionPolicy
		if o.Spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType || keep == nil || keep.WhenDeleted != appsv1.RetainPersistentVolumeClaimRetentionPolicyType || keep.WhenScaled != appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
			c.t.Errorf("%s: %+v, %+v", title, o.Spec.UpdateStrategy, keep)
		}
		for _, claim := range o.Spec.VolumeClaimTemplates {
			if len(claim.Spec.AccessModes) != 1 || claim.Spec.VolumeMode == nil || *claim.Spec.VolumeMode != corev1.PersistentVolumeFilesystem {
				c.t.Errorf("%s: claim %+v", title, claim.Spec)
			}
		}
	case "Deployment":
		var o appsv1.Deployment
		read(&o)
		pod(o.Spec.Template.Spec)
		if o.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
			c.t.Errorf("%s: %+v", title, o.Spec.Strategy)
		}
	case "Service":
		var o corev1.Service
		read(&o)
		if o.Spec.Type != corev1.ServiceTypeClusterIP || len(o.Spec.Selector) == 0 || len(o.Spec.Ports) == 0 {
			c.t.Errorf("%s: %+v", title, o.Spec)
		}
	case "NetworkPolicy":
		var o networkingv1.NetworkPolicy
		read(&o)
		if len(o.Spec.PolicyTypes) == 0 || len(o.Spec.PodSelector.MatchLabels) == 0 {
			c.t.Errorf("%s: %+v", title, o.Spec)
		}
	}
}

// checkAdmitted makes a pod of a workload's template, as its controller would.
func (c *cluster) checkAdmitted(namespace, title string, stored map[string]any) {
	c.t.Helper()
	spec, _ := stored["spec"].(map[string]any)
	template, ok := spec["template"].(map[string]any)
	if !ok {
		return
	}
	pod := map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
	meta := map[string]any{"generateName": "sig-"}
	for name, value := range template["metadata"].(map[string]any) {
		if value != nil {
			meta[name] = value
		}
	}
	pod["metadata"] = meta
	// A StatefulSet's controller adds the claims; the volumes that they are must be there.
	volumes, _ := pod["spec"].(map[string]any)["volumes"].([]any)
	claims, _ := spec["volumeClaimTemplates"].([]any)
	for _, claim := range claims {
		name := claim.(map[string]any)["metadata"].(map[string]any)["name"]
		volumes = append(volumes, map[string]any{"name": name, "persistentVolumeClaim": map[string]any{"claimName": fmt.Sprint(name, "-0")}})
	}
	pod["spec"].(map[string]any)["volumes"] = volumes
	data, err := json.Marshal(pod)
	if err != nil {
		c.t.Fatal(err)
	}
	if status, answer, err := c.try("POST", "/api/v1/namespaces/"+namespace+"/pods?dryRun=All&fieldValidation=Strict", "application/json", data); err != nil || status/100 != 2 {
		c.t.Errorf("%s: its pod is refused: %d %s %v", title, status, answer, err)
	}
}
