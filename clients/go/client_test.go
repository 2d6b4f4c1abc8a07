package shoreguard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "example.com/shoreguard/client/shoreguardv1"
)

// server is a real server with two simulated gateways. It keeps its port when it is restarted. The port is most likely
// still free: Linux prefers other ports for connections, and chooses those of listeners at random.
type server struct {
	folder, address, key string
	process              *exec.Cmd
}

func newServer(t *testing.T) *server {
	s := &server{folder: t.TempDir(), address: "127.0.0.1:0"}
	s.run(t)
	t.Cleanup(func() { s.stop(syscall.SIGTERM) })
	return s
}

func (s *server) run(t *testing.T) {
	t.Helper()
	program := os.Getenv("SHOREGUARD_BIN")
	data := filepath.Join(s.folder, "data")
	s.process = exec.Command(program, "dev", "--json", "--data", data, "--listen", s.address)
	s.process.Env = []string{"HOME=" + s.folder}
	s.process.Stderr = os.Stderr
	out, err := s.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	var printed struct {
		AdminKey string `json:"admin_key"`
		Listen   string `json:"listen"`
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &printed)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.key, s.address = printed.AdminKey, printed.Listen
}

func (s *server) stop(signal os.Signal) {
	s.process.Process.Signal(signal)
	s.process.Wait()
}

func (s *server) client(t *testing.T, key string) *Client {
	t.Helper()
	return connect(t, s.address, key)
}

func connect(t *testing.T, address, key string) *Client {
	t.Helper()
	c, err := New(Options{Endpoint: "http://" + address, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// persist repeats a call for as long as a restart takes, which can be longer than the attempts of one call.
func persist(call func() error) error {
	for {
		if err := call(); !errors.Is(err, ErrUnavailable) {
			return err
		}
	}
}

// proxy forwards connections and can lose answers.
type proxy struct {
	net.Listener
	mutex sync.Mutex
	lose  int
	open  []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: listener}
	t.Cleanup(func() { listener.Close(); p.drop() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			p.mutex.Lock()
			p.open = append(p.open, client, server)
			p.mutex.Unlock()
			go func() { io.Copy(server, client); server.Close() }()
			go func() { p.answer(client, server); client.Close(); server.Close() }()
		}
	}()
	return p
}

func (p *proxy) answer(client, server net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		p.mutex.Lock()
		// Acknowledged settings and pings are short; an answer has headers and a message.
		isLost := p.lose > 0 && n > 60
		if isLost {
			p.lose--
		}
		p.mutex.Unlock()
		if isLost {
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// drop ends all connections.
func (p *proxy) drop() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, conn := range p.open {
		conn.Close()
	}
	p.open = nil
}

func TestListsAndErrors(t *testing.T) {
	s, ctx := newServer(t), limited(t)
	c := s.client(t, s.key)
	gateways := List[*pb.Gateway](ctx, c.Gateways.ListGateways, &pb.ListGatewaysRequest{PageSize: 1})
	all, err := gateways.All()
	if err != nil || len(all) != 2 || all[0].Name != "dev-0-0" || all[1].Name != "dev-0-1" {
		t.Fatal(all, err)
	}
	events, err := List[*pb.Event](ctx, c.Events.ListEvents, &pb.ListEventsRequest{PageSize: 2}).All()
	if err != nil {
		t.Fatal(err)
	}
	for at, event := range events {
		if event.Sequence != int64(at+1) {
			t.Fatal(events)
		}
	}
	_, err = c.Gateways.GetGateway(ctx, &pb.GetGatewayRequest{Gateway: "nope"})
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrNotFound) || errors.Is(err, ErrAborted) {
		t.Fatal(err)
	}
	if !e.Has(pb.ErrorReason_ERROR_REASON_NOT_FOUND) || *e.Resource != (Resource{"gateway", "nope"}) {
		t.Fatal(e.Reason, e.Resource)
	}
	text := "NOT_FOUND: gateway `nope` does not exist [NOT_FOUND] (request " + e.RequestID + ")"
	if len(e.RequestID) != 36 || err.Error() != text {
		t.Fatal(err)
	}
	_, err = c.Gateways.ListGateways(ctx, &pb.ListGatewaysRequest{PageSize: -1})
	if !errors.As(err, &e) || e.Fields["page_size"] != "must be 0 to 1000, got -1" {
		t.Fatal(err)
	}
	// A stale credential does not make a public method fail.
	stale := s.client(t, "sg_stale")
	if _, err := stale.Auth.GetServerInfo(ctx, &pb.GetServerInfoRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stale.Auth.GetCurrentIdentity(ctx, &pb.GetCurrentIdentityRequest{}); !errors.Is(err, ErrUnauthenticated) {
		t.Fatal(err)
	}
}

func TestOperations(t *testing.T) {
	s, ctx := newServer(t), limited(t)
	c := s.client(t, s.key)
	begun, err := c.Sandboxes.CreateSandbox(ctx, &pb.CreateSandboxRequest{Gateway: "dev-0-1", Name: "go-1"})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	done, err := c.Wait(ctx, begun.Operation, func(state *pb.Operation) {
		text := fmt.Sprint(state.ProgressPercent, state.ProgressMessage)
		if seen[text] {
			t.Error("a state is reported twice:", text)
		}
		seen[text] = true
	})
	if err != nil || done.Sandbox != "go-1" || len(seen) == 0 {
		t.Fatal(done, err)
	}
	command := &pb.StartExecSandboxRequest{Gateway: "dev-0-1", Sandbox: "go-1", Command: []string{"sleep", "60"}}
	running, err := c.Sandboxes.StartExecSandbox(ctx, command)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err = c.Wait(short, running.Operation, nil); !errors.Is(err, ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if _, err = c.Operations.CancelOperation(ctx, &pb.CancelOperationRequest{Operation: running.Operation.Id}); err != nil {
		t.Fatal(err)
	}
	var failed *OperationFailed
	_, err = c.Wait(ctx, running.Operation, nil)
	if !errors.As(err, &failed) || failed.Operation.ErrorCode != pb.OperationErrorCode_OPERATION_ERROR_CODE_CANCELLED {
		t.Fatal(err)
	}
}

func TestWaitWithoutServerIsLate(t *testing.T) {
	// No program listens on port 1, which only root could use.
	c := connect(t, "127.0.0.1:1", "sg_a")
	ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
	defer cancel()
	// The first pause, of at least 200 ms, would end after the context.
	_, err := c.Wait(ctx, &pb.Operation{Id: "op-1"}, nil)
	if !errors.Is(err, ErrDeadlineExceeded) || !strings.Contains(err.Error(), "op-1 has not ended in time; it continues") {
		t.Fatal(err)
	}
}

func TestLostAnswerIsNoSecondWrite(t *testing.T) {
	s, ctx := newServer(t), limited(t)
	p := newProxy(t, s.address)
	c := connect(t, p.Addr().String(), s.key)
	if _, err := c.Gateways.ListGateways(ctx, &pb.ListGatewaysRequest{}); err != nil {
		t.Fatal(err)
	}
	p.mutex.Lock()
	p.lose = 1
	p.mutex.Unlock()
	request := &pb.CreateGroupRequest{Name: "once", Role: pb.Role_ROLE_VIEWER}
	created, err := c.Groups.CreateGroup(ctx, request)
	if err != nil || created.Group.Name != "once" || p.lose != 0 {
		t.Fatal(created, err)
	}
	if request.RequestId != "" {
		t.Fatal("the request of the caller was changed")
	}
	if _, err := c.Groups.CreateGroup(ctx, request); !errors.Is(err, ErrAlreadyExists) {
		t.Fatal("the next write has a key of its own:", err)
	}
}

func TestWatchSurvivesRestarts(t *testing.T) {
	s, ctx := newServer(t), limited(t)
	// A key of its own, since `dev` replaces those that it prints.
	made, err := s.client(t, s.key).ServicePrincipals.CreateServicePrincipal(ctx, &pb.CreateServicePrincipalRequest{
		Name: "stays", Role: pb.Role_ROLE_ADMIN,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := s.client(t, made.Key)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		name := fmt.Sprintf("after-%d", signal)
		watch := c.WatchEvents(ctx, &pb.WatchEventsRequest{})
		written := make(chan error, 1)
		for expected := int64(1); watch.Next(); expected++ {
			event := watch.Item()
			if event.Sequence != expected || watch.Position() != expected {
				t.Fatal(event.Sequence, "in place of", expected)
			}
			if expected == 1 {
				s.stop(signal)
				go func() {
					request := &pb.CreateGroupRequest{Name: name, Role: pb.Role_ROLE_VIEWER}
					request.RequestId, _ = newID()
					written <- persist(func() error {
						_, err := c.Groups.CreateGroup(ctx, request)
						return err
					})
				}()
				s.run(t)
			}
			if strings.Contains(event.PayloadJson, name) {
				break
			}
		}
		if err := watch.Err(); err != nil {
			t.Fatal(err)
		}
		watch.Close()
		if err := <-written; err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatchFromNowOnFailsInsteadOfSkipping(t *testing.T) {
	s, ctx := newServer(t), limited(t)
	p := newProxy(t, s.address)
	c := connect(t, p.Addr().String(), s.key)
	watch := c.WatchEvents(ctx, &pb.WatchEventsRequest{AfterSequence: -1, Names: []string{"group.created"}})
	ended := make(chan bool)
	go func() { ended <- watch.Next() }()
	for {
		select {
		case hasItem := <-ended:
			if hasItem || !errors.Is(watch.Err(), ErrUnavailable) {
				t.Fatal(watch.Err())
			}
			return
		case <-time.After(50 * time.Millisecond):
			p.drop()
		}
	}
}

func TestOpenShell(t *testing.T) {
	s, ctx := newServer(t), limited(t)
	c := s.client(t, s.key)
	if _, err := c.OpenShell(""); !errors.Is(err, ErrInvalidArgument) {
		t.Fatal(err)
	}
	conn, err := c.OpenShell("dev-0-1")
	if err != nil {
		t.Fatal(err)
	}
	// In place of a stub: messages without fields keep what they do not know.
	var response pb.LogoutResponse
	if err := conn.Invoke(ctx, "/openshell.v1.OpenShell/ListSandboxes", &pb.LogoutResponse{}, &response); err != nil {
		t.Fatal(err)
	}
	if len(response.ProtoReflect().GetUnknown()) == 0 {
		t.Fatal("the gateway has sandboxes")
	}
}
