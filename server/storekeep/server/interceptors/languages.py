"""Languages: a read with the metadata `accept-language` returns the texts of the catalogue in the best language.

Each resource of a reply is served in the first accepted language that it has, or else in the server's default language,
and names it in `language_code`. A call without the metadata costs nothing more.
"""

from __future__ import annotations

from typing import Any

import grpc

from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.interceptors.read_masks import FIELD as READ_MASK
from storekeep.server.interceptors.read_masks import find_resource
from storekeep.server.runtime.languages import canonicalize_tag, find_language, list_accepted_tags
from storekeep.server.transport.rpc import Method, Rpc

TRANSLATIONS = "translations"


def localize_replies(default_language: str) -> Layer:
    """Return the layer.

    Args:
        default_language: the tag of the language of texts outside `translations`.
    """
    default = canonicalize_tag(default_language)

    def layer(method: Method, serve: Step) -> Step:
        if method.response_type is None or READ_MASK not in method.request_type.DESCRIPTOR.fields_by_name:
            return serve
        items, resource = find_resource(method.response_type.DESCRIPTOR)
        if TRANSLATIONS not in resource.fields_by_name:
            return serve

        def read(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            reply = serve(request, context, rpc)
            if rpc.accept_language and list_accepted_tags(rpc.accept_language):
                reply = method.parse_reply(reply)
                for message in getattr(reply, items) if items else (reply,):
                    _localize(message, rpc.accept_language, default)
            return reply

        return read

    return layer


def _localize(message: Any, accept_language: str, default: str) -> None:
    """Replace the texts of a resource by those in the best language, and remove the translations."""
    language = find_language(accept_language, message.translations, default=default)
    if language in message.translations:
        for field, value in message.translations[language].ListFields():
            message.ClearField(field.name)
            if field.is_repeated:
                getattr(message, field.name).update(value)
            else:
                setattr(message, field.name, value)
    message.ClearField(TRANSLATIONS)
    message.language_code = language
