"""Fields of forms that change a resource, and the conflict page when someone else has changed it meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from google.protobuf.message import Message

from storekeep.client import EtagMismatch
from storekeep.console.requests import BadRequest, Faults, Request
from storekeep.console.spellings import CODECS, TEXT, Codec

MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True)
class FormField:
    """A field of a resource in a form.

    Attributes:
        name: path in the message, such as `shipping_address.postal_code`.
        label: name for the person.
        kind: `text`, `area`, `flag`, `choice`, or the name of another codec.
        hint: what may stand here.
        choices: words by value, of a choice.
        only_new: whether it cannot be changed later.
        heading: title of the fields that begin with it.
        kinds: values of the field `action.kind` that it belongs to; none: all.
        source: collection whose resources can be chosen, if there are few.
        options: words by value of what can be chosen now.
        picker: what is offered while the person types: a key of `COMPLETIONS`.
    """

    name: str
    label: str
    kind: str = "text"
    hint: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    only_new: bool = False
    heading: str = ""
    kinds: tuple[str, ...] = ()
    source: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    picker: str = ""

    @property
    def root(self) -> str:
        """The top-level field, for an update mask."""
        return self.name.partition(".")[0]

    @property
    def codec(self) -> Codec:
        """How its value is written in a form."""
        return CODECS.get(self.kind, TEXT)

    def read(self, message: Message) -> str:
        """Return the value of a message as text."""
        *parents, last = self.name.split(".")
        owner: Any = message
        for part in parents:
            owner = getattr(owner, part)
        value = getattr(owner, last)
        if self.kind == "choice":
            value = owner.DESCRIPTOR.fields_by_name[last].enum_type.values_by_number[value].name
            value = value if value in self.choices else ""
        return self.codec.format(value)

    def write(self, message: Message, text: str) -> None:
        """Set the value of a message.

        Raises: BadRequest.
        """
        *parents, last = self.name.split(".")
        target: Any = message
        for part in parents:
            target = getattr(target, part)
        try:
            self.codec.write(target, last, text)
        except ValueError as error:
            raise BadRequest(f"{self.label}: {error}", field=self.name) from None


LABELS = FormField("labels", "Labels", kind="labels", hint="key=value, one on each line")
"""The labels of any resource that has some."""
FieldValues = Sequence[tuple[FormField, str]]


@dataclass(frozen=True)
class Difference:
    """A field that two people have changed, or one of them.

    Attributes:
        before: value when the form was loaded.
        theirs: value now.
        mine: value in the form.
    """

    field: FormField
    before: str
    theirs: str
    mine: str


def list_values(fields: Sequence[FormField], request: Request, message: Message | None = None) -> FieldValues:
    """Return each field with its text: that of the form if it was sent, else that of the message."""
    return [
        (
            item,
            request.field(item.name) if message is None or f"was.{item.name}" in request.form else item.read(message),
        )
        for item in fields
    ]


def changed_fields(fields: Sequence[FormField], request: Request) -> list[FormField]:
    """Return the fields whose value in the form differs from the one that the form was loaded with."""
    return [
        item for item in fields if _normalize(request.field(item.name)) != _normalize(request.field(f"was.{item.name}"))
    ]


def build_new(fields: Sequence[FormField], request: Request, message: MessageT) -> MessageT:
    """Return a new resource with the values of a form.

    Raises: BadRequest.
    """
    faults = Faults()
    for item in fields:
        if text := request.field(item.name):
            with faults.collect():
                item.write(message, text)
    faults.check()
    return message


def apply_changes(fields: Sequence[FormField], request: Request, current: MessageT) -> tuple[MessageT, list[str]]:
    """Return a resource with the changes of a form and the etag of what it was loaded with, and the update mask.

    Raises: BadRequest.
    """
    changed = changed_fields([item for item in fields if not item.only_new], request)
    message = type(current)()
    message.CopyFrom(current)
    faults = Faults()
    for item in changed:
        with faults.collect():
            item.write(message, request.field(item.name))
    faults.check()
    for root in {item.root for item in changed if item.root != item.name}:
        if not getattr(message, root).ListFields():
            message.ClearField(root)
    message.etag = request.field("etag")  # type: ignore[attr-defined]
    return message, sorted({item.root for item in changed})


def build_conflict(fields: Sequence[FormField], current: Message, request: Request) -> list[Difference]:
    """Return the fields in which the resource and the form differ, if the resource was changed meanwhile."""
    if not isinstance(request.problem, EtagMismatch):
        return []
    differences = [
        Difference(item, request.field(f"was.{item.name}"), item.read(current), request.field(item.name))
        for item in fields
        if not item.only_new
    ]
    return [item for item in differences if _normalize(item.theirs) != _normalize(item.mine)]


def join_boxes(request: Request, name: str, *, box: str) -> Request:
    """Return a request whose ticked boxes are one field, with a value on each line, as a message has it."""
    return replace(request, form={**request.form, name: ["\n".join(request.form.get(box, ()))]})


def _normalize(text: str) -> str:
    return text.replace("\r\n", "\n").strip()
