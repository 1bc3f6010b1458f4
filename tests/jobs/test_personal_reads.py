"""Bulk reads of personal data are in the audit log, whichever process served them, and once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import msgspec
import pytest

from storekeep.server.jobs.personal_reads import PersonalReadsJob
from storekeep.server.store.errors import StorageUnavailable
from storekeep.server.telemetry.personal_reads import PersonalRead, PersonalReader, PersonalReads
from storekeep.v1 import audit_pb2, customers_pb2, events_pb2
from tests.support.databases import Database, new_database
from tests.support.hostile.accounts import make_account, sign_in
from tests.support.processes import ServerProcess
from tests.support.shops import Shop
from tests.support.stores import open_store
from tests.support.watches import Watch

pytestmark = pytest.mark.engine("sqlite", reason="reads are counted above the store")
RESOURCES_MIN = 10
TIMEOUT_S = 60.0
RETRIED = "0b7c7a52-6f1e-4c39-9f0d-5a3f1c2b8e10"
"""The request id of a change that is retried."""
READER = PersonalReader("serviceAccounts/a", "", "", "storekeep.v1.CustomerService/ListCustomers")


def test_counts_are_due_when_there_are_enough_and_come_back() -> None:
    reads = PersonalReads(resources_min=3)
    reads.add(READER, 2)
    assert reads.take() == []
    reads.add(READER, 1)
    assert reads.take() == [PersonalRead(READER, 3)]
    assert reads.take() == []
    reads.restore([PersonalRead(READER, 3)])
    assert reads.take() == [PersonalRead(READER, 3)]


def test_account_is_due_with_all_its_sessions_and_methods_together() -> None:
    reads = PersonalReads(resources_min=3)
    others = [msgspec.structs.replace(READER, session_id=text, method=text) for text in "ab"]
    for one in (READER, *others, msgspec.structs.replace(READER, subject="serviceAccounts/b")):
        reads.add(one, 1)
    assert reads.take() == [PersonalRead(one, 1) for one in (READER, *others)]


def test_file_that_cannot_be_read_stays_and_a_damaged_one_is_logged(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reads = PersonalReads(resources_min=1)
    store = open_store(database.url)
    job = PersonalReadsJob(store, reads, folder=tmp_path, election=None)
    (tmp_path / "1.json").write_bytes(b"[{")
    (tmp_path / "2.json").mkdir()
    reads.add(READER, 5)
    with pytest.raises(StorageUnavailable):
        job.run_once()
    assert [path.name for path in tmp_path.glob("*.json")] == ["2.json"]
    assert [record.__dict__["file"] for record in caplog.records] == ["1.json"]
    (tmp_path / "2.json").rmdir()
    assert reads.take() == []  # its own counts were recorded before
    assert job.run_once() == 0
    store.close()


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two workers"])
def server(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    database = new_database(engine, folder)
    settings = {"audit_personal_reads": str(RESOURCES_MIN), "workers": request.param}
    process = ServerProcess(folder, database=database, **settings)
    yield process
    process.kill()
    database.remove()


@pytest.fixture
def admin(server: ServerProcess) -> Iterator[Shop]:
    with grpc.insecure_channel(server.address) as channel:
        yield Shop(channel, api_key=server.admin_key)


def list_bulk_reads(admin: Shop, subject: str) -> list[audit_pb2.AuditEntry]:
    request = audit_pb2.ListAuditEntriesRequest(filter=f'resource = "{subject}/bulkReads/*"')
    return list(admin.audit.ListAuditEntries(request).audit_entries)


def count_recorded(admin: Shop, subject: str) -> int:
    return sum(int(entry.after["resources"]) for entry in list_bulk_reads(admin, subject))


def read_customers(reader: Shop, *, times: int, **fields: object) -> None:
    for _ in range(times):
        page = reader.customers.ListCustomers(customers_pb2.ListCustomersRequest(page_size=5, **fields))
        assert len(page.customers) == 5


@pytest.mark.engine("sqlite", "postgresql", reason="the counts of several processes are stored on each")
def test_bulk_read_is_recorded_with_its_caller(server: ServerProcess, admin: Shop) -> None:
    for _ in range(5):
        admin.customer()
    subject = make_account(admin, permissions=["customers.read", "customers.personal.read"])
    channels = [
        grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(8)
    ]
    readers = [sign_in(channel, admin, subject) for channel in channels]  # so that every worker serves some
    for reader in readers:
        read_customers(reader, times=4)
    end_s = time.monotonic() + TIMEOUT_S
    while count_recorded(admin, subject) < 8 * 20:
        assert time.monotonic() < end_s
        time.sleep(0.2)
    entries = list_bulk_reads(admin, subject)
    assert count_recorded(admin, subject) == 8 * 20
    assert {entry.actor for entry in entries} == {subject}
    assert {entry.method for entry in entries} == {"storekeep.v1.CustomerService/ListCustomers"}
    assert {entry.api_key.rpartition("/apiKeys/")[0] for entry in entries} == {subject}
    assert admin.audit.VerifyAuditChain(audit_pb2.VerifyAuditChainRequest()).valid
    for channel in channels:
        channel.close()


def await_recorded(admin: Shop, subject: str, resources: int) -> None:
    """Wait until so many resources are recorded, and check that there are no more."""
    end_s = time.monotonic() + TIMEOUT_S
    while count_recorded(admin, subject) < resources:
        assert time.monotonic() < end_s
        time.sleep(0.2)
    assert count_recorded(admin, subject) == resources


def list_methods(admin: Shop, subject: str) -> set[str]:
    return {entry.method.rpartition("/")[2] for entry in list_bulk_reads(admin, subject)}


READS = ["customers.read", "customers.personal.read"]


def test_single_reads_and_changes_that_change_nothing_are_recorded(admin: Shop) -> None:
    customers = [admin.customer() for _ in range(5)]
    changes = [
        customers_pb2.UpdateCustomerRequest(customer=one, update_mask={"paths": ["display_name"]}) for one in customers
    ]
    subject = make_account(admin, permissions=[*READS, "customers.write"])
    for number in range(2):  # a new session each time, as of someone who wants to leave no record
        reader = sign_in(admin.bare_channel, admin, subject).customers
        for one, change in zip(customers, changes, strict=True):
            assert reader.GetCustomer(customers_pb2.GetCustomerRequest(name=one.name)) == one
            dry = customers_pb2.UpdateCustomerRequest(validate_only=True)
            dry.MergeFrom(change)
            assert reader.UpdateCustomer(dry) == one
        batch = customers_pb2.BatchUpdateCustomersRequest(requests=changes, validate_only=number > 0)
        assert [result.customer for result in reader.BatchUpdateCustomers(batch).results] == customers
    await_recorded(admin, subject, 2 * 3 * len(customers))
    assert list_methods(admin, subject) == {"GetCustomer", "UpdateCustomer", "BatchUpdateCustomers"}


def test_change_that_changes_nothing_and_a_retry_are_recorded(admin: Shop) -> None:
    """The audit log has one entry of the real change, which the reply of its retry is not part of."""
    customers = [admin.customer() for _ in range(5)]
    subject = make_account(admin, permissions=[*READS, "customers.write"])
    writer = sign_in(admin.bare_channel, admin, subject).customers
    for one in customers:
        request = customers_pb2.UpdateCustomerRequest(customer=one, update_mask={"paths": ["labels"]})
        assert writer.UpdateCustomer(request) == one
    batch = [customers_pb2.UpdateCustomerRequest(customer=one, update_mask={"paths": ["labels"]}) for one in customers]
    batch[0].customer.labels["tier"] = "gold"  # one of five changes, and has an entry
    writer.BatchUpdateCustomers(customers_pb2.BatchUpdateCustomersRequest(requests=batch))
    for _ in range(2):
        writer.UpdateCustomer(
            customers_pb2.UpdateCustomerRequest(
                customer=customers_pb2.Customer(name=customers[0].name, labels={"tier": "silver"}),
                update_mask={"paths": ["labels"]},
                request_id=RETRIED,
            )
        )
    await_recorded(admin, subject, 5 + 4 + 1)
    assert list_methods(admin, subject) == {"UpdateCustomer", "BatchUpdateCustomers"}


def test_events_and_audit_entries_read_one_by_one_are_recorded(admin: Shop) -> None:
    """Their names are sequences, which can be counted through. Those about products do not count."""
    start = admin.customer().create_time
    for _ in range(4):
        admin.product()
        admin.customer()
    subject = make_account(admin, permissions=[*READS, "events.read", "audit.read", "products.write"])
    query = events_pb2.ListEventsRequest(filter=f'create_time >= "{start.ToJsonString()}"', page_size=1_000)
    found = [event for event in admin.events.ListEvents(query).events if event.type.endswith(".created")]
    assert sum(event.type == "customer.created" for event in found) == 5
    reader = sign_in(admin.bare_channel, admin, subject)
    for event in found:
        assert reader.events.GetEvent(events_pb2.GetEventRequest(name=event.name)) == event
        entry = audit_pb2.GetAuditEntryRequest(name=f"auditEntries/{event.name.rpartition('/')[2]}")
        assert reader.audit.GetAuditEntry(entry).resource == event.resource
    await_recorded(admin, subject, 2 * 5)
    assert list_methods(admin, subject) == {"GetEvent", "GetAuditEntry"}


def test_changes_have_entries_of_their_own(admin: Shop) -> None:
    subject, marker = (make_account(admin, permissions=[*READS, "customers.write"]) for _ in range(2))
    writer = sign_in(admin.bare_channel, admin, subject)
    for _ in range(2 * RESOURCES_MIN):
        writer.customer()
    read_customers(sign_in(admin.bare_channel, admin, marker), times=2)
    await_recorded(admin, marker, RESOURCES_MIN)
    assert list_bulk_reads(admin, subject) == []


WATCH_PERMISSIONS = ["events.read", "customers.read", "products.write"]


def test_events_with_personal_data_are_recorded(admin: Shop) -> None:
    """Events of products have none, and do not count."""
    permissions = [*WATCH_PERMISSIONS, "customers.personal.read"]
    lister, watcher = (make_account(admin, permissions=permissions) for _ in range(2))
    start = admin.customer().create_time
    for _ in range(RESOURCES_MIN - 1):
        admin.product()
        admin.customer()
    channel = admin.bare_channel
    watch = Watch(sign_in(channel, admin, watcher), start_time=start)
    received = 0
    while received < RESOURCES_MIN:
        received += watch.take(1)[0].type == "customer.created"
    await_recorded(admin, watcher, RESOURCES_MIN)
    watch.close()
    assert list_methods(admin, watcher) == {"WatchEvents"}
    query = events_pb2.ListEventsRequest(filter=f'create_time >= "{start.ToJsonString()}"', page_size=1_000)
    assert len(sign_in(channel, admin, lister).events.ListEvents(query).events) > 2 * RESOURCES_MIN - 2
    await_recorded(admin, lister, RESOURCES_MIN)
    assert list_methods(admin, lister) == {"ListEvents"}


def test_events_without_personal_data_are_not_recorded(admin: Shop) -> None:
    masked = make_account(admin, permissions=WATCH_PERMISSIONS)
    thin, marker = (make_account(admin, permissions=[*WATCH_PERMISSIONS, "customers.personal.read"]) for _ in range(2))
    start = admin.customer().create_time
    for _ in range(RESOURCES_MIN):
        admin.customer()
    channel = admin.bare_channel
    for subject, fields in ((masked, {}), (thin, {"omit_content": True}), (marker, {})):
        watch = Watch(sign_in(channel, admin, subject), start_time=start, **fields)
        assert len(watch.take(RESOURCES_MIN + 1)) == RESOURCES_MIN + 1
        watch.close()
    await_recorded(admin, marker, RESOURCES_MIN + 1)
    assert [list_bulk_reads(admin, subject) for subject in (masked, thin)] == [[], []]


def test_small_read_and_read_without_personal_data_are_not_recorded(admin: Shop) -> None:
    for _ in range(5):
        admin.customer()
    names = make_account(admin, permissions=["customers.read", "customers.personal.read"])
    masked = make_account(admin, permissions=["customers.read"])
    few = make_account(admin, permissions=["customers.read", "customers.personal.read"])
    marker = make_account(admin, permissions=["customers.read", "customers.personal.read"])
    channel = admin.bare_channel
    read_customers(sign_in(channel, admin, names), times=4, read_mask={"paths": ["name"]})
    read_customers(sign_in(channel, admin, masked), times=4)
    read_customers(sign_in(channel, admin, few), times=1)
    read_customers(sign_in(channel, admin, marker), times=4)
    end_s = time.monotonic() + TIMEOUT_S
    while not list_bulk_reads(admin, marker):
        assert time.monotonic() < end_s
        time.sleep(0.2)
    assert [list_bulk_reads(admin, subject) for subject in (names, masked, few)] == [[], [], []]


def test_stop_records_what_is_due_and_leaves_no_file(engine: str, tmp_path: Path) -> None:
    database = new_database(engine, tmp_path)
    settings = {"audit_personal_reads": str(RESOURCES_MIN), "workers": "2"}
    process = ServerProcess(tmp_path, database=database, **settings)
    with grpc.insecure_channel(process.address) as channel:
        admin = Shop(channel, api_key=process.admin_key)
        for _ in range(5):
            admin.customer()
        subject = make_account(admin, permissions=["customers.read", "customers.personal.read"])
        read_customers(sign_in(channel, admin, subject), times=4)
    process.stop()
    process = ServerProcess(tmp_path, database=database, **settings)
    with grpc.insecure_channel(process.address) as channel:
        admin = Shop(channel, api_key=process.admin_key)
        end_s = time.monotonic() + TIMEOUT_S
        while count_recorded(admin, subject) < 20:
            assert time.monotonic() < end_s
            time.sleep(0.2)
        assert count_recorded(admin, subject) == 20
    process.kill()
    database.remove()
