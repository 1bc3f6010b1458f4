"""The console: the startup banner and other messages for the operator, on standard output and in files.

Messages for programs go to the log.
"""

from __future__ import annotations

import logging
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storekeep.server.config import Settings
from storekeep.server.process.addresses import format_login_options
from storekeep.server.process.lines import print_line
from storekeep.server.runtime.file_modes import check_data_dir
from storekeep.server.runtime.files import create_file
from storekeep.server.runtime.secrets import create_private_file
from storekeep.server.store.engine import Store

ADMIN_KEY_FILE = "admin.key"

log = logging.getLogger("storekeep.server")


def warn_about_open_data_dir(settings: Settings) -> None:
    """Print and log a warning if other users can read the data directory.

    Raises: ExposedFile if other users can write to it.
    """
    warning = check_data_dir(settings.data_dir)
    if warning:
        print_line(f"Warning: {warning}")
        log.warning("the data directory is open to others", extra={"problem": warning})


def write_admin_key(key: str, *, data_dir: Path) -> None:
    """Write the administrator's API key to `admin.key`, readable by the server's user only."""
    path = data_dir / ADMIN_KEY_FILE
    path.unlink(missing_ok=True)
    create_private_file(path, key)


def print_admin_key_path(data_dir: Path) -> None:
    """Print the path of a new administrator's key."""
    path = data_dir / ADMIN_KEY_FILE
    print_line(f"The administrator's API key is in {path}. Keep it safe, or create other keys with it and delete it.")


def load_sample_if_requested(store: Store, *, requested: bool) -> bool:
    """Load the sample catalogue into an empty database if it is requested.

    Returns: whether the sample is requested and present.
    """
    if not requested:
        return False
    from storekeep.server.domain.samples import has_sample, load_sample  # loads the domain of orders

    if load_sample(store):
        print_line("Loaded the sample catalogue: the tea shop Kettle & Crumb.")
    return has_sample(store)


@contextmanager
def announce_server(
    address: str, *, status_address: str, settings: Settings, has_sample: bool, address_file: Path | None
) -> Iterator[None]:
    """Print the startup banner, and keep the address in a file while the server runs.

    Args:
        address: of the gRPC port.
        status_address: of the metrics and health pages; empty if disabled.
        settings: of the server.
        has_sample: whether to print first commands for the sample catalogue.
        address_file: path of the file, which is removed at the end; None: write no file.
    """
    print_line(f"Storekeep is listening on {address}. Press Ctrl-C to stop.")
    if settings.log_file is not None:
        print_line(f"The log is in {settings.log_file}.")
    if status_address:
        print_line(f"Metrics and health: http://{status_address}/metrics and /readyz")
    if has_sample:
        print_line(format_first_commands(address, settings=settings))
    if address_file is not None:
        _write_atomically(address_file, address)
    yield
    if address_file is not None:
        address_file.unlink(missing_ok=True)


def format_first_commands(address: str, *, settings: Settings) -> str:
    """Return the commands that log in and place a first order, runnable from the working directory."""
    from storekeep.server.domain.samples import CUSTOMER, ORDER_CURRENCY, ORDER_LINES

    login = format_login_options(address, settings=settings, key_file=settings.data_dir / ADMIN_KEY_FILE)
    storekeep = _find_command("storekeep")
    lines = " ".join(f"--line {sku}={units}" for sku, units in ORDER_LINES)
    return (
        "\nIn another terminal, run:\n"
        f"  {storekeep} login {login}\n"
        f"  {storekeep} products list\n"
        f"  {storekeep} orders place --customer {CUSTOMER} {lines} --currency {ORDER_CURRENCY}\n"
    )


def _find_command(name: str) -> str:
    """Return the path of a command of this installation, relative to the working directory if it is below.

    Outside of it, return only the name if PATH finds it. Below, another terminal may have another PATH.
    """
    installed, directory = Path(sysconfig.get_path("scripts"), name), Path.cwd()
    if installed.is_relative_to(directory):
        return str(installed.relative_to(directory))
    return name if shutil.which(name) == str(installed) else str(installed)


def _write_atomically(path: Path, text: str) -> None:
    with create_file(path, replaces=True, mode=0o666) as new:
        new.write_text(text + "\n")
