"""Where the server is and who calls: contexts, as the command line stores them, and sessions that refresh themselves.

`$XDG_CONFIG_HOME/shoreguard/contexts.toml` has endpoints, `credentials.toml` beside it keys and sessions. docs/clients.md
describes both.
"""

from __future__ import annotations

import datetime
import errno
import json
import os
import pathlib
import re
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc

from . import v1
from ._errors import ConfigurationError, DeadlineExceeded

if sys.platform != "win32":
    import fcntl

# A session token is replaced this long before it expires, in seconds.
EARLY = 60.0
# How long to wait for another program that holds the lock, which makes one call at most, and the pause between attempts.
LOCK_MAX, LOCK_PAUSE = 60.0, 0.02

# What the mode of a file must not allow to others: credentials are secret, and contexts say where they are sent.
SECRET, TRUSTED = (0o077, "read"), (0o022, "written")

Refresh = Callable[[str], v1.RefreshSessionResponse]


@dataclass(frozen=True)
class Context:
    """A named server."""

    name: str
    endpoint: str
    ca: str = ""
    """Path of the CA certificates of the server, PEM; empty for those that grpcio contains."""
    gateway: str = ""
    """The gateway that is used if none is given."""


class Contexts:
    """The two files of a user."""

    def __init__(self, folder: pathlib.Path | None = None) -> None:
        folder = folder or _folder()
        self.contexts, self.credentials = folder / "contexts.toml", folder / "credentials.toml"
        self._lock = folder / "credentials.lock"

    def get(self, name: str | None = None) -> Context | None:
        """Returns a context, or the current one, or `None` if none is current."""
        found = _read(self.contexts)
        current = name or found.get("current", "")
        if not current:
            return None
        context = _table(found, "contexts", self.contexts).get(current)
        if not isinstance(context, dict):
            raise ConfigurationError(f"context `{current}` does not exist in {self.contexts}")
        values = {key: context.get(key, "") for key in ("endpoint", "ca", "gateway")}
        for key, value in values.items():
            if not isinstance(value, str):
                raise ConfigurationError(f"`contexts.{current}.{key}` in {self.contexts} must be a text")
        if not values["endpoint"]:
            raise ConfigurationError(f"`contexts.{current}.endpoint` is missing in {self.contexts}")
        return Context(current, **values)

    def credential(self, name: str, endpoint: str) -> dict[str, Any]:
        """Returns the credential of a context: `key`, or the fields of a session.

        It is empty if the context has none, or one for another endpoint.
        """
        found = _table(_read(self.credentials, SECRET), "contexts", self.credentials).get(name, {})
        if not isinstance(found, dict):
            raise ConfigurationError(f"`contexts.{name}` in {self.credentials} must be a table")
        # A name can be given to another server while this program runs. Old entries are for that of their context.
        stored_for = found.get("endpoint") or self._endpoint(name)
        return found if stored_for == endpoint else {}

    def _endpoint(self, name: str) -> Any:
        context = _table(_read(self.contexts), "contexts", self.contexts).get(name)
        return context.get("endpoint") if isinstance(context, dict) else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other programs from refreshing or writing credentials."""
        if sys.platform == "win32":
            raise ConfigurationError("a stored session cannot be refreshed on Windows: use a key")
        try:
            self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._lock, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as wrong:
            raise ConfigurationError(f"{self._lock} cannot be written: {wrong}") from None
        with open(handle, "w") as lock:
            self._acquire(lock.fileno())
            yield

    def _acquire(self, lock: int) -> None:
        end = time.monotonic() + LOCK_MAX
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as wrong:
                is_held = wrong.errno in (errno.EWOULDBLOCK, errno.EACCES)
                if not is_held or time.monotonic() >= end:
                    why = f"another program has had the lock for {LOCK_MAX:g} s" if is_held else wrong
                    raise ConfigurationError(f"{self._lock} cannot be locked: {why}") from None
            time.sleep(LOCK_PAUSE)

    @contextmanager
    def replacement(self) -> Iterator[Callable[[str, str, dict[str, Any]], None]]:
        """Yields a function that replaces the credential of a context, with the endpoint that it is for.

        The caller holds the lock. The new file exists already when the function is yielded, so that a folder that cannot
        be written is found before a refresh token is used. The file is replaced as a whole.
        """
        document = _read(self.credentials, SECRET)
        _table(document, "contexts", self.credentials)
        try:
            handle, path = tempfile.mkstemp(dir=self.credentials.parent, prefix=".credentials-")
        except OSError as wrong:
            raise ConfigurationError(f"{self.credentials} cannot be written: {wrong}") from None
        with open(handle, "w", encoding="utf-8") as file:

            def replace(name: str, endpoint: str, credential: dict[str, Any]) -> None:
                document.setdefault("contexts", {})[name] = {**credential, "endpoint": endpoint}
                try:
                    file.write(_toml(document))
                    file.flush()
                    os.fsync(file.fileno())
                    os.replace(path, self.credentials)
                except OSError as wrong:
                    raise ConfigurationError(f"{self.credentials} cannot be written: {wrong}") from None

            try:
                yield replace
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def store(self, name: str, endpoint: str, credential: dict[str, Any]) -> None:
        """Replaces the credential of a context at once. The caller holds the lock."""
        with self.replacement() as replace:
            replace(name, endpoint, credential)


def _folder() -> pathlib.Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    if base:
        return pathlib.Path(base) / "shoreguard"
    try:
        return pathlib.Path.home() / ".config" / "shoreguard"
    except RuntimeError:
        # The user has no home folder, as in some containers: nothing is stored, and this folder cannot exist.
        return pathlib.Path(os.devnull) / "shoreguard"


def _read(path: pathlib.Path, forbidden: tuple[int, str] = TRUSTED) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            # Of the open file, since the file at the path can be replaced in between.
            _check(path, os.fstat(file.fileno()), *forbidden)
            return tomllib.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ConfigurationError:
        raise
    except (OSError, ValueError) as wrong:
        raise ConfigurationError(f"{path} cannot be read: {wrong}") from None


def _check(path: pathlib.Path, about: os.stat_result, forbidden: int, what: str) -> None:
    """Refuses files of other users, except root, and files that others can use in a forbidden way."""
    if sys.platform == "win32":
        return
    if about.st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(f"{path} belongs to another user")
    if about.st_mode & forbidden:
        raise ConfigurationError(f"{path} can be {what} by other users: run `chmod 600` on it")


def _table(document: dict[str, Any], name: str, path: pathlib.Path) -> dict[str, Any]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise ConfigurationError(f"`{name}` in {path} must be a table")
    return found


def _toml(document: dict[str, Any]) -> str:
    """Writes tables of texts and times. Everything else in the file was not written by Shoreguard."""
    lines = [f"{json.dumps(key)} = {_value(value)}" for key, value in document.items() if not isinstance(value, dict)]
    for name, entries in document.items():
        if isinstance(entries, dict):
            for key, entry in entries.items():
                lines += ["", f"[{name}.{json.dumps(key)}]"]
                lines += [f"{json.dumps(field)} = {_value(value)}" for field, value in entry.items()]
    return "\n".join(lines).lstrip("\n") + "\n"


def _value(value: Any) -> str:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    # A text of JSON is a text of TOML, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def checked(token: str) -> str:
    """Refuses a token that cannot be sent, without showing it: libraries would show it in their errors."""
    if token and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ConfigurationError("the credential has spaces or characters that a credential cannot have")
    return token


class Key:
    """An API key, or another token that is not refreshed."""

    def __init__(self, key: str) -> None:
        self._key = checked(key)

    def ready(self) -> bool:
        return True

    def token(self, timeout: float | None = None) -> str:
        return self._key

    def __repr__(self) -> str:
        return "<Key ***>" if self._key else "<no key>"


class _Running:
    """A refresh, for which all callers wait."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: Exception | None = None


class Session:
    """A session of a user. Its token is replaced a minute before it expires.

    A refresh token is valid once. If the session is stored, a file lock makes sure that only one program uses it. A
    caller that gives up does not end the refresh, which would lose the next token.
    """

    def __init__(
        self,
        session_token: str,
        expire_time: datetime.datetime,
        refresh_token: str,
        *,
        refresh: Refresh,
        stored: tuple[Contexts, str, str] | None = None,
    ) -> None:
        self._token, self._expires, self._refresh_token = session_token, expire_time, refresh_token
        # The files, the name of the context, and the endpoint to which `refresh` sends the token.
        self._refresh, self._stored = refresh, stored
        self._mutex = threading.Lock()
        self._running: _Running | None = None
        # The stored refresh token, if it was used and its successor could not be stored.
        self._used: str | None = None

    def __repr__(self) -> str:
        return f"<Session until {self._expires.isoformat()}>"

    def ready(self) -> bool:
        now = datetime.datetime.now(datetime.timezone.utc)
        return not self._refresh_token or (self._expires - now).total_seconds() > EARLY

    def token(self, timeout: float | None = None) -> str:
        with self._mutex:
            if self.ready():
                return self._token
            running = self._running
            if running is None:
                running = _Running()
                # Not a daemon, so that the program does not end before the next token is stored.
                threading.Thread(target=self._run, args=(running,), name="shoreguard-refresh").start()
                self._running = running
        if not running.done.wait(timeout):
            raise DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, "the session was not refreshed in time")
        if running.error is not None:
            raise running.error
        return self._token

    def _run(self, running: _Running) -> None:
        try:
            if self._stored is None:
                self._renew()
            else:
                self._renew_stored(*self._stored)
        except Exception as wrong:
            running.error = wrong
        with self._mutex:
            self._running = None
        running.done.set()

    def _renew_stored(self, contexts: Contexts, name: str, endpoint: str) -> None:
        with contexts.locked():
            stored = self._load()
            if not self.ready():
                with contexts.replacement() as replace:
                    answer = self._renew()
                    self._used = stored
                    replace(name, endpoint, session_fields(answer))
                    self._used = None

    def _load(self) -> str:
        """Takes what another program has stored in the meantime. Returns the stored refresh token."""
        assert self._stored is not None
        contexts, name, endpoint = self._stored
        found = contexts.credential(name, endpoint)
        if "session_token" not in found:
            raise ConfigurationError(f"the session of context `{name}` has ended: log in with `shoreguard login`")
        stored = str(found.get("refresh_token", ""))
        if stored != self._used:
            self._token, self._expires = str(found["session_token"]), found["expire_time"]
            self._refresh_token = stored
        return stored

    def _renew(self) -> v1.RefreshSessionResponse:
        answer = self._refresh(self._refresh_token)
        self._token, self._refresh_token = answer.session_token, answer.refresh_token
        self._expires = utc(answer.expire_time)
        return answer


def session_fields(answer: Any) -> dict[str, Any]:
    """Returns the fields of `credentials.toml` for the response of a login or refresh."""
    return {
        "session_token": answer.session_token,
        "expire_time": utc(answer.expire_time),
        "refresh_token": answer.refresh_token,
        "refresh_expire_time": utc(answer.refresh_expire_time),
    }


def utc(stamp: Any) -> datetime.datetime:
    """Returns the time of a timestamp, to the second."""
    return datetime.datetime.fromtimestamp(stamp.seconds, datetime.timezone.utc)
