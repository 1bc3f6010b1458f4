"""A small catalogue of our own to try things on: the tea and kitchen shop Kettle & Crumb, which does not exist.

It is loaded as `system/sample`, through the same functions as everything else, and only where there is no product yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.catalog.categories import CATEGORIES, Category
from storekeep.server.domain.catalog.products import PRODUCTS, Product
from storekeep.server.domain.catalog.variants import VARIANTS, Variant
from storekeep.server.domain.customers import CUSTOMERS, Customer, LabelledAddress
from storekeep.server.domain.money import Money
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.placing import DEFAULT_LOCATION
from storekeep.server.domain.stock.levels import RECEIVE, adjust_stock
from storekeep.server.store.engine import Store
from storekeep.server.store.tables import catalog as product_store

SUBJECT = "system/sample"
CUSTOMER = "customers/ada-marsh"
"""Who places the first order."""
ORDER_LINES = (("TEA-ASSAM-100", 2), ("MUG-BLUE", 1))
"""What the first order has on it: SKU, units."""
ORDER_CURRENCY = "EUR"


@dataclass(frozen=True, slots=True)
class Unit:
    """One sellable unit of the sample; prices are in cents."""

    id: str
    sku: str
    display_name: str
    options: dict[str, str]
    weight_g: int
    eur_minor: int
    usd_minor: int
    units: int


CATEGORY_ROWS = (
    Category("tea", "Tea", "Loose leaves, from gardens that we have walked through"),
    Category("black-tea", "Black tea", parent_id="tea"),
    Category("green-tea", "Green tea", parent_id="tea"),
    Category("kitchen", "Kitchen", "What makes a good cup, and what goes with it"),
)
PRODUCT_ROWS: tuple[tuple[Product, tuple[Unit, ...]], ...] = (
    (
        Product("assam", "Assam Broken Gate", "Malty and dark; takes milk well", "black-tea"),
        (
            Unit("100g", "TEA-ASSAM-100", "100 g", {"size": "100 g"}, 120, 790, 890, 140),
            Unit("250g", "TEA-ASSAM-250", "250 g", {"size": "250 g"}, 275, 1_690, 1_890, 60),
        ),
    ),
    (
        Product("darjeeling", "Darjeeling First Mist", "First flush, light and a little flowery", "black-tea"),
        (
            Unit("100g", "TEA-DARJ-100", "100 g", {"size": "100 g"}, 120, 1_290, 1_450, 80),
            Unit("250g", "TEA-DARJ-250", "250 g", {"size": "250 g"}, 275, 2_890, 3_190, 25),
        ),
    ),
    (
        Product("earl-grey", "Earl Grey Harbour", "With oil of real bergamot", "black-tea"),
        (Unit("100g", "TEA-EARL-100", "100 g", {"size": "100 g"}, 120, 850, 950, 120),),
    ),
    (
        Product("sencha", "Sencha Long Field", "Steamed, grassy, three infusions", "green-tea"),
        (
            Unit("100g", "TEA-SENCHA-100", "100 g", {"size": "100 g"}, 120, 1_150, 1_290, 90),
            Unit("250g", "TEA-SENCHA-250", "250 g", {"size": "250 g"}, 275, 2_590, 2_890, 30),
        ),
    ),
    (
        Product("jasmine", "Jasmine Pearls", "Rolled by hand, scented seven nights", "green-tea"),
        (Unit("50g", "TEA-JASMINE-50", "50 g", {"size": "50 g"}, 65, 1_490, 1_650, 40),),
    ),
    (
        Product("genmaicha", "Genmaicha", "Green tea and roasted rice", "green-tea"),
        (Unit("100g", "TEA-GENMAI-100", "100 g", {"size": "100 g"}, 120, 890, 990, 70),),
    ),
    (
        Product("mug", "Stoneware mug", "Holds 350 ml and the warmth", "kitchen", labels={"material": "stoneware"}),
        (
            Unit("blue", "MUG-BLUE", "blue", {"colour": "blue"}, 380, 1_450, 1_590, 48),
            Unit("sand", "MUG-SAND", "sand", {"colour": "sand"}, 380, 1_450, 1_590, 36),
            Unit("moss", "MUG-MOSS", "moss", {"colour": "moss"}, 380, 1_450, 1_590, 0),
        ),
    ),
    (
        Product("teapot", "Cast-iron teapot", "1.2 l, with a sieve", "kitchen", labels={"material": "iron"}),
        (Unit("black", "POT-IRON", "black", {"colour": "black"}, 1_900, 5_900, 6_490, 12),),
    ),
    (
        Product("kettle", "Gooseneck kettle", "Keeps any temperature from 40 to 100 °C", "kitchen"),
        (
            Unit("eu", "KETTLE-EU", "EU plug", {"plug": "EU"}, 1_350, 8_900, 9_790, 15),
            Unit("us", "KETTLE-US", "US plug", {"plug": "US"}, 1_350, 8_900, 9_790, 8),
        ),
    ),
    (
        Product("strainer", "Fine strainer", "Stops even Rooibos", "kitchen", labels={"material": "steel"}),
        (Unit("steel", "STRAINER", "", {}, 60, 690, 790, 200),),
    ),
    (
        Product("tin", "Tea tin", "Tight, for 250 g", "kitchen"),
        (
            Unit("red", "TIN-RED", "red", {"colour": "red"}, 150, 990, 1_090, 65),
            Unit("green", "TIN-GREEN", "green", {"colour": "green"}, 150, 990, 1_090, 65),
        ),
    ),
    (
        Product("shortbread", "Butter shortbread", "Twelve pieces, baked on Tuesdays", "kitchen"),
        (Unit("box", "SHORTBREAD-12", "box of 12", {}, 260, 590, 690, 30),),
    ),
)
CUSTOMER_ROWS = (
    Customer(
        "ada-marsh",
        "Ada Marsh",
        "ada.marsh@example.com",
        addresses=(
            LabelledAddress(
                "home",
                Address(
                    recipient="Ada Marsh",
                    address_lines=("12 Quay Street",),
                    locality="Galway",
                    postal_code="H91 X2R0",
                    region_code="IE",
                ),
            ),
        ),
    ),
    Customer("blue-door-cafe", "Blue Door Café", "orders@bluedoor.example.com", labels={"kind": "business"}),
    Customer("jonas-lind", "Jonas Lind", "jonas.lind@example.org"),
)


def has_sample(db: Store) -> bool:
    """Whether the sample's first product is there, so that its first order can be placed."""
    return db.read(lambda tx: PRODUCTS.rows.find(tx, (PRODUCT_ROWS[0][0].id,))) is not None


def load_sample(db: Store) -> bool:
    """Load the catalogue, where there is no product yet: all of it in one transaction, and then its stock.

    Returns: whether it was loaded.
    """
    if db.read(product_store.ANY_PRODUCT.one) is not None:
        return False
    mutate(db, _call("LoadSample"), _add_all, type(None))
    for _, units in PRODUCT_ROWS:
        for unit in units:
            if unit.units:
                key = (DEFAULT_LOCATION, unit.sku)
                adjust_stock(db, _call("StockSample"), key, quantity_delta=unit.units, cause=RECEIVE)
    return True


def _call(action: str) -> Call:
    return Call(Caller(SUBJECT, display_name="Sample"), f"{SUBJECT}/{action}")


def _add_all(mutation: Mutation) -> None:
    for category in CATEGORY_ROWS:
        CATEGORIES.add(mutation, category)
    for product, units in PRODUCT_ROWS:
        PRODUCTS.add(mutation, product)
        for unit in units:
            VARIANTS.add(mutation, _variant(product, unit))
    for customer in CUSTOMER_ROWS:
        CUSTOMERS.add(mutation, customer)


def _variant(product: Product, unit: Unit) -> Variant:
    return Variant(
        product.id,
        unit.id,
        unit.sku,
        unit.display_name,
        options=unit.options,
        weight_g=unit.weight_g,
        prices=(Money("EUR", unit.eur_minor), Money("USD", unit.usd_minor)),
    )
