"""Pages of resources that are plain forms: list, create, change, delete and restore, all from one description."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from storekeep.client import Conflict, Storekeep
from storekeep.console.forms import FormField, apply_changes, build_conflict, build_new, list_values
from storekeep.console.listings import fetch, join, show_list
from storekeep.console.pickers import SOURCES, add_options, list_options
from storekeep.console.requests import BadRequest, Inputs, Query, Reply, Request, Route, describe_problem, quote_filter

Cell = Callable[[Request, Any], str | Markup]
Extras = Callable[[Request, Any], Mapping[str, Any]]


@dataclass(frozen=True)
class Column:
    """A column of a list, besides the link to the resource."""

    label: str
    cell: Cell
    is_number: bool = False


@dataclass(frozen=True)
class Filter:
    """A filter of a list: its query parameter, its name for the person, and the field that it compares."""

    parameter: str
    label: str
    field: str
    collection: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    operator: str = "="
    picker: str = ""

    def list_options(self, request: Request) -> Mapping[str, str]:
        """Return what can be chosen, in words by value; none for any text."""
        return dict(self.choices) or (list_options(request, self.collection) if self.collection in SOURCES else {})

    def build_term(self, text: str) -> str:
        """Return the term of the filter."""
        is_id = self.collection and not text.startswith(f"{self.collection}/")
        return f"{self.field} {self.operator} {quote_filter(f'{self.collection}/{text}' if is_id else text)}"


@dataclass(frozen=True)
class Use:
    """What still uses a resource, how often, and the path of the list that shows it."""

    label: str
    count: int
    path: str


def _no_extras(_request: Request, _message: Any) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Kind:
    """A kind of resource.

    Attributes:
        collection: first segment of its names and paths, such as `taxZones`.
        noun: its name in a sentence.
        plural: title of its list.
        message: class of its message.
        select: return its methods of a client.
        id_parameter: argument of `create` for the id.
        read, write: permissions.
        hint: what an empty list says.
        delete_text: what the person is told before a deletion.
        template: the page of one resource.
        new_template: the page of a new one.
        extras: further values of both templates; the message is None for a new one.
        get_title: return the title of a resource.
        list_uses: return what uses a resource; then its deletion is a page of its own, which first shows what it does.
    """

    collection: str
    noun: str
    plural: str
    message: type[Any]
    select: Callable[[Storekeep], Any]
    id_parameter: str
    read: str
    write: str
    fields: Sequence[FormField]
    columns: Sequence[Column]
    hint: str
    delete_text: str
    filters: Sequence[Filter] = ()
    order_by: str = "create_time desc"
    template: str = "resource.html"
    new_template: str = "resource-new.html"
    extras: Extras = field(default=_no_extras)
    get_title: Callable[[Any], str] = lambda message: message.display_name or message.name.rpartition("/")[2]
    list_uses: Callable[[Request, Any], Sequence[Use]] | None = None

    @property
    def path(self) -> str:
        """The path of its list."""
        return f"/{self.collection}"

    @property
    def new_inputs(self) -> Inputs:
        """The inputs of a new one."""
        labels = {item.name: item.label for item in self.fields}
        return Inputs({**labels, "resource_id": "Id"}, {self.id_parameter: "resource_id"})

    def get_name(self, request: Request) -> str:
        """Return the resource name in the path."""
        return f"{self.collection}/{request.parameters['resource']}"

    def build_filter(self, query: Query) -> str:
        """Return the filter that the parameters of the list's address mean."""
        terms = [item.build_term(query[item.parameter]) for item in self.filters if query[item.parameter]]
        return join(*terms, query["filter"])

    def show_list(self, request: Request) -> Reply:
        """List the resources."""
        query = request.query
        listing = self.select(request.session.client).list(
            filter=self.build_filter(query),
            order_by=query["order"] or self.order_by,
            page_size=50,
            include_total_size=True,
            show_deleted=query["deleted"] == "yes",
        )
        return show_list(
            request,
            "resources.html",
            title=self.plural,
            fetch_page=lambda: fetch(request, listing),
            kind=self,
            options={item.parameter: item.list_options(request) for item in self.filters},
        )

    def show_new(self, request: Request) -> Reply:
        """Show the form of a new resource."""
        defaults = {item.name: request.query[item.name] for item in self.fields}
        values = [(item, text or defaults[item.name]) for item, text in list_values(self.fields, request)]
        return request.page(
            self.new_template,
            title=f"New {self.noun}",
            inputs=self.new_inputs,
            kind=self,
            fields=add_options(request, values),
            **self.extras(request, None),
        )

    def create(self, request: Request) -> Reply:
        """Create a resource. Raises: StorekeepError, BadRequest."""
        created = self.create_message(request)
        return request.done(f"/{created.name}", f"The {self.noun} has been created.")

    def create_message(self, request: Request) -> Any:
        """Create the resource in the form, and return the reply. Raises: StorekeepError, BadRequest."""
        message = build_new(self.fields, request, self.message())
        chosen = {self.id_parameter: request.field("resource_id")}
        return self.select(request.session.client).create(message, **chosen, **request.write_options())

    def show(self, request: Request) -> Reply:
        """Show one resource. Raises: StorekeepError."""
        message = self.select(request.session.client).get(self.get_name(request))
        return self.show_message(request, message)

    def show_message(self, request: Request, message: Any, **values: Any) -> Reply:
        """Show a resource that has been read, with further values of the template."""
        return request.page(
            self.template,
            title=self.get_title(message),
            kind=self,
            item=message,
            fields=list_values(self.fields, request, message),
            conflict=build_conflict(self.fields, message, request),
            **{**self.extras(request, message), **values},
        )

    def show_delete(self, request: Request) -> Reply:
        """Show what a deletion would do, by a dry run. Raises: StorekeepError."""
        methods, name = self.select(request.session.client), self.get_name(request)
        message = methods.get(name)
        refusal = None
        try:
            methods.delete(name, etag=message.etag, validate_only=True)
        except Conflict as error:
            refusal = describe_problem(error)
        uses = self.list_uses(request, message) if self.list_uses is not None else ()
        title = f"Delete {self.get_title(message)}"
        return request.page("resource-delete.html", title=title, kind=self, item=message, uses=uses, refusal=refusal)

    def update(self, request: Request) -> Reply:
        """Change a resource. Raises: StorekeepError, BadRequest."""
        name, methods = self.get_name(request), self.select(request.session.client)
        message, mask = apply_changes(self.fields, request, methods.get(name))
        if mask:
            methods.update(message, update_mask=mask, **request.write_options())
        return request.done(f"/{name}", f"The {self.noun} has been changed." if mask else "Nothing was changed.")

    def change_state(self, request: Request) -> Reply:
        """Delete or restore a resource, or take another step. Raises: StorekeepError, BadRequest."""
        name, step = self.get_name(request), request.field("step")
        if step not in STEPS or not hasattr(self.select(request.session.client), step):
            raise BadRequest("There is no such step.")
        method = getattr(self.select(request.session.client), step)
        method(name, etag=request.field("etag"), **request.write_options())
        return request.done(f"/{name}", f"The {self.noun} {STEPS[step]}.")

    def make_routes(self) -> tuple[Route, ...]:
        """Return the routes of the pages."""
        deletion = Route("GET", f"{self.path}/{{resource}}/delete", self.show_delete, self.write)
        return (
            *([deletion] if self.list_uses is not None else []),
            Route("GET", self.path, self.show_list, self.read),
            Route("GET", f"{self.path}/new", self.show_new, self.write),
            Route("POST", f"{self.path}/new", self.create, self.write, self.show_new),
            Route("GET", f"{self.path}/{{resource}}", self.show, self.read),
            Route("POST", f"{self.path}/{{resource}}", self.update, self.write, self.show),
            Route("POST", f"{self.path}/{{resource}}/state", self.change_state, self.write, self.show),
        )


STEPS: Mapping[str, str] = {
    "delete": "has been deleted",
    "undelete": "has been restored",
    "activate": "applies from now on",
    "end": "has ended",
    "archive": "has been archived",
    "unarchive": "is active again",
    "pause": "has been paused",
    "resume": "has been resumed",
}
"""Steps of resources, and what a step has done."""
