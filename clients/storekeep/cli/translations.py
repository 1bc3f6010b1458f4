"""The `translate` commands of products, variants and categories, and the option `--language` of their reads."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from storekeep.cli.pairs import parse_labels
from storekeep.cli.sessions import Session

Language = Annotated[
    str,
    typer.Option(
        "--language",
        metavar="TAG,...",
        help="Preferred languages of names and descriptions, such as de or 'de-AT, en;q=0.5' (default: the server's).",
    ),
]
Tag = Annotated[str, typer.Argument(metavar="LANGUAGE", help="Language tag (BCP 47), such as de or pt-BR.")]
Name = Annotated[str | None, typer.Option("--name", help="Display name in this language; empty for none.")]
Description = Annotated[str | None, typer.Option("--description", help="Description in this language; empty for none.")]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="Option in this language, such as Größe=L. May be repeated."),
]
Remove = Annotated[bool, typer.Option("--remove", help="Remove the translation into this language.")]


def translate(session: Session, resource: Any, tag: str, *, update: Any, remove: bool, **texts: Any) -> None:
    """Change the texts of a resource in one language and show the resource. Its other translations stay.

    Args:
        resource: as it is now. Its etag protects changes in between.
        update: the client method that updates it.
        texts: the texts to change; None for no change.

    Raises: typer.BadParameter for neither a text nor `remove`, for both, and for a translation that is not there.
    """
    changes = {field: text for field, text in texts.items() if text is not None}
    if remove == bool(changes):
        raise typer.BadParameter("give the texts of the translation, or --remove")
    changed = type(resource)(name=resource.name, etag=resource.etag)
    changed.translations.MergeFrom(resource.translations)
    key = next((known for known in changed.translations if known.lower() == tag.lower()), tag)
    if remove and key not in changed.translations:
        raise typer.BadParameter(f"there is no translation into {tag}")
    if remove:
        del changed.translations[key]
    else:
        _change_texts(changed.translations[key], changes)
    session.screen.show_message(update(changed, update_mask=["translations"], **session.write_options))


def _change_texts(text: Any, changes: dict[str, Any]) -> None:
    for field, value in changes.items():
        text.ClearField(field)
        if isinstance(value, str):
            setattr(text, field, value)
        else:
            getattr(text, field).update(value)


def parse_options(option: list[str] | None) -> dict[str, str] | None:
    """Parse options such as `Größe=L`; None if none are given."""
    return parse_labels(option) if option else None
