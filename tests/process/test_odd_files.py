"""Directories, pipes, sockets and devices in place of files: a command ends with one line that names the file."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from storekeep.client import Storekeep
from storekeep.server.domain.keys.keyrings import RELOAD_INTERVAL_S
from storekeep.server.runtime.settings_files import FILE_BYTES_MAX
from tests.support.authorities import issue, make_authority, tls_settings
from tests.support.databases import new_database
from tests.support.processes import COMMAND, ServerProcess, run_command, server_environment

SECRET = "9b1c40f7d2e35a86e07f4c1d93b2a658"


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with a migrated database."""
    folder = tmp_path_factory.mktemp("migrated")
    new_database("sqlite", folder)
    return folder


@pytest.fixture
def data_dir(migrated: Path, tmp_path: Path) -> Path:
    """Return a copy of a data directory with a migrated database and a secret."""
    folder = tmp_path / "data"
    shutil.copytree(migrated, folder)
    folder.chmod(0o700)
    (folder / "secret.key").touch(mode=0o600)
    (folder / "secret.key").write_text(SECRET)
    return folder


def replace_by_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)


def read_refusal(command: str, data_dir: Path, **settings: str) -> str:
    """Return the line that a command prints when it refuses to run."""
    refused = run_command(*command.split(), data_dir=data_dir, **settings)
    assert refused.returncode in (1, 2), refused.stdout
    (line,) = [text for text in refused.stderr.splitlines() if "storekeep-server: warning:" not in text]
    return line


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_with_a_pipe_as_secret_ends(data_dir: Path, workers: str):
    """The process hung with its signals blocked."""
    replace_by_pipe(data_dir / "secret.key")
    line = read_refusal("serve", data_dir, workers=workers)
    assert line == f"storekeep-server: cannot use {data_dir}/secret.key: a pipe, not a regular file"


@pytest.mark.parametrize("command", ["serve", "verify", "migrate", "backup copy.db"])
def test_pipe_as_database_is_refused(data_dir: Path, command: str):
    replace_by_pipe(data_dir / "storekeep.db")
    assert "storekeep.db" in read_refusal(command, data_dir)


def test_pipe_as_lock_file_is_refused(data_dir: Path):
    replace_by_pipe(data_dir / "storekeep.db.serve.lock")
    line = read_refusal("serve", data_dir)
    assert line.endswith("storekeep.db.serve.lock: a pipe, not a regular file")


def test_secret_that_a_pipe_replaces_while_it_is_served_stays_in_use(data_dir: Path):
    """Each call that needed the secret would wait for somebody to write to the pipe."""
    server = ServerProcess(data_dir)
    try:
        replace_by_pipe(data_dir / "secret.key")
        time.sleep(RELOAD_INTERVAL_S + 0.1)
        with Storekeep(server.address, api_key=server.admin_key) as client:
            assert client.auth.who_am_i().subject == "serviceAccounts/admin"
    finally:
        server.kill()


def test_pipe_as_log_file_is_refused_unless_somebody_reads_it(data_dir: Path):
    replace_by_pipe(data_dir / "log")
    line = read_refusal("serve", data_dir, log_file=str(data_dir / "log"))
    assert line == f"storekeep-server: cannot use {data_dir}/log: a pipe that nothing reads, or a socket"


@pytest.mark.parametrize("name", ["tls_certificate_file", "tls_private_key_file", "tls_client_ca_file"])
def test_pipe_as_tls_file_is_refused(data_dir: Path, tmp_path: Path, name: str):
    authority = make_authority(tmp_path, "shop")
    settings = tls_settings(issue(tmp_path, "localhost", by=authority)) | {"tls_client_ca_file": str(authority.file)}
    replace_by_pipe(Path(settings[name]))
    line = read_refusal("serve", data_dir, **settings)
    assert line == f"storekeep-server: {settings[name]}: a pipe, not a regular file"
    assert read_refusal("config check", data_dir, **settings) == line


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "."])
def test_settings_file_that_is_no_file_is_refused_by_its_kind(data_dir: Path, path: str):
    line = read_refusal("config check", data_dir, config_file=path)
    kind = "a directory" if path == "." else "a device"
    assert line == f"storekeep-server: {path}: {kind}, not a regular file"


def test_settings_come_from_a_process_substitution(data_dir: Path):
    script = f"exec 9< <(sleep 0.1; echo STOREKEEP_CALLS_MAX=77); {COMMAND} config print"
    printed = subprocess.run(
        ["bash", "-c", script],
        env=server_environment(data_dir, config_file="/dev/fd/9"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "STOREKEEP_CALLS_MAX=77  # /dev/fd/9" in printed.stdout


def test_settings_from_a_pipe_have_the_size_limit_of_a_file(data_dir: Path):
    pipe = data_dir / "settings"
    replace_by_pipe(pipe)
    with subprocess.Popen(["bash", "-c", f"cat /dev/zero > {pipe}"], stderr=subprocess.DEVNULL) as writer:
        line = read_refusal("config check", data_dir, config_file=str(pipe))
        writer.wait(timeout=60)
    assert line == f"storekeep-server: {pipe}: larger than {FILE_BYTES_MAX} bytes"


def test_export_to_a_pipe_that_nobody_reads_ends_and_names_it(server: ServerProcess, tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused = server.run("export-checkpoint", str(pipe))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"storekeep-server: cannot use {pipe}: a pipe that nothing reads, or a socket\n"
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert server.run("export-checkpoint", str(pipe)).returncode == 0
        assert b"storekeep-audit-checkpoint-1" in os.read(reader, 100_000)
        with open(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0) as full:
            while full.write(b"x" * 4096):
                pass
            assert server.run("export-checkpoint", str(pipe)).returncode == 1
    finally:
        os.close(reader)
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    assert server.run("export-checkpoint", str(link)).returncode == 0
    assert link.is_symlink()
    assert "storekeep-audit-checkpoint-1" in target.read_text()
