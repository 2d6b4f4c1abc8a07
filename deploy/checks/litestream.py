"""Replicates the database of a running server with litestream, and opens what is restored with another server.

Usage: litestream.py PROGRAM LITESTREAM CONFIGURATION FOLDER
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

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


def shoreguard(place, *command):
    done = subprocess.run([program, *command, "--set", f"server.data_dir={place}"], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, command
    return done.stdout.strip()


def serve(place):
    command = [program, "serve", "--set", f"server.data_dir={place}", "--set", "server.listen=127.83.0.14:8443"]
    command += ["--set", "telemetry.metrics_listen=127.83.0.14:9464"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(folder / "serve.log", "w"))
    processes.append(process)
    until("the server is ready", lambda: succeeds(["curl", "--silent", "--fail", "http://127.83.0.14:9464/readyz"]))
    return process


def succeeds(command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def group(key, method, name):
    environment = {**os.environ, "SHOREGUARD_KEY": key, "SHOREGUARD_ENDPOINT": "http://127.83.0.14:8443"}
    request = '{"name": "%s", "role": "ROLE_NONE"}' if method == "CreateGroup" else '{"group": "%s"}'
    return subprocess.run([program, "call", method, request % name], env=environment, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


def stop(process):
    process.terminate()
    assert process.wait(SECONDS_MAX) == 0


def main():
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = {**os.environ, "SHOREGUARD_DATA_DIR": str(data), "SHOREGUARD_REPLICA_DIR": str(replica)}
    command = ["admin", "--set", f"server.data_dir={data}", "create-service-principal", "root", "--role", "admin"]
    key = subprocess.run([program, *command], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    server = serve(data)
    replicating = subprocess.Popen([litestream, "replicate", "-config", configuration], env=environment,
                                   stdout=open(folder / "litestream.log", "w"), stderr=subprocess.STDOUT)
    processes.append(replicating)
    until("a replica exists", lambda: replica.exists() and any(replica.rglob("*.ltx")))
    for n in range(5):
        assert group(key, "CreateGroup", f"group-{n}")
    # litestream replicates what is left when it stops.
    stop(replicating)
    stop(server)

    restored.mkdir(mode=0o700)
    command = ["restore", "-config", configuration, "-o", restored / "shoreguard.db", data / "shoreguard.db"]
    subprocess.run([litestream, *command], env=environment, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    shutil.copy(data / "shoreguard.key", restored)
    (restored / "shoreguard.db").chmod(0o600)
    server = serve(restored)
    for n in range(5):
        assert group(key, "GetGroup", f"group-{n}"), n
    stop(server)
    shutil.rmtree(folder)
    print("litestream has restored everything that was written")


try:
    main()
finally:
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()
