package shoreguard

import (
	"errors"
	"strings"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	pb "example.com/shoreguard/client/shoreguardv1"
)

// encode makes a message of texts, numbers and messages, in the order of their field numbers.
func encode(fields ...interface{}) []byte {
	var b []byte
	for at, field := range fields {
		number := protowire.Number(at + 1)
		switch v := field.(type) {
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), v)
		case []byte:
			b = protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), v)
		case int:
			b = protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), uint64(v))
		}
	}
	return b
}

func detail(name string, fields ...interface{}) *anypb.Any {
	return &anypb.Any{TypeUrl: "type.googleapis.com/google.rpc." + name, Value: encode(fields...)}
}

func failure(code codes.Code, details ...*anypb.Any) *Error {
	st := status.FromProto(&spb.Status{Code: int32(code), Message: "a sentence", Details: details})
	return translate(st.Err(), metadata.Pairs("x-request-id", "0190"))
}

func TestEveryReasonIsKnown(t *testing.T) {
	for number, name := range pb.ErrorReason_name {
		if number == 0 {
			continue
		}
		name = strings.TrimPrefix(name, "ERROR_REASON_")
		e := failure(codes.FailedPrecondition, detail("ErrorInfo", name, "shoreguard", encode("key", "fact")))
		if e.Reason != name || !e.Has(pb.ErrorReason(number)) || e.Metadata["key"] != "fact" {
			t.Fatal(name, e.Reason, e.Metadata)
		}
		if e.Error() != "FAILED_PRECONDITION: a sentence ["+name+"] (request 0190)" {
			t.Fatal(e)
		}
	}
	if e := failure(codes.Aborted, detail("ErrorInfo", "NEWER", "shoreguard")); e.Reason != "NEWER" {
		t.Fatal(e)
	}
}

func TestDetailsAreRead(t *testing.T) {
	e := failure(codes.OutOfRange,
		detail("RetryInfo", encode(1, 500_000_000)),
		detail("BadRequest", encode("page_size", "must be positive")),
		detail("ResourceInfo", "gateway", "a"),
		detail("ErrorInfo", "CURSOR_EXPIRED", "shoreguard", encode("oldest", "7")))
	if e.RetryAfter != 1500*time.Millisecond || e.Fields["page_size"] != "must be positive" {
		t.Fatal(e.RetryAfter, e.Fields)
	}
	if oldest, ok := e.Oldest(); !ok || oldest != 7 || *e.Resource != (Resource{"gateway", "a"}) {
		t.Fatal(oldest, e.Resource)
	}
	if !errors.Is(e, ErrOutOfRange) || status.Code(e) != codes.OutOfRange {
		t.Fatal(e)
	}
	if e := failure(codes.NotFound, &anypb.Any{TypeUrl: "type.googleapis.com/google.rpc.ErrorInfo", Value: []byte{0xff}}); e.Reason != "" {
		t.Fatal("bytes that are no message are ignored")
	}
}
