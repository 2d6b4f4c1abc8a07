// first lists gateways, creates a sandbox, and shows what happened.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	shoreguard "example.com/shoreguard/client"
	pb "example.com/shoreguard/client/shoreguardv1"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := shoreguard.New(shoreguard.Options{})
	if err != nil {
		return err
	}
	defer c.Close()

	gateways := shoreguard.List[*pb.Gateway](ctx, c.Gateways.ListGateways, &pb.ListGatewaysRequest{})
	for gateways.Next() {
		fmt.Println(gateways.Item().Name, gateways.Item().Version)
	}
	if err := gateways.Err(); err != nil {
		return err
	}

	begun, err := c.Sandboxes.CreateSandbox(ctx, &pb.CreateSandboxRequest{Gateway: "dev-0-1", Name: "agent-go"})
	if err != nil {
		return err
	}
	done, err := c.Wait(ctx, begun.Operation, func(state *pb.Operation) {
		fmt.Printf("%d %% %s\n", state.ProgressPercent, state.ProgressMessage)
	})
	if err != nil {
		return err
	}
	fmt.Println("ready:", done.Sandbox)

	events := c.WatchEvents(ctx, &pb.WatchEventsRequest{})
	defer events.Close()
	for events.Next() {
		fmt.Println(events.Item().Sequence, events.Item().Name)
		if events.Item().Name == "sandbox.created" {
			return nil
		}
	}
	return events.Err()
}
