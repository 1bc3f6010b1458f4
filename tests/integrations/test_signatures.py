"""Signatures of webhooks, checked with the standard's vector and its reference package."""

from __future__ import annotations

import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from storekeep.server.integrations.signatures import generate_secret, sign_message


def test_sign_message_returns_the_signature_of_the_standard() -> None:
    headers = sign_message(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        time_s=1614265330,
        body=b'{"test": 2432232314}',
        secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_message_signed_with_two_secrets_verifies_with_each_and_no_other() -> None:
    old, new = generate_secret(), generate_secret()
    headers = sign_message("msg_1", time_s=int(time.time()), body=b"{}", secrets=[new, old])
    for secret in (old, new):
        Webhook(secret).verify(b"{}", headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(b"{ }", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(generate_secret()).verify(b"{}", headers)
