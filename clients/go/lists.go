package shoreguard

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "example.com/shoreguard/client/shoreguardv1"
)

// Items reads a list item by item, and its pages as needed:
//
//	gateways := shoreguard.List[*pb.Gateway](ctx, c.Gateways.ListGateways, &pb.ListGatewaysRequest{})
//	for gateways.Next() {
//		fmt.Println(gateways.Item().Name)
//	}
//	if err := gateways.Err(); err != nil { ... }
type Items[Item proto.Message] struct {
	// Unreachable has the gateways that did not answer, of the pages that were read so far: a list over the fleet is
	// complete if it is empty after Next has returned false. All returns an error otherwise.
	Unreachable []*pb.UnreachableGateway

	next func() (proto.Message, error)
	// gateway is that of the request; empty if it names none.
	gateway string

	page  proto.Message
	items []Item
	item  Item
	err   error
}

// List makes a list of a method whose response has pages. Item is the type of its items.
func List[Item proto.Message, Request, Response proto.Message](
	ctx context.Context, call func(context.Context, Request, ...grpc.CallOption) (Response, error), request Request,
) *Items[Item] {
	asked := proto.Clone(request).ProtoReflect()
	done, gateway := false, ""
	if field := asked.Descriptor().Fields().ByName("gateway"); field != nil {
		gateway = asked.Get(field).String()
	}
	return &Items[Item]{gateway: gateway, next: func() (proto.Message, error) {
		if done {
			return nil, nil
		}
		response, err := call(ctx, asked.Interface().(Request))
		if err != nil {
			return nil, err
		}
		done = !advance(asked, response.ProtoReflect())
		return response, nil
	}}
}

// advance makes a request that of the next page. It returns false after the last page.
func advance(request, response protoreflect.Message) bool {
	from, to := response.Descriptor().Fields(), request.Descriptor().Fields()
	if token := from.ByName("next_page_token"); token != nil {
		request.Set(to.ByName("page_token"), response.Get(token))
		return response.Get(token).String() != ""
	}
	request.Set(to.ByName("after_sequence"), response.Get(from.ByName("next_after_sequence")))
	return response.Get(from.ByName("more")).Bool()
}

// Next advances to the next item. It returns false at the end, or if a page cannot be read: see Err.
func (l *Items[Item]) Next() bool {
	for len(l.items) == 0 {
		if !l.NextPage() {
			return false
		}
	}
	l.item, l.items = l.items[0], l.items[1:]
	return true
}

// NextPage advances to the next page, in place of Next. Page returns its response.
func (l *Items[Item]) NextPage() bool {
	if l.err != nil {
		return false
	}
	l.page, l.err = l.next()
	if l.err != nil || l.page == nil {
		return false
	}
	l.items = nil
	response := l.page.ProtoReflect()
	response.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		for at := 0; field.IsList() && field.Kind() == protoreflect.MessageKind && at < v.List().Len(); at++ {
			switch m := v.List().Get(at).Message().Interface().(type) {
			case *pb.UnreachableGateway:
				l.miss(m)
			case Item:
				l.items = append(l.items, m)
			}
		}
		return true
	})
	if templates, ok := l.page.(*pb.ListSandboxTemplatesResponse); ok && templates.GatewayUnreachable {
		l.miss(&pb.UnreachableGateway{Gateway: l.gateway, Error: templates.GatewayError})
	}
	return true
}

// miss notes a gateway. Each page of a fleet list names those that it misses.
func (l *Items[Item]) miss(gateway *pb.UnreachableGateway) {
	for _, known := range l.Unreachable {
		if known.Gateway == gateway.Gateway {
			return
		}
	}
	l.Unreachable = append(l.Unreachable, gateway)
}

// Item returns the item that Next has found.
func (l *Items[Item]) Item() Item { return l.item }

// Page returns the response of the last page.
func (l *Items[Item]) Page() proto.Message { return l.page }

// Err returns why the list ended early; nil if it did not.
func (l *Items[Item]) Err() error { return l.err }

// All reads the rest. It also returns the items that it has read if a page cannot be read, or if gateways did not
// answer: then the error is an *Incomplete.
func (l *Items[Item]) All() ([]Item, error) {
	var all []Item
	for l.Next() {
		all = append(all, l.item)
	}
	if l.err == nil && len(l.Unreachable) > 0 {
		return all, &Incomplete{Unreachable: l.Unreachable}
	}
	return all, l.err
}

// Incomplete says that a list over the fleet misses the items of some gateways.
type Incomplete struct {
	Unreachable []*pb.UnreachableGateway
}

func (e *Incomplete) Error() string {
	text := "the list is incomplete, these gateways did not answer:"
	for _, gateway := range e.Unreachable {
		text += " " + gateway.Gateway
	}
	return text
}
