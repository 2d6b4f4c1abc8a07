package shoreguard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "example.com/shoreguard/client/shoreguardv1"
)

// step is a call without faults.
type step struct {
	Call    string
	Request json.RawMessage
}

// row is a row of clients/cases.json, which all SDKs run. The table itself says what each part means.
type row struct {
	step
	Name         string
	Kind         string
	Key          string
	Setup, Then  []step
	Faults       []json.RawMessage
	Deadline     float64 `json:"deadline_seconds"`
	Wait         float64 `json:"wait_seconds"`
	Take         int
	RestartAfter int `json:"restart_after"`
	Expect       struct {
		Response       interface{}
		Error          *expectedError
		Operation      string
		OperationError *struct{ Code, Message string } `json:"operation_error"`
		Attempts       int
		Seconds        []float64
		Items          []string
		ItemsContain   []string `json:"items_contain"`
		Unreachable    []string
		Progress       bool
		Gapless        bool
	}
}

type expectedError struct {
	Code, Reason, Message string
	Fields, Metadata      map[string]string
	Resource              *Resource
	RetryAfter            float64 `json:"retry_after_seconds"`
	RequestID             bool    `json:"request_id"`
	Oldest                int64
}

// outcome is what the user has seen.
type outcome struct {
	response    proto.Message
	names       []string
	sequences   []int64
	unreachable []string
	progress    []string
	err         error
}

type bench struct {
	Endpoint, Key, Control string
}

func startBench(t *testing.T, program string) *bench {
	process := exec.Command(program)
	process.Env = append(os.Environ(), "TEST_SHOREGUARD_BIN="+os.Getenv("SHOREGUARD_BIN"))
	process.Stderr = os.Stderr
	in, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); process.Wait() })
	b := &bench{}
	if err := json.NewDecoder(out).Decode(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) control(t *testing.T, method, path string, body interface{}) map[string]int {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequest(method, b.Control+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatal(path, response.Status)
	}
	counts := map[string]int{}
	if method == http.MethodGet {
		err = json.NewDecoder(response.Body).Decode(&counts)
	}
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// find returns the method of a client, and its request.
func find(c *Client, s step) (reflect.Value, proto.Message, error) {
	service, name, _ := strings.Cut(s.Call, "/")
	services := reflect.ValueOf(c.Services)
	for at := 0; at < services.NumField(); at++ {
		field := services.Field(at)
		if field.Type().Name() != service+"Client" {
			continue
		}
		method := field.MethodByName(name)
		request := reflect.New(method.Type().In(1).Elem()).Interface().(proto.Message)
		return method, request, protojson.Unmarshal(s.Request, request)
	}
	return reflect.Value{}, nil, fmt.Errorf("%s does not exist", s.Call)
}

func call(ctx context.Context, c *Client, s step) (proto.Message, error) {
	method, request, err := find(c, s)
	if err != nil {
		return nil, err
	}
	out := method.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(request)})
	if err, ok := out[1].Interface().(error); ok {
		return nil, err
	}
	return out[0].Interface().(proto.Message), nil
}

func (r *row) run(ctx context.Context, c *Client, disturb func(int)) (seen outcome) {
	if r.Deadline > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(r.Deadline*float64(time.Second)))
		defer cancel()
		ctx = limited
	}
	switch r.Kind {
	case "pages":
		_, request, err := find(c, r.step)
		if err != nil {
			return outcome{err: err}
		}
		switch request := request.(type) {
		case *pb.ListGatewaysRequest:
			read(&seen, List[*pb.Gateway](ctx, c.Gateways.ListGateways, request))
		case *pb.ListSandboxesRequest:
			read(&seen, List[*pb.Sandbox](ctx, c.Sandboxes.ListSandboxes, request))
		default:
			seen.err = fmt.Errorf("%T has no list in this test", request)
		}
	case "operation":
		var begun proto.Message
		if begun, seen.err = call(ctx, c, r.step); seen.err != nil {
			return seen
		}
		if r.Wait > 0 {
			limited, cancel := context.WithTimeout(ctx, time.Duration(r.Wait*float64(time.Second)))
			defer cancel()
			ctx = limited
		}
		operation := begun.(interface{ GetOperation() *pb.Operation }).GetOperation()
		seen.response, seen.err = c.Wait(ctx, operation, func(state *pb.Operation) {
			seen.progress = append(seen.progress, fmt.Sprint(state.ProgressPercent, " ", state.ProgressMessage))
		})
	case "watch":
		_, request, err := find(c, r.step)
		if err != nil {
			return outcome{err: err}
		}
		watch := c.WatchEvents(ctx, request.(*pb.WatchEventsRequest))
		defer watch.Close()
		for len(seen.sequences) < r.Take && watch.Next() {
			seen.sequences = append(seen.sequences, watch.Item().Sequence)
			disturb(len(seen.sequences))
		}
		seen.err = watch.Err()
	default:
		seen.response, seen.err = call(ctx, c, r.step)
	}
	return seen
}

func read[Item proto.Message](seen *outcome, list *Items[Item]) {
	for list.Next() {
		m := list.Item().ProtoReflect()
		seen.names = append(seen.names, m.Get(m.Descriptor().Fields().ByName("name")).String())
	}
	seen.err = list.Err()
	for _, gateway := range list.Unreachable {
		seen.unreachable = append(seen.unreachable, gateway.Gateway)
	}
}

func checkError(err error, expected *expectedError) error {
	var e *Error
	if !errors.As(err, &e) {
		return fmt.Errorf("no Error: %v", err)
	}
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(`"` + expected.Code + `"`)); err != nil {
		return err
	}
	wrong := e.Code != code || expected.Reason != "" && e.Reason != expected.Reason
	wrong = wrong || !strings.Contains(e.Message, expected.Message) || expected.RequestID && e.RequestID == ""
	for _, part := range []string{expected.Code, e.Message, e.Reason, e.RequestID} {
		wrong = wrong || !strings.Contains(e.Error(), part)
	}
	for name, part := range expected.Fields {
		wrong = wrong || !strings.Contains(e.Fields[name], part)
	}
	for name, part := range expected.Metadata {
		wrong = wrong || !strings.Contains(e.Metadata[name], part)
	}
	wrong = wrong || expected.Resource != nil && (e.Resource == nil || *e.Resource != *expected.Resource)
	wrong = wrong || expected.RetryAfter != 0 && e.RetryAfter.Seconds() != expected.RetryAfter
	oldest, _ := e.Oldest()
	if wrong || oldest != expected.Oldest {
		return fmt.Errorf("%+v in place of %+v", e, expected)
	}
	return nil
}

func contains(whole, part interface{}) bool {
	object, ok := part.(map[string]interface{})
	if !ok {
		return reflect.DeepEqual(whole, part)
	}
	of, _ := whole.(map[string]interface{})
	for key, value := range object {
		if !contains(of[key], value) {
			return false
		}
	}
	return true
}

func (r *row) check(seen outcome, took time.Duration, calls int) error {
	expect := r.Expect
	var failed *OperationFailed
	switch {
	case expect.Error != nil:
		if err := checkError(seen.err, expect.Error); err != nil {
			return err
		}
	case expect.OperationError != nil:
		if !errors.As(seen.err, &failed) {
			return fmt.Errorf("the operation has not failed: %v", seen.err)
		}
		for _, part := range []string{expect.OperationError.Code, expect.OperationError.Message, failed.Operation.Id} {
			if !strings.Contains(seen.err.Error(), part) {
				return seen.err
			}
		}
	case seen.err != nil:
		return seen.err
	}
	if expect.Response != nil {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(seen.response)
		var whole interface{}
		if err == nil {
			err = json.Unmarshal(text, &whole)
		}
		if err != nil || !contains(whole, expect.Response) {
			return fmt.Errorf("the response is %s (%v)", text, err)
		}
	}
	// A busy server can answer UNAVAILABLE by itself, which adds attempts.
	isMore := expect.Error == nil && calls > expect.Attempts
	if expect.Attempts != 0 && calls != expect.Attempts && !isMore {
		return fmt.Errorf("%d attempts in place of %d", calls, expect.Attempts)
	}
	if s := expect.Seconds; s != nil && (took.Seconds() < s[0] || took.Seconds() > s[1]) {
		return fmt.Errorf("it took %s", took)
	}
	if expect.Items != nil && !reflect.DeepEqual(seen.names, expect.Items) {
		return fmt.Errorf("the items are %v", seen.names)
	}
	for _, part := range []struct{ whole, wanted []string }{
		{seen.names, expect.ItemsContain}, {seen.unreachable, expect.Unreachable},
	} {
		for _, name := range part.wanted {
			if !strings.Contains(" "+strings.Join(part.whole, " ")+" ", " "+name+" ") {
				return fmt.Errorf("%s is missing in %v", name, part.whole)
			}
		}
	}
	if expect.Operation != "" && seen.response.(*pb.Operation).Status.String() != expect.Operation {
		return fmt.Errorf("the operation is %v", seen.response)
	}
	for at := 1; at < len(seen.progress); at++ {
		if seen.progress[at] == seen.progress[at-1] {
			return fmt.Errorf("a state is reported twice: %v", seen.progress)
		}
	}
	if expect.Progress && len(seen.progress) == 0 {
		return errors.New("no progress is reported")
	}
	for at := range seen.sequences {
		if expect.Gapless && seen.sequences[at] != seen.sequences[0]+int64(at) {
			return fmt.Errorf("the sequences are %v", seen.sequences)
		}
	}
	return nil
}

func TestCases(t *testing.T) {
	clients := os.Getenv("SHOREGUARD_CLIENTS")
	text, err := os.ReadFile(clients + "/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct{ Cases []json.RawMessage }
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	b := startBench(t, clients+"/bench")
	for _, raw := range table.Cases {
		id, err := newID()
		if err != nil {
			t.Fatal(err)
		}
		unique := id[:8]
		var r row
		if err := json.Unmarshal([]byte(strings.ReplaceAll(string(raw), "$UNIQUE", unique)), &r); err != nil {
			t.Fatal(err)
		}
		t.Run(r.Name, func(t *testing.T) { runRow(t, b, &r, unique) })
	}
}

func runRow(t *testing.T, b *bench, r *row, unique string) {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	b.control(t, http.MethodPut, "/faults", []string{})
	address := strings.TrimPrefix(b.Endpoint, "http://")
	helper := connect(t, address, b.Key)
	if r.RestartAfter > 0 {
		// Only the events of this case, so that the restart is in the middle of them.
		events, err := List[*pb.Event](ctx, helper.Events.ListEvents, &pb.ListEventsRequest{PageSize: 1000}).All()
		if err != nil {
			t.Fatal(err)
		}
		r.Request = json.RawMessage(fmt.Sprintf(`{"after_sequence": %d}`, events[len(events)-1].Sequence))
		for at := 0; at < r.RestartAfter; at++ {
			request := fmt.Sprintf(`{"name": "s%d-%s", "role": "ROLE_VIEWER"}`, at, unique)
			r.Setup = append(r.Setup, step{"GroupService/CreateGroup", json.RawMessage(request)})
		}
	}
	steps := func(all []step) error {
		for _, one := range all {
			err := persist(func() error {
				_, err := call(ctx, helper, one)
				return err
			})
			if err != nil && !errors.Is(err, ErrAlreadyExists) {
				return fmt.Errorf("%s: %w", one.Call, err)
			}
		}
		return nil
	}
	if err := steps(r.Setup); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	disturb := func(count int) {
		if count == r.RestartAfter {
			b.control(t, http.MethodPost, "/restart", map[string]bool{"wait": false})
			go func() { written <- steps(r.Then) }()
		}
	}
	if r.RestartAfter == 0 {
		written <- nil
	}
	faults := r.Faults
	if faults == nil {
		faults = []json.RawMessage{}
	}
	b.control(t, http.MethodPut, "/faults", faults)
	key := r.Key
	if key == "" {
		key = b.Key
	}
	c := connect(t, address, key)
	began := time.Now()
	seen := r.run(ctx, c, disturb)
	took := time.Since(began)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	_, name, _ := strings.Cut(r.Call, "/")
	if err := r.check(seen, took, b.control(t, http.MethodGet, "/calls", nil)[name]); err != nil {
		t.Fatal(err)
	}
}
