"""The request log, with one JSON line for each request: through a plain handler, or through a queue."""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
import time
import uuid

from pythonjsonlogger.json import JsonFormatter
from pythonjsonlogger.msgspec import MsgspecFormatter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FORMAT = "%(asctime)s %(levelname)s %(message)s"
log = logging.getLogger("shop.requests")


def log_directly() -> None:
    """Write each line to standard output in the thread that logs it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(FORMAT))
    _log_to(handler)


def log_through_queue() -> logging.handlers.QueueListener:
    """Start a thread that writes the lines, so that no request waits for the output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(MsgspecFormatter(FORMAT))
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    _log_to(logging.handlers.QueueHandler(lines))
    listener = logging.handlers.QueueListener(lines, handler)
    listener.start()
    return listener


def _log_to(handler: logging.Handler) -> None:
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)


class RequestLog:
    """Pure ASGI middleware: Starlette's BaseHTTPMiddleware would cost several times as much."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, and log the request after its reply."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = uuid.uuid4().hex
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            duration_ms = round((time.perf_counter() - began) * 1e3, 3)
            fields = {"request_id": request_id, "method": scope["method"], "path": scope["path"]}
            log.info("request", extra={**fields, "status": status, "duration_ms": duration_ms})
