"""Categories: the tree, their changes, a deletion that first says what it does, and the category of a product."""

from __future__ import annotations

import pytest

from storekeep.client import Category, CategoryState, Product, Storekeep
from storekeep.console.categories import build_tree
from tests.support.shops import new_id
from tests.support.visitors import Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def create(client: Storekeep, name: str, parent: str = "") -> Category:
    """Create a category with an id of its own."""
    return client.categories.create(Category(display_name=name, parent_category=parent), category_id=new_id("cat"))


def test_tree_shows_categories_below_their_parents(admin: Visitor, client: Storekeep):
    drinks = create(client, new_id("Drinks"))
    tea = create(client, new_id("Tea"), drinks.name)
    body = admin.get("/categories").body
    inner = body.partition(f'"/{drinks.name}"')[2]
    assert inner.index("<ul>") < inner.index(f'"/{tea.name}"') < inner.index("</ul>")


def test_tree_is_sorted_and_keeps_categories_whose_parent_is_missing():
    names = [("b", ""), ("A", ""), ("c", "categories/gone"), ("d", "categories/A"), ("B", "categories/A")]
    roots = build_tree(
        Category(name=f"categories/{name}", display_name=name, parent_category=parent) for name, parent in names
    )
    assert [node.category.display_name for node in roots] == ["A", "b", "c"]
    assert [node.category.display_name for node in roots[0].children] == ["B", "d"]


def test_tree_of_great_depth_is_built(client: Storekeep):
    chain = [Category(name=f"categories/{n}", parent_category=f"categories/{n - 1}") for n in range(5_000)]
    assert len(build_tree(chain)) == 1


def test_category_is_created_renamed_and_moved(admin: Visitor, client: Storekeep):
    parent, key = create(client, new_id("Drinks")), new_id("cat")
    parent_id = parent.name.removeprefix("categories/")
    form = admin.get(f"/categories/new?parent_category={parent_id}").form("/categories/new")
    assert ("parent_category", parent_id) in form.fields
    page = admin.submit(form, display_name="Tea", resource_id=key)
    assert "The category has been created." in page.text
    path = f"/categories/{key}"
    page = admin.submit(page.form(path), display_name="Green tea", parent_category="", description="Leaves")
    assert "The category has been changed." in page.text
    category = client.categories.get(f"categories/{key}")
    assert (category.display_name, category.parent_category, category.description) == ("Green tea", "", "Leaves")


def test_move_that_is_no_tree_is_refused_beside_the_field(admin: Visitor, client: Storekeep):
    parent = create(client, new_id("Drinks"))
    child = create(client, new_id("Tea"), parent.name)
    form = admin.get(f"/{parent.name}").form(f"/{parent.name}")
    for value, reason in ((child.name, "CATEGORY_CYCLE"), ("no-such", "CATEGORY_NOT_FOUND")):
        page = admin.submit(form, parent_category=value)
        assert page.status >= 400
        assert reason in page.text
        assert "Nothing was saved. Correct Parent." in page.text
        assert ("parent_category", value) in page.form(f"/{parent.name}").fields
        assert any(tag == "input" and "aria-invalid" in values for tag, values in page.tags)
    assert client.categories.get(parent.name).parent_category == ""


def test_conflict_of_two_people_is_shown(admin: Visitor, client: Storekeep):
    category = create(client, new_id("Tea"))
    form = admin.get(f"/{category.name}").form(f"/{category.name}")
    client.categories.update(Category(name=category.name, display_name="Theirs"), update_mask=["display_name"])
    page = admin.submit(form, display_name="Mine")
    assert page.status == 409
    assert "Someone else has changed this meanwhile" in page.text
    assert client.categories.get(category.name).display_name == "Theirs"


def test_deletion_says_first_what_it_does(admin: Visitor, client: Storekeep):
    parent = create(client, new_id("Drinks"))
    child = create(client, new_id("Tea"), parent.name)
    client.products.create(Product(display_name="Assam", category=child.name))
    assert f"/{child.name}/delete" in admin.get(f"/{child.name}").links
    page = admin.get(f"/{child.name}/delete")
    assert "RESOURCE_IN_USE" in page.text
    assert "Products in it1" in page.text
    assert not [form for form in page.forms if form.action.endswith("/state")]
    listed = next(link for link in page.links if link.startswith("/products?"))
    assert "Assam" in admin.get(listed).text
    empty = create(client, new_id("Empty"))
    page = admin.get(f"/{empty.name}/delete")
    assert "Nothing has been changed yet." in page.text
    assert not client.categories.get(empty.name).HasField("delete_time")
    form = page.form(f"/{empty.name}/state")
    assert "The category has been deleted." in admin.submit(form).text
    assert client.categories.get(empty.name).HasField("delete_time")
    page = admin.submit(admin.get(f"/{empty.name}").form(f"/{empty.name}/state"))
    assert "The category has been restored." in page.text


def test_category_is_archived_and_activated(admin: Visitor, client: Storekeep):
    category = create(client, new_id("Tea"))
    page = admin.submit(admin.get(f"/{category.name}").form(f"/{category.name}/state", button="Archive"))
    assert "The category has been archived." in page.text
    admin.submit(page.form(f"/{category.name}/state", button="Activate"))
    assert client.categories.get(category.name).state == CategoryState.CATEGORY_STATE_ACTIVE


def test_product_is_put_into_a_category(admin: Visitor, client: Storekeep):
    category, key = create(client, new_id("Tea")), new_id("tea")
    category_id = category.name.removeprefix("categories/")
    form = admin.get("/products/new").form("/products/new")
    page = admin.submit(form, display_name="Assam", product_id=key, category="no-such")
    assert "Correct Category" in page.text
    page = admin.submit(page.form("/products/new"), category=category_id)
    product = client.products.get(f"products/{key}")
    assert product.category == category.name
    assert f"/{category.name}" in page.links
    assert "Assam" in admin.get(f"/products?category={category_id}").text
    admin.submit(page.form(f"/products/{key}"), category="")
    assert client.products.get(f"products/{key}").category == ""


def test_list_finds_categories_by_name_and_parent(admin: Visitor, client: Storekeep):
    word = new_id("Word")
    parent = create(client, word)
    child = create(client, new_id("Tea"), parent.name)
    assert f"/{parent.name}" in admin.get(f"/categories?name={word[2:]}").links
    page = admin.get(f"/categories?parent={parent.name.removeprefix('categories/')}")
    assert f"/{child.name}" in page.links
