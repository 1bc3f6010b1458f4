"""Logins: the address and the API key or session stored by `storekeep login`, in files that only their owner can read.

A stored key or session is sent only to the address that it was stored with. Access tokens are kept beside the login.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from storekeep.cli.files import PRIVATE_MODE, create_file, describe_os_error
from storekeep.client import StoredSession, StoredToken
from storekeep.client.files import read_regular_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FOLDER_MODE = 0o700
LOCK_WAIT_MAX_S = 60.0
"""Maximum wait for other commands to refresh the session, twice the default deadline of a call."""
LOCK_POLL_S = 0.02


@dataclass(frozen=True)
class Login:
    """Contents of the login file.

    Attributes:
        currency_code: ISO 4217 code of the currency of commands that name none; empty for no default.
        location: id of the location of commands that name none; empty for no default.
        console: address of the web console; empty for the one of a server on this machine.
        email: the email address of the user whose session is stored beside the login; empty for an API key.
    """

    address: str
    api_key: str
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    plaintext: bool = False
    currency_code: str = ""
    location: str = ""
    email: str = ""
    console: str = ""


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
    """Remove the stored login with its tokens. Return whether there was a login.

    Raises: OSError.
    """
    remove_session()
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


class StoredSessions:
    """The session of the user who is logged in: each command goes on with it, and refreshes it when it must."""

    def __init__(self, login: Login) -> None:
        self._owner = hashlib.sha256(f"{login.address}\n{login.email}".encode()).hexdigest()

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Keep other commands from refreshing the session; see `lock_sessions`."""
        return lock_sessions()

    def load(self) -> StoredSession | None:
        """Return the session of this login; None if there is none."""
        try:
            document = json.loads(read_regular_file(get_session_path()))
            if document.pop("login") != self._owner:
                return None
            return StoredSession(**document)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, session: StoredSession) -> None:
        """Store a session in place of the previous one.

        Raises: OSError.
        """
        _write_private(get_session_path(), {"login": self._owner, **asdict(session)})


def get_session_path() -> Path:
    """Return the path of the file with the session of a user, beside the login file."""
    return get_login_path().with_name("session.json")


def remove_session() -> None:
    """Remove the session of a user with its lock file, when no other command is refreshing it.

    Raises: OSError.
    """
    paths = get_session_path(), _get_lock_path()
    if any(path.exists() for path in paths):
        with lock_sessions():
            for path in paths:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def lock_sessions() -> Iterator[None]:
    """Keep other commands from refreshing or removing the session. Where files cannot be locked, they may do so.

    Raises: TimeoutError after LOCK_WAIT_MAX_S, OSError.
    """
    if fcntl is None:
        yield
        return
    path, give_up_s = _get_lock_path(), time.monotonic() + LOCK_WAIT_MAX_S
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE_MODE)
        try:
            if _try_lock(handle) and _is_still_at(path, handle):
                yield
                return
        finally:
            os.close(handle)
        if time.monotonic() > give_up_s:
            problem = f"another command has locked it for more than {LOCK_WAIT_MAX_S:g} s"
            raise TimeoutError(errno.ETIMEDOUT, problem, str(path))
        time.sleep(LOCK_POLL_S)


def _try_lock(handle: int) -> bool:
    """Lock a file until its handle is closed. Return False if another handle has locked it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still_at(path: Path, handle: int) -> bool:
    """Return whether a path still leads to an open file: `remove_session` may have removed it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _get_lock_path() -> Path:
    return get_session_path().with_suffix(".lock")


def get_token_path() -> Path:
    """Return the path of the file with the access token, beside the login file."""
    return get_login_path().with_name("token.json")


def _write_private(path: Path, document: Mapping[str, object]) -> None:
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with create_file(path, mode=PRIVATE_MODE) as file:
        json.dump(document, file, indent=2)
        file.write("\n")
