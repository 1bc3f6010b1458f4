"""The tables of webhooks: endpoints with their secrets and positions in the ledger, and deliveries."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Deletable, Table

PENDING, DELIVERED, FAILED = "PENDING", "DELIVERED", "FAILED"
TEST_EVENT = "webhook_endpoint.tested"
"""The event of a test. It is sent whatever the state and the filters of the endpoint."""


class WebhookEndpoint(Deletable):
    """One endpoint; `event_types`, `labels` and `secrets` are JSON. `secrets` holds digests, not the secrets."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    url = peewee.TextField()
    event_types = peewee.TextField()
    payload = peewee.TextField()
    ordered = peewee.BooleanField()
    labels = peewee.TextField()
    state = peewee.TextField()
    state_reason = peewee.TextField()
    secrets = peewee.TextField()
    exclude_personal_data = peewee.BooleanField(constraints=[peewee.SQL("DEFAULT FALSE")])

    class Meta:
        table_name = "webhook_endpoints"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("display_name", "id"), False),
        )


class WebhookSecret(Table):
    """One encrypted signing secret, in its own table so that no listing, event or audit entry can show it."""

    endpoint = peewee.ForeignKeyField(WebhookEndpoint, index=False)
    number = peewee.BigIntegerField()
    sealed_secret = peewee.BlobField()

    class Meta:
        table_name = "webhook_secrets"
        primary_key = peewee.CompositeKey("endpoint", "number")


class WebhookProgress(Table):
    """How far the ledger is planned for one endpoint.

    `hold_until_us` is the end of a `Retry-After`. `failing_since_us` is the time of the first failure since the last
    success.
    """

    endpoint = peewee.ForeignKeyField(WebhookEndpoint, primary_key=True)
    sequence = peewee.BigIntegerField()
    hold_until_us = peewee.BigIntegerField()
    failing_since_us = peewee.BigIntegerField(null=True)

    class Meta:
        table_name = "webhook_progress"


FAILING = (WebhookEndpoint.state == "DISABLED") | (
    (WebhookEndpoint.state == "ENABLED")
    & peewee.fn.EXISTS(
        WebhookProgress.select(peewee.SQL("1")).where(
            WebhookProgress.endpoint == WebhookEndpoint.id, WebhookProgress.failing_since_us.is_null(is_null=False)
        )
    )
)
"""Whether events do not arrive: the server disabled the endpoint, or it is enabled and its last attempt failed."""


class WebhookDelivery(Table):
    """One event for one endpoint; `sequence` is that of its ledger entry.

    A process that sends it owns it until `claim_until_us`.
    """

    endpoint = peewee.ForeignKeyField(WebhookEndpoint, index=False)
    sequence = peewee.BigIntegerField()
    event_type = peewee.TextField()
    resource = peewee.TextField()
    state = peewee.TextField()
    attempts = peewee.BigIntegerField()
    claim_until_us = peewee.BigIntegerField()
    first_attempt_time_us = peewee.BigIntegerField(null=True)
    last_attempt_time_us = peewee.BigIntegerField(null=True)
    next_attempt_time_us = peewee.BigIntegerField(null=True)
    last_status = peewee.BigIntegerField()
    last_problem = peewee.TextField()
    last_reply = peewee.TextField()
    last_duration_us = peewee.BigIntegerField()
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "webhook_deliveries"
        primary_key = peewee.CompositeKey("endpoint", "sequence")
        indexes = (
            (("endpoint", "create_time_us", "sequence"), False),
            (("create_time_us", "endpoint", "sequence"), False),
            (("endpoint", "state", "resource", "sequence"), False),
            (("state", "create_time_us"), False),
        )


WebhookDelivery.add_index(
    WebhookDelivery.endpoint,
    WebhookDelivery.state,
    WebhookDelivery.next_attempt_time_us,
    WebhookDelivery.sequence,
    name="webhook_deliveries_due",
)
INSERT_SECRET = Statement(
    "INSERT INTO webhook_secrets (endpoint_id, number, sealed_secret) VALUES (:endpoint_id, :number, :sealed_secret)"
)
DELETE_SECRETS = Statement("DELETE FROM webhook_secrets WHERE endpoint_id = :endpoint_id AND number < :first_number")
SECRETS = Statement(
    "SELECT number, sealed_secret FROM webhook_secrets WHERE endpoint_id = :endpoint_id ORDER BY number"
)
ALL_SECRETS = Statement(
    """
    SELECT endpoint_id, number, sealed_secret FROM webhook_secrets ORDER BY endpoint_id, number
    """
)
REENCRYPT_SECRET = Statement(
    """
    UPDATE webhook_secrets SET sealed_secret = :sealed_secret WHERE endpoint_id = :endpoint_id AND number = :number
    """
)
INSERT_PROGRESS = Statement(
    """
    INSERT INTO webhook_progress (endpoint_id, sequence, hold_until_us) VALUES (:endpoint_id, :sequence, 0)
    """
)
LAST_SEQUENCE = Statement("SELECT COALESCE(MAX(sequence), 0) FROM audit_entries")
BEHIND = Statement(
    """
    SELECT endpoint_id, event_types FROM webhook_progress JOIN webhook_endpoints ON id = endpoint_id
    WHERE state = 'ENABLED' AND delete_time_us IS NULL
      AND sequence < (SELECT COALESCE(MAX(sequence), 0) FROM audit_entries)
      AND (
        SELECT COUNT(*) FROM webhook_deliveries AS pending
        WHERE pending.endpoint_id = webhook_progress.endpoint_id AND pending.state = 'PENDING'
      ) <= :pending_max
    """
)
"""(id, types) of the endpoints that have events to plan, and at most `pending_max` deliveries that wait."""
LOCK_PROGRESS = Statement(
    """
    SELECT sequence, (
        SELECT COUNT(*) FROM webhook_deliveries AS pending
        WHERE pending.endpoint_id = webhook_progress.endpoint_id AND pending.state = 'PENDING'
    ) FROM webhook_progress WHERE endpoint_id = :endpoint_id
    """,
    postgresql="""
    SELECT sequence, (
        SELECT COUNT(*) FROM webhook_deliveries AS pending
        WHERE pending.endpoint_id = webhook_progress.endpoint_id AND pending.state = 'PENDING'
    ) FROM webhook_progress WHERE endpoint_id = :endpoint_id FOR UPDATE SKIP LOCKED
    """,
)
"""(sequence, number of pending deliveries) of an endpoint, locked; no row if another process plans its events."""
EVENTS_AFTER = Statement(
    """
    SELECT sequence, type, resource, create_time_us FROM audit_entries
    WHERE sequence > :sequence ORDER BY sequence LIMIT :rows_max
    """
)
SET_PROGRESS = Statement("UPDATE webhook_progress SET sequence = :sequence WHERE endpoint_id = :endpoint_id")
PLAN = Statement(
    """
    INSERT INTO webhook_deliveries (
        endpoint_id, sequence, event_type, resource, state, attempts, claim_until_us, next_attempt_time_us,
        last_status, last_problem, last_reply, last_duration_us, create_time_us
    )
    SELECT CAST(:endpoint_id AS TEXT), CAST(value ->> 0 AS BIGINT), value ->> 1, value ->> 2, 'PENDING', 0, 0,
           CAST(:now_us AS BIGINT), 0, '', '', 0, CAST(:now_us AS BIGINT)
    FROM ROWS(:events) AS event WHERE TRUE
    ON CONFLICT (endpoint_id, sequence) DO UPDATE SET
        state = 'PENDING', attempts = 0, claim_until_us = 0, first_attempt_time_us = NULL,
        next_attempt_time_us = excluded.next_attempt_time_us
    """
)
"""Plan deliveries, or plan them again. `events` is a JSON array of arrays: sequence, type, resource."""
_FREE = """
    SELECT due.endpoint_id, due.sequence FROM webhook_deliveries AS due
    WHERE due.endpoint_id = :endpoint_id AND due.state = 'PENDING' AND due.next_attempt_time_us <= :now_us
      AND due.claim_until_us <= :now_us AND (:all_events OR due.event_type = 'webhook_endpoint.tested')
      AND NOT (:ordered AND EXISTS (
          SELECT 1 FROM webhook_deliveries AS earlier
          WHERE earlier.endpoint_id = due.endpoint_id AND earlier.state = 'PENDING'
            AND earlier.resource = due.resource AND earlier.sequence < due.sequence
      ))
    ORDER BY due.next_attempt_time_us, due.sequence LIMIT :rows_max
"""
"""In the order of their index: to sort hundreds that were planned at the same time would cost the writer 0.5 ms."""
CLAIM = Statement(
    f"""
    UPDATE webhook_deliveries SET claim_until_us = :claim_until_us WHERE (endpoint_id, sequence) IN ({_FREE})
    RETURNING sequence, event_type, resource, attempts
    """,  # noqa: S608 - fixed text
    postgresql=f"""
    UPDATE webhook_deliveries SET claim_until_us = :claim_until_us
    WHERE (endpoint_id, sequence) IN ({_FREE} FOR UPDATE OF due SKIP LOCKED)
    RETURNING sequence, event_type, resource, attempts
    """,  # noqa: S608
)
"""Claim due deliveries of an endpoint, and return them: (sequence, type, resource, attempts)."""
DUE = Statement(
    """
    SELECT id, ordered, state, failing_since_us IS NOT NULL FROM webhook_endpoints
    JOIN webhook_progress ON webhook_progress.endpoint_id = id
    WHERE delete_time_us IS NULL AND hold_until_us <= :now_us AND EXISTS (
        SELECT 1 FROM webhook_deliveries AS due
        WHERE due.endpoint_id = id AND due.state = 'PENDING' AND due.next_attempt_time_us <= :now_us
          AND due.claim_until_us <= :now_us
          AND (webhook_endpoints.state = 'ENABLED' OR due.event_type = 'webhook_endpoint.tested')
    )
    ORDER BY failing_since_us IS NOT NULL, id
    """
)
"""(id, ordered, state, whether it fails) of the endpoints with due deliveries, those that work first."""
RELEASE_CLAIMS = Statement(
    "UPDATE webhook_deliveries SET claim_until_us = 0 WHERE state = 'PENDING' AND claim_until_us > 0"
)
"""End all claims, when no other process can have any."""
FINISH = Statement(
    """
    UPDATE webhook_deliveries SET
        state = :state, attempts = attempts + 1, claim_until_us = 0, last_attempt_time_us = :now_us,
        first_attempt_time_us = COALESCE(first_attempt_time_us, :now_us), next_attempt_time_us = :next_time_us,
        last_status = :status, last_problem = :problem, last_reply = :reply, last_duration_us = :duration_us
    WHERE endpoint_id = :endpoint_id AND sequence = :sequence AND state = 'PENDING'
    """
)
FIND_ATTEMPTS = Statement(
    """
    SELECT first_attempt_time_us, attempts, resource FROM webhook_deliveries
    WHERE endpoint_id = :endpoint_id AND sequence = :sequence AND state = 'PENDING'
    """
)
WORKS = Statement(
    """
    UPDATE webhook_progress SET failing_since_us = NULL, hold_until_us = 0
    WHERE endpoint_id = :endpoint_id AND (failing_since_us IS NOT NULL OR hold_until_us > 0)
    """
)
FAILS = Statement(
    """
    UPDATE webhook_progress SET
        failing_since_us = COALESCE(failing_since_us, :now_us),
        hold_until_us = CASE WHEN :hold_until_us > hold_until_us THEN :hold_until_us ELSE hold_until_us END
    WHERE endpoint_id = :endpoint_id
    """
)
FAILING_SINCE = Statement("SELECT failing_since_us FROM webhook_progress WHERE endpoint_id = :endpoint_id")
RESTART = Statement(
    """
    UPDATE webhook_deliveries SET next_attempt_time_us = :now_us, first_attempt_time_us = NULL, claim_until_us = 0
    WHERE endpoint_id = :endpoint_id AND state = 'PENDING'
    """
)
"""Give the waiting deliveries of a resumed endpoint all their attempts again."""
FAILED_SEQUENCES = Statement(
    """
    SELECT sequence FROM webhook_deliveries
    WHERE endpoint_id = :endpoint_id AND state = 'FAILED' AND sequence > :first AND sequence <= :last
    """
)
TIME_AT = Statement("SELECT create_time_us FROM audit_entries WHERE sequence = :sequence")
PURGE_DELIVERIES = Statement(
    """
    DELETE FROM webhook_deliveries WHERE (endpoint_id, sequence) IN (
        SELECT endpoint_id, sequence FROM webhook_deliveries
        WHERE state IN ('DELIVERED', 'FAILED') AND create_time_us < :before_us LIMIT :rows_max
    )
    """
)
OLDEST_PENDING = Statement(
    """
    SELECT webhook_deliveries.create_time_us FROM webhook_deliveries
    JOIN webhook_endpoints ON webhook_endpoints.id = endpoint_id
    WHERE webhook_deliveries.state = 'PENDING' AND webhook_endpoints.state = 'ENABLED' AND delete_time_us IS NULL
    ORDER BY webhook_deliveries.create_time_us LIMIT 1
    """
)
"""When the oldest delivery that waits was planned; no row without one. The index ends the search at the first."""
ENDPOINT_SECRETS_AFTER = Statement(
    """
    SELECT endpoint.id, endpoint.secrets, webhook_secrets.number, webhook_secrets.sealed_secret
    FROM (SELECT id, secrets FROM webhook_endpoints WHERE id > :after ORDER BY id LIMIT :rows_max) AS endpoint
    LEFT JOIN webhook_secrets ON endpoint_id = endpoint.id ORDER BY endpoint.id, webhook_secrets.number
    """
)
"""(id, descriptions, number, encrypted secret) of the secrets of a page of endpoints; NULLs without secrets."""
