package shoreguard

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	pb "example.com/shoreguard/client/shoreguardv1"
)

// Error says why a call was refused or has failed. Every error of this package is one, except for those of the context
// that a caller passes to Next, and of its own functions.
//
// errors.Is(err, ErrNotFound) compares the code; Has compares the reason.
type Error struct {
	// Code is the gRPC code.
	Code codes.Code
	// Message is the sentence of the server.
	Message string
	// Reason is the name of a value of pb.ErrorReason without its prefix, such as NOT_FOUND; empty if the server did
	// not make the error. A newer server can send others than those of this package.
	Reason string
	// RequestID is the id of the call in the server's log and audit log.
	RequestID string
	// RetryAfter says how long to wait before a repeat; 0 if the server did not say it.
	RetryAfter time.Duration
	// Fields has the invalid fields of the request, each with what is wrong.
	Fields map[string]string
	// Resource is the object that the error is about; nil if it is about none.
	Resource *Resource
	// Metadata has facts for programs. The comment of the reason in pb.ErrorReason names the keys.
	Metadata map[string]string

	status *status.Status
}

// Resource is an object that an error is about.
type Resource struct {
	Type string
	Name string
}

// Errors to compare with errors.Is: they match every error of their code.
var (
	ErrCancelled          = &Error{Code: codes.Canceled}
	ErrUnknown            = &Error{Code: codes.Unknown}
	ErrInvalidArgument    = &Error{Code: codes.InvalidArgument}
	ErrDeadlineExceeded   = &Error{Code: codes.DeadlineExceeded}
	ErrNotFound           = &Error{Code: codes.NotFound}
	ErrAlreadyExists      = &Error{Code: codes.AlreadyExists}
	ErrPermissionDenied   = &Error{Code: codes.PermissionDenied}
	ErrResourceExhausted  = &Error{Code: codes.ResourceExhausted}
	ErrFailedPrecondition = &Error{Code: codes.FailedPrecondition}
	ErrAborted            = &Error{Code: codes.Aborted}
	ErrOutOfRange         = &Error{Code: codes.OutOfRange}
	ErrUnimplemented      = &Error{Code: codes.Unimplemented}
	ErrInternal           = &Error{Code: codes.Internal}
	ErrUnavailable        = &Error{Code: codes.Unavailable}
	ErrDataLoss           = &Error{Code: codes.DataLoss}
	ErrUnauthenticated    = &Error{Code: codes.Unauthenticated}
)

var words = regexp.MustCompile(`([a-z])([A-Z])`)

func codeName(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	return strings.ToUpper(words.ReplaceAllString(code.String(), "${1}_${2}"))
}

// Error returns code, message, reason and request id.
func (e *Error) Error() string {
	text := codeName(e.Code) + ": " + e.Message
	if e.Reason != "" {
		text += " [" + e.Reason + "]"
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// Is reports whether target is an Error of the same code without a message, such as ErrNotFound.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code && other.Message == "" && other.status == nil
}

// Has reports whether the server gave this reason.
func (e *Error) Has(reason pb.ErrorReason) bool {
	return e.Reason == strings.TrimPrefix(reason.String(), "ERROR_REASON_")
}

// GRPCStatus returns the status of the call, for status.FromError.
func (e *Error) GRPCStatus() *status.Status {
	if e.status != nil {
		return e.status
	}
	return status.New(e.Code, e.Message)
}

var number = regexp.MustCompile(`\d+`)

// Oldest returns the sequence of the oldest stored event, if the error says that events at the position were deleted
// by retention (reason CURSOR_EXPIRED). To continue with a gap, watch after it, less 1.
func (e *Error) Oldest() (int64, bool) {
	if !e.Has(pb.ErrorReason_ERROR_REASON_CURSOR_EXPIRED) {
		return 0, false
	}
	text := e.Metadata["oldest"]
	if text == "" {
		text = number.FindString(e.Message)
	}
	oldest, err := strconv.ParseInt(text, 10, 64)
	return oldest, err == nil
}

// OperationFailed says that an operation has ended without success.
type OperationFailed struct {
	// Operation is its final state, with the results of the steps that were done.
	Operation *pb.Operation
}

func (e *OperationFailed) Error() string {
	reason := strings.TrimPrefix(e.Operation.ErrorCode.String(), "OPERATION_ERROR_CODE_")
	return fmt.Sprintf("operation %s failed: %s [%s]", e.Operation.Id, e.Operation.ErrorMessage, reason)
}

func invalid(field, why string) *Error {
	return &Error{Code: codes.InvalidArgument, Message: field + ": " + why, Fields: map[string]string{field: why}}
}

// translate makes an Error of what grpc returned. The metadata are those of the response.
func translate(err error, received ...metadata.MD) *Error {
	if own, ok := err.(*Error); ok {
		return own
	}
	st := status.Convert(err)
	e := &Error{Code: st.Code(), Message: st.Message(), status: st}
	for _, md := range received {
		if ids := md.Get("x-request-id"); len(ids) > 0 {
			e.RequestID = ids[0]
		}
	}
	// Details() needs the messages of google.rpc to be compiled in, and fails in grpc 1.33 in any case.
	for _, detail := range st.Proto().GetDetails() {
		fields := parse(detail.GetValue())
		switch strings.TrimPrefix(detail.GetTypeUrl(), "type.googleapis.com/google.rpc.") {
		case "ErrorInfo":
			e.Reason = fields.text(1)
			e.Metadata = map[string]string{}
			for _, entry := range fields[3] {
				pair := parse(entry.bytes)
				e.Metadata[pair.text(1)] = pair.text(2)
			}
		case "RetryInfo":
			for _, delay := range fields[1] {
				parts := parse(delay.bytes)
				e.RetryAfter = time.Duration(parts.number(1))*time.Second + time.Duration(parts.number(2))
			}
		case "BadRequest":
			e.Fields = map[string]string{}
			for _, violation := range fields[1] {
				parts := parse(violation.bytes)
				e.Fields[parts.text(1)] = parts.text(2)
			}
		case "ResourceInfo":
			e.Resource = &Resource{Type: fields.text(1), Name: fields.text(2)}
		}
	}
	return e
}

// value is one field of an encoded message.
type value struct {
	bytes  []byte
	number uint64
}

// message has the fields of an encoded message by their numbers.
type message map[protowire.Number][]value

// parse reads a message as far as it can be read.
func parse(b []byte) message {
	fields := message{}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			break
		}
		b = b[n:]
		var v value
		switch kind {
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			break
		}
		b = b[n:]
		fields[number] = append(fields[number], v)
	}
	return fields
}

func (m message) text(number protowire.Number) string {
	if values := m[number]; len(values) > 0 {
		return string(values[len(values)-1].bytes)
	}
	return ""
}

func (m message) number(number protowire.Number) int64 {
	if values := m[number]; len(values) > 0 && values[len(values)-1].number <= math.MaxInt64 {
		return int64(values[len(values)-1].number)
	}
	return 0
}
