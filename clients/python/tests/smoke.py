"""The least that must work with each Python and each protobuf: messages, errors, pages, operations, watches, asyncio."""

import asyncio
import sys

import google.protobuf

import shoreguard_client as sg

name = f"smoke-{sys.version_info.minor}-{google.protobuf.__version__.replace('.', '-')}"
with sg.Client() as client:
    assert [g.name for g in client.gateways.list_gateways(page_size=1)] == ["dev-0-0", "dev-0-1"]
    try:
        client.gateways.get_gateway(gateway="nope")
        raise AssertionError("it does not exist")
    except sg.NotFound as error:
        assert error.reason is sg.Reason.NOT_FOUND and error.resource == sg.Resource("gateway", "nope")
    assert client.groups.create_group(name=name, role=sg.v1.ROLE_VIEWER).group.role == sg.v1.ROLE_VIEWER
    assert client.sandboxes.create_sandbox(gateway="dev-0-1", name=name).wait(timeout=60).sandbox == name
    for event in client.events.watch_events(deadline=60):
        if event.name == "group.created":
            break


async def main() -> None:
    async with sg.AsyncClient() as client:
        assert [g.name async for g in client.gateways.list_gateways()] == ["dev-0-0", "dev-0-1"]
        operation = await client.sandboxes.create_sandbox(gateway="dev-0-0", name=name)
        assert (await operation.wait(timeout=60)).sandbox == name


asyncio.run(main())
print(f"Python {sys.version.split()[0]}, protobuf {google.protobuf.__version__}")
