package shoreguard

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "example.com/shoreguard/client/shoreguardv1"
)

const (
	// attempts is how often one call is made at most.
	attempts = 5
	// firstDelay is the delay after the first attempt. It doubles up to delayMax.
	firstDelay = 250 * time.Millisecond
	delayMax   = 3 * time.Second
	// jitter is the share by which delays differ, so that clients do not return at once.
	jitter = 0.2
	// waitDefault is how long WaitOperation waits if the request does not say it.
	waitDefault = 25 * time.Second
	// waitMargin is what the answer of WaitOperation may take in addition.
	waitMargin = 10 * time.Second
	// own is the start of the paths of Shoreguard's methods.
	own = "/shoreguard.v1."
)

// backoff returns the delay after an attempt, from 0.
func backoff(attempt int) time.Duration {
	delay := delayMax
	if attempt < 4 {
		delay = firstDelay << attempt
	}
	return time.Duration(float64(delay) * (1 - jitter + 2*jitter*mathrand.Float64()))
}

// pause waits as long as the error says, or the backoff. It returns false without a wait if the context would end
// before, so that the caller gets the error of the server.
func pause(ctx context.Context, attempt int, err *Error) bool {
	delay := err.RetryAfter
	if delay == 0 {
		delay = backoff(attempt)
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= delay {
		return false
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// newID returns a random UUID.
func newID() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

// withKey returns a write with an idempotency key. The message of the caller is not changed, since it can be used
// again.
func withKey(request interface{}) (interface{}, error) {
	m, ok := request.(proto.Message)
	if !ok {
		return request, nil
	}
	fields := m.ProtoReflect().Descriptor().Fields()
	key := fields.ByName("request_id")
	// A list can have the same field as a filter.
	if key == nil || fields.ByName("page_token") != nil || m.ProtoReflect().Get(key).String() != "" {
		return request, nil
	}
	id, err := newID()
	if err != nil {
		return nil, err
	}
	m = proto.Clone(m)
	m.ProtoReflect().Set(key, protoreflect.ValueOfString(id))
	return m, nil
}

// unary gives each call its deadline, its credential, its key and its attempts.
func (c *Client) unary(
	ctx context.Context, method string, request, response interface{}, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	if c.isClosed.Load() {
		return errClosed
	}
	if !strings.HasPrefix(method, own) {
		// Which methods of a gateway may be repeated is known to the stock client.
		authenticated, err := c.authenticate(ctx, method)
		if err != nil {
			return err
		}
		return invoke(authenticated, method, request, response, conn, options...)
	}
	timeout := c.timeout
	if wait, ok := request.(*pb.WaitOperationRequest); ok {
		timeout = waitDefault + waitMargin
		if wait.Timeout != nil {
			timeout = wait.Timeout.AsDuration() + waitMargin
		}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	if !once[method] {
		var err error
		if request, err = withKey(request); err != nil {
			return err
		}
	}
	for attempt := 0; ; attempt++ {
		var header, trailer metadata.MD
		authenticated, err := c.authenticate(ctx, method)
		if err != nil {
			// It is not repeated: a refresh token is valid once, and whether it was used is not known.
			return translate(err)
		}
		received := []grpc.CallOption{grpc.Header(&header), grpc.Trailer(&trailer)}
		err = invoke(authenticated, method, request, response, conn, append(received, options...)...)
		if err == nil {
			return nil
		}
		e := translate(err, header, trailer)
		if e.Code != codes.Unavailable || once[method] || attempt+1 == attempts || !pause(ctx, attempt, e) {
			return e
		}
	}
}

// stream gives each stream its credential, and its errors their details.
func (c *Client) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
	open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	if c.isClosed.Load() {
		return nil, errClosed
	}
	authenticated, err := c.authenticate(ctx, method)
	if err != nil {
		return nil, translate(err)
	}
	s, err := open(authenticated, desc, conn, method, options...)
	if err != nil {
		return nil, translate(err)
	}
	if !strings.HasPrefix(method, own) {
		return s, nil
	}
	return &stream{s}, nil
}

// stream translates the errors of a stream. io.EOF is its regular end.
type stream struct{ grpc.ClientStream }

func (s *stream) RecvMsg(m interface{}) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil || errors.Is(err, errEnd) {
		return err
	}
	header, _ := s.ClientStream.Header()
	return translate(err, header, s.ClientStream.Trailer())
}
