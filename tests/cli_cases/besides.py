"""What the table of all clients cannot say about the command line.

Each check is a function of the command line, the bench and an empty folder; its documentation is its name.
"""

import re
import uuid

from cli import ROOT, check_error, must


def reasons(cli, bench, _home):
    """every reason of an error is shown"""
    text = (ROOT / "proto" / "shoreguard" / "v1" / "common.proto").read_text()
    names = re.findall(r"^  ERROR_REASON_(\w+) = [1-9]", text, re.MULTILINE)
    must(names, "common.proto has no reasons")
    fail = {"method": "GetGateway", "fault": "fail", "code": "FAILED_PRECONDITION", "message": "no"}
    bench.faults([{**fail, "reason": name} for name in names])
    for name in names:
        shown = cli.run("gateway", "get", "dev-0-1")
        check_error(shown, {"code": "FAILED_PRECONDITION", "reason": name, "message": "no"})


def one_request_id(cli, bench, _home):
    """a write that is repeated by its user under one request id is done once"""
    name, identity = f"twice-{uuid.uuid4().hex[:8]}", str(uuid.uuid4())
    command = ["group", "create", name, "--role", "viewer", "-o", "json"]
    first, second = (cli.run(*command, "--request-id", identity) for _ in range(2))
    must(first.code == 0 and first.output == second.output, f"{first}; {second}")
    another = cli.run(*command)
    check_error(another, {"code": "ALREADY_EXISTS"})


def write_contexts(home, bench, mode=0o600):
    folder = home / "shoreguard"
    folder.mkdir(exist_ok=True)
    one = f'current = "bench"\n\n[contexts.bench]\nendpoint = "{bench.endpoint}"\ngateway = "dev-0-0"\n'
    (folder / "contexts.toml").write_text(one)
    secrets = folder / "credentials.toml"
    secrets.write_text(f'[contexts.bench]\nkey = "{bench.key}"\n')
    secrets.chmod(mode)


def context(cli, bench, home):
    """the credential of a context is used, for the endpoint of the context only"""
    write_contexts(home, bench)
    get = ["gateway", "get", "dev-0-1", "-o", "name"]
    none = {"SHOREGUARD_ENDPOINT": None, "SHOREGUARD_KEY": None}
    for env in (none, {"SHOREGUARD_ENDPOINT": "", "SHOREGUARD_KEY": ""}):
        shown = cli.run(*get, **env)
        must(shown.code == 0 and "dev-0-1" in shown.output, str(shown))
    check_error(cli.run(*get, **{**none, "SHOREGUARD_ENDPOINT": bench.direct}), {"code": "UNAUTHENTICATED"})


def order(cli, bench, home):
    """the environment precedes the current context, and a context that is given by name precedes the environment"""
    write_contexts(home, bench)
    stale = {"SHOREGUARD_ENDPOINT": "http://127.0.0.1:9", "SHOREGUARD_KEY": "sg_stale"}
    get = ["gateway", "get", "dev-0-1", "-o", "name"]
    away = cli.run(*get, **stale)
    must(away.code == 5 and "127.0.0.1:9" in away.errors, str(away))
    refused = cli.run(*get, **{**stale, "SHOREGUARD_ENDPOINT": None})
    check_error(refused, {"code": "UNAUTHENTICATED", "reason": "CREDENTIAL_INVALID"})
    named = cli.run(*get, "--context", "bench", **stale)
    must(named.code == 0, str(named))


def file_mode(cli, bench, home):
    """credentials that other users can read are refused"""
    write_contexts(home, bench, mode=0o644)
    shown = cli.run("gateway", "get", "dev-0-1", SHOREGUARD_ENDPOINT=None, SHOREGUARD_KEY=None)
    must(shown.code == 2 and "credentials.toml" in shown.errors and bench.key not in shown.errors, str(shown))


def plain_http(cli, _bench, _home):
    """a credential or a password is not sent to another host without TLS"""
    away = {"SHOREGUARD_ENDPOINT": "http://192.0.2.1:8443"}
    login = ["login", "--email", "ana@example.com", "--password-stdin", "--endpoint", away["SHOREGUARD_ENDPOINT"]]
    for command in (["gateway", "list"], ["call", "ListGateways"], login):
        shown = cli.run(*command, text="a password", **away)
        must(shown.code == 2 and "TLS" in shown.errors, str(shown))


ALL = [reasons, one_request_id, context, order, file_mode, plain_http]
