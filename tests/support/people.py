"""People for tests: users with a password, and the codes of their authenticator apps."""

from __future__ import annotations

import time
from dataclasses import dataclass

from storekeep.client import Storekeep, User
from storekeep.server.domain.access.totp import STEP_S, compute_code
from tests.support.shops import new_id

PASSWORD = "Seven wet umbrellas dry"
OTHER_PASSWORD = "An otter counts to nine"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@dataclass(frozen=True)
class Person:
    """A user who has set a password."""

    name: str
    email: str
    address: str
    password: str = PASSWORD

    def sign_in(self, *, password: str | None = None, code: str = "") -> Storekeep:
        """Return a client with a new session."""
        with Storekeep(self.address, api_key="") as nobody:
            tokens = nobody.users.sign_in(self.email, password or self.password, code=code, program="Tests")
        return Storekeep(self.address, tokens=tokens)


def make_person(client: Storekeep, *, roles: tuple[str, ...] = ("roles/viewer",), password: str = PASSWORD) -> Person:
    """Create a user, and set its password with an invitation."""
    user_id = new_id("person")
    email = f"{user_id}@example.com"
    user = client.users.create_user(User(display_name="Ann Example", email=email, roles=roles), user_id=user_id)
    link = client.users.create_password_link(user.name)
    with Storekeep(client.address, api_key="") as nobody:
        nobody.users.redeem_password_link(link.link_token, password)
    return Person(user.name, email, client.address, password)


def make_code(steps: int = 0, *, secret: str = SECRET) -> str:
    """Return the code of now, or of some time steps later.

    A code is valid from a step before its own to a step after it: that of now for 30 s or more, the next one for 60 s
    or more, and the one before perhaps for a moment only.
    """
    return compute_code(secret, int(time.time()) // STEP_S + steps)
