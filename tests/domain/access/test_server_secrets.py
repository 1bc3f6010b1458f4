"""The server's secret: rotation under load, a crash during rotation, a wrong secret, and a lost secret."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from storekeep.server.runtime.secrets import PREVIOUS_FILE, SECRET_FILE, begin_rotation, replace_private_file
from storekeep.server.store.urls import make_sqlite_url
from storekeep.v1 import audit_pb2, auth_pb2, auth_pb2_grpc, customers_pb2
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess, run_command
from tests.support.shops import TIMEOUT_S, Shop, new_id

CALLERS = 10
FIRST = "f59eb3d5c6ccdc6eb3c53ca2aea180186d4e55b70f538d3718e8f5ea3fcdba38"
SECOND = "2fd5a18436b1fa777b7222002aee2ef3f4d61f6cb2c8fcc4ddf06ba6dd4aa5ce"


def open_shop(channel: grpc.Channel, key: str) -> Shop:
    return Shop(channel, api_key=key)


def refusal_reason(channel: grpc.Channel, key: str) -> str:
    """Return why a key gets no token; empty if it gets one."""
    try:
        Shop(channel, api_key=key)
    except grpc.RpcError as error:
        return str(error.details())
    return ""


def make_key(shop: Shop, key_id: str) -> str:
    """Create another key of the administrator, and return it."""
    request = auth_pb2.CreateApiKeyRequest(parent="serviceAccounts/admin", api_key=auth_pb2.ApiKey(), api_key_id=key_id)
    return str(shop.auth.CreateApiKey(request).secret)


def run_verify(server: ServerProcess, *arguments: str, **settings: str) -> str:
    """Run `verify`, and return its report; empty if all checks hold."""
    verified = server.run("verify", *arguments, **settings)
    return "" if verified.returncode == 0 else verified.stdout + verified.stderr


class Load:
    """Callers that read, write, page and log in until they are stopped. Each call must succeed without retries."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._channel = channel
        self._key = key
        self._shop = Shop(channel, api_key=key)
        for _ in range(3):
            self._shop.customer()
        self._stop = threading.Event()
        self.rounds = 0
        self._pool = ThreadPoolExecutor(CALLERS)
        self._running = [self._pool.submit(self._run) for _ in range(CALLERS)]

    def _run(self) -> None:
        while not self._stop.is_set():
            self._shop.customer()
            page = self._shop.customers.ListCustomers(customers_pb2.ListCustomersRequest(page_size=1))
            query = customers_pb2.ListCustomersRequest(page_size=1, page_token=page.next_page_token)
            self._shop.customers.ListCustomers(query)
            Shop(self._channel, api_key=self._key)
            make_key(self._shop, new_id("k"))
            self.rounds += 1

    def await_rounds(self, count: int) -> None:
        """Wait for a number of further rounds."""
        target, pause = self.rounds + count, threading.Event()
        for _ in range(6_000):
            if self.rounds >= target or any(one.done() for one in self._running):
                return
            pause.wait(0.01)
        raise TimeoutError

    def end(self) -> None:
        """Stop the callers. Raise the first error of any call."""
        self._stop.set()
        for one in self._running:
            one.result(timeout=TIMEOUT_S)
        self._pool.shutdown()


def test_rotation_under_load_fails_no_call(make_server: MakeServer, engine: str) -> None:
    patient = {"queue_wait_max_s": "60", "database_lock_timeout_s": "60"}  # the machine may be busy
    server = make_server(**patient, **({"workers": "2"} if engine == "sqlite" else {}))
    with grpc.insecure_channel(server.address) as channel:
        shop = open_shop(channel, server.admin_key)
        unused = make_key(shop, "unused")
        load = Load(channel, server.admin_key)
        load.await_rounds(20)
        old = (server.data_dir / SECRET_FILE).read_bytes()
        rotated = server.run("rotate-secret")
        load.await_rounds(30)
        load.end()
        assert rotated.returncode == 0, rotated.stderr
        assert (server.data_dir / PREVIOUS_FILE).read_bytes() == old != (server.data_dir / SECRET_FILE).read_bytes()
        for name in (SECRET_FILE, PREVIOUS_FILE):
            assert (server.data_dir / name).stat().st_mode & 0o777 == 0o600
        shop.customer()  # the old token is still valid
        assert "--finish" in server.run("rotate-secret").stderr
        assert refusal_reason(channel, unused) == ""
        assert run_verify(server) == ""
        late = make_key(shop, "late")
        assert refusal_reason(channel, server.admin_key) == ""
        finished = server.run("rotate-secret", "--finish", "--force")
        assert finished.returncode == 0, finished.stderr
        assert not (server.data_dir / PREVIOUS_FILE).exists()
        server.restart()
    with grpc.insecure_channel(server.address) as channel:
        for key in (server.admin_key, unused, late):  # each was used or created since the rotation
            assert refusal_reason(channel, key) == ""
    assert run_verify(server) == ""


@pytest.mark.engine("sqlite", reason="the commands are the same; what differs by engine is in test_audit_forgery")
def test_key_not_used_since_the_rotation_ends_with_it(make_server: MakeServer) -> None:
    server = make_server(secret_overlap_days="0")
    with grpc.insecure_channel(server.address) as channel:
        unused = make_key(open_shop(channel, server.admin_key), "unused")
        assert server.run("rotate-secret").returncode == 0
        assert refusal_reason(channel, unused) != ""
        previous = (server.data_dir / PREVIOUS_FILE).read_bytes()
        refused = server.run("rotate-secret", "--finish")
        assert refused.returncode == 1
        assert "2 API keys stop working without the previous secret: serviceAccounts/" in refused.stderr
        assert "serviceAccounts/admin/apiKeys/bootstrap-" in refused.stderr
        assert "--force" in refused.stderr
        assert (server.data_dir / PREVIOUS_FILE).read_bytes() == previous, "nothing was deleted"
        assert server.run("rotate-secret", "--force").returncode == 2, "--force belongs to --finish"
        finished = server.run("rotate-secret", "--finish", "--force")
        assert finished.returncode == 0
        assert "2 API keys stop working" in finished.stdout
    assert server.run("rotate-secret", "--finish").returncode == 1


@pytest.mark.engine("sqlite", reason="the crash is between files")
def test_rotation_that_a_crash_ended_goes_on(make_server: MakeServer) -> None:
    server = make_server()
    old = (server.data_dir / SECRET_FILE).read_text()
    # As after a crash before the new secret was written.
    replace_private_file(server.data_dir / PREVIOUS_FILE, old.strip())
    new = begin_rotation(server.data_dir)
    server.kill()
    server.restart()
    with grpc.insecure_channel(server.address) as channel:
        shop = open_shop(channel, server.admin_key)
        made = make_key(shop, "between")
        assert server.run("rotate-secret", "--finish").returncode == 1, "the database is under the old one yet"
        assert server.run("rotate-secret").returncode == 0
        assert (server.data_dir / SECRET_FILE).read_bytes().strip() == new
        assert refusal_reason(channel, made) == ""
        shop.customer()
    assert run_verify(server) == ""


@pytest.mark.engine("postgresql", reason="several hosts have one database there")
def test_secret_of_the_environment_is_rotated_by_restarts(make_server: MakeServer) -> None:
    server = make_server(secret=FIRST)
    with grpc.insecure_channel(server.address) as channel:
        before = open_shop(channel, server.admin_key)
        refused = server.run("rotate-secret")
        assert (refused.returncode, "STOREKEEP_SECRET_PREVIOUS" in refused.stderr) == (1, True)
        both = {"secret": SECOND, "secret_previous": FIRST}
        other = make_server(data_dir=server.data_dir, **both)
    with grpc.insecure_channel(other.address) as channel, grpc.insecure_channel(server.address) as first:
        made = make_key(open_shop(channel, server.admin_key), "by-next")
        assert refusal_reason(first, made) == "", "a host that does not know the next secret takes it"
        server._settings |= both  # as if the operator edited the service unit
        server.restart()
        assert server.run("rotate-secret").returncode == 0
        for key in (server.admin_key, made):
            assert refusal_reason(channel, key) == ""
        assert before.subject
    assert run_verify(server, secret=SECOND, secret_previous="") == ""


# -- a wrong secret


def lose_secret(server: ServerProcess) -> None:
    server.stop()
    replace_private_file(server.data_dir / SECRET_FILE, SECOND)


@pytest.mark.engine("sqlite", reason="the commands are the same; what differs by engine is in test_audit_forgery")
def test_wrong_secret_is_refused_in_one_line_and_writes_nothing(make_server: MakeServer) -> None:
    server = make_server()
    lose_secret(server)
    before = server.database.everything()
    for command in (["serve"], ["serve", "--workers", "2"], ["bootstrap-admin", "--force"]):
        refused = server.run(*command)
        assert refused.returncode == 1, command
        lines = [line for line in refused.stderr.splitlines() if line.startswith("storekeep-server:")]
        assert len(lines) == 1, refused.stderr
        assert "--new-secret" in lines[0]
        assert "Traceback" not in refused.stderr + refused.stdout
    assert server.database.everything() == before
    verified = server.run("verify")
    assert "BROKEN  audit-chain" in verified.stdout


@pytest.mark.engine("sqlite", reason="PostgreSQL is restored by its own programs")
@pytest.mark.parametrize("without_keys", [False, True])
def test_restore_without_the_secret_says_what_to_do(
    make_server: MakeServer, tmp_path: Path, without_keys: bool
) -> None:
    server = make_server()
    backup, empty = tmp_path / "backup.db", tmp_path / "empty"
    assert server.run("backup", str(backup)).returncode == 0
    empty.mkdir(mode=0o700)
    if not without_keys:
        shutil.copy(server.data_dir / "kek.key", empty)
    settings = {"database_url": make_sqlite_url(empty / "storekeep.db")}
    refused = run_command("restore", str(backup), data_dir=empty, **settings)
    missing = "kek.key" if without_keys else "secret.key"
    assert (refused.returncode, missing in refused.stderr) == (1, True), refused.stderr
    options = ["--unverified", *(["--without-keys"] if without_keys else [])]
    restored = run_command("restore", *options, str(backup), data_dir=empty, **settings)
    assert restored.returncode == 0, restored.stderr
    assert run_command("bootstrap-admin", "--force", "--new-secret", data_dir=empty, **settings).returncode == 0
    assert run_command("verify", data_dir=empty, **settings).returncode == 0


@pytest.mark.engine("sqlite", reason="the commands are the same; what differs by engine is in test_audit_forgery")
def test_backup_without_its_secret_has_a_way_on(make_server: MakeServer) -> None:
    server = make_server()
    with grpc.insecure_channel(server.address) as channel:
        old_shop = open_shop(channel, server.admin_key)
        old_shop.customer()
        refresh = old_shop.auth.IssueToken(auth_pb2.IssueTokenRequest(api_key=server.admin_key)).refresh_token
    old_key = server.admin_key
    lose_secret(server)
    renewed = server.run("bootstrap-admin", "--force", "--new-secret")
    assert renewed.returncode == 0, renewed.stderr
    again = server.run("bootstrap-admin", "--force", "--new-secret")
    assert (again.returncode, "rotate-secret" in again.stderr) == (1, True)
    server.restart()
    with grpc.insecure_channel(server.address) as channel:
        shop = open_shop(channel, server.admin_key)
        shop.customer()
        assert refusal_reason(channel, old_key) != ""
        with pytest.raises(grpc.RpcError):
            shop.auth.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=refresh))
        bare = auth_pb2_grpc.AuthServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            bare.WhoAmI(auth_pb2.WhoAmIRequest(), metadata=[("authorization", f"Bearer {old_shop.token}")])
        entries = shop.audit.ListAuditEntries(
            audit_pb2.ListAuditEntriesRequest(filter='method = "system/bootstrap/RenewSecret"')
        )
        epochs = [entry for entry in entries.audit_entries if entry.resource.startswith("auditEpochs/")]
        assert [epoch for epoch in epochs if "lost" in epoch.after["reason"]]
        assert shop.audit.VerifyAuditChain(audit_pb2.VerifyAuditChainRequest()).valid
    assert run_verify(server) == ""
    with server.database.unguarded() as session:  # the history digest protects entries whose key is lost
        session.run("UPDATE audit_entries SET actor = 'serviceAccounts/other' WHERE sequence = 4")
    assert "history_digest" in run_verify(server)


# -- checkpoints


@pytest.mark.engine("sqlite", reason="the commands are the same; what differs by engine is in test_audit_forgery")
def test_exported_checkpoint_shows_a_log_that_was_cut(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    checkpoint_file = tmp_path / "checkpoint"
    exported = server.run("export-checkpoint", str(checkpoint_file))
    assert exported.returncode == 0, exported.stderr
    server.stop()
    assert run_verify(server, "--since", str(checkpoint_file)) == ""
    with server.database.unguarded() as session:
        session.run("DELETE FROM audit_checkpoints")
        ((last,),) = session.rows("SELECT MAX(sequence) FROM audit_entries")
        session.run("DELETE FROM audit_entries WHERE sequence >= ?", last - 1)  # the checkpoint's own entry is the last
    assert "the log was truncated" in run_verify(server, "--since", str(checkpoint_file))
    checkpoint_file.write_text(checkpoint_file.read_text().replace('"sequence": ', '"sequence": 1'))
    assert "signature" in run_verify(server, "--since", str(checkpoint_file))


@pytest.mark.engine("sqlite", reason="the commands are the same; what differs by engine is in test_audit_forgery")
def test_server_signs_the_log_by_itself(make_server: MakeServer) -> None:
    server = make_server(audit_checkpoint_interval_s="0.05")
    with grpc.insecure_channel(server.address) as channel:
        shop = open_shop(channel, server.admin_key)
        pause = threading.Event()
        for _ in range(600):
            checkpoints = shop.audit.ListAuditCheckpoints(audit_pb2.ListAuditCheckpointsRequest()).audit_checkpoints
            if len(checkpoints) > 1:
                break
            shop.customer()
            pause.wait(0.05)
        assert len(checkpoints) > 1
        assert shop.audit.VerifyAuditChain(audit_pb2.VerifyAuditChainRequest(since=checkpoints[0])).valid
