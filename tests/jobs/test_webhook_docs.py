"""The example of docs/webhooks.md verifies what the server signs."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from storekeep.server.integrations.signatures import generate_secret, sign_message
from tests.support.checkout import ROOT

PAGE = (ROOT / "docs" / "webhooks.md").read_text()


def test_receiver_of_the_documentation_verifies_and_drops_repetitions() -> None:
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], names)
    body = re.findall(r"^(\{.*\})$", PAGE, re.MULTILINE)[0].encode()
    secret, seen = generate_secret(), set[str]()
    headers = sign_message("evt_1", time_s=int(time.time()), body=body, secrets=[secret])
    assert names["read_event"](secret, headers, body, seen) == json.loads(body)
    seen.add(headers["webhook-id"])
    assert names["read_event"](secret, headers, body, seen) is None
    with pytest.raises(WebhookVerificationError):
        names["read_event"](secret, headers, body + b" ", seen)
