"""The login line that a server prints works as it is, also with TLS and without the administrator's key."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from storekeep.server.config import load_settings
from storekeep.server.process.addresses import format_login_options
from tests.support.authorities import issue, make_authority, tls_settings
from tests.support.processes import ServerProcess


def test_login_line_of_a_server_with_tls_works(tmp_path: Path) -> None:
    identity = issue(tmp_path, "localhost", by=make_authority(tmp_path, "authority"))
    server = ServerProcess(tmp_path / "server", arguments=("--sample",), **tls_settings(identity))
    try:
        line = re.search(r"^  (\S*storekeep login .*)$", server.output(), re.MULTILINE)
        assert line is not None
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        run = subprocess.run(shlex.split(line[1]), env=environment, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:50051", "--address 127.0.0.1:50051"),
        ("0.0.0.0:50051", "--address 127.0.0.1:50051"),
        ("[::]:50051", "--address '[::1]:50051'"),
        ("unix:/run/storekeep.sock", "--address unix:/run/storekeep.sock"),
    ],
)
def test_login_line_names_an_address_that_clients_can_use(address: str, expected: str, tmp_path: Path) -> None:
    settings = load_settings({"STOREKEEP_DATA_DIR": str(tmp_path)}).settings
    key_file = tmp_path / "admin.key"
    assert format_login_options(address, settings=settings, key_file=key_file) == expected
    key_file.write_text("sk_1")
    with_key = format_login_options(address, settings=settings, key_file=key_file)
    assert with_key == f"{expected} --api-key-file {key_file}"
