"""Logins: the address and API key that `storekeep login` keeps, in a file that only its owner can read.

A stored key goes to the address it was stored with and to no other.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700


@dataclass(frozen=True)
class Login:
    """What a login keeps."""

    address: str
    api_key: str
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    plaintext: bool = False


class LoginUnreadable(Exception):
    """The login file is not what `storekeep login` writes."""


def login_path() -> Path:
    """Return where the login is kept: `storekeep/login.json` in the XDG config directory."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "storekeep" / "login.json"


def read_login() -> Login | None:
    """Return the login; None when there is none.

    Raises: LoginUnreadable.
    """
    try:
        return Login(**json.loads(login_path().read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LoginUnreadable(f"{login_path()} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise LoginUnreadable(f"{login_path()} is not what `storekeep login` writes; remove it, and log in") from error


def write_login(login: Login) -> Path:
    """Keep the login, in place of the one before, and return where. Never half written, never readable by others."""
    path = login_path()
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(handle, FILE_MODE)
        json.dump(asdict(login), file, indent=2)
        file.write("\n")
    Path(name).replace(path)
    return path


def remove_login() -> bool:
    """Forget the login; say whether there was one."""
    try:
        login_path().unlink()
    except FileNotFoundError:
        return False
    return True
