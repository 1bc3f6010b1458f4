"""Set up the peer in a folder: its database with the catalogue, its key pair, and a token for the load."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection, create_engine, insert

from benchmarks import catalogue
from benchmarks.peers.fastapi_shop.models import Customer, Product, StockLevel, Table, Variant

AUDIENCE = "shop"
TOKEN_LIFE_S = 86_400


def set_up(folder: Path, database_url: str) -> str:
    """Create the tables and the keys, and return a token that the service accepts."""
    folder.mkdir(parents=True)
    engine = create_engine(database_url)
    Table.metadata.create_all(engine)
    with engine.begin() as connection:
        _fill(connection)
    engine.dispose()
    return _issue_token(folder)


def build_environment(folder: Path, database_url: str) -> dict[str, str]:
    """Return the environment variables from which the service reads its settings."""
    return {"SHOP_DATABASE": database_url, "SHOP_PUBLIC_KEY": str(folder / "public.pem")}


def _fill(connection: Connection) -> None:
    times = {"create_time_us": time.time_ns() // 1000, "update_time_us": time.time_ns() // 1000}
    for item in catalogue.list_items():
        facts = {"display_name": item.display_name, "state": "ACTIVE"}
        connection.execute(
            insert(Product).values(
                id=item.product_id,
                description=item.description,
                category=f"categories/{item.category_id}",
                labels=item.labels,
                version=1,
                **facts,
                **times,
            )
        )
        price = {"currency_code": catalogue.CURRENCY, "price_minor": item.price_minor}
        connection.execute(insert(Variant).values(sku=item.sku, product_id=item.product_id, **price, **facts))
        connection.execute(
            insert(StockLevel).values(
                sku=item.sku, on_hand=catalogue.UNITS, allocated=0, version=1, update_time_us=times["update_time_us"]
            )
        )
    connection.execute(insert(Customer), [{"id": each, "display_name": each} for each in catalogue.list_customer_ids()])


def _issue_token(folder: Path) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(public)
    now_s = int(time.time())
    claims = {"sub": "serviceAccounts/load", "aud": AUDIENCE, "iat": now_s, "exp": now_s + TOKEN_LIFE_S}
    return jwt.encode(claims, key, algorithm="ES256")
