package admission

import (
	"fmt"
	"io"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// Object is one Kubernetes object with the images that it would run.
type Object struct {
	APIVersion, Kind string
	Namespace, Name  string
	Images           []*Image // in the order of the pod spec; none for kinds that run nothing

	doc *strictyaml.Document // nil for an element of a List
}

// Image is one image field of an object.
type Image struct {
	Field  string // "spec.containers[0].image"
	scalar *strictyaml.Scalar
}

// Ref is the reference as the object has it now.
func (i *Image) Ref() string { return i.scalar.Value }

// String names the object for people.
func (o *Object) String() string {
	s := o.Kind
	if o.Namespace != "" {
		return s + " " + o.Namespace + "/" + o.Name
	}
	return s + " " + o.Name
}

// The parts of Kubernetes objects that say what runs (k8s.io/api core/v1, apps/v1,
// batch/v1). Other fields are left to the API server.
type (
	objectHead struct {
		APIVersion string         `yaml:"apiVersion"`
		Kind       string         `yaml:"kind"`
		Metadata   objectMetadata `yaml:"metadata"`
		_          strictyaml.Open
	}
	objectMetadata struct {
		Name         string `yaml:"name"`
		GenerateName string `yaml:"generateName"`
		Namespace    string `yaml:"namespace"`
		_            strictyaml.Open
	}
	podSpec struct {
		InitContainers      []container `yaml:"initContainers"`
		Containers          []container `yaml:"containers"`
		EphemeralContainers []container `yaml:"ephemeralContainers"`
		Volumes             []volume    `yaml:"volumes"`
		Pos                 strictyaml.Pos
		_                   strictyaml.Open
	}
	container struct {
		Image strictyaml.Scalar `yaml:"image"`
		Pos   strictyaml.Pos
		_     strictyaml.Open
	}
	volume struct {
		Image *imageVolume `yaml:"image"`
		_     strictyaml.Open
	}
	imageVolume struct {
		Reference strictyaml.Scalar `yaml:"reference"`
		Pos       strictyaml.Pos
		_         strictyaml.Open
	}
	podTemplate struct {
		Spec podSpec `yaml:"spec"`
		_    strictyaml.Open
	}
	pod struct {
		Spec podSpec `yaml:"spec"`
		_    strictyaml.Open
	}
	bareTemplate struct { // core/v1 PodTemplate
		Template podTemplate `yaml:"template"`
		_        strictyaml.Open
	}
	workload struct { // Deployment and its like, Job
		Spec struct {
			Template podTemplate `yaml:"template"`
			_        strictyaml.Open
		} `yaml:"spec"`
		_ strictyaml.Open
	}
	cronJob struct {
		Spec struct {
			JobTemplate struct {
				Spec struct {
					Template podTemplate `yaml:"template"`
					_        strictyaml.Open
				} `yaml:"spec"`
				_ strictyaml.Open
			} `yaml:"jobTemplate"`
			_ strictyaml.Open
		} `yaml:"spec"`
		_ strictyaml.Open
	}
)

// specOf reads the pod spec of a kind; nil and false for kinds that run nothing.
func specOf(d *strictyaml.Document, apiVersion, kind string) (*podSpec, bool, error) {
	switch apiVersion + " " + kind {
	case "v1 Pod":
		var o pod
		err := d.Decode(&o)
		return &o.Spec, true, err
	case "v1 PodTemplate":
		var o bareTemplate
		err := d.Decode(&o)
		return &o.Template.Spec, true, err
	case "apps/v1 Deployment", "apps/v1 ReplicaSet", "apps/v1 StatefulSet", "apps/v1 DaemonSet", "batch/v1 Job", "v1 ReplicationController":
		var o workload
		err := d.Decode(&o)
		return &o.Spec.Template.Spec, true, err
	case "batch/v1 CronJob":
		var o cronJob
		err := d.Decode(&o)
		return &o.Spec.JobTemplate.Spec.Template.Spec, true, err
	}
	if runsNothing(apiVersion, kind) {
		return nil, false, nil
	}
	return nil, false, d.Pos.Errorf("%s %s is not judged: it is not known which images it runs", apiVersion, kind)
}

// runsNothing is the closed list of kinds that are known to name no image.
func runsNothing(apiVersion, kind string) bool {
	switch apiVersion {
	case "v1":
		switch kind {
		case "Namespace", "Service", "ServiceAccount", "ConfigMap", "Secret", "PersistentVolumeClaim", "PersistentVolume", "LimitRange", "ResourceQuota", "Endpoints":
			return true
		}
	case "networking.k8s.io/v1":
		return kind == "Ingress" || kind == "NetworkPolicy" || kind == "IngressClass"
	case "rbac.authorization.k8s.io/v1":
		return kind == "Role" || kind == "RoleBinding" || kind == "ClusterRole" || kind == "ClusterRoleBinding"
	case "policy/v1":
		return kind == "PodDisruptionBudget"
	case "autoscaling/v2", "autoscaling/v1":
		return kind == "HorizontalPodAutoscaler"
	}
	return false
}

// ParseObjects reads a manifest file: objects one after another, or a List. A
// kind whose images are not known is an error.
func ParseObjects(file string, data []byte) ([]*Object, error) {
	docs, err := strictyaml.Documents(file, data)
	if err != nil {
		return nil, err
	}
	var out []*Object
	for _, d := range docs {
		objects, err := parseDocument(d)
		if err != nil {
			return nil, err
		}
		out = append(out, objects...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no object in it", file)
	}
	return out, nil
}

func parseDocument(d *strictyaml.Document) ([]*Object, error) {
	var head objectHead
	if err := d.Decode(&head); err != nil {
		return nil, err
	}
	if head.APIVersion != "v1" || head.Kind != "List" {
		o, err := parseObject(d)
		if err != nil {
			return nil, err
		}
		o.doc = d
		return []*Object{o}, nil
	}
	items, err := d.Items("items")
	if err != nil {
		return nil, err
	}
	var out []*Object
	for _, item := range items {
		o, err := parseObject(item)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	if len(out) > 0 {
		out[0].doc = d // written back as one document
	}
	return out, nil
}

func parseObject(d *strictyaml.Document) (*Object, error) {
	var head objectHead
	if err := d.Decode(&head); err != nil {
		return nil, err
	}
	if head.APIVersion == "" || head.Kind == "" {
		return nil, d.Pos.Errorf("apiVersion and kind are missing")
	}
	o := &Object{APIVersion: head.APIVersion, Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name}
	if o.Name == "" {
		o.Name = head.Metadata.GenerateName
	}
	spec, runs, err := specOf(d, head.APIVersion, head.Kind)
	if err != nil || !runs {
		return o, err
	}
	if spec.Pos.Line == 0 {
		return nil, d.Pos.Errorf("%s without a pod spec", o.Kind)
	}
	if len(spec.Containers) == 0 {
		return nil, spec.Pos.Errorf("containers is missing")
	}
	return o, o.addImages(spec, d.Pos.Path)
}

// addImages lists the image fields of a pod spec, in the order in which they
// start; each must be there.
func (o *Object) addImages(spec *podSpec, prefix string) error {
	for _, list := range [][]container{spec.InitContainers, spec.Containers, spec.EphemeralContainers} {
		for i := range list {
			if list[i].Image.Value == "" {
				return list[i].Pos.Errorf("image is missing")
			}
			o.add(&list[i].Image, prefix)
		}
	}
	for i := range spec.Volumes {
		v := spec.Volumes[i].Image
		if v == nil {
			continue
		}
		if v.Reference.Value == "" {
			return v.Pos.Errorf("reference is missing")
		}
		o.add(&v.Reference, prefix)
	}
	return nil
}

func (o *Object) add(s *strictyaml.Scalar, prefix string) {
	field := strings.TrimPrefix(strings.TrimPrefix(s.Pos.Path, prefix), ".")
	o.Images = append(o.Images, &Image{Field: field, scalar: s})
}

// WriteYAML writes the objects as a manifest, with the images as they are now.
func WriteYAML(w io.Writer, objects []*Object) error {
	first := true
	for _, o := range objects {
		if o.doc == nil {
			continue
		}
		if !first {
			if _, err := io.WriteString(w, "---\n"); err != nil {
				return err
			}
		}
		first = false
		if err := o.doc.Encode(w); err != nil {
			return err
		}
	}
	return nil
}
