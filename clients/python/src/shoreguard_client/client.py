"""Clients: all services of one server."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import pathlib
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import grpc

from . import _methods, v1
from ._call import AsyncCaller, Caller, Credential, bearer
from ._errors import ConfigurationError
from ._services import AsyncServices, Services
from .contexts import Context, Contexts, Key, Session, checked, utc

__version__ = "0.1.0"

DEFAULT_ENDPOINT = "http://127.0.0.1:8443"
# The deadline of unary calls, in seconds.
DEADLINE = 30.0
GATEWAY = "x-shoreguard-gateway"

OPTIONS = [
    ("grpc.primary_user_agent", f"shoreguard-client-python/{__version__}"),
    # Repeats are ours: only they know which writes are safe, and what the server asks for.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 3_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.max_receive_message_length", 64 << 20),
]


class _Target:
    """Where the server is, and with which credential it is called."""

    def __init__(self, endpoint: str | None, key: str | None, ca: bytes | str | os.PathLike[str] | None, name: str | None):
        context: Context | None = None
        contexts = Contexts()
        given = endpoint if name else endpoint or os.environ.get("SHOREGUARD_ENDPOINT")
        if name or not given:
            context = contexts.get(name)
        else:
            context = _current_of(contexts, given)
        url = given or (context.endpoint if context else DEFAULT_ENDPOINT)
        self.gateway = context.gateway if context else ""
        self.address, self.secure, loopback = _parse(url)
        if ca is None and context and context.ca:
            ca = context.ca
        self.roots = ca if isinstance(ca, bytes) or ca is None else _pem(ca)
        if self.roots is not None and not self.secure:
            raise ConfigurationError(f"`ca` needs an endpoint with https, not `{url}`")
        self.credential: Credential = Key(key if key is not None else "")
        if key is None:
            # The credential of a context is sent to the endpoint of this context only.
            is_its_own = context is not None and _is_same(url, context.endpoint)
            found = contexts.credential(context.name, context.endpoint) if context and is_its_own else {}
            from_environment = "" if name else os.environ.get("SHOREGUARD_KEY", "")
            self.credential = Key(from_environment or str(found.get("key", "")))
            if not from_environment and context and "session_token" in found:
                self.credential = self._session(found, contexts, context)
        has_credential = not isinstance(self.credential, Key) or self.credential.token()
        self.plain = not self.secure and not loopback
        if self.plain and has_credential:
            raise ConfigurationError(
                f"`{url}` has no TLS, and a credential is sent without TLS to loopback addresses only: use https"
            )

    def _session(self, found: dict[str, Any], contexts: Contexts, context: Context) -> Session:
        expires = found.get("expire_time")
        if not isinstance(expires, datetime.datetime) or expires.tzinfo is None:
            where = f"`contexts.{context.name}.expire_time` in {contexts.credentials}"
            raise ConfigurationError(f"{where} must be a time with a time zone")
        token, again = checked(str(found["session_token"])), str(found.get("refresh_token", ""))
        return Session(token, expires, again, refresh=self.refresh, stored=(contexts, context.name, context.endpoint))

    def channel(self, module: Any, **more: Any) -> Any:
        """Returns a channel of `grpc` or `grpc.aio`."""
        if self.secure:
            roots = grpc.ssl_channel_credentials(self.roots)
            return module.secure_channel(self.address, roots, options=OPTIONS, **more)
        # `http_proxy` would also be used for loopback addresses, and would see what has no TLS.
        direct = [*OPTIONS, ("grpc.enable_http_proxy", 0)]
        return module.insecure_channel(self.address, options=direct, **more)

    def refresh(self, token: str) -> v1.RefreshSessionResponse:
        """Refreshes a session, on a connection of its own, since it is called from any thread."""
        with self.channel(grpc) as channel:
            caller = Caller(channel, Key(""), DEADLINE)
            return caller.unary(_methods.AuthService_RefreshSession, {"refresh_token": token}, None)

    def require_private(self) -> None:
        if self.plain:
            raise ConfigurationError("the endpoint has no TLS: a password is sent without TLS to loopback addresses only")

    def session(self, answer: v1.LoginResponse) -> Session:
        return Session(answer.session_token, utc(answer.expire_time), answer.refresh_token, refresh=self.refresh)


def _is_same(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def _current_of(contexts: Contexts, endpoint: str) -> Context | None:
    """Returns the current context if it is for this endpoint. Files that are not valid do not matter then."""
    try:
        found = contexts.get()
    except ConfigurationError:
        return None
    return found if found is not None and _is_same(found.endpoint, endpoint) else None


def _parse(url: str) -> tuple[str, bool, bool]:
    """Returns address, whether TLS is used, and whether it is a loopback address."""
    if "@" in url:
        # A password in it is not shown.
        raise ConfigurationError("the endpoint must be without user and password")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as wrong:
        raise ConfigurationError(f"endpoint `{url}` is not valid: {wrong}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"endpoint `{url}` must be a URL such as https://shoreguard.example.com")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(f"endpoint `{parts.scheme}://{parts.hostname}` must be without path and query")
    secure = parts.scheme == "https"
    host = parts.hostname
    try:
        address = ipaddress.ip_address(host)
        loopback = address.is_loopback
        host = f"[{host}]" if address.version == 6 else host
    except ValueError:
        loopback = host == "localhost"
    return f"{host}:{port or (443 if secure else 80)}", secure, loopback


def _pem(path: str | os.PathLike[str]) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as wrong:
        raise ConfigurationError(f"`ca` cannot be read: {wrong}") from None


def _named(gateway: str) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that selects a gateway. Without a name the server selects the only visible one."""
    return ((GATEWAY, gateway),) if gateway else ()


class Client(Services):
    """A client that blocks. Each service is an attribute: `client.gateways.list_gateways()`. Threads can share it.

    - `endpoint`: URL of the server. Default: `SHOREGUARD_ENDPOINT`, then the current context, then
      `http://127.0.0.1:8443`.
    - `key`: API key or other bearer token; an empty text means no credential. Default: `SHOREGUARD_KEY`, then the
      context.
    - `ca`: CA certificates of the server: a path, or PEM as bytes. Default: the context, then those of grpcio.
    - `context`: name of a context of the command line, in place of the environment.
    - `deadline`: seconds that a unary call may take with its repeats, unless the call says otherwise.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        key: str | None = None,
        ca: bytes | str | os.PathLike[str] | None = None,
        context: str | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self._target = _Target(endpoint, key, ca, context)
        self.gateway = self._target.gateway
        """The default gateway of the context; empty if it has none."""
        self._channel = self._target.channel(grpc)
        self._caller = Caller(self._channel, self._target.credential, deadline, self._target.plain)
        super().__init__(self._caller)

    def login(self, email: str, password: str) -> v1.LoginResponse:
        """Starts a session. This client uses and refreshes it from now on."""
        self._target.require_private()
        answer = self.auth.login(email=email, password=password)
        self._caller.credential = self._target.session(answer)
        return answer

    def openshell(self, gateway: str | None = None) -> grpc.Channel:
        """Returns a channel to a gateway, with the credential of this client, for the stubs of an OpenShell client."""
        named = _named(gateway or self.gateway)

        def metadata(timeout: float | None) -> tuple[tuple[str, str], ...]:
            return (*named, *bearer(self._caller.credential.token(timeout)))

        return grpc.intercept_channel(self._channel, _Interceptor(metadata))

    def close(self) -> None:
        """Ends all calls and connections. Further calls raise `Cancelled`."""
        self._caller.closed = True
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self._target.address}>"


class AsyncClient(AsyncServices):
    """As `Client`, in an event loop."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        key: str | None = None,
        ca: bytes | str | os.PathLike[str] | None = None,
        context: str | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self._target = _Target(endpoint, key, ca, context)
        self.gateway = self._target.gateway
        """The default gateway of the context; empty if it has none."""
        self._channel = self._target.channel(grpc.aio)
        # The channels of gateways by their names.
        self._more: dict[str, Any] = {}
        self._caller = AsyncCaller(self._channel, self._target.credential, deadline, self._target.plain)
        super().__init__(self._caller)

    async def login(self, email: str, password: str) -> v1.LoginResponse:
        """Starts a session. This client uses and refreshes it from now on."""
        self._target.require_private()
        answer = await self.auth.login(email=email, password=password)
        self._caller.credential = self._target.session(answer)
        return answer

    def openshell(self, gateway: str | None = None) -> grpc.aio.Channel:
        """Returns a channel to a gateway, with the credential of this client, for the stubs of an OpenShell client.

        It is the same one for each call with this gateway until it is closed, and is closed with the client.
        """
        name = gateway or self.gateway
        named = _named(name)
        known = self._more.get(name)
        is_closed = known is not None and known.get_state() is grpc.ChannelConnectivity.SHUTDOWN
        if known is not None and (self._caller.closed or not is_closed):
            return known

        async def metadata(timeout: float | None) -> tuple[tuple[str, str], ...]:
            return (*named, *bearer(await asyncio.to_thread(self._caller.credential.token, timeout)))

        channel = self._target.channel(grpc.aio, interceptors=_async_interceptors(metadata))
        self._more[name] = channel
        return channel

    async def close(self) -> None:
        """Ends all calls and connections. Further calls raise `Cancelled`."""
        self._caller.closed = True
        for channel in (self._channel, *self._more.values()):
            await channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient {self._target.address}>"


class _Interceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Adds metadata to every call of a channel."""

    def __init__(self, metadata: Any) -> None:
        self._metadata = metadata

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(_Details(details, self._metadata(details.timeout)), request)

    intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = intercept_unary_unary


class _Details(grpc.ClientCallDetails):  # type: ignore[misc]
    def __init__(self, details: Any, added: tuple[tuple[str, str], ...]) -> None:
        self.method, self.timeout, self.credentials = details.method, details.timeout, details.credentials
        self.wait_for_ready, self.compression = details.wait_for_ready, getattr(details, "compression", None)
        self.metadata = [*(details.metadata or ()), *added]


def _async_interceptors(metadata: Any) -> list[Any]:
    async def intercept(self: Any, continuation: Any, details: Any, request: Any) -> Any:
        given = [*(details.metadata or ()), *await metadata(details.timeout)]
        return await continuation(details._replace(metadata=grpc.aio.Metadata(*given)), request)

    # grpcio takes an interceptor for one kind of call only.
    kinds = {"UnaryUnary": "unary_unary", "UnaryStream": "unary_stream"} | {
        "StreamUnary": "stream_unary",
        "StreamStream": "stream_stream",
    }
    return [
        type(f"_{kind}", (getattr(grpc.aio, f"{kind}ClientInterceptor"),), {f"intercept_{name}": intercept})()
        for kind, name in kinds.items()
    ]
