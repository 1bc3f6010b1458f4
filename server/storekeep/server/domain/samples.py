"""Sample data for trying out Storekeep: the catalogue of Kettle & Crumb, a fictitious tea and kitchen shop.

The actor `system/sample` loads it through the usual domain functions, and only into a database without products.
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
from storekeep.server.domain.orders.new_orders import DEFAULT_LOCATION
from storekeep.server.domain.stock.levels import RECEIVE, adjust_stock
from storekeep.server.store.engine import Store
from storekeep.server.store.tables import catalog as product_store

SUBJECT = "system/sample"
CUSTOMER = "customers/ada-marsh"
"""The customer of the first order."""
ORDER_LINES = (("TEA-ASSAM-100", 2), ("MUG-BLUE", 1))
"""The lines of the first order: SKU, units."""
ORDER_CURRENCY = "EUR"


@dataclass(frozen=True, slots=True)
class SampleVariant:
    """A variant of the sample and its stock. Prices are in cents."""

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
PRODUCT_ROWS: tuple[tuple[Product, tuple[SampleVariant, ...]], ...] = (
    (
        Product("assam", "Assam Broken Gate", "Malty and dark; takes milk well", "black-tea"),
        (
            SampleVariant("100g", "TEA-ASSAM-100", "100 g", {"size": "100 g"}, 120, 790, 890, 140),
            SampleVariant("250g", "TEA-ASSAM-250", "250 g", {"size": "250 g"}, 275, 1_690, 1_890, 60),
        ),
    ),
    (
        Product("darjeeling", "Darjeeling First Mist", "First flush, light and a little flowery", "black-tea"),
        (
            SampleVariant("100g", "TEA-DARJ-100", "100 g", {"size": "100 g"}, 120, 1_290, 1_450, 80),
            SampleVariant("250g", "TEA-DARJ-250", "250 g", {"size": "250 g"}, 275, 2_890, 3_190, 25),
        ),
    ),
    (
        Product("earl-grey", "Earl Grey Harbour", "With oil of real bergamot", "black-tea"),
        (SampleVariant("100g", "TEA-EARL-100", "100 g", {"size": "100 g"}, 120, 850, 950, 120),),
    ),
    (
        Product("sencha", "Sencha Long Field", "Steamed, grassy, three infusions", "green-tea"),
        (
            SampleVariant("100g", "TEA-SENCHA-100", "100 g", {"size": "100 g"}, 120, 1_150, 1_290, 90),
            SampleVariant("250g", "TEA-SENCHA-250", "250 g", {"size": "250 g"}, 275, 2_590, 2_890, 30),
        ),
    ),
    (
        Product("jasmine", "Jasmine Pearls", "Rolled by hand, scented seven nights", "green-tea"),
        (SampleVariant("50g", "TEA-JASMINE-50", "50 g", {"size": "50 g"}, 65, 1_490, 1_650, 40),),
    ),
    (
        Product("genmaicha", "Genmaicha", "Green tea and roasted rice", "green-tea"),
        (SampleVariant("100g", "TEA-GENMAI-100", "100 g", {"size": "100 g"}, 120, 890, 990, 70),),
    ),
    (
        Product("mug", "Stoneware mug", "Holds 350 ml and the warmth", "kitchen", labels={"material": "stoneware"}),
        (
            SampleVariant("blue", "MUG-BLUE", "blue", {"colour": "blue"}, 380, 1_450, 1_590, 48),
            SampleVariant("sand", "MUG-SAND", "sand", {"colour": "sand"}, 380, 1_450, 1_590, 36),
            SampleVariant("moss", "MUG-MOSS", "moss", {"colour": "moss"}, 380, 1_450, 1_590, 0),
        ),
    ),
    (
        Product("teapot", "Cast-iron teapot", "1.2 l, with a sieve", "kitchen", labels={"material": "iron"}),
        (SampleVariant("black", "POT-IRON", "black", {"colour": "black"}, 1_900, 5_900, 6_490, 12),),
    ),
    (
        Product("kettle", "Gooseneck kettle", "Keeps any temperature from 40 to 100 °C", "kitchen"),
        (
            SampleVariant("eu", "KETTLE-EU", "EU plug", {"plug": "EU"}, 1_350, 8_900, 9_790, 15),
            SampleVariant("us", "KETTLE-US", "US plug", {"plug": "US"}, 1_350, 8_900, 9_790, 8),
        ),
    ),
    (
        Product("strainer", "Fine strainer", "Stops even Rooibos", "kitchen", labels={"material": "steel"}),
        (SampleVariant("steel", "STRAINER", "", {}, 60, 690, 790, 200),),
    ),
    (
        Product("tin", "Tea tin", "Tight, for 250 g", "kitchen"),
        (
            SampleVariant("red", "TIN-RED", "red", {"colour": "red"}, 150, 990, 1_090, 65),
            SampleVariant("green", "TIN-GREEN", "green", {"colour": "green"}, 150, 990, 1_090, 65),
        ),
    ),
    (
        Product("shortbread", "Butter shortbread", "Twelve pieces, baked on Tuesdays", "kitchen"),
        (SampleVariant("box", "SHORTBREAD-12", "box of 12", {}, 260, 590, 690, 30),),
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
    """Return whether the first product of the sample exists, so that the first order can be placed."""
    return db.read(lambda tx: PRODUCTS.rows.find(tx, (PRODUCT_ROWS[0][0].id,))) is not None


def load_sample(db: Store) -> bool:
    """Load the sample into a database without products: the catalogue in one transaction, then its stock.

    Returns: True if the sample was loaded.
    """
    if db.read(product_store.ANY_PRODUCT.one) is not None:
        return False
    mutate(db, _build_call("LoadSample"), _add_all, type(None))
    for _, variants in PRODUCT_ROWS:
        for variant in variants:
            if variant.units:
                key = (DEFAULT_LOCATION, variant.sku)
                adjust_stock(db, _build_call("StockSample"), key, quantity_delta=variant.units, cause=RECEIVE)
    return True


def _build_call(action: str) -> Call:
    return Call(Caller(SUBJECT, display_name="Sample"), f"{SUBJECT}/{action}")


def _add_all(mutation: Mutation) -> None:
    for category in CATEGORY_ROWS:
        CATEGORIES.add(mutation, category)
    for product, variants in PRODUCT_ROWS:
        PRODUCTS.add(mutation, product)
        for variant in variants:
            VARIANTS.add(mutation, _build_variant(product, variant))
    for customer in CUSTOMER_ROWS:
        CUSTOMERS.add(mutation, customer)


def _build_variant(product: Product, sample: SampleVariant) -> Variant:
    return Variant(
        product.id,
        sample.id,
        sample.sku,
        sample.display_name,
        options=sample.options,
        weight_g=sample.weight_g,
        prices=(Money("EUR", sample.eur_minor), Money("USD", sample.usd_minor)),
    )
