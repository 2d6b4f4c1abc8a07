"""Replicates the database of a running server with litestream, and opens what is restored with another server.

Usage: litestream.py PROGRAM LITESTREAM CONFIGURATION FOLDER
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

# No compiled files beside the sources.
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python-testing" / "src"))

from shoreguard_testing.serving import Serving  # noqa: E402

SECONDS_MAX = 60

program, litestream, configuration = (Path(argument).absolute() for argument in sys.argv[1:4])
folder = Path(sys.argv[4]).absolute()
data, replica, restored = folder / "data", folder / "replica", folder / "restored"
processes = []


def until(what, so):
    begun = time.monotonic()
    while not so():
        assert time.monotonic() - begun < SECONDS_MAX, f"never so: {what}"
        time.sleep(0.1)


def serving(place):
    return Serving(program, folder, {"SHOREGUARD_SERVER_DATA_DIR": str(place)})


def start(server):
    server.launch()
    processes.append(server.process)
    server.wait_ready()


def group(server, key, method, name):
    """Makes a call about a group, which fails if it is refused."""
    request = '{"name": "%s", "role": "ROLE_NONE"}' if method == "CreateGroup" else '{"group": "%s"}'
    server.environment["SHOREGUARD_KEY"] = key
    server.run("call", method, request % name)


def stop(process):
    process.terminate()
    assert process.wait(SECONDS_MAX) == 0


def main():
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = {**os.environ, "LITESTREAM_DATA_DIR": str(data), "LITESTREAM_REPLICA_DIR": str(replica)}
    server = serving(data)
    key = server.run("admin", "create-service-principal", "root", "--role", "admin").strip()
    start(server)
    replicating = subprocess.Popen([litestream, "replicate", "-config", configuration], env=environment,
                                   stdout=open(folder / "litestream.log", "w"), stderr=subprocess.STDOUT)
    processes.append(replicating)
    until("a replica exists", lambda: replica.exists() and any(replica.rglob("*.ltx")))
    for n in range(5):
        group(server, key, "CreateGroup", f"group-{n}")
    # litestream replicates what is left when it stops.
    stop(replicating)
    stop(server.process)

    restored.mkdir(mode=0o700)
    command = ["restore", "-config", configuration, "-o", restored / "shoreguard.db", data / "shoreguard.db"]
    subprocess.run([litestream, *command], env=environment, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    shutil.copy(data / "shoreguard.key", restored)
    (restored / "shoreguard.db").chmod(0o600)
    server = serving(restored)
    start(server)
    for n in range(5):
        group(server, key, "GetGroup", f"group-{n}")
    stop(server.process)
    shutil.rmtree(folder)
    print("litestream has restored everything that was written")


try:
    main()
finally:
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()
