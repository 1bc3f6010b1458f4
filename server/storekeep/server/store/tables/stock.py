"""The tables of locations, stock levels and stock movements, and the statements that reserve and allocate stock."""

from __future__ import annotations

from typing import Any

import peewee

from storekeep.server.store.sql.listings import OPERATIONS
from storekeep.server.store.sql.many_rows import RowsInsert, RowsStatement
from storekeep.server.store.sql.statements import Statement, parameter
from storekeep.server.store.sql.transactions import Deletable, Table
from storekeep.server.store.tables.catalog import ON_SALE, Product, Variant, compare_product_state

DEFAULT_0 = peewee.SQL("DEFAULT 0")
"""Value of existing rows in a column that was added later."""


class Location(Deletable):
    """One location that holds stock; `address` and `labels` are JSON.

    Stock is taken from the lowest `priority` first.
    """

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    address = peewee.TextField()
    priority = peewee.BigIntegerField(constraints=[DEFAULT_0])
    labels = peewee.TextField(constraints=[peewee.SQL("DEFAULT '{}'")])

    class Meta:
        table_name = "locations"
        indexes = ((("create_time_us", "id"), False), (("display_name", "id"), False))


class StockLevel(Table):
    """The stock of a SKU at a location. A CHECK constraint prevents overselling, independent of the code.

    `safety_threshold` units are not for sale. `low_stock_threshold` units or fewer left to sell are low stock.
    """

    location = peewee.ForeignKeyField(Location, index=False)
    location_id: str
    variant = peewee.ForeignKeyField(Variant, column_name="sku", object_id_name="variant_id", index=True)
    variant_id: str
    on_hand = peewee.BigIntegerField(default=0)
    reserved = peewee.BigIntegerField(default=0)
    allocated = peewee.BigIntegerField(default=0)
    backorder_limit = peewee.BigIntegerField(default=0)
    version = peewee.BigIntegerField(default=1)
    update_time_us = peewee.BigIntegerField()
    safety_threshold = peewee.BigIntegerField(constraints=[DEFAULT_0, peewee.Check("safety_threshold >= 0")])
    low_stock_threshold = peewee.BigIntegerField(constraints=[DEFAULT_0, peewee.Check("low_stock_threshold >= 0")])

    class Meta:
        table_name = "stock_levels"
        primary_key = peewee.CompositeKey("location", "variant")
        without_rowid = True
        constraints = (
            peewee.Check("reserved >= 0 AND allocated >= 0 AND backorder_limit >= 0"),
            peewee.Check("reserved + allocated <= on_hand + backorder_limit"),
        )


class StockMovement(Table):
    """One stock movement. Append-only: triggers reject updates and deletes.

    `source` is the resource that caused it, such as `orders/ID`, and `line_number` the line of that resource. They are
    empty and 0 for a stock adjustment.
    """

    id = peewee.BigAutoField()
    location = peewee.ForeignKeyField(Location, index=False)
    variant = peewee.ForeignKeyField(Variant, column_name="sku", index=False)
    quantity_delta = peewee.BigIntegerField()
    on_hand = peewee.BigIntegerField()
    cause = peewee.TextField()
    reason = peewee.TextField()
    actor = peewee.TextField()
    create_time_us = peewee.BigIntegerField()
    reserved_delta = peewee.BigIntegerField(constraints=[DEFAULT_0])
    allocated_delta = peewee.BigIntegerField(constraints=[DEFAULT_0])
    source = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    line_number = peewee.IntegerField(constraints=[DEFAULT_0])

    class Meta:
        table_name = "stock_movements"
        indexes = ((("create_time_us", "id"), False),)


StockMovement.add_index(
    StockMovement.index(peewee.SQL("(id >> 12)"), StockMovement.variant, name="stock_movements_block_sku")
)
"""Movements of a SKU are searched in blocks of 4,096 movements, which costs a list a few µs per block. In an index by
SKU alone, each new movement would change a different page."""
StockMovement.add_index(
    StockMovement.index(StockMovement.source, where=peewee.SQL("source <> ''"), name="stock_movements_source")
)

BLOCKS = """
WITH RECURSIVE blocks (block) AS (
    SELECT MAX(id) >> 12 FROM stock_movements UNION ALL SELECT block - 1 FROM blocks WHERE block > 0
)
"""
"""Common table expression with the block numbers of the movements, newest first, to join with a search per block."""


def compare_movement_sku(operation: str, sku: str, _now_us: int) -> peewee.Expression:
    """Return a comparison with the SKU of a movement, as SQL."""
    if operation != "=":
        return OPERATIONS[operation](StockMovement.variant, sku)
    ids = (
        peewee.SQL(f"({BLOCKS} SELECT moved.id FROM blocks CROSS JOIN stock_movements AS moved"),  # noqa: S608 - a constant
        peewee.SQL("WHERE moved.id >> 12 = block AND moved.sku ="),
        peewee.Value(sku, converter=False, unpack=False),  # else it is converted to a number, as the id is
        peewee.SQL(")"),
    )
    return peewee.Expression(StockMovement.id, peewee.OP.IN, peewee.NodeList(ids))


SELLABLE_ON_HAND = StockLevel.on_hand - StockLevel.safety_threshold - StockLevel.reserved - StockLevel.allocated
"""Units on hand at a level that can be sold without a backorder."""


def select_levels_for_sale(*fields: Any, now_us: int) -> Any:
    """Return a query for the levels of variants that are for sale at a time, at locations that are not deleted."""
    return (
        StockLevel.select(*fields)
        .join(Location)
        .where(Location.delete_time_us.is_null())
        .switch(StockLevel)
        .join(Variant)
        .where((Variant.state == "ACTIVE") & Variant.delete_time_us.is_null())
        .join(Product)
        .where(compare_product_state("=", "ACTIVE", now_us) & Product.delete_time_us.is_null())
    )


FOR_SALE = "{0}on_hand + {0}backorder_limit - {0}safety_threshold - {0}reserved - {0}allocated"
"""SQL for the units at a level that can be sold. `{0}` is the alias of the table and a dot."""
UNITS_LEFT = "{0}on_hand - {0}safety_threshold - {0}reserved - {0}allocated"
"""The same without backorders."""
TAKEN = (
    f"taken.location_id, taken.on_hand, {UNITS_LEFT.format('taken.')}, taken.low_stock_threshold, taken.backorder_limit"
)
"""The columns of a level that `FIRST_LEVEL` has found."""


FIRST_LEVEL = f"""
stock_levels AS taken ON taken.sku = requested.key AND taken.location_id = (
    SELECT level.location_id FROM stock_levels AS level JOIN locations ON locations.id = level.location_id
    WHERE level.sku = requested.key AND locations.delete_time_us IS NULL
      AND (:taken_at = '' OR level.location_id = :taken_at)
      AND {FOR_SALE.format("level.")} >= CAST(requested.value AS BIGINT)
    ORDER BY locations.priority, {FOR_SALE.format("level.")} DESC, level.location_id LIMIT 1
)
"""  # noqa: S608 - the names of columns
"""Join with `requested` (SKU, units) for the level that can supply all units of a SKU: at the location `taken_at`, or,
if that is '', at the first location by priority and stock."""
LEVELS_WITH_ALL = Statement(
    f"SELECT requested.key, {TAKEN} FROM PAIRS(:quantities) AS requested JOIN {FIRST_LEVEL}"  # noqa: S608
)
"""(SKU, columns `TAKEN`) of the level that supplies all units of a SKU; no row if no location can. `quantities` is
JSON: SKU -> units."""
RIVAL_UNITS = Statement(
    f"""
    SELECT level.sku, MAX({FOR_SALE.format("level.")})
    FROM ROWS(:taken) AS given
    JOIN locations AS chosen ON chosen.id = given.value ->> 1
    JOIN stock_levels AS level ON level.sku = given.value ->> 0 AND level.location_id <> chosen.id
    JOIN locations ON locations.id = level.location_id AND locations.priority = chosen.priority
    WHERE locations.delete_time_us IS NULL
    GROUP BY level.sku
    """  # noqa: S608 - the names of columns
)
"""(SKU, most sellable units at another location of the same priority) of each chosen level; no row without another
location. `taken` is a JSON array of (SKU, location)."""
LEVELS_TO_TAKE_FROM = Statement(
    f"""
    SELECT level.sku, level.location_id, {FOR_SALE.format("level.")} AS units, locations.priority
    FROM TEXTS(:skus) AS requested
    JOIN stock_levels AS level ON level.sku = requested.value
    JOIN locations ON locations.id = level.location_id
    WHERE locations.delete_time_us IS NULL AND (:location_id = '' OR level.location_id = :location_id)
    ORDER BY level.sku, locations.priority, units DESC, level.location_id
    """  # noqa: S608 - the names of columns
)
"""(SKU, location, sellable units, priority) in the order in which stock is taken; at one location, or at all ('')."""
MOVE_LEVELS = Statement(
    f"""
    WITH moved (location_id, sku, on_hand_delta, reserved_delta, allocated_delta) AS MATERIALIZED (
        SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT),
               CAST(value ->> 4 AS BIGINT)
        FROM ROWS(:moves) AS given
    )
    UPDATE stock_levels
    SET on_hand = on_hand + moved.on_hand_delta, reserved = reserved + moved.reserved_delta,
        allocated = allocated + moved.allocated_delta, version = version + 1, update_time_us = :now_us
    FROM moved
    WHERE stock_levels.location_id = moved.location_id AND stock_levels.sku = moved.sku
    RETURNING stock_levels.location_id, stock_levels.sku, on_hand, {UNITS_LEFT.format("")}, low_stock_threshold, version
    """  # noqa: S608 - the names of columns
)
"""Add checked amounts to existing levels, each level once; a CHECK constraint still applies. Returns (location, SKU, on
hand, units left to sell without a backorder, low stock threshold, version) of each."""
CLAIM_UNITS = RowsStatement(
    """
    UPDATE stock_levels
    SET reserved = reserved + ?3, allocated = allocated + ?4, version = version + 1, update_time_us = ?5
    WHERE location_id = ?1 AND sku = ?2
    """,
    together="""
    UPDATE stock_levels
    SET reserved = reserved + CAST(value ->> 2 AS BIGINT), allocated = allocated + CAST(value ->> 3 AS BIGINT),
        version = version + 1, update_time_us = CAST(value ->> 4 AS BIGINT)
    FROM ROWS(:rows) AS given
    WHERE stock_levels.location_id = value ->> 0 AND stock_levels.sku = value ->> 1
    """,
)
"""Reserve and allocate units of existing levels, each level once; a CHECK constraint still applies. A row is location,
SKU, units to reserve, units to allocate, time."""
INSERT_MOVEMENTS = RowsInsert(
    StockMovement,
    (
        "location",
        "variant",
        "line_number",
        "quantity_delta",
        "reserved_delta",
        "allocated_delta",
        "on_hand",
        "cause",
        "reason",
        "actor",
        "source",
        "create_time_us",
    ),
)
"""Insert stock movements."""
ALLOCATIONS_BY_SOURCE = Statement(
    """
    SELECT source, line_number, sku, location_id, CAST(SUM(allocated_delta) AS BIGINT)
    FROM stock_movements WHERE source IN TEXTS(:sources) AND source <> ''
    GROUP BY source, line_number, sku, location_id HAVING SUM(allocated_delta) <> 0
    ORDER BY source, line_number, location_id
    """
)
"""(source, line, SKU, location, allocated units) of some sources. `source <> ''` lets SQLite use the partial index."""
FIND_FOR_SALE = Statement(
    f"""
    SELECT requested.value, variants.quantity_rules,
           variants.state = 'ACTIVE' AND variants.delete_time_us IS NULL
           AND {ON_SALE} AND products.delete_time_us IS NULL
    FROM TEXTS(:skus) AS requested
    LEFT JOIN variants ON variants.sku = requested.value
    LEFT JOIN products ON products.id = variants.product_id
    ORDER BY requested.key
    """  # noqa: S608 - the names of columns
)
"""(SKU, quantity rules as JSON, whether for sale) of each requested SKU, in order; NULL for an unknown SKU."""
INSERT_LEVELS = Statement(
    """
    INSERT INTO stock_levels (
        location_id, sku, on_hand, reserved, allocated, backorder_limit, version, update_time_us, safety_threshold
    )
    SELECT :location_id, requested.value, 0, 0, 0, 0, 0, CAST(:now_us AS BIGINT), 0 FROM TEXTS(:skus) AS requested
    WHERE TRUE
    ON CONFLICT DO NOTHING
    """
)
"""Insert the missing levels of some SKUs at one location, without units."""
SKU_LEVEL_IN_USE = Statement(
    """
    SELECT location_id FROM stock_levels WHERE sku = :sku AND (on_hand <> 0 OR reserved <> 0 OR allocated <> 0) LIMIT 1
    """
)
"""One location with units of a SKU on hand, reserved or allocated."""
LOCATION_LEVEL_IN_USE = Statement(
    """
    SELECT sku FROM stock_levels
    WHERE location_id = :location_id AND (on_hand <> 0 OR reserved <> 0 OR allocated <> 0) LIMIT 1
    """
)
"""One SKU with units on hand, reserved or allocated at a location."""
LOCATION_DELETE_TIME = Statement(lambda: Location.select(Location.delete_time_us).where(Location.id == parameter("id")))
"""The delete time of a location; no row if the location does not exist."""
