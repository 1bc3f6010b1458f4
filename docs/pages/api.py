"""One page a service: its methods in the order of the contract, and every message that they use."""

from __future__ import annotations

from collections.abc import Iterator

from contract import PACKAGE, Enum, Field, Message, Method, Service, read_contract

from docs.pages.markdown import anchor, code, head, link, table
from docs.pages.rules import field_words

CONTRACT = read_contract()
CLASSES_OF_CALLERS = {
    "public": "none: anyone may call it",
    "authenticated": "none: any caller with a valid token may call it",
}


def short(name: str) -> str:
    """A message's name as this package's readers know it."""
    return name.removeprefix(f"{PACKAGE}.")


def kind_words(field: Field) -> str:
    """The field's type, linked where it is one of ours."""
    entry = CONTRACT.messages.get(field.kind)
    if entry and entry.is_map_entry:
        return f"map of {' to '.join(kind_words(part) for part in entry.fields)}"
    name = short(field.kind)
    ours = field.kind in CONTRACT.messages or field.kind in CONTRACT.enums
    word = link(name, anchor(name)) if ours else code(name)
    return f"list of {word}" if field.repeated else word


def field_table(message: Message) -> str:
    """The fields of a message; a sentence where it has none."""
    if not message.fields:
        return "It has no fields.\n"
    rows = [(code(field.name), kind_words(field), field_words(field), field.comment) for field in message.fields]
    return table(("Field", "Type", "Rules", "Meaning"), rows)


def permission_words(method: Method) -> str:
    """The permission, or what stands in its place."""
    return CLASSES_OF_CALLERS.get(method.permission, code(method.permission))


def error_words(method: Method) -> str:
    """The reasons in order of precedence, linked to what they mean."""
    if not method.reasons:
        return "only [those of every RPC](../errors.md)"
    return ", ".join(link(reason, f"../errors.md#{reason.lower()}") for reason in method.reasons)


def method_section(method: Method) -> str:
    """One method: what it does, who may call it, how it fails, what it takes and gives."""
    comment = method.comment.partition(" Errors: ")[0]
    facts = [
        *(f"- HTTP: `{verb} {path}`" for verb, path in method.routes),
        f"- Permission: {permission_words(method)}",
        f"- Errors, the first that applies: {error_words(method)}",
    ]
    if method.mutation:
        facts.append(
            "- Changes something: it is audited, a retry with the same `request_id` is safe, `validate_only` tries it"
        )
    response = short(method.response)
    return (
        f"## {method.name}\n\n{comment}\n\n" + "\n".join(facts) + f"\n\nTakes `{short(method.request)}`:\n\n"
        f"{field_table(CONTRACT.messages[method.request])}\nGives {link(response, anchor(response))}.\n"
    )


def message_section(name: str, message: Message) -> str:
    """One message that is not a request."""
    return f"### {name}\n\n{message.comment}\n\n{field_table(message)}"


def enum_section(enum: Enum) -> str:
    """One enum with its values."""
    rows = [(code(value.name), str(value.number), value.comment) for value in enum.values]
    return f"### {enum.name}\n\n{enum.comment}\n\n{table(('Value', 'Number', 'Meaning'), rows)}"


def reachable(service: Service) -> list[str]:
    """The full names of the messages and enums that the service's requests and responses hold, each once."""
    found: dict[str, None] = {}
    waiting = [name for method in service.methods for name in (method.request, method.response)]
    while waiting:
        name = waiting.pop(0)
        if name in found or (name not in CONTRACT.messages and name not in CONTRACT.enums):
            continue
        found[name] = None
        if name in CONTRACT.messages:
            waiting += [field.kind for field in CONTRACT.messages[name].fields]
    return list(found)


def type_sections(service: Service) -> Iterator[str]:
    """The messages and enums of a page, without the requests, which stand with their methods."""
    requests = {method.request for method in service.methods}
    for name in sorted(set(reachable(service)) - requests):
        if name in CONTRACT.enums:
            yield enum_section(CONTRACT.enums[name])
        elif not CONTRACT.messages[name].is_map_entry:
            yield message_section(short(name), CONTRACT.messages[name])


def service_page(service: Service) -> str:
    """The page of one service."""
    rows = [
        (link(method.name, anchor(method.name)), code(method.permission), "yes" if method.mutation else "")
        for method in service.methods
    ]
    return "\n".join(
        [
            head(service.name, source=f"protos/storekeep/v1/{service.noun}.proto"),
            f"{service.comment} On the wire it is `{PACKAGE}.{service.name}`.\n",
            table(("Method", "Permission", "Changes something"), rows),
            *(method_section(method) for method in service.methods),
            "## Messages and enums\n",
            *type_sections(service),
        ]
    )


def pages() -> dict[str, str]:
    """The pages of all services, by their paths."""
    return {f"api/{service.noun}.md": service_page(service) for service in CONTRACT.services}


def index() -> str:
    """The page that names the services."""
    rows = [
        (f"[{service.name}]({service.noun}.md)", str(len(service.methods)), service.comment)
        for service in CONTRACT.services
    ]
    return f"{head('Services', source='protos/storekeep/v1')}\n{table(('Service', 'Methods', 'What it does'), rows)}"
