"""Checks how a stock OpenShell client gets its tokens from Shoreguard. run.py runs them once for each generation.

The package on PyPI does not contain the command line, so this program does the steps of `openshell gateway add`:
discovery, one form, two files. The unmodified SDK reads those files and refreshes the tokens.

    tokens.py key ADDRESS GATEWAY       uses the key in STOCK_CLIENT_KEY
    tokens.py device ADDRESS GATEWAY    uses a device code, approved by the command in STOCK_CLIENT_APPROVE, to which a
                                        request is appended
"""

import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
import traceback

import httpx
from openshell import sandbox as sdk

CALL_SECONDS = 15
CLIENT_ID = "openshell-cli"
WORKSPACE = "default"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
CHECKS = {"key": [], "device": []}


def check(mode):
    def add(function):
        CHECKS[mode].append(function)
        return function

    return add


class Command:
    """The steps of `openshell gateway add`, including the files that it writes."""

    def __init__(self, address, gateway):
        self.address = address
        self.gateway = gateway
        self.issuer = f"http://{address}/gateways/{gateway}"
        self.http = httpx.Client(follow_redirects=False, timeout=CALL_SECONDS)
        home = pathlib.Path(os.environ["XDG_CONFIG_HOME"])
        self.folder = home / "openshell" / "gateways" / gateway
        self.bundle = self.folder / "oidc_token.json"

    def discovery(self):
        document = self.http.get(f"{self.issuer}/.well-known/openid-configuration").json()
        assert document["issuer"].rstrip("/") == self.issuer, document
        assert document["authorization_endpoint"] and document["token_endpoint"], document
        return document

    def by_key(self, key):
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": key}
        return self.http.post(self.discovery()["token_endpoint"], data=form)

    def by_device_code(self, approve):
        document = self.discovery()
        form = {"client_id": CLIENT_ID, "scope": "openid"}
        asked = self.http.post(document["device_authorization_endpoint"], data=form)
        assert asked.is_success, asked.text
        asked = asked.json()
        assert asked["verification_uri"] and "verification_uri_complete" not in asked, asked
        poll = {"grant_type": DEVICE_CODE, "device_code": asked["device_code"], "client_id": CLIENT_ID}
        pending = self.http.post(document["token_endpoint"], data=poll)
        assert pending.json()["error"] == "authorization_pending", pending.text
        approve(asked["user_code"])
        for _ in range(3):
            time.sleep(asked["interval"])
            answer = self.http.post(document["token_endpoint"], data=poll)
            if answer.is_success:
                return answer.json()
        raise AssertionError(answer.text)

    def keep(self, tokens, expires_at=None):
        """Writes the two files of the command line."""
        self.folder.mkdir(parents=True, exist_ok=True)
        metadata = {
            "name": self.gateway,
            "gateway_endpoint": f"http://{self.address}",
            "is_remote": False,
            "gateway_port": int(self.address.rsplit(":", 1)[1]),
            "auth_mode": "oidc",
            "oidc_issuer": self.issuer,
            "oidc_client_id": CLIENT_ID,
        }
        (self.folder / "metadata.json").write_text(json.dumps(metadata))
        bundle = {key: tokens[key] for key in ("access_token", "refresh_token") if key in tokens}
        bundle["expires_at"] = int(time.time()) + tokens["expires_in"] if expires_at is None else expires_at
        bundle |= {"issuer": self.issuer, "client_id": CLIENT_ID}
        self.bundle.write_text(json.dumps(bundle))

    def names(self, **how):
        """Returns the sandboxes of the gateway, using an SDK that is configured only by the files."""
        client = sdk.SandboxClient.from_active_cluster(cluster=self.gateway, timeout=CALL_SECONDS, **how)
        try:
            if hasattr(client, "list_all"):
                return [sandbox.name for sandbox in client.list_all(workspace=WORKSPACE)]
            return [sandbox.name for sandbox in client.list(workspace=WORKSPACE)]
        finally:
            client.close()


@check("key")
def the_sdk_works_with_what_one_command_left_behind(command):
    answer = command.by_key(os.environ["STOCK_CLIENT_KEY"])
    assert answer.status_code == 200, answer.text
    tokens = answer.json()
    assert tokens["token_type"].lower() == "bearer" and tokens["expires_in"] > 3600, tokens
    command.keep(tokens)
    assert "coder" in command.names()


@check("key")
def the_sdk_changes_a_key_for_tokens_by_itself(command):
    auth = sdk.ClientCredentialsAuth(client_secret=lambda: os.environ["STOCK_CLIENT_KEY"])
    assert "coder" in command.names(client_credentials=auth)


@check("key")
def a_key_that_is_none_is_refused(command):
    assert command.by_key("sg_" + "A" * 43).json()["error"] == "invalid_client"
    auth = sdk.ClientCredentialsAuth(client_secret="sg_" + "A" * 43)
    try:
        command.names(client_credentials=auth)
    except sdk.SandboxError as refused:
        assert "401" in str(refused), refused
    else:
        raise AssertionError("it was let in")


@check("device")
def the_sdk_refreshes_what_a_device_code_got(command):
    def approve(code):
        for said in ({"validate_only": True}, {"decision": "DEVICE_DECISION_APPROVE"}):
            call = [*shlex.split(os.environ["STOCK_CLIENT_APPROVE"]), json.dumps({"user_code": code, **said})]
            subprocess.run(call, check=True, timeout=CALL_SECONDS, stdout=subprocess.DEVNULL)

    tokens = command.by_device_code(approve)
    command.keep(tokens)
    assert "coder" in command.names()
    used = {tokens["refresh_token"]}
    for _ in range(2):
        # As if the token had expired: the SDK fetches the next one and stores it for the command line.
        command.keep(json.loads(command.bundle.read_text()), expires_at=1)
        assert "coder" in command.names()
        kept = json.loads(command.bundle.read_text())
        assert kept["expires_at"] > time.time() and kept["refresh_token"] not in used
        used.add(kept["refresh_token"])


def main():
    mode, address, gateway = sys.argv[1:]
    held = 0
    with tempfile.TemporaryDirectory(prefix="stock-client-home-") as home:
        os.environ["XDG_CONFIG_HOME"] = home
        for function in CHECKS[mode]:
            name = function.__name__.replace("_", " ")
            try:
                function(Command(address, gateway))
                held += 1
                print(f"ok    {name}")
            except Exception:
                print(f"FAIL  {name}")
                traceback.print_exc(file=sys.stdout)
    print(f"{held} of {len(CHECKS[mode])} checks hold")
    return 0 if held == len(CHECKS[mode]) else 1


if __name__ == "__main__":
    sys.exit(main())
