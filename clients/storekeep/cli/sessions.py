"""Sessions: one run of a command: where it calls, as whom, and how it shows what it got.

Settings come from the options, then the environment, then the login file. The client is opened when it is needed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from google.protobuf.message import Message

from storekeep.cli.logins import Login, read_login
from storekeep.cli.screens import Screen
from storekeep.client import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, Listing, Storekeep, Tls, WriteOptions, with_port

MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True)
class Settings:
    """What the options that all commands share were set to."""

    address: str | None = None
    as_json: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    plaintext: bool = False
    dry_run: bool = False


class Session:
    """One run of a command."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.screen = Screen(as_json=settings.as_json)
        self.dry_run = settings.dry_run

    @cached_property
    def client(self) -> Storekeep:
        """The client, logged in when there is anything to log in with.

        Raises: InvalidSettings, LoginUnreadable.
        """
        return self.client_of(self.login)

    @cached_property
    def login(self) -> Login:
        """Where to call and as whom.

        Raises: LoginUnreadable.
        """
        return _effective_login(self.settings, stored=read_login())

    def client_of(self, login: Login) -> Storekeep:
        """Open a client with the address, key and TLS files of a login."""
        return Storekeep(login.address, api_key=login.api_key, tls=_tls(login), timeout_s=self.settings.timeout_s)

    @property
    def write_options(self) -> WriteOptions:
        """What every mutation of this run takes: with `--dry-run`, the server keeps nothing."""
        return {"validate_only": self.dry_run}

    def hold_back(self, *, what: str, yes: bool) -> None:
        """Make this run a dry run unless told `--yes`, and say so: `what` changes many things."""
        if yes or self.dry_run:
            return
        self.dry_run = True
        self.screen.remark(f"{what} changes many things: this is a dry run. Add --yes to do it.")

    def show_listing(self, listing: Listing[MessageT], *, columns: tuple[str, ...], limit: int) -> None:
        """Show the first `limit` resources of a list, all when 0, and say when there are more."""
        items = iter(listing)
        shown = islice(items, limit) if limit else items
        self.screen.show_messages(shown, columns=columns)
        if limit and next(items, None) is not None:
            self.screen.remark(f"There are more than {limit}: --limit 0 lists all.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "client" in self.__dict__:
            self.client.close()
        if self.dry_run and error is None:
            self.screen.remark("Dry run: nothing was changed.")


def page_size(limit: int, *, most: int = 1000) -> int:
    """Return how many resources to ask for per page, to show `limit` of them (0: all), and one to see more."""
    return min(limit + 1, most) if limit else most


def _effective_login(settings: Settings, *, stored: Login | None) -> Login:
    asked = settings.address or os.environ.get("STOREKEEP_ADDRESS", "")
    asked = with_port(asked) if asked else ""
    base = (
        stored
        if stored is not None and asked in ("", with_port(stored.address))
        else Login(asked or DEFAULT_ADDRESS, "")
    )
    return Login(
        address=base.address,
        api_key=os.environ.get("STOREKEEP_API_KEY") or base.api_key,
        ca_file=str(settings.ca_file or base.ca_file),
        cert_file=str(settings.cert_file or base.cert_file),
        key_file=str(settings.key_file or base.key_file),
        plaintext=settings.plaintext or base.plaintext,
    )


def _tls(login: Login) -> Tls | bool | None:
    if login.plaintext:
        return False
    if not (login.ca_file or login.cert_file or login.key_file):
        return None
    return Tls(ca_file=_path(login.ca_file), cert_file=_path(login.cert_file), key_file=_path(login.key_file))


def _path(text: str) -> Path | None:
    return Path(text).absolute() if text else None
