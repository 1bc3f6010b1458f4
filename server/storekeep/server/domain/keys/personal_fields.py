"""Encryption of personal fields: a stored copy of a resource has no personal value outside its field `encrypted`.

Invariant: whatever writes a resource to a row, to the ledger or to a reply, encrypts it here first. The key belongs to
the person. After it was destroyed, the fields are read as empty, and the rest of the resource stays as it is.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any, TypedDict, TypeVar

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.errors import PersonalDataErased
from storekeep.server.domain.keys.data_keys import SYSTEM, DataKey, DataKeys, parse_key_number
from storekeep.server.domain.keys.encryption import TOKEN_BYTES, DecryptionFailed, Mac, WordHash
from storekeep.server.store.sql.transactions import Transaction

FIELD = "encrypted"
"""The field of a resource that holds the encrypted personal values; empty in a resource that was decrypted."""
FIELD_NAME = b'"encrypted"'
"""The name as it stands in JSON."""
INDEX_SUBJECT = f"{SYSTEM}blind-index"
"""The subject of the key of blind indexes and of the fingerprints of requests."""
EMPTY = msgspec.Raw(b'""')
R = TypeVar("R")
Hide = Callable[[Any], Any]
encode = msgspec.json.Encoder().encode
decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_text = msgspec.json.Decoder(str).decode


class DataKeysMissing(Exception):
    """Personal data cannot be written or read without the key-encryption key."""

    def __init__(self) -> None:
        super().__init__("this process does not have the key-encryption key, which personal data is encrypted under")


class PersonalFields:
    """The personal fields of one type of resource, as its class attribute `PERSONAL`.

    Args:
        hidden: field -> function that returns the part of its value that is not personal.
        find_subject: returns the resource name of the person that a resource belongs to.
        tokens: the fields whose columns have a blind index, so that filters can compare them.
    """

    __slots__ = ("find_subject", "hidden", "tokens")

    def __init__(
        self, hidden: Mapping[str, Hide], *, find_subject: Callable[[Transaction, Any], str], tokens: Sequence[str] = ()
    ) -> None:
        self.hidden = hidden
        self.find_subject = find_subject
        self.tokens = tuple(tokens)


def hide_text(_value: str) -> str:
    """Return an empty text."""
    return ""


def hide_items(_value: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return an empty list."""
    return ()


def hide_address(address: Address | None) -> Address | None:
    """Return an address with its country alone, which taxes and filters need."""
    return None if address is None else Address(region_code=address.region_code)


def require_keys(tx: Transaction) -> DataKeys:
    """Return the keys that a transaction uses.

    Raises: DataKeysMissing.
    """
    if tx.data_keys is None:
        raise DataKeysMissing
    keys: DataKeys = tx.data_keys
    return keys


def encrypt_resource(tx: Transaction, resource: R) -> R:
    """Return a resource as it is stored, with its personal values in its field `encrypted` only.

    Raises: DataKeysMissing, PersonalDataErased if it has such values and the key of the person was destroyed.
    """
    personal: PersonalFields | None = getattr(resource, "PERSONAL", None)
    if personal is None:
        return resource
    last = tx.last_encrypted
    if last is not None and last[0] is resource:
        stored: R = last[1]
        return stored
    values, public = {}, {}
    for name, hide in personal.hidden.items():
        value = getattr(resource, name)
        if value:
            shown = hide(value)
            if shown is not value and shown != value:
                values[name], public[name] = value, shown
    if not values:
        tx.last_encrypted = resource, resource
        return resource
    key = require_keys(tx).ensure_key(tx, personal.find_subject(tx, resource))
    data = key.encrypt(encode(values), aad=resource.name.encode())  # type: ignore[attr-defined]  # it has a name
    text = b2a_base64(data, newline=False).decode()
    stored = replace(resource, encrypted=text, **public)  # type: ignore[type-var]  # resources are structs
    tx.last_encrypted = resource, stored
    return stored


def hide_erased(tx: Transaction, resource: R) -> R:
    """Return a resource without its personal values if the key of the person was destroyed.

    For copies that were written before the erasure. What a caller sends is refused instead, by `encrypt_resource`.

    Raises: DataKeysMissing.
    """
    personal: PersonalFields = resource.PERSONAL  # type: ignore[attr-defined]  # it has personal fields
    try:
        require_keys(tx).ensure_key(tx, personal.find_subject(tx, resource))
    except PersonalDataErased:
        return hide_values(resource)
    return resource


def hide_values(resource: R) -> R:
    """Return a resource without its personal values."""
    personal: PersonalFields = resource.PERSONAL  # type: ignore[attr-defined]  # it has personal fields
    shown = {name: hide(getattr(resource, name)) for name, hide in personal.hidden.items()}
    return replace(resource, **shown)  # type: ignore[type-var]  # resources are structs


def compute_tokens(tx: Transaction, resource: Any) -> dict[str, str]:
    """Return the blind index of each value that a resource has, by field.

    Raises: DataKeysMissing.
    """
    values = {name: value for name in resource.PERSONAL.tokens if (value := getattr(resource, name))}
    if not values:
        return {}
    key = _find_index_key(tx)
    return {name: _hash_value(key, name, value) for name, value in values.items()}


def make_token(tx: Transaction, field: str, value: str) -> str:
    """Return the blind index of a value: equal for equal values of a field, and meaningless without the key.

    Returns: 32 hexadecimal digits.

    Raises: DataKeysMissing.
    """
    return _hash_value(_find_index_key(tx), field, value)


def get_word_hash(tx: Transaction) -> WordHash:
    """Return the hash that makes the blind index of each word of a search document.

    Raises: DataKeysMissing.
    """
    return _derive_word_hash(require_keys(tx).ensure_key(tx, INDEX_SUBJECT))


def find_word_hash(tx: Transaction) -> WordHash | None:
    """Return the same hash in a read; None if its key does not exist, as only a write can create it.

    Raises: DataKeysMissing, KeyUnknown, UnwrapFailed.
    """
    key = require_keys(tx).find_key(tx, INDEX_SUBJECT)
    return None if key is None else _derive_word_hash(key)


def create_keys(tx: Transaction, subjects: Sequence[str]) -> None:
    """Create the missing keys of persons with one statement, before work that needs them one by one.

    If the key of one of them was destroyed, create none: that work refuses this person alone.

    Raises: DataKeysMissing, KeyUnknown, UnwrapFailed.
    """
    with suppress(PersonalDataErased):
        require_keys(tx).ensure_keys(tx, subjects)


def _hash_value(key: Mac, field: str, value: str) -> str:
    return key.compute(f"{field}:{value}".encode())[:TOKEN_BYTES].hex()


def _find_index_key(tx: Transaction) -> Mac:
    return _derive_index_key(require_keys(tx).ensure_key(tx, INDEX_SUBJECT))


def protect_fingerprint(tx: Transaction, fingerprint: bytes) -> bytes:
    """Return the keyed hash that is stored of the hash of a request: without the key it proves no guess of its values.

    Raises: DataKeysMissing.
    """
    return _derive_fingerprint_key(require_keys(tx).ensure_key(tx, INDEX_SUBJECT)).compute(fingerprint)


@lru_cache(maxsize=4)
def _derive_fingerprint_key(key: DataKey) -> Mac:
    return Mac(key.derive("fingerprint"))


def install_index_key(tx: Transaction) -> None:
    """Create the key of blind indexes in a new database, so that later reads need not create it."""
    _find_index_key(tx)


def has_index_key(tx: Transaction) -> bool:
    """Return whether the key of blind indexes exists. It is not created.

    Raises: KeyUnknown, UnwrapFailed.
    """
    return tx.data_keys is not None and tx.data_keys.find_key(tx, INDEX_SUBJECT) is not None


@lru_cache(maxsize=4)
def _derive_index_key(key: DataKey) -> Mac:
    return Mac(key.derive("blind-index"))


@lru_cache(maxsize=4)
def _derive_word_hash(key: DataKey) -> WordHash:
    return WordHash(key.derive("search-words"))


def decrypt_resources(tx: Transaction, resources: Sequence[R]) -> list[R]:
    """Return stored resources with their personal values; these are empty if the key was destroyed.

    Args:
        resources: of one type.

    Raises: DataKeysMissing, DecryptionFailed.
    """
    texts = [(resource.encrypted, resource.name) for resource in resources]  # type: ignore[attr-defined]  # they have both
    if not any(text for text, _ in texts):
        return list(resources)
    decode = _make_decoder(type(resources[0]))  # type: ignore[arg-type]  # a class is hashable
    values = _decrypt_texts(tx, texts)
    return [_fill(resource, data, decode) for resource, data in zip(resources, values, strict=True)]


def _decrypt_texts(tx: Transaction, texts: Sequence[tuple[str, str]]) -> list[bytes | None]:
    """Return the plaintext of encrypted texts; None for an empty one, or if its key was destroyed.

    All keys are read at once.

    Args:
        texts: (encrypted text, name of the resource that has it).

    Raises: DataKeysMissing, DecryptionFailed.
    """
    encrypted = _decode_base64([text for text, _ in texts])
    numbers = [parse_key_number(data) if data else 0 for data in encrypted]
    keys = require_keys(tx).find_keys(tx, [number for number in numbers if number])
    return [
        None if (key := keys.get(number)) is None else key.decrypt(data, aad=owner.encode())
        for number, data, (_, owner) in zip(numbers, encrypted, texts, strict=True)
    ]


def read_key_numbers(resources: Sequence[Any]) -> list[int]:
    """Return the number of the data key of each stored resource; 0 for one without encrypted values.

    Raises: DecryptionFailed.
    """
    encrypted = _decode_base64([one.encrypted for one in resources])
    return [parse_key_number(data) if data else 0 for data in encrypted]


def _decode_base64(texts: list[str]) -> list[bytes]:
    """Return the bytes of encrypted texts, in half the time that `binascii` takes.

    Raises: DecryptionFailed.
    """
    try:
        return msgspec.convert(texts, list[bytes])
    except msgspec.ValidationError:
        raise DecryptionFailed from None


def _fill(resource: Any, data: bytes | None, decode: Callable[[bytes], Any]) -> Any:
    """Return a resource with its decrypted values; without them if its key was destroyed."""
    if not resource.encrypted:
        return resource
    if data is None:
        return replace(resource, encrypted="", **dict.fromkeys(resource.PERSONAL.tokens, ""))
    return replace(resource, encrypted="", **decode(data))


@cache
def _make_decoder(kind: Any) -> Callable[[bytes], Any]:
    """Return the decoder of the personal values of a type of resource: field -> value."""
    types = {field.name: field.type for field in msgspec.structs.fields(kind) if field.name in kind.PERSONAL.hidden}
    values: Any = TypedDict(f"{kind.__name__}Values", types, total=False)  # type: ignore[misc]  # made at run time
    return msgspec.json.Decoder(values).decode


def encrypt_text(tx: Transaction, text: str, *, subject: str, owner: str) -> str:
    """Return a text about a person that no caller sent, encrypted; empty if the key of the person was destroyed.

    Args:
        subject: resource name of the person.
        owner: resource name of what has the text.

    Raises: DataKeysMissing.
    """
    if not text:
        return ""
    try:
        key = require_keys(tx).ensure_key(tx, subject)
    except PersonalDataErased:
        return ""
    return b2a_base64(key.encrypt(text.encode(), aad=owner.encode()), newline=False).decode()


def decrypt_values(tx: Transaction, encrypted: str, *, owner: str) -> bytes:
    """Return the personal values of a stored resource as JSON; empty if it has none, or if its key was destroyed.

    Args:
        encrypted: its field `encrypted`.
        owner: its name.

    Raises: DataKeysMissing, DecryptionFailed.
    """
    if not encrypted:
        return b""
    (data,) = _decode_base64([encrypted])
    return require_keys(tx).decrypt(tx, data, aad=owner.encode()) or b""


def decrypt_texts(tx: Transaction, texts: Sequence[tuple[str, str]]) -> list[str]:
    """Return the plaintext of texts of `encrypt_text`; empty if the key was destroyed.

    Args:
        texts: (encrypted text, its owner).

    Raises: DataKeysMissing, DecryptionFailed.
    """
    if not any(text for text, _ in texts):
        return [""] * len(texts)
    return ["" if data is None else data.decode() for data in _decrypt_texts(tx, texts)]


def find_subject(tx: Transaction, resource: Any) -> str:
    """Return the resource name of the person that a resource with personal fields belongs to."""
    personal: PersonalFields = resource.PERSONAL
    return personal.find_subject(tx, resource)


def has_clear_values(resource: Any) -> bool:
    """Return whether a stored resource has personal values that are not encrypted."""
    personal: PersonalFields = resource.PERSONAL
    hashed = personal.tokens if resource.encrypted else ()
    return any(
        name not in hashed and (value := getattr(resource, name)) and hide(value) != value
        for name, hide in personal.hidden.items()
    )


def encode_stored(tx: Transaction, resource: Any) -> bytes:
    """Return a resource as JSON, as the ledger stores it.

    Raises: DataKeysMissing.
    """
    return encode(encrypt_resource(tx, resource))


def encrypt_copy(tx: Transaction, data: bytes | None, *, kind: Any, subject: str, owner: str) -> bytes | None:
    """Return a stored resource of an older release as JSON, with its personal values encrypted.

    That release may have encrypted some of them.

    Args:
        data: the JSON; None for no resource.
        kind: the type of the resource.
        subject: resource name of the person.
        owner: the resource name.

    Raises: DataKeysMissing.
    """
    if data is None:
        return None
    try:
        members = decode_members(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return data  # a damaged entry, which `verify` reports
    values: dict[str, Any] = {}
    for name, hide in kind.PERSONAL.hidden.items():
        if name not in members:
            continue
        try:
            value = _make_field_decoder(kind, name)(members[name])
        except msgspec.ValidationError:  # an older form, of which nothing is known to be public
            values[name], members[name] = members[name], msgspec.Raw(b"null")
            continue
        if value and (shown := hide(value)) != value:
            values[name], members[name] = value, msgspec.Raw(encode(shown))
    if not values:
        return data
    if (encrypted := members.get(FIELD, EMPTY)) != EMPTY:
        values = _join(tx, values, decode_text(encrypted), kind=kind, owner=owner)
        members |= {name: msgspec.Raw(encode(kind.PERSONAL.hidden[name](value))) for name, value in values.items()}
    text = encrypt_text(tx, encode(values).decode(), subject=subject, owner=owner)
    members[FIELD] = msgspec.Raw(encode(text))
    return encode(members)


def _join(tx: Transaction, values: dict[str, Any], encrypted: str, *, kind: Any, owner: str) -> dict[str, Any]:
    """Return values together with those that are encrypted already, in the order of `encrypt_resource`.

    Raises: DataKeysMissing, DecryptionFailed.
    """
    (data,) = _decrypt_texts(tx, [(encrypted, owner)])
    joined = values if data is None else values | _make_decoder(kind)(data)
    return {name: joined[name] for name in kind.PERSONAL.hidden if name in joined}


@cache
def _make_field_decoder(kind: Any, name: str) -> Callable[[msgspec.Raw], Any]:
    """Return the decoder of a personal field."""
    (field,) = (field for field in msgspec.structs.fields(kind) if field.name == name)
    return msgspec.json.Decoder(field.type).decode


def decrypt_json(tx: Transaction, data: bytes | None, *, owner: str) -> bytes | None:
    """Return a stored resource as JSON, with its personal values; these are empty if the key was destroyed.

    Args:
        data: the JSON of `encode_stored`, or of an older release; None for no resource.
        owner: the resource name.

    Raises: DataKeysMissing, DecryptionFailed.
    """
    return decrypt_copies(tx, [(owner, data)])[0]


def decrypt_copies(tx: Transaction, copies: Sequence[tuple[str, bytes | None]]) -> list[bytes | None]:
    """Return stored resources as `decrypt_json` does, each given with its name. All keys are read at once."""
    split = [_split(data) for _, data in copies]
    if not any(split):
        return [data for _, data in copies]
    texts = [("" if one is None else one[0], owner) for (owner, _), one in zip(copies, split, strict=True)]
    values = _decrypt_texts(tx, texts) if any(text for text, _ in texts) else [None] * len(texts)
    decrypted: list[bytes | None] = []
    for (_, data), one, plain in zip(copies, split, values, strict=True):
        if one is None:
            decrypted.append(data)
        else:
            decrypted.append(encode(one[1] if plain is None else one[1] | decode_members(plain)))
    return decrypted


def _split(data: bytes | None) -> tuple[str, dict[str, msgspec.Raw]] | None:
    """Return the encrypted values of a stored resource, and its other members; None if it has no such field."""
    if data is None or FIELD_NAME not in bytes(data):
        return None
    try:
        members = decode_members(data)
        return decode_text(members.pop(FIELD)), members
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # it is another field, or the entry is damaged, which its reader reports


def encrypt_reply(
    tx: Transaction, reply: Any, *, convert: Callable[[Transaction, Any], Any] = lambda _tx, resource: resource
) -> Any:
    """Return a reply as it is stored: with each resource in it encrypted.

    Args:
        convert: returns what is stored of a resource, such as `hide_erased`.

    Raises: DataKeysMissing, PersonalDataErased.
    """
    return _convert(reply, lambda resource: encrypt_resource(tx, convert(tx, resource)))


def decrypt_reply(tx: Transaction, reply: Any) -> Any:
    """Return a stored reply with the personal values of each resource in it.

    Raises: DataKeysMissing, DecryptionFailed.
    """
    return _convert(reply, lambda resource: decrypt_resources(tx, [resource])[0])


def _convert(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Return a value with each resource that has personal fields converted, in lists and in fields of structs."""
    if isinstance(value, list | tuple):
        items = [_convert(item, convert) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if not isinstance(value, msgspec.Struct):
        return value
    if hasattr(value, "PERSONAL"):
        return convert(value)
    changes = {}
    for name in value.__struct_fields__:
        old = getattr(value, name)
        if isinstance(old, list | tuple | msgspec.Struct) and (new := _convert(old, convert)) is not old:
            changes[name] = new
    return replace(value, **changes) if changes else value
