"""Dumps of PostgreSQL, as docs/personal-data.md has them: the data keys are in a dump of their own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import grpc
import pytest

from storekeep.v1 import customers_pb2
from tests.conftest import MakeServer
from tests.support import postgres
from tests.support.databases import new_database
from tests.support.shops import Shop

pytestmark = pytest.mark.engine("postgresql", reason="SQLite has its own backups")

PAGE = Path("docs/personal-data.md")
NAME = "Ernst Handel"
TIMEOUT_S = 300


def run_documented(command: str, *, source: str, target: str, folder: Path) -> None:
    """Run a command of the page, with the names of these databases and files."""
    words = re.sub(r"#.*", "", command).split()
    names = {"DATABASE": source, "--dbname=NEW": f"--dbname={target}"}
    arguments = [names.get(word, word) for word in words[1:]]
    subprocess.run(
        [postgres.binary(words[0]), *arguments], cwd=folder, check=True, timeout=TIMEOUT_S, capture_output=True
    )


def test_documented_dumps_hold_keys_apart_and_restore_together(make_server: MakeServer, tmp_path: Path) -> None:
    lines = PAGE.read_text().splitlines()
    dumps = [line for line in lines if line.startswith("pg_dump ")]
    (restore,) = [line for line in lines if line.startswith("pg_restore ")]
    assert len(dumps) == 2
    server = make_server()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        customer = shop.customer(display_name=NAME).name
    server.stop()
    with server.database.opened() as session:
        keys = [str(row[0]).encode() for row in session.rows("SELECT wrapped_key FROM data_keys")]
    assert keys
    copy = new_database("postgresql", tmp_path, migrated=False)
    for command in (*dumps, *restore.split(" && ")):
        run_documented(command, source=server.database.url, target=copy.url, folder=tmp_path)
    plain = tmp_path / "plain.sql"
    without_keys = dumps[0].replace("--format=custom", "--format=plain").replace("shop.dump", plain.name)
    run_documented(without_keys, source=server.database.url, target=copy.url, folder=tmp_path)
    content = plain.read_bytes()
    assert not [key for key in keys if key in content]
    assert NAME.encode() not in content
    other = make_server(data_dir=server.data_dir, database_url=copy.url)
    with grpc.insecure_channel(other.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        restored = shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=customer))
        assert restored.display_name == NAME
        shop.customer()  # the numbers of new keys go on
    assert other.run("verify").returncode == 0
    copy.remove()
