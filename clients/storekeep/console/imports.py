"""Imports of CSV files: choose a file, map its columns, check it, import it, and see the errors by line.

Files stay in memory, within bounds, until they are done with or an hour has passed.
"""

from __future__ import annotations

import io
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from storekeep.client import StorekeepError, WriteOptions
from storekeep.console.rendering import DEFAULT_LOCALE, format_count
from storekeep.console.requests import BadRequest, Reply, Request, Route, describe_problem, redirect
from storekeep.console.sessions import Session
from storekeep.console.uploads import Upload
from storekeep.imports.columns import Columns, InvalidMapping, read_columns
from storekeep.imports.kinds import KINDS, Kind
from storekeep.imports.records import FileUnreadable
from storekeep.imports.rows import Layout, Row, RowReader
from storekeep.imports.runs import Run, Summary
from storekeep.imports.sku_maps import SkuMap
from storekeep.imports.spellings import Spelling
from storekeep.imports.writes import Outcome

FILES_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of all files in memory. The oldest that is not running makes room."""
LIFETIME_S = 3_600.0
RUNNING_MAX = 4
"""Imports at once; further ones wait."""
COLUMNS_MAX = 500
HEADER_CHARS_MAX = 20_000
"""Characters of all names of columns. The page has each name once for each field."""
SAMPLE_ROWS = 5
REFRESH_S = 2
ENCODINGS = {
    "": "UTF-8",
    "cp1252": "Windows-1252 (Western Europe)",
    "iso8859-15": "ISO 8859-15",
    "cp1250": "Windows-1250",
}
DELIMITERS = {"": "Comma", ";": "Semicolon", "\t": "Tab", "|": "Vertical bar"}
ReportError = Callable[[str, Exception], None]
"""Logs an unexpected error, given what failed. Thread-safe."""
_HINTS = {
    "--encoding cp1252": "choose it when you send the file",
    "--encoding utf-16-le": "save the file as UTF-8",
    "--decimal-comma": "send the file again, and tick “Decimals are after a comma”",
}


@dataclass
class Progress:
    """A run of an import, dry or not. The thread that imports writes it, pages read it.

    Attributes:
        problem: why it stopped before the end, as lines of text.
        ignored: columns whose values are not imported.
        replaced: columns whose values are not imported, because a constant replaces them.
    """

    is_dry: bool
    summary: Summary = field(default_factory=Summary)
    problem: Sequence[str] = ()
    ignored: Sequence[str] = ()
    replaced: Sequence[str] = ()
    is_done: bool = False


@dataclass
class ImportFile:
    """A file that somebody imports.

    Attributes:
        owner: form token of the session.
        mapped: column of the file by target.
        constants: value by target, for rows without one.
        progress: the latest run; None before the first.
    """

    key: str
    owner: str
    kind: Kind
    upload: Upload
    layout: Layout
    spelling: Spelling
    used_s: float
    mapped: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    progress: Progress | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run is under way."""
        return self.progress is not None and not self.progress.is_done

    def find_extra(self, prefix: str) -> tuple[str, str]:
        """Return the chosen target with a prefix, such as `label.size`, and its column; two empty texts without one."""
        return next(((target, self.mapped[target]) for target in self.mapped if target.startswith(prefix)), ("", ""))

    @property
    def was_checked(self) -> bool:
        """Whether the latest run was a check that came to its end."""
        return (
            self.progress is not None and self.progress.is_dry and self.progress.is_done and not self.progress.problem
        )

    @property
    def rows_estimated(self) -> int:
        """Number of lines, about that of rows."""
        return max(1, self.upload.content.count(b"\n"))

    def open(self) -> RowReader:
        """Return a reader of its rows. Raises: FileUnreadable."""
        return RowReader(io.BytesIO(self.upload.content), layout=self.layout)


class ImportFiles:
    """The files of all sessions of a console. Thread-safe.

    Args:
        report_error: log an unexpected error of a run.
    """

    def __init__(self, *, report_error: ReportError) -> None:
        self._report_error = report_error
        self._lock = threading.Lock()
        self._files: dict[str, ImportFile] = {}
        self._is_closed = False
        self._executor = ThreadPoolExecutor(RUNNING_MAX, thread_name_prefix="console-import")

    def add(self, file: ImportFile) -> None:
        """Keep a file. The previous one of the session goes, unless it is running.

        Raises: BadRequest if there is no room.
        """
        with self._lock:
            now_s = time.monotonic()
            idle = [one for one in self._files.values() if not one.is_running]
            for one in sorted(idle, key=lambda other: other.used_s):
                is_full = self._count_bytes() + len(file.upload.content) > FILES_BYTES_MAX
                if is_full or one.owner == file.owner or now_s - one.used_s > LIFETIME_S:
                    del self._files[one.key]
            if self._count_bytes() + len(file.upload.content) > FILES_BYTES_MAX:
                raise BadRequest("Too many files are being imported. Try again in a moment.", status=503)
            self._files[file.key] = file

    def find(self, key: str, *, owner: str) -> ImportFile:
        """Return a file of a session. Raises: BadRequest."""
        with self._lock:
            file = self._files.get(key)
            if file is None or file.owner != owner:
                raise BadRequest("This file is no longer here. Send it again.", status=404)
            file.used_s = time.monotonic()
            return file

    def start(self, file: ImportFile, session: Session, *, is_dry: bool) -> None:
        """Start a run in the background.

        Raises: BadRequest if one is under way, or an import was not checked to its end.
        """
        with self._lock:
            if file.is_running:
                raise BadRequest("This file is being imported already.", status=409)
            if not is_dry and not file.was_checked:
                raise BadRequest("Check the file first.")
            file.progress = Progress(is_dry)
        self._executor.submit(self._run, file, session, file.progress)

    def _run(self, file: ImportFile, session: Session, progress: Progress) -> None:
        """Import a file, or check it, and say why it stopped before its end. For a thread of its own."""
        try:
            run_import(file, session, progress, is_closed=lambda: self._is_closed)
        except StorekeepError as error:
            problem = describe_problem(error)
            progress.problem = (problem.message if problem is not None else "", describe_stop(progress))
        except (FileUnreadable, InvalidMapping) as error:
            progress.problem = (describe(error),)
        except Exception as error:  # noqa: BLE001 - a run that failed must not look done
            self._report_error("an import of the console", error)
            progress.problem = ("An error of the console; the gateway's log has the details.", describe_stop(progress))
        finally:
            progress.is_done = True

    def close(self) -> None:
        """Stop the runs after the rows that are under way."""
        self._is_closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _count_bytes(self) -> int:
        return sum(len(one.upload.content) for one in self._files.values())


def run_import(file: ImportFile, session: Session, progress: Progress, *, is_closed: Callable[[], bool]) -> None:
    """Import a file, or check it, and record each outcome.

    Raises: StorekeepError, FileUnreadable, InvalidMapping.
    """
    options = WriteOptions(validate_only=progress.is_dry)
    reader = file.open()
    columns = build_columns(file, reader)
    importer = file.kind.importer(session.client, write_options=options, skus=SkuMap(None, dry_run=progress.is_dry))
    for result in Run(importer, columns=columns).import_rows(reader):
        progress.summary.add(result)
        if is_closed():
            progress.problem = ("The gateway has ended.",)
            break
    progress.ignored = [name for name in columns.ignored if name not in file.constants]
    progress.replaced = [name for name in columns.ignored if name in file.constants]


def describe_stop(progress: Progress) -> str:
    """Return where a run stopped, and how to go on."""
    step = "Check" if progress.is_dry else "Import"
    rows = format_count(progress.summary.rows, DEFAULT_LOCALE, noun="row")
    return f"It stopped after {rows}. {step} the file again to continue."


def describe(error: Exception) -> str:
    """Return the problem of a file in words, without options of the command line."""
    text = explain(str(error))
    return text[:1].upper() + text[1:] + "."


def explain(text: str) -> str:
    """Return a text of the import with the words of the page instead of options of the command line."""
    for option, words in _HINTS.items():
        text = text.replace(f"state it: {option}", words).replace(f"add {option}", words)
    return text


def _suggest_delimiter(file: ImportFile, header: Sequence[str]) -> str:
    """Return what to choose if a file has one column, as far as its delimiter is known; empty for nothing."""
    found = [(key, name) for key, name in DELIMITERS.items() if len(header) == 1 and (key or ",") in header[0]]
    if not found or found[0][0] == file.layout.delimiter:
        return ""
    return f"The file has one column only. Send it again, and choose “{found[0][1]}” as what separates its cells."


def build_columns(file: ImportFile, reader: RowReader) -> Columns:
    """Return the mapping of a file. Raises: InvalidMapping."""
    return read_columns(
        file.kind.targets,
        reader,
        mapped=file.mapped,
        constants=file.constants,
        prefixes=file.kind.prefixes,
        spelling=file.spelling,
    )


def list_kinds(request: Request) -> list[Kind]:
    """Return the kinds that the person may import. Raises: BadRequest if there are none."""
    kinds = [kind for kind in KINDS if all(map(request.session.may, kind.permissions))]
    if not kinds:
        raise BadRequest("You may import nothing. Ask an administrator for a role.", status=403)
    return kinds


def show_start(request: Request) -> Reply:
    """Show the form that sends a file. Raises: BadRequest."""
    return request.page(
        "import.html",
        title="Import",
        kinds=list_kinds(request),
        chosen=request.field("kind") or request.query["kind"],
        encodings=ENCODINGS,
        delimiters=DELIMITERS,
    )


def send_file(files: ImportFiles, request: Request) -> Reply:
    """Keep a file, and go on to the mapping of its columns. Raises: BadRequest."""
    kind = next((one for one in list_kinds(request) if one.noun == request.field("kind")), None)
    upload = request.files.get("file")
    delimiter, encoding = request.form.get("delimiter", [""])[-1], request.field("encoding")
    if kind is None or delimiter not in DELIMITERS or encoding not in ENCODINGS:
        raise BadRequest("Choose what the file contains, and how it is written.")
    if upload is None or not upload.content:
        raise BadRequest("Choose a file that is not empty.")
    file = ImportFile(
        secrets.token_urlsafe(16),
        owner=request.session.csrf_token,
        kind=kind,
        upload=upload,
        layout=Layout(delimiter, encoding),
        spelling=Spelling(decimal_comma=bool(request.field("decimal_comma"))),
        used_s=time.monotonic(),
    )
    header = _read_header(file)
    by_name = {name.casefold().replace(" ", "_"): name for name in header if name}
    file.mapped = {target.name: by_name[target.name] for target in kind.targets if target.name in by_name}
    files.add(file)
    return redirect(f"/import/{file.key}")


def _read_header(file: ImportFile) -> Sequence[str]:
    """Return the names of the columns. Raises: BadRequest."""
    try:
        header = file.open().header
    except FileUnreadable as error:
        raise BadRequest(describe(error)) from None
    if len(header) > COLUMNS_MAX or sum(map(len, header)) > HEADER_CHARS_MAX:
        text = f"more than {COLUMNS_MAX} columns, or names of more than {HEADER_CHARS_MAX:,} characters together"
        raise BadRequest(f"The file has {text}. Remove those that you do not need, or use the command line.")
    return header


def _find(files: ImportFiles, request: Request) -> ImportFile:
    return files.find(request.parameters["file"], owner=request.session.csrf_token)


def show_file(files: ImportFiles, request: Request) -> Reply:
    """Show the mapping of a file, and the outcome of the latest run. Raises: BadRequest."""
    file = _find(files, request)
    is_running = file.is_running  # once: it may end while the page is made
    reader = file.open()
    sample = [row for row, _ in zip(reader, range(SAMPLE_ROWS), strict=False) if isinstance(row, Row)]
    progress = file.progress
    done = min(99, progress.summary.rows * 100 // file.rows_estimated) if progress is not None else 0
    return request.page(
        "import-file.html",
        title=f"Import {file.kind.noun}",
        file=file,
        header=[name for name in reader.header if name],
        sample=sample,
        progress=progress,
        outcomes=list_outcomes(progress) if progress is not None else (),
        percent=done,
        explain=explain,
        hint=_suggest_delimiter(file, reader.header),
        is_running=is_running,
        refresh_s=REFRESH_S if is_running else 0,
    )


def list_outcomes(progress: Progress) -> list[tuple[str, int]]:
    """Return the number of rows by outcome, in words."""
    counts = progress.summary.counts
    return [(outcome.value, counts[outcome]) for outcome in Outcome if counts[outcome]]


def start_run(files: ImportFiles, request: Request) -> Reply:
    """Check a file, or import it. Raises: BadRequest."""
    file, step = _find(files, request), request.field("step")
    if step not in ("check", "import"):
        raise BadRequest("There is no such step.")
    if file.is_running:
        raise BadRequest("This file is being imported already.", status=409)
    if step == "check":
        file.mapped, file.constants = _read_mapping(request, file)
        _check_mapping(file)
    files.start(file, request.session, is_dry=step == "check")
    return redirect(f"/import/{file.key}")


def _read_mapping(request: Request, file: ImportFile) -> tuple[dict[str, str], dict[str, str]]:
    """Return column and constant by target, as the form has them."""
    names: Mapping[str, Any] = {target.name: target for target in file.kind.targets}
    mapped = {name: request.field(f"column.{name}") for name in names if request.field(f"column.{name}")}
    constants = {name: request.field(f"constant.{name}") for name in names if request.field(f"constant.{name}")}
    for row in ("1", "2", "3"):
        target, column = request.field(f"extra.target.{row}"), request.field(f"extra.column.{row}")
        if target and column:
            mapped[target] = column
    return mapped, constants


def _check_mapping(file: ImportFile) -> None:
    """Check that the file has all that it needs. Raises: BadRequest."""
    missing = [
        target.name
        for target in file.kind.targets
        if target.required and target.name not in file.mapped and target.name not in file.constants
    ]
    if missing:
        raise BadRequest(f"Choose a column for {', '.join(missing)}, or a value for all rows.")
    try:
        build_columns(file, file.open())
    except (InvalidMapping, FileUnreadable) as error:
        raise BadRequest(describe(error)) from None


def make_routes(files: ImportFiles) -> tuple[Route, ...]:
    """Return the routes of a console with its files."""
    show = partial(show_file, files)
    return (
        Route("GET", "/import", show_start),
        Route("POST", "/import", partial(send_file, files), "", show_start),
        Route("GET", "/import/{file}", show),
        Route("POST", "/import/{file}", partial(start_run, files), "", show),
    )
