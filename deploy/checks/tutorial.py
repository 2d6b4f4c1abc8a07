"""Runs the tutorial in a clean root in which the package is installed: each command of its `console` blocks prints what
the page shows.

tests/it/console_blocks.rs describes the blocks, and runs those of all pages with a build. It also runs this program
with the cases that both must read in the same way.

Usage: tutorial.py ROOT PAGE, or tutorial.py --cases FILE
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

# What a newcomer spends at most. The time is far above that of a busy machine.
COMMANDS_MAX, SECONDS_MAX = 14, 600
# The commands before the first block: the installation, `dev`, and the `export` line that it prints.
FIRST_COMMANDS = 3
STOP_SECONDS_MAX = 60


def in_root(root, command, **variables):
    """Returns the command with which a new user of the root runs another command."""
    variables = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **variables}
    return ["chroot", root, "env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command]


def shown(text):
    """Returns the commands of a page, each with the lines that it shows."""
    commands = []
    for kind, block in re.findall(r"```console(.*)\n((?:.|\n)*?)```", text):
        assert not kind, f"a block of the kind `{kind.strip()}` needs another server"
        continues = False
        for line in lines_of(block):
            if line.startswith("$ "):
                commands.append((line[2:], []))
            elif continues:
                command, output = commands.pop()
                commands.append((f"{command}\n{line}", output))
            else:
                commands[-1][1].append(line)
            continues = line.endswith("\\")
    return commands


def lines_of(text):
    """Returns the lines of a text. `splitlines` would also split at characters within a line."""
    return text.removesuffix("\n").split("\n") if text else []


def is_as_shown(printed, lines):
    """Compares an output with the lines of a page: `...` is any text of a line, and as a line of its own any lines."""
    any_lines = r"(?:.*\n)*"
    texts = (".*".join(map(re.escape, line.rstrip().split("..."))) + "\n" for line in lines)
    pattern = "".join(any_lines if line == "..." else text for line, text in zip(lines, texts))
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in lines_of(printed))) is not None


def check_cases(cases):
    for case in cases["pages"]:
        expected = [(command["command"], command["output"]) for command in case["commands"]]
        assert shown(case["page"]) == expected, case
    for case in cases["outputs"]:
        assert is_as_shown(case["printed"], case["shown"]) == case["matches"], case
    print(f"{len(cases['pages'])} pages and {len(cases['outputs'])} outputs are read as expected")


def run(root, page):
    commands = shown(page.read_text())
    assert commands, f"{page} has no block"
    count = FIRST_COMMANDS + len(commands)
    assert count <= COMMANDS_MAX, f"{page} has {count} commands, at most {COMMANDS_MAX}"
    begun = time.monotonic()
    dev = ["shoreguard", "dev", "--json", "--data", "/root/shoreguard-dev", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(in_root(root, dev), stdout=subprocess.PIPE, text=True) as server:
        try:
            facts = json.loads(server.stdout.readline())
            variables = {"SHOREGUARD_ENDPOINT": facts["public_url"], "SHOREGUARD_KEY": facts["admin_key"]}
            for command, lines in commands:
                left = SECONDS_MAX - (time.monotonic() - begun)
                done = subprocess.run(in_root(root, ["sh", "-c", command], **variables), stdin=subprocess.DEVNULL,
                                      capture_output=True, text=True, timeout=left)
                assert is_as_shown(done.stdout, lines), f"$ {command}\n{done.stdout}{done.stderr}"
        finally:
            server.terminate()
            try:
                server.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                server.kill()
    assert server.returncode == 0, server.returncode
    print(f"the tutorial: {count} commands in {time.monotonic() - begun:.1f} s after the installation"
          f" (target: under {COMMANDS_MAX + 1} commands and {SECONDS_MAX // 60} minutes)")


if sys.argv[1] == "--cases":
    check_cases(json.loads(Path(sys.argv[2]).read_text()))
else:
    run(Path(sys.argv[1]).absolute(), Path(sys.argv[2]))
