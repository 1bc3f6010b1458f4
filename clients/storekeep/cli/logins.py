"""Logins: the address and API key stored by `storekeep login`, in a file that only its owner can read.

A stored key is sent only to the address that it was stored with.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from storekeep.client.files import read_regular_file

FILE_MODE = 0o600
FOLDER_MODE = 0o700


@dataclass(frozen=True)
class Login:
    """Contents of the login file."""

    address: str
    api_key: str
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    plaintext: bool = False


class LoginUnreadable(Exception):
    """The login file cannot be read or is damaged."""


def get_login_path() -> Path:
    """Return the path of the login file: `storekeep/login.json` in the XDG config directory."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "storekeep" / "login.json"


def read_login() -> Login | None:
    """Return the stored login, or None if there is none.

    Raises: LoginUnreadable.
    """
    try:
        return Login(**json.loads(read_regular_file(get_login_path())))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LoginUnreadable(f"{get_login_path()} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise LoginUnreadable(f"{get_login_path()} is damaged; remove it and log in again") from error


def write_login(login: Login) -> Path:
    """Store a login in place of the previous one and return its path. The file is private and replaced atomically."""
    path = get_login_path()
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(handle, FILE_MODE)
        json.dump(asdict(login), file, indent=2)
        file.write("\n")
    Path(name).replace(path)
    return path


def remove_login() -> bool:
    """Remove the stored login. Return whether there was one."""
    try:
        get_login_path().unlink()
    except FileNotFoundError:
        return False
    return True
