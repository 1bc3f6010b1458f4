"""Announcements: what a server tells whoever started it, on standard output and in files; the logs are for programs."""

from __future__ import annotations

import logging
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storekeep.server.config import Settings
from storekeep.server.domain.samples import CUSTOMER, ORDER_CURRENCY, ORDER_LINES, has_sample, load_sample
from storekeep.server.runtime.file_modes import check_data_dir
from storekeep.server.runtime.files import new_file
from storekeep.server.runtime.secrets import write_private
from storekeep.server.store.engine import Store

ADMIN_KEY_FILE = "admin.key"

log = logging.getLogger("storekeep.server")


def say(line: str) -> None:
    """Tell whoever started the server."""
    print(printable(line), flush=True)  # noqa: T201 - what the command says


def printable(text: str) -> str:
    """Return `text` without what a terminal would act on: names of files and resources are what others chose."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def warn_of_open_data_dir(settings: Settings) -> None:
    """Tell whoever started the server, and the log, where others can look into the data directory.

    Raises: ExposedFile where anybody can write in it.
    """
    warning = check_data_dir(settings.data_dir)
    if warning:
        say(f"Warning: {warning}")
        log.warning("the data directory is open to others", extra={"problem": warning})


def keep_admin_key(key: str, *, data_dir: Path) -> None:
    """Leave the administrator's key where only the owner of the server can read it."""
    path = data_dir / ADMIN_KEY_FILE
    path.unlink(missing_ok=True)
    write_private(path, key)


def say_where_admin_key_is(data_dir: Path) -> None:
    """Say where a key that was just made is."""
    path = data_dir / ADMIN_KEY_FILE
    say(f"The administrator's API key is in {path}; keep it, or make others with it and delete it.")


def offer_sample(store: Store, *, wanted: bool) -> bool:
    """Load the sample catalogue where it is wanted and there is none; says whether it is there, and wanted."""
    if not wanted:
        return False
    if load_sample(store):
        say("A sample catalogue was loaded: the tea shop Kettle & Crumb.")
    return has_sample(store)


@contextmanager
def announced(
    address: str, *, pages: str, data_dir: Path, has_sample: bool, address_file: Path | None
) -> Iterator[None]:
    """Say that the server serves; write down where, as long as it does.

    Args:
        address: of the gRPC port.
        pages: address of the pages of metrics and health; empty without them.
        has_sample: whether there is a catalogue to say more about.
        address_file: where the address is written; None for nowhere.
    """
    say(f"Storekeep serves on {address}; Ctrl-C stops it.")
    if pages:
        say(f"Metrics and health are on http://{pages}/metrics and /readyz.")
    if has_sample:
        say(what_to_type(address, data_dir=data_dir))
    if address_file is not None:
        _write_whole(address_file, address)
    yield
    if address_file is not None:
        address_file.unlink(missing_ok=True)


def what_to_type(address: str, *, data_dir: Path) -> str:
    """The commands that log in and place a first order on the sample catalogue, as they work from here."""
    storekeep = _own_command("storekeep")
    lines = " ".join(f"--line {sku}={units}" for sku, units in ORDER_LINES)
    return (
        "\nIn another terminal, type:\n"
        f"  {storekeep} login --address {address} --api-key-file {data_dir / ADMIN_KEY_FILE}\n"
        f"  {storekeep} products list\n"
        f"  {storekeep} orders place --customer {CUSTOMER} {lines} --currency {ORDER_CURRENCY}\n"
    )


def _own_command(name: str) -> str:
    """How a command that was installed with this one is typed: by its name where the shell finds it."""
    installed = Path(sysconfig.get_path("scripts"), name)
    if shutil.which(name) == str(installed):
        return name
    here = Path.cwd()
    return str(installed.relative_to(here) if installed.is_relative_to(here) else installed)


def _write_whole(path: Path, text: str) -> None:
    with new_file(path, replaces=True, mode=0o666) as new:
        new.write_text(text + "\n")
