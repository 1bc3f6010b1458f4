"""Logins: the address and API key stored by `storekeep login`, in a file that only its owner can read.

A stored key is sent only to the address that it was stored with. The access token of the key is kept beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from storekeep.cli.files import PRIVATE_MODE, create_file, describe_os_error
from storekeep.client import StoredToken
from storekeep.client.files import read_regular_file

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
        raise LoginUnreadable(f"{get_login_path()} cannot be read: {describe_os_error(error)}") from error
    except (ValueError, TypeError) as error:
        raise LoginUnreadable(f"{get_login_path()} is damaged; remove it and log in again") from error


def write_login(login: Login) -> Path:
    """Store a login in place of the previous one and return its path. Only its owner can read the file."""
    path = get_login_path()
    _write_private(path, asdict(login))
    return path


def remove_login() -> bool:
    """Remove the stored login and its access token. Return whether there was a login."""
    get_token_path().unlink(missing_ok=True)
    try:
        get_login_path().unlink()
    except FileNotFoundError:
        return False
    return True


class StoredTokens:
    """The access token of the stored login: a command uses the one of the command before, until it expires.

    A token that cannot be read or written is not an error: the command then fetches a new one.
    """

    def __init__(self, login: Login) -> None:
        self._owner = hashlib.sha256(f"{login.address}\n{login.api_key}".encode()).hexdigest()

    def load(self) -> StoredToken | None:
        """Return the token of this login; None if there is none."""
        try:
            document = json.loads(read_regular_file(get_token_path()))
            if document["login"] != self._owner:
                return None
            return StoredToken(str(document["access_token"]), float(document["expire_time_s"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, token: StoredToken) -> None:
        """Store a token in place of the previous one."""
        with contextlib.suppress(OSError):
            _write_private(get_token_path(), {"login": self._owner, **asdict(token)})


def get_token_path() -> Path:
    """Return the path of the file with the access token, beside the login file."""
    return get_login_path().with_name("token.json")


def _write_private(path: Path, document: Mapping[str, object]) -> None:
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with create_file(path, mode=PRIVATE_MODE) as file:
        json.dump(document, file, indent=2)
        file.write("\n")
