"""Sessions: the settings, client and output of one command run.

Options take precedence over the environment, and both over the login file. The client is opened when it is first used.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import typer
from google.protobuf.message import Message

from storekeep.cli.logins import Login, StoredSessions, StoredTokens, read_login
from storekeep.cli.outputs import OutputFormat, choose_format, parse_columns
from storekeep.cli.prompts import ask, can_prompt
from storekeep.cli.screens import Screen
from storekeep.client import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT_S,
    Listing,
    NotAllowed,
    Storekeep,
    Tls,
    WriteOptions,
    add_default_port,
)
from storekeep.client.names import to_location_name

MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True)
class Settings:
    """Values of the options that all commands share."""

    address: str | None = None
    output: OutputFormat | None = None
    as_json: bool = False
    columns: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    plaintext: bool = False
    dry_run: bool = False
    watch: bool = False
    interval_s: float = 0


class Session:
    """One run of a command."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.renew_screen()
        self.dry_run = settings.dry_run
        self.may_create = False

    def renew_screen(self) -> None:
        """Begin a new output on the current stdout.

        Raises: typer.BadParameter for wrong options.
        """
        settings = self.settings
        columns = parse_columns(settings.columns)
        self.screen = Screen(choose_format(settings.output, as_json=settings.as_json, columns=columns), columns)

    @cached_property
    def client(self) -> Storekeep:
        """The client, with the API key of the login if there is one.

        Raises: InvalidSettings, LoginUnreadable.
        """
        return self.open_client(self.login)

    @cached_property
    def login(self) -> Login:
        """Address, API key and TLS settings of this run.

        Raises: LoginUnreadable.
        """
        return _resolve_login(self.settings, stored=self._stored)

    @cached_property
    def _stored(self) -> Login | None:
        return read_login()

    @property
    def uses_default_address(self) -> bool:
        """Return whether no option, variable or login gives an address."""
        return not (self.settings.address or os.environ.get("STOREKEEP_ADDRESS") or self._stored)

    def open_client(self, login: Login) -> Storekeep:
        """Open a client with the address, API key and TLS files of a login."""
        return Storekeep(
            login.address,
            api_key=login.api_key,
            tls=_build_tls(login),
            timeout_s=self.settings.timeout_s,
            token_cache=StoredTokens(login) if self._is_stored(login) else None,
            session_store=StoredSessions(login) if login.email and not login.api_key else None,
        )

    def _is_stored(self, login: Login) -> bool:
        """Return whether the address and key are those of the login file, so that the token may be stored too."""
        stored = self._stored
        return stored is not None and (stored.address, stored.api_key) == (login.address, login.api_key)

    @property
    def write_options(self) -> WriteOptions:
        """Options of every mutation of this run. With `--dry-run`, the server stores nothing."""
        return {"validate_only": self.dry_run}

    @property
    def creation_options(self) -> WriteOptions:
        """Options of a mutation that creates resources. After a dry run, the notice says that their ids will differ."""
        self.may_create = True
        return self.write_options

    def choose_currency(self, option: str | None) -> str:
        """Return the currency of `--currency`, or that of the login. On a terminal, ask for it if there is none.

        Raises: typer.BadParameter.
        """
        currency_code = option if option is not None else self.login.currency_code
        if not currency_code and can_prompt():
            currency_code = ask("--currency", hint="ISO 4217 code of all prices, such as EUR")
        if not currency_code:
            raise typer.BadParameter("missing option --currency; storekeep login --currency EUR stores a default")
        return currency_code.upper()

    def choose_location(self, option: str | None, *, default: str = "") -> str:
        """Return the name of the location of `--location`, the login or `default`, in this order; it may be empty."""
        location = option if option is not None else self.login.location or default
        return to_location_name(location) if location else ""

    def default_to_dry_run(self, *, action: str, yes: bool, many: bool = True) -> None:
        """Make this run a dry run if it changes `many` resources, unless `--yes` was given.

        Args:
            action: the command and what it changes, for the notice, such as "cancel with 3 names".

        Raises: typer.BadParameter for both `--yes` and `--dry-run`.
        """
        if yes and self.dry_run:
            raise typer.BadParameter("--yes applies the changes and --dry-run does not: use one of them")
        if yes or self.dry_run or not many:
            return
        self.dry_run = True
        self.screen.show_notice(f"This is a dry run: {action} needs --yes to change anything.")

    def show_listing(
        self,
        listing: Listing[MessageT],
        *,
        columns: tuple[str, ...],
        limit: int,
        check_parent: Callable[[], object] | None = None,
    ) -> None:
        """Show the first `limit` resources of a list (0: all), and print a notice of its total or if there are more.

        `check_parent`: see `check_parent`; called if the list is empty.
        """
        pages = listing.pages()
        first = next(pages)
        if check_parent is not None and not first.items:
            self.check_parent(check_parent)
        items = chain(first.items, chain.from_iterable(page.items for page in pages))
        shown_items = islice(items, limit) if limit else items
        self.screen.show_messages(shown_items, columns=columns, descriptor=first.item_descriptor)
        if limit and next(items, None) is not None:
            self.screen.show_notice(f"There are more than {limit}: --limit 0 lists all.")
        if first.total_size is not None:
            more = "more than " if first.total_size_is_lower_bound else ""
            self.screen.show_notice(f"Total: {more}{first.total_size:,}.")

    def check_parent(self, check: Callable[[], object]) -> None:
        """Call `check`, which raises if the resource does not exist whose list is empty.

        A caller that may not read this resource learns nothing of it.

        Raises: StorekeepError.
        """
        with suppress(NotAllowed):
            check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "client" in self.__dict__:
            self.client.close()
        if self.dry_run and error is None:
            ids = " New ids and numbers will be others." if self.may_create else ""
            self.screen.show_notice(f"Dry run: nothing was changed.{ids}")


def compute_page_size(limit: int, *, page_size_max: int = 1000) -> int:
    """Return the page size to show `limit` resources (0: all) and detect whether there are more."""
    return min(limit + 1, page_size_max) if limit else page_size_max


def _resolve_login(settings: Settings, *, stored: Login | None) -> Login:
    address = settings.address or os.environ.get("STOREKEEP_ADDRESS", "")
    address = add_default_port(address) if address else ""
    base = (
        stored
        if stored is not None and address in ("", add_default_port(stored.address))
        else Login(address or DEFAULT_ADDRESS, "")
    )
    return Login(
        address=base.address,
        api_key=os.environ.get("STOREKEEP_API_KEY") or base.api_key,
        ca_file=str(settings.ca_file.absolute() if settings.ca_file else base.ca_file),
        cert_file=str(settings.cert_file.absolute() if settings.cert_file else base.cert_file),
        key_file=str(settings.key_file.absolute() if settings.key_file else base.key_file),
        plaintext=settings.plaintext or base.plaintext,
        currency_code=base.currency_code,
        location=base.location,
        console=base.console,
        email=base.email,
    )


def _build_tls(login: Login) -> Tls | bool | None:
    if login.plaintext:
        return False
    if not (login.ca_file or login.cert_file or login.key_file):
        return None
    return Tls(ca_file=_to_path(login.ca_file), cert_file=_to_path(login.cert_file), key_file=_to_path(login.key_file))


def _to_path(text: str) -> Path | None:
    return Path(text).absolute() if text else None
