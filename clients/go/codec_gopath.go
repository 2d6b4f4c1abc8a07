//go:build gopath

package shoreguard

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
)

// codec encodes with today's protobuf. Debian's grpc 1.33 uses the API before it, which panics on current messages.
// Current versions of grpc have such a codec already.
type codec struct{}

func (codec) Marshal(v interface{}) ([]byte, error)   { return proto.Marshal(v.(proto.Message)) }
func (codec) Unmarshal(b []byte, v interface{}) error { return proto.Unmarshal(b, v.(proto.Message)) }
func (codec) Name() string                            { return "proto" }

func init() { encoding.RegisterCodec(codec{}) }
