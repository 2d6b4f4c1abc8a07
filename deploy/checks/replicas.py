"""Runs the shape of deploy/compose as processes: PostgreSQL, two replicas and HAProxy with the same configuration.

Every call through the proxy must succeed, also while a replica stops. Usage: replicas.py PROGRAM COMPOSE_FOLDER FOLDER
"""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# No compiled files beside the sources.
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python-testing" / "src"))

from shoreguard_testing.serving import Serving  # noqa: E402

PROXY = "127.83.0.10"
REPLICAS = ["127.83.0.11", "127.83.0.12"]
CLIENT = "127.0.0.1"
START_SECONDS_MAX = 60
CALLS_WHILE_STOPPING = 20

program, compose, folder = (Path(argument).resolve() for argument in sys.argv[1:])
processes = []
# By itself, since the user of PostgreSQL must reach it, and its path must be short enough for the address of a socket.
data = Path(tempfile.mkdtemp(prefix="shoreguard-replicas-"))


def start(command, log, **more):
    process = subprocess.Popen(command, stdout=open(folder / log, "w"), stderr=subprocess.STDOUT, **more)
    processes.append(process)
    return process


def postgres():
    """Starts a server, as a user without rights if this is root. Returns the URL of a database."""
    bin_folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb") or (bin_folders and bin_folders[-1] / "initdb")
    assert found, "initdb does not exist: apt-get install postgresql"
    tools = Path(found).resolve().parent
    user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    if user:
        shutil.chown(data, "nobody")
    plain = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
    subprocess.run(
        [tools / "initdb", "-D", data, "--username=shoreguard", "--auth=trust", "--encoding=UTF8", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, cwd="/", env=plain, **user,
    )
    options = ["-c", "listen_addresses=127.83.0.13", "-c", f"unix_socket_directories={data}", "-c", "fsync=off"]
    start([tools / "postgres", "-D", data, *options], "postgres.log", cwd="/", env=plain, **user)
    return "postgres://shoreguard:PASSWORD@127.83.0.13/postgres?sslmode=disable"


def until(what, so):
    begun = time.monotonic()
    while not so():
        assert time.monotonic() - begun < START_SECONDS_MAX, f"never so: {what}"
        time.sleep(0.1)


def succeeds(*command, **more):
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    return done.returncode == 0


def write_configuration(database):
    """Adapts the files of the compose project: only addresses and paths differ."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=proxy", "-addext", f"subjectAltName=IP:{PROXY}", "-addext", "basicConstraints=critical,CA:FALSE",
         "-keyout", folder / "key.pem", "-out", folder / "ca.pem"],
        check=True, stderr=subprocess.DEVNULL,
    )
    (folder / "tls.pem").write_text((folder / "ca.pem").read_text() + (folder / "key.pem").read_text())
    key = folder / "master_key"
    key.write_text(os.urandom(32).hex())
    key.chmod(0o600)

    text = (compose / "shoreguard.toml").read_text()
    text = re.sub(r"postgres://[^\"]+", database, text).replace("/run/secrets/master_key", str(key))
    text = re.sub(r"trusted_proxies = .*", f'trusted_proxies = ["{CLIENT}/32"]', text)
    (folder / "shoreguard.toml").write_text(text)

    text = (compose / "haproxy.cfg").read_text().replace("/run/secrets/tls", str(folder / "tls.pem"))
    text = text.replace("bind :8443", f"bind {PROXY}:8443")
    text = re.sub(r"resolvers dns\n(    .*\n)+", "", text)
    servers = "".join(rf"    server replica{n} {address}:8443 \g<1> \g<2>\n" for n, address in enumerate(REPLICAS))
    template = r"    server-template replica 8 shoreguard:8443 (.*) resolvers dns init-addr none (.*)\n"
    text, replaced = re.subn(template, servers, text)
    assert replaced == 1
    (folder / "haproxy.cfg").write_text(text)


def replica(address):
    """Starts a replica. Its address is fixed, since the configuration of the proxy names it."""
    settings = {
        "SHOREGUARD_SERVER_LISTEN": f"{address}:8443",
        "SHOREGUARD_TELEMETRY_METRICS_LISTEN": f"{address}:9464",
    }
    place = folder / address
    place.mkdir()
    server = Serving(program, place, settings, ["--config", folder / "shoreguard.toml"])
    server.launch()
    processes.append(server.process)
    return server


def call(key, method, request="{}"):
    command = [program, "call", "--endpoint", f"https://{PROXY}:8443", "--ca", folder / "ca.pem", method, request]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SHOREGUARD_KEY": key})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def main():
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_configuration(postgres())
    until("PostgreSQL accepts connections", lambda: succeeds("pg_isready", "--host=127.83.0.13"))
    command = [program, "admin", "--config", folder / "shoreguard.toml", "--set", f"server.data_dir={folder}/admin"]
    command += ["create-service-principal", "root", "--role", "admin"]
    key = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    replicas = [replica(address) for address in REPLICAS]
    for server in replicas:
        server.wait_ready()
    subprocess.run(["haproxy", "-c", "-f", folder / "haproxy.cfg"], check=True, stdout=subprocess.DEVNULL)
    start(["haproxy", "-f", folder / "haproxy.cfg"], "haproxy.log")
    ca = str(folder / "ca.pem")
    until("the proxy has a replica", lambda: succeeds("curl", "--silent", "--fail", "--cacert", ca, "--http2",
          "--max-time", "2", "--request", "POST", "--header", "content-type: application/grpc",
          f"https://{PROXY}:8443/shoreguard.v1.AuthService/GetServerInfo"))

    call(key, "CreateGroup", '{"name": "ops", "role": "ROLE_NONE"}')
    entry = call(key, "ListAuditEntries", '{"action": "group.create"}')["audit_entries"][0]
    assert entry["client_ip"] == CLIENT, entry
    replicas[0].process.terminate()
    for _ in range(CALLS_WHILE_STOPPING):
        call(key, "GetGroup", '{"group": "ops"}')
    assert replicas[0].process.wait(START_SECONDS_MAX) == 0
    call(key, "GetGroup", '{"group": "ops"}')
    print(f"{CALLS_WHILE_STOPPING} calls were answered while a replica stopped")


try:
    main()
finally:
    for process in reversed(processes):
        if process.poll() is None:
            process.terminate()
            process.wait(START_SECONDS_MAX)
    shutil.rmtree(data)
