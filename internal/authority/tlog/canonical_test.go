package tlog

import (
	"math/rand/v2"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/google/go-cmp/cmp"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// entrySchema is dev.sigstore.rekor.v2.Entry: the field names are what counts
// for its JSON, so the numbers are not those of the original.
func entrySchema(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	field := func(name string, n int32, typeName string) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &n, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		switch typeName {
		case "string":
			f.Type = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
		case "bytes":
			f.Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
		case ".dev.sigstore.common.v1.PublicKeyDetails":
			f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_ENUM.Enum(), &typeName
		default:
			f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), &typeName
		}
		return f
	}
	message := func(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
		return &descriptorpb.DescriptorProto{Name: &name, Field: fields}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("entry.proto"), Package: proto.String("t"), Syntax: proto.String("proto3"),
		Dependency: []string{common.File_sigstore_common_proto.Path()},
		MessageType: []*descriptorpb.DescriptorProto{
			message("Entry", field("kind", 1, "string"), field("api_version", 2, "string"), field("spec", 3, ".t.Spec")),
			message("Spec", field("hashed_rekord_v002", 1, ".t.HashedRekord")),
			message("HashedRekord", field("signature", 1, ".t.Signature"), field("data", 2, ".dev.sigstore.common.v1.HashOutput")),
			message("Signature", field("content", 1, "bytes"), field("verifier", 2, ".t.Verifier")),
			message("Verifier", field("public_key", 1, ".t.PublicKey"), field("x509_certificate", 2, ".dev.sigstore.common.v1.X509Certificate"),
				field("key_details", 3, ".dev.sigstore.common.v1.PublicKeyDetails")),
			message("PublicKey", field("raw_bytes", 1, "bytes")),
		},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// set fills m from nested maps by field name.
func set(m protoreflect.Message, values map[protoreflect.Name]any) {
	for name, v := range values {
		f := m.Descriptor().Fields().ByName(name)
		if sub, ok := v.(map[protoreflect.Name]any); ok {
			set(m.Mutable(f).Message(), sub)
			continue
		}
		m.Set(f, protoreflect.ValueOf(v))
	}
}

func TestCanonicalIsProtojsonAndJCS(t *testing.T) {
	t.Parallel()
	file := entrySchema(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	type object = map[protoreflect.Name]any
	for i := range 3000 {
		e := &entry{
			algorithm: &algorithms[i%len(algorithms)], certificate: rnd.IntN(2) == 0,
			digest: random(1 + rnd.IntN(64)), signature: random(1 + rnd.IntN(512)), verifier: random(1 + rnd.IntN(2000)),
		}
		details, ok := common.PublicKeyDetails_value[e.algorithm.name]
		if !ok || int64(details) != e.algorithm.number {
			t.Fatalf("%s has number %d", e.algorithm.name, details)
		}
		hash, ok := common.HashAlgorithm_value[e.algorithm.hashName]
		if !ok {
			t.Fatalf("no hash %s", e.algorithm.hashName)
		}
		verifier := protoreflect.Name("public_key")
		if e.certificate {
			verifier = "x509_certificate"
		}
		m := dynamicpb.NewMessage(file.Messages().ByName("Entry"))
		set(m, object{"kind": "hashedrekord", "api_version": "0.0.2", "spec": object{"hashed_rekord_v002": object{
			"data": object{"algorithm": protoreflect.EnumNumber(hash), "digest": e.digest},
			"signature": object{"content": e.signature, "verifier": object{
				verifier: object{"raw_bytes": e.verifier}, "key_details": protoreflect.EnumNumber(details),
			}},
		}}})
		loose, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		want, err := jsoncanonicalizer.Transform(loose)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(e.canonical())); diff != "" {
			t.Fatal(diff)
		}
	}
}
