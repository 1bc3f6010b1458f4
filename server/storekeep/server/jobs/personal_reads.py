"""The job that records bulk reads of personal data in the audit log. It runs in every process.

A process that does not write leaves its counts as a file in the data directory, and the leader records them. A file has
the id of its record as its name, so that a crash records nothing twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import uuid_utils

from storekeep.server.domain.personal_data.bulk_reads import BulkRead, record_bulk_reads
from storekeep.server.jobs.periodic import PeriodicJob
from storekeep.server.runtime.files import create_file
from storekeep.server.store.engine import Store
from storekeep.server.store.errors import StorageUnavailable
from storekeep.server.telemetry.personal_reads import PersonalRead, PersonalReads
from storekeep.server.transport.leadership import LeaderElection

INTERVAL_S = 2.0
"""How often counts are recorded. A process that is killed loses those of this time."""
SUFFIX = ".json"

log = logging.getLogger("storekeep.jobs")


class PersonalReadsJob(PeriodicJob):
    """Records the bulk reads of this process; in the leader, also those of the others.

    Args:
        store: The database.
        reads: The counts of this process.
        folder: The directory of the files of other processes.
        election: Admits writes if this process is the leader; None if every process writes.
    """

    def __init__(self, store: Store, reads: PersonalReads, *, folder: Path, election: LeaderElection | None) -> None:
        super().__init__(
            "personal-reads",
            interval_s=INTERVAL_S,
            success_message="bulk reads of personal data recorded",
            failure_message="bulk reads of personal data were not recorded",
        )
        self._store = store
        self._reads = reads
        self._folder = folder
        self._election = election

    def run_once(self) -> int:
        """Record all counts that are due, or leave them to the leader.

        Returns: The number of new entries in the audit log.

        Raises: StoreError.
        """
        if self._election is None:
            return self._record()
        if not self._election.admit():
            self._pass_due(self._write_file)
            return 0
        try:
            return self._record()
        finally:
            self._election.leave()

    def stop(self) -> None:
        """Stop, and record what is due; do nothing if the job was never started."""
        super().stop()
        if self.was_started:
            self._try_once()

    def _record(self) -> int:
        """Record the counts of this process, and those that others left. Return the number of new entries.

        Raises: StoreError.
        """
        recorded = self._pass_due(lambda reads: record_bulk_reads(self._store, reads))
        return recorded + sum(self._record_file(path) for path in sorted(self._folder.glob(f"*{SUFFIX}")))

    def _pass_due(self, accept: Callable[[list[BulkRead]], int]) -> int:
        """Pass the counts that are due to a function and return its result. If it fails, they stay due.

        Raises: StoreError; also whatever else the function raises.
        """
        due = self._reads.take()
        if not due:
            return 0
        try:
            return accept([_build_read(read) for read in due])
        except Exception:
            self._reads.restore(due)
            raise

    def _write_file(self, reads: list[BulkRead]) -> int:
        """Leave counts to the leader. Return 0: nothing is recorded yet.

        Raises: StorageUnavailable.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with create_file(self._folder / f"{uuid_utils.uuid7()}{SUFFIX}", replaces=False) as file:
                file.write_bytes(msgspec.json.encode(reads))
        except OSError:
            raise StorageUnavailable from None
        return 0

    def _record_file(self, path: Path) -> int:
        """Record the counts that another process left, and remove the file. A damaged file is logged and removed.

        Raises: StoreError; StorageUnavailable if the file cannot be read or removed, which then stays.
        """
        recorded = 0
        try:
            try:
                reads = msgspec.json.decode(path.read_bytes(), type=list[BulkRead])
            except msgspec.DecodeError:
                log.error("a file of bulk reads is damaged; its counts are lost", extra={"file": path.name})
            else:
                recorded = record_bulk_reads(self._store, reads, request_id=path.name.removesuffix(SUFFIX))
            path.unlink(missing_ok=True)
        except OSError:
            raise StorageUnavailable from None
        return recorded


def _build_read(read: PersonalRead) -> BulkRead:
    return BulkRead(**msgspec.structs.asdict(read.reader), resources=read.resources)
