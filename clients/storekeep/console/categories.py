"""Pages of categories: the tree, one category with what is below it, and its deletion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storekeep.client import Category
from storekeep.console.forms import FormField
from storekeep.console.listings import NOTHING, Shown, fetch_part, try_fetch
from storekeep.console.rendering import format_badge, get_id, get_state
from storekeep.console.requests import Reply, Request, Route, quote_filter
from storekeep.console.resources import Column, Filter, Kind, Use

READ, WRITE = "products.read", "products.write"
TREE_MAX = 1_000
"""Categories of a tree on one page. More are a list."""
CHILDREN_MAX = 100
FIELDS = (
    FormField("display_name", "Name"),
    FormField(
        "parent_category",
        "Parent",
        kind="category",
        hint="id; empty: none. All below it moves with it",
        picker="categories",
    ),
    FormField("description", "Description", kind="area"),
)


@dataclass
class Node:
    """A category of the tree, with those below it."""

    category: Category
    children: list[Node] = field(default_factory=list)


def build_tree(categories: Iterable[Category]) -> list[Node]:
    """Return the categories at the top level, or whose parent is not among them, each with those below it by name."""
    nodes = {one.name: Node(one) for one in categories}
    roots: list[Node] = []
    for node in nodes.values():
        parent = nodes.get(node.category.parent_category)
        (roots if parent is None else parent.children).append(node)
    for siblings in (roots, *(node.children for node in nodes.values())):
        siblings.sort(key=lambda node: (node.category.display_name.casefold(), node.category.name))
    return roots


def show_tree(request: Request) -> Reply:
    """Show all categories as a tree; as a list with a filter, or if there are more than `TREE_MAX`."""
    if any(request.query.values()):
        return KIND.show_list(request)
    page = request.session.client.categories.list(page_size=TREE_MAX).page()
    if page.next_page_token:
        return KIND.show_list(request)
    return request.page("categories.html", title=KIND.plural, kind=KIND, tree=build_tree(page.items))


def _list_below(request: Request, category: Category) -> Shown:
    terms = f"parent_category = {quote_filter(category.name)}"
    listing = request.session.client.categories.list(filter=terms, order_by="display_name", page_size=CHILDREN_MAX)
    return fetch_part(listing)


def build_extras(request: Request, category: Category | None) -> Mapping[str, Any]:
    """Return the parent of a category, and the categories below it."""
    if category is None:
        return {}
    parent, client = category.parent_category, request.session.client
    return {
        "parent": try_fetch(lambda: client.categories.get(parent), None) if parent else None,
        "below": try_fetch(lambda: _list_below(request, category), NOTHING),
        "state": get_state(category.state, "CategoryState"),
    }


def list_uses(request: Request, category: Category) -> Sequence[Use]:
    """Return how many products and categories a category has."""
    client, name, key = request.session.client, quote_filter(category.name), get_id(category.name)
    products = client.products.list(filter=f"category = {name}", page_size=1, include_total_size=True).page()
    below = client.categories.list(filter=f"parent_category = {name}", page_size=1, include_total_size=True).page()
    return (
        Use("Products in it", products.total_size or 0, f"/products?category={key}"),
        Use("Categories below it", below.total_size or 0, f"/categories?parent={key}"),
    )


KIND = Kind(
    "categories",
    "category",
    "Categories",
    Category,
    select=lambda client: client.categories,
    id_parameter="category_id",
    read=READ,
    write=WRITE,
    fields=FIELDS,
    columns=(
        Column("Parent", lambda request, one: request.link(one.parent_category, get_id(one.parent_category))),
        Column("State", lambda _, one: format_badge(get_state(one.state, "CategoryState"))),
    ),
    hint="There are no categories yet. A category groups products; categories form a tree.",
    delete_text="Lists no longer show it. A category with products or with categories below it cannot be deleted.",
    filters=(
        Filter("name", "Name contains", "display_name", operator=":"),
        Filter("parent", "Parent", "parent_category", "categories", picker="categories"),
    ),
    order_by="display_name",
    template="category.html",
    extras=build_extras,
    list_uses=list_uses,
)
ROUTES = (Route("GET", "/categories", show_tree, READ), *KIND.make_routes())
