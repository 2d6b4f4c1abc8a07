"""Puts the server's binary, which TEST_SHOREGUARD_BIN names, into the wheel as the program `shoreguard`."""

import os
import pathlib
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BinaryHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        named = os.environ.get("TEST_SHOREGUARD_BIN", "")
        binary = pathlib.Path(named)
        if not named or not binary.is_file():
            raise RuntimeError(f"TEST_SHOREGUARD_BIN must name the server's binary, got `{named}`")
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["shared_scripts"][str(binary.resolve())] = "shoreguard"
