"""Starts a server by any command, waits until it accepts calls, runs another command, and stops the server.

The server listens on ports that the system chooses: `{api}` and `{metrics}` in the other command are its addresses.
Usage: serve.py LOG SERVER_COMMAND... -- COMMAND...
"""

import subprocess
import sys
from pathlib import Path

# No compiled files beside the sources.
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python-testing" / "src"))

from shoreguard_testing import environment  # noqa: E402
from shoreguard_testing.serving import ServerProcess  # noqa: E402


def main():
    log, given = Path(sys.argv[1]), sys.argv[2:]
    end = given.index("--")
    # Variables of this form that are set here are for the other command.
    server = ServerProcess(given[:end], log, {**environment(), "SHOREGUARD_TELEMETRY_LOG_FORMAT": "json"})
    with server:
        names = {"{api}": server.address, "{metrics}": server.metrics}
        command = []
        for part in given[end + 1 :]:
            for name, address in names.items():
                part = part.replace(name, address)
            command.append(part)
        code = subprocess.run(command).returncode
    if code == 0 and server.process.returncode != 0:
        sys.exit(f"the server was stopped and ended with {server.process.returncode}: see {log}")
    return code


sys.exit(main())
