//go:build tools

// Package tools pins a real Kubernetes API server and its etcd, to which the tests of the
// chart apply what it renders.
package tools

import (
	_ "go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
