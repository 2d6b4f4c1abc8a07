package shoreguard

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "example.com/shoreguard/client/shoreguardv1"
)

// turns is a server whose watches are answered in turns.
type turns struct {
	pb.UnimplementedEventServiceServer
	// asked gets the position of each watch.
	asked  chan int64
	answer func(number int, stream pb.EventService_WatchEventsServer) error
	number int
}

func (s *turns) WatchEvents(request *pb.WatchEventsRequest, stream pb.EventService_WatchEventsServer) error {
	s.asked <- request.AfterSequence
	number := s.number
	s.number++
	return s.answer(number, stream)
}

// serveTurns starts a server. answer gets the number of the watch, from 0: they follow each other.
func serveTurns(
	t *testing.T, answer func(number int, stream pb.EventService_WatchEventsServer) error,
) (c *Client, asked chan int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = make(chan int64, 10)
	server := grpc.NewServer()
	pb.RegisterEventServiceServer(server, &turns{asked: asked, answer: answer})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return connect(t, listener.Addr().String(), "sg_x"), asked
}

func sendEvent(stream pb.EventService_WatchEventsServer, sequence int64) error {
	event := &pb.Event{Sequence: sequence, Name: "group.created"}
	return stream.Send(&pb.WatchEventsResponse{Sequence: sequence, Event: event})
}

func TestAWatchEndsWithItsClient(t *testing.T) {
	ctx := limited(t)
	c, _ := serveTurns(t, func(_ int, stream pb.EventService_WatchEventsServer) error {
		if err := sendEvent(stream, 7); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	})
	watch := c.WatchEvents(ctx, &pb.WatchEventsRequest{})
	if !watch.Next() {
		t.Fatal(watch.Err())
	}
	hasMore := make(chan bool, 1)
	go func() { hasMore <- watch.Next() }()
	c.Close()
	select {
	case more := <-hasMore:
		if more || !errors.Is(watch.Err(), ErrCancelled) {
			t.Fatal(more, watch.Err())
		}
	case <-ctx.Done():
		t.Fatal("the watch did not end")
	}
	if _, err := c.Gateways.GetGateway(ctx, &pb.GetGatewayRequest{Gateway: "edge"}); !errors.Is(err, ErrCancelled) {
		t.Fatal(err)
	}
	closed := c.WatchEvents(ctx, &pb.WatchEventsRequest{})
	if closed.Next() || !errors.Is(closed.Err(), ErrCancelled) {
		t.Fatal(closed.Err())
	}
}

func TestAWatchResumesWhenTheTokenOfItsSessionExpires(t *testing.T) {
	expired := status.Error(codes.Unauthenticated, "no longer valid")
	c, asked := serveTurns(t, func(number int, stream pb.EventService_WatchEventsServer) error {
		// The third attempt is refused at once: the session has ended.
		if number < 2 {
			if err := sendEvent(stream, 7+int64(number)); err != nil {
				return err
			}
		}
		return expired
	})
	watch := c.WatchEvents(limited(t), &pb.WatchEventsRequest{})
	for sequence := int64(7); sequence < 9; sequence++ {
		if !watch.Next() || watch.Item().Sequence != sequence {
			t.Fatal(watch.Err())
		}
	}
	if watch.Next() || !errors.Is(watch.Err(), ErrUnauthenticated) {
		t.Fatal(watch.Err())
	}
	for _, position := range []int64{0, 7, 8} {
		if from := <-asked; from != position {
			t.Fatal(from, "in place of", position)
		}
	}
	if len(asked) > 0 {
		t.Fatal("the watch was resumed although it was refused")
	}
}

func TestAGatewayThatIsAwayIsNamed(t *testing.T) {
	away := func(context.Context, *pb.ListSandboxTemplatesRequest, ...grpc.CallOption) (*pb.ListSandboxTemplatesResponse, error) {
		return &pb.ListSandboxTemplatesResponse{GatewayUnreachable: true, GatewayError: "timed out"}, nil
	}
	list := List[*pb.SandboxTemplate](limited(t), away, &pb.ListSandboxTemplatesRequest{Gateway: "edge"})
	_, err := list.All()
	var incomplete *Incomplete
	if !errors.As(err, &incomplete) || incomplete.Unreachable[0].Gateway != "edge" {
		t.Fatal(err)
	}
}

func TestARefreshTokenIsUsedOnceAlsoIfItsSuccessorCannotBeStored(t *testing.T) {
	stored := withFolder(t, prodURL)
	putSession(t, stored, "old", true)
	ctx, used := limited(t), make(chan string, 2)
	s := due(&stored, used, "new")
	refresh := s.exchange
	s.exchange = func(ctx context.Context, token string) (*pb.RefreshSessionResponse, error) {
		// The new file cannot get its name then.
		drafts, err := filepath.Glob(filepath.Join(filepath.Dir(stored.credentials), ".credentials-*"))
		if err != nil || len(drafts) != 1 || os.Remove(drafts[0]) != nil {
			t.Error(drafts, err)
		}
		return refresh(ctx, token)
	}
	if _, err := s.token(ctx); !errors.Is(err, ErrInvalidArgument) {
		t.Fatal(err)
	}
	if token, err := s.token(ctx); token != "new" || err != nil {
		t.Fatal(token, err)
	}
	s.exchange = refresh
	s.mutex.Lock()
	s.current.expires = time.Now()
	s.mutex.Unlock()
	if token, err := s.token(ctx); token != "new" || err != nil {
		t.Fatal(token, err)
	}
	if one, two := <-used, <-used; one != "r-old" || two != "r-new" {
		t.Fatal(one, two)
	}
	if now := current(t, stored); now.refresh != "r-new" {
		t.Fatal(now.refresh)
	}
}
