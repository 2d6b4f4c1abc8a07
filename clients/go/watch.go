package shoreguard

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	pb "example.com/shoreguard/client/shoreguardv1"
)

// Watch is a stream that resumes where the connection was lost, without loss:
//
//	events := c.WatchEvents(ctx, &pb.WatchEventsRequest{})
//	for events.Next() {
//		fmt.Println(events.Item().Sequence, events.Item().Name)
//	}
//	return events.Err()
//
// The end of its context ends it. If events after its position were deleted by retention, its error has Oldest.
type Watch[Item any] struct {
	ctx      context.Context
	cancel   context.CancelFunc
	open     func(ctx context.Context, position int64) (receive[Item], error)
	receive  receive[Item]
	stop     context.CancelFunc
	position int64
	// isBegun is whether the server has accepted the watch once.
	isBegun bool
	// isAccepted is whether the server has accepted the credential of the present connection.
	isAccepted bool
	// isLate is whether the watch has ended since its context would have ended before it resumed.
	isLate   bool
	failures int
	item     Item
	err      error
}

// receive returns the next item, or hasItem false if only the position moves.
type receive[Item any] func() (item Item, hasItem bool, position int64, err error)

// response is a stream of responses.
type response[Message any] interface {
	Recv() (Message, error)
	Header() (metadata.MD, error)
}

func newWatch[Item, Message any, Stream response[Message]](
	ctx context.Context, position int64,
	open func(ctx context.Context, position int64) (Stream, error),
	read func(Message) (item Item, hasItem bool, position int64),
) *Watch[Item] {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watch[Item]{ctx: ctx, cancel: cancel, position: position}
	w.open = func(ctx context.Context, position int64) (receive[Item], error) {
		s, err := open(ctx, position)
		if err != nil {
			return nil, err
		}
		if header, err := s.Header(); err == nil && len(header.Get("content-type")) > 0 {
			w.isBegun, w.isAccepted = true, true
		}
		return func() (Item, bool, int64, error) {
			m, err := s.Recv()
			if err != nil {
				var none Item
				return none, false, 0, err
			}
			item, hasItem, position := read(m)
			return item, hasItem, position, nil
		}, nil
	}
	return w
}

// WatchEvents watches events.
func (c *Client) WatchEvents(ctx context.Context, request *pb.WatchEventsRequest) *Watch[*pb.Event] {
	open := func(ctx context.Context, position int64) (pb.EventService_WatchEventsClient, error) {
		asked := &pb.WatchEventsRequest{AfterSequence: position, Gateway: request.Gateway, Names: request.Names}
		return c.Events.WatchEvents(ctx, asked)
	}
	return newWatch(ctx, request.AfterSequence, open, func(m *pb.WatchEventsResponse) (*pb.Event, bool, int64) {
		return m.Event, m.Event != nil, m.Sequence
	})
}

// WatchGateways watches gateways. After it has resumed, the present state of each is sent again.
func (c *Client) WatchGateways(ctx context.Context, request *pb.WatchGatewaysRequest) *Watch[*pb.WatchGatewaysResponse] {
	open := func(ctx context.Context, position int64) (pb.GatewayService_WatchGatewaysClient, error) {
		return c.Gateways.WatchGateways(ctx, &pb.WatchGatewaysRequest{AfterSequence: position})
	}
	read := func(m *pb.WatchGatewaysResponse) (*pb.WatchGatewaysResponse, bool, int64) {
		return m, m.Change != nil, m.Sequence
	}
	return newWatch(ctx, request.AfterSequence, open, read)
}

// WatchApprovals watches approvals.
func (c *Client) WatchApprovals(ctx context.Context, request *pb.WatchApprovalsRequest) *Watch[*pb.Approval] {
	open := func(ctx context.Context, position int64) (pb.ApprovalService_WatchApprovalsClient, error) {
		return c.Approvals.WatchApprovals(ctx, &pb.WatchApprovalsRequest{Filter: request.Filter, Cursor: position})
	}
	return newWatch(ctx, request.Cursor, open, func(m *pb.WatchApprovalsResponse) (*pb.Approval, bool, int64) {
		return m.Approval, m.Approval != nil, m.Cursor
	})
}

// Next waits for the next item. It returns false when the watch has ended: see Err.
func (w *Watch[Item]) Next() bool {
	for w.err == nil {
		if w.receive == nil {
			ctx, stop := context.WithCancel(w.ctx)
			opened, err := w.open(ctx, w.position)
			if err != nil {
				stop()
				w.lost(err)
				continue
			}
			w.receive, w.stop = opened, stop
		}
		item, hasItem, position, err := w.receive()
		if err != nil {
			w.stop()
			w.receive = nil
			w.lost(err)
			continue
		}
		w.isBegun, w.failures, w.position = true, 0, position
		if hasItem {
			w.item = item
			return true
		}
	}
	w.cancel()
	return false
}

// lost waits before the watch resumes, or ends it. The first attempts are those of any call. From now on (-1) has no
// position until the first message: to resume there would skip events silently.
func (w *Watch[Item]) lost(err error) {
	e := translate(err)
	ended := errors.Is(err, io.EOF)
	// A session token that expires meanwhile is replaced for the next connection.
	expired := w.isAccepted && e.Code == codes.Unauthenticated && w.failures < attempts
	w.isAccepted = false
	mayResume := w.isBegun && w.position >= 0 || !w.isBegun && w.failures+1 < attempts
	if w.ctx.Err() != nil || !mayResume || !ended && !expired && !isLost(e) {
		w.err = e
		return
	}
	if !pause(w.ctx, w.failures, e) {
		w.err, w.isLate = e, w.ctx.Err() == nil
	}
	w.failures++
}

// isLost returns whether a stream broke off although the server did not end it.
func isLost(e *Error) bool {
	if e.Code == codes.Unavailable {
		return true
	}
	if e == errClosed {
		return false
	}
	isBroken := e.Code == codes.Canceled || e.Code == codes.Internal || e.Code == codes.Unknown
	return isBroken && e.Reason == ""
}

// Item returns the item that Next has found.
func (w *Watch[Item]) Item() Item { return w.item }

// Position returns where a later watch continues: everything up to here was received.
func (w *Watch[Item]) Position() int64 { return w.position }

// Err returns why the watch has ended.
func (w *Watch[Item]) Err() error { return w.err }

// Close ends the watch.
func (w *Watch[Item]) Close() { w.cancel() }

// Wait follows an operation to its end, even when the connection is lost, and returns its final state. progress is
// called when percentage or message have changed; it can be nil. An operation without success is an *OperationFailed.
// The end of ctx ends the wait and not the operation: CancelOperation does that.
func (c *Client) Wait(
	ctx context.Context, operation *pb.Operation, progress func(*pb.Operation),
) (*pb.Operation, error) {
	open := func(ctx context.Context, _ int64) (pb.OperationService_WatchOperationClient, error) {
		return c.Operations.WatchOperation(ctx, &pb.WatchOperationRequest{Operation: operation.GetId()})
	}
	states := newWatch(ctx, 0, open, func(m *pb.WatchOperationResponse) (*pb.Operation, bool, int64) {
		return m.Operation, m.Operation != nil, 0
	})
	defer states.Close()
	last := operation
	for states.Next() {
		state := states.Item()
		moved := state.ProgressPercent != last.ProgressPercent || state.ProgressMessage != last.ProgressMessage
		last = state
		if moved && progress != nil {
			progress(state)
		}
		switch state.Status {
		case pb.OperationStatus_OPERATION_STATUS_SUCCEEDED:
			return state, nil
		case pb.OperationStatus_OPERATION_STATUS_FAILED:
			return state, &OperationFailed{Operation: state}
		}
	}
	// The server can see the end of the time before this context does.
	isLate := states.isLate || errors.Is(states.Err(), ErrDeadlineExceeded)
	if isLate || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		why := "operation " + operation.GetId() + " has not ended in time; it continues"
		return last, &Error{Code: codes.DeadlineExceeded, Message: why}
	}
	return last, states.Err()
}
