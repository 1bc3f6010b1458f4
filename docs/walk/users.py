"""Steps for the people who sign in."""

from __future__ import annotations

import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from docs.walk.steps import Step, read, remove_and_restore
from storekeep.server.domain.access import totp

APP_KEY = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
FIRST, SECOND = "tall kettles sing early", "quiet harbours after rain"


def compute_code(*, steps_ahead: int = 0) -> str:
    """Return the code that the authenticator app of the walk shows now, or shows next: a code works once."""
    return totp.compute_code(APP_KEY, int(time.time()) // totp.STEP_S + steps_ahead)


@cache
def get_provider() -> Any:
    """Return the identity provider of the walk, which the server must trust: see `Provider.get_settings`."""
    from tests.support.providers import Provider

    return Provider(Path(tempfile.mkdtemp(), "keys.json"))


def make_id_token() -> str:
    """Return an ID token of a person of the provider."""
    token: str = get_provider().make_id_token(email="bo@example.com", email_verified=True, name="Bo Example")
    return token


MADE_WHEN_SENT = {
    "code": compute_code,
    "nextcode": lambda: compute_code(steps_ahead=1),
    "idtoken": make_id_token,
}
"""Values that a step makes when it is sent, by the name that it uses."""


SIGN_IN = {"email": "ann@example.com", "program": "Walk"}
STEPS = (
    Step(
        "POST /v1/users?userId=ann",
        {"displayName": "Ann Example", "email": "ann@example.com", "roles": ["roles/operator"]},
    ),
    *read("/v1/users/ann"),
    Step("GET /v1/users:batchGet?names=users/ann"),
    Step("POST /v1/users:batchGet", {"names": ["users/ann"]}),
    Step("PATCH /v1/users/ann", {"displayName": "Ann E. Example"}),
    *remove_and_restore("/v1/users/ann"),
    Step("POST /v1/users/ann:createPasswordLink", {"lifetime": "86400s"}, {"link": "linkToken"}),
    Step("POST /v1/passwordLinks:redeem", {"linkToken": "{link}", "newPassword": FIRST}),
    Step("POST /v1/users:signIn", SIGN_IN | {"password": FIRST}, {"ann": "accessToken"}),
    Step("GET /v1/users:own", caller="ann"),
    Step("POST /v1/users:changePassword", {"password": FIRST, "newPassword": SECOND}, caller="ann"),
    Step(
        "POST /v1/users:enableTotp",
        {"password": SECOND, "totpSecret": APP_KEY, "code": "{code}"},
        {"recovery": "recoveryCodes.0"},
        caller="ann",
    ),
    Step("POST /v1/users:disableTotp", {"password": SECOND, "code": "{recovery}"}, caller="ann"),
    Step("POST /v1/users:enableTotp", {"password": SECOND, "totpSecret": APP_KEY, "code": "{nextcode}"}, caller="ann"),
    Step("POST /v1/users:endOwnSessions", {"keepCurrent": True}, caller="ann"),
    Step("GET /v1/users/ann/sessions?pageSize=2", saves={"session": "sessions.0.name"}),
    Step("POST /v1/{session}:revoke", {}),
    Step("POST /v1/users/ann:revokeSessions", {}),
    Step("POST /v1/users/ann:resetTotp", {}),
    Step(
        "POST /v1/users:signInWithIdentityToken",
        {"idToken": "{idtoken}", "nonceSecret": "a secret of the program that signs in", "program": "Walk"},
    ),
)
