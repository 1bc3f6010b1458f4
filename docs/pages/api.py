"""Reference pages of the API, one for each service: its methods, and all messages that they use."""

from __future__ import annotations

from collections.abc import Iterator

from contract import PACKAGE, Enum, Field, Message, Method, Service, read_contract

from docs.pages.markdown import anchor, code, head, link, table
from docs.pages.rules import describe_field

CONTRACT = read_contract()
CLASSES_OF_CALLERS = {
    "public": "none (anyone may call it)",
    "authenticated": "none (any caller with a valid token may call it)",
}


def strip_package(name: str) -> str:
    """Return a message's name without the package."""
    return name.removeprefix(f"{PACKAGE}.")


def describe_kind(field: Field) -> str:
    """Return the type of a field, linked if it is one of this package."""
    entry = CONTRACT.messages.get(field.kind)
    if entry and entry.is_map_entry:
        return f"map of {' to '.join(describe_kind(part) for part in entry.fields)}"
    name = strip_package(field.kind)
    is_own = field.kind in CONTRACT.messages or field.kind in CONTRACT.enums
    text = link(name, anchor(name)) if is_own else code(name)
    return f"list of {text}" if field.repeated else text


def build_field_table(message: Message) -> str:
    """Return the table of a message's fields, or a sentence if it has none."""
    if not message.fields:
        return "The message has no fields.\n"
    rows = [(code(field.name), describe_kind(field), describe_field(field), field.comment) for field in message.fields]
    return table(("Field", "Type", "Rules", "Meaning"), rows)


def describe_permission(method: Method) -> str:
    """Return the permission of a method, or its class of callers."""
    return CLASSES_OF_CALLERS.get(method.permission, code(method.permission))


def describe_errors(method: Method) -> str:
    """Return the reasons of a method in order of precedence, linked to the page of errors."""
    if not method.reasons:
        return "only [those shared by all RPCs](../errors.md)"
    return ", ".join(link(reason, f"../errors.md#{reason.lower()}") for reason in method.reasons)


def build_method_section(method: Method) -> str:
    """Return the section of one method: description, routes, permission, errors, request and response."""
    comment = method.comment.partition(" Errors: ")[0]
    facts = [
        *(f"- HTTP: `{verb} {path}`" for verb, path in method.routes),
        f"- Permission: {describe_permission(method)}",
        f"- Errors, in order of precedence: {describe_errors(method)}",
    ]
    if method.mutation:
        facts.append(
            "- Mutation: audited; retries with the same `request_id` are safe; `validate_only` makes it a dry run"
        )
    response = strip_package(method.response)
    return (
        f"## {method.name}\n\n{comment}\n\n" + "\n".join(facts) + f"\n\nRequest `{strip_package(method.request)}`:\n\n"
        f"{build_field_table(CONTRACT.messages[method.request])}\nResponse: {link(response, anchor(response))}.\n"
    )


def build_message_section(name: str, message: Message) -> str:
    """Return the section of one message that is not a request."""
    return f"### {name}\n\n{message.comment}\n\n{build_field_table(message)}"


def build_enum_section(enum: Enum) -> str:
    """Return the section of one enum, with its values."""
    rows = [(code(value.name), str(value.number), value.comment) for value in enum.values]
    return f"### {enum.name}\n\n{enum.comment}\n\n{table(('Value', 'Number', 'Meaning'), rows)}"


def list_types(service: Service) -> list[str]:
    """Return the full names of all messages and enums in the service's requests and responses, each once."""
    names: dict[str, None] = {}
    queue = [name for method in service.methods for name in (method.request, method.response)]
    while queue:
        name = queue.pop(0)
        if name in names or (name not in CONTRACT.messages and name not in CONTRACT.enums):
            continue
        names[name] = None
        if name in CONTRACT.messages:
            queue += [field.kind for field in CONTRACT.messages[name].fields]
    return list(names)


def build_type_sections(service: Service) -> Iterator[str]:
    """Yield the sections of a page's messages and enums, without the requests, which are shown with their methods."""
    requests = {method.request for method in service.methods}
    for name in sorted(set(list_types(service)) - requests):
        if name in CONTRACT.enums:
            yield build_enum_section(CONTRACT.enums[name])
        elif not CONTRACT.messages[name].is_map_entry:
            yield build_message_section(strip_package(name), CONTRACT.messages[name])


def build_service_page(service: Service) -> str:
    """Return the page of one service."""
    rows = [
        (link(method.name, anchor(method.name)), code(method.permission), "yes" if method.mutation else "")
        for method in service.methods
    ]
    return "\n".join(
        [
            head(service.name, source=f"protos/storekeep/v1/{service.noun}.proto"),
            f"{service.comment} Its full name is `{PACKAGE}.{service.name}`.\n",
            table(("Method", "Permission", "Mutation"), rows),
            *(build_method_section(method) for method in service.methods),
            "## Messages and enums\n",
            *build_type_sections(service),
        ]
    )


def build_pages() -> dict[str, str]:
    """Return the pages of all services by path."""
    return {f"api/{service.noun}.md": build_service_page(service) for service in CONTRACT.services}


def build_index() -> str:
    """Return the page that lists the services."""
    rows = [
        (f"[{service.name}]({service.noun}.md)", str(len(service.methods)), service.comment)
        for service in CONTRACT.services
    ]
    return f"{head('Services', source='protos/storekeep/v1')}\n{table(('Service', 'Methods', 'Purpose'), rows)}"
