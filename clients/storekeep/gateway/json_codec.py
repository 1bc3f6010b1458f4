"""Convert messages to proto3 JSON and back. The descriptors are the only description of the messages."""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import EncodeError, Message
from google.protobuf.message_factory import GetMessageClass

from storekeep.gateway.invalid_json import InvalidJson
from storekeep.gateway.json_readers import Readers
from storekeep.gateway.json_texts import parse_json
from storekeep.gateway.json_writers import Writers

_READERS = Readers()
_WRITERS = {writes_zeros: Writers(writes_zeros=writes_zeros) for writes_zeros in (False, True)}


class JsonCodec:
    """The conversion of one message type. Codecs share what is compiled, so making one is cheap.

    Args:
        descriptor: the message type.
        writes_zeros: whether `encode` also writes fields that are zero or empty, unless their presence is explicit.
    """

    def __init__(self, descriptor: Descriptor, *, writes_zeros: bool = False) -> None:
        self._new: type[Message] = GetMessageClass(descriptor)
        self._read = _READERS.get(descriptor)
        self._write = _WRITERS[writes_zeros].get(descriptor)

    def decode(self, raw: bytes) -> Message:
        """Parse a JSON body into a message.

        Raises: InvalidJson with the path of the first field that is wrong.
        """
        return self.read(parse_json(raw))

    def read(self, value: Any) -> Message:
        """Convert a value of `parse_json` to a message.

        Raises: InvalidJson.
        """
        message = self._new()
        self.read_into(message, value)
        return message

    def read_into(self, message: Message, value: Any) -> None:
        """Fill an empty message, such as a field of a request, from a value of `parse_json`.

        Raises: InvalidJson.
        """
        try:
            self._read(message, value)
        except (RecursionError, EncodeError):
            raise InvalidJson("", "the body is nested too deeply") from None

    def encode(self, message: Message | bytes) -> bytes:
        """Return a message, or the bytes of one on the wire, as JSON in UTF-8 without spaces.

        Raises: UnwritableMessage if JSON cannot express a value; DecodeError if the bytes are no such message.
        """
        return msgspec.json.encode(self.write(message))

    def write(self, message: Message | bytes) -> Any:
        """Return a message, or the bytes of one on the wire, as a value of dictionaries, lists and scalars.

        Raises: UnwritableMessage; DecodeError.
        """
        return self._write(self._new.FromString(message) if isinstance(message, bytes) else message)


class FieldCodec:
    """The conversion of one field of a message, for a body or a reply that is the value of only that field.

    Args:
        field: any field: a message, a scalar, a list or a map.
    """

    def __init__(self, field: FieldDescriptor) -> None:
        self._name = field.name
        self._set = _READERS.get_setter(field)
        self._write = _WRITERS[False].get_field_writer(field)

    def read_into(self, message: Message, value: Any) -> None:
        """Set the field, which is empty, from a value of `parse_json`. Paths of errors begin below the field.

        Raises: InvalidJson.
        """
        try:
            self._set(message, value)
        except (RecursionError, EncodeError):
            raise InvalidJson("", "the body is nested too deeply") from None

    def encode(self, message: Message) -> bytes:
        """Return the value of the field as JSON; that of a field which is not set is its zero.

        Raises: UnwritableMessage if JSON cannot express it.
        """
        value = getattr(message, self._name)
        return msgspec.json.encode(value if self._write is None else self._write(value))
