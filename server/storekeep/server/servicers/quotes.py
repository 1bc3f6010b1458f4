"""QuoteService: makes, changes and reads quotes, and places their orders."""

from __future__ import annotations

import grpc

from storekeep.server.domain.orders import acceptance, quotes
from storekeep.server.domain.orders.placing import PlacingRules
from storekeep.server.domain.orders.quotes import QUOTES
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.servicers.calls import build_call, build_list_request, build_page_fields
from storekeep.server.servicers.converters import (
    EncodedReply,
    parse_id,
    parse_key,
    parse_money_message,
    parse_update_mask,
)
from storekeep.server.servicers.order_messages import encode_order_reply
from storekeep.server.servicers.quote_messages import QUOTE_FIELDS, build_quote, parse_quote
from storekeep.server.store.engine import Store
from storekeep.v1 import quotes_pb2 as pb
from storekeep.v1 import quotes_pb2_grpc


class QuoteServicer(quotes_pb2_grpc.QuoteServiceServicer):
    """The RPCs of QuoteService; the contract documents each one."""

    def __init__(self, store: Store, tokens: PageTokens, *, rules: PlacingRules) -> None:
        self._store = store
        self._tokens = tokens
        self._rules = rules

    def GetQuote(self, request: pb.GetQuoteRequest, context: grpc.ServicerContext) -> pb.Quote:
        return build_quote(QUOTES.get(self._store, parse_key(request.name)))

    def ListQuotes(self, request: pb.ListQuotesRequest, context: grpc.ServicerContext) -> pb.ListQuotesResponse:
        page = QUOTES.page(self._store, build_list_request(request), listing=quotes.LISTING, tokens=self._tokens)
        return pb.ListQuotesResponse(quotes=[build_quote(item) for item in page.items], **build_page_fields(page))

    def CreateQuote(self, request: pb.CreateQuoteRequest, context: grpc.ServicerContext) -> pb.Quote:
        new = parse_quote(request.quote, request.quote_id or new_id())
        return build_quote(quotes.create_quote(self._store, build_call(request), new, rules=self._rules.pricing))

    def UpdateQuote(self, request: pb.UpdateQuoteRequest, context: grpc.ServicerContext) -> pb.Quote:
        fields = parse_update_mask(request.update_mask, request.quote, QUOTE_FIELDS)
        new, etag = parse_quote(request.quote, parse_id(request.quote.name)), request.quote.etag
        call, rules = build_call(request), self._rules.pricing
        return build_quote(quotes.update_quote(self._store, call, new, fields=fields, etag=etag, rules=rules))

    def SendQuote(self, request: pb.SendQuoteRequest, context: grpc.ServicerContext) -> pb.Quote:
        expected = request.expected_total if request.HasField("expected_total") else None
        quote = quotes.send_quote(
            self._store,
            build_call(request),
            parse_id(request.name),
            expected_total=None if expected is None else parse_money_message(expected, field="expected_total"),
            etag=request.etag,
            rules=self._rules.pricing,
        )
        return build_quote(quote)

    def AcceptQuote(self, request: pb.AcceptQuoteRequest, context: grpc.ServicerContext) -> EncodedReply:
        call, quote_id = build_call(request), parse_id(request.name)
        order = acceptance.accept_quote(self._store, call, quote_id, etag=request.etag, rules=self._rules)
        return encode_order_reply(order)

    def ExpireQuote(self, request: pb.ExpireQuoteRequest, context: grpc.ServicerContext) -> pb.Quote:
        call, quote_id = build_call(request), parse_id(request.name)
        return build_quote(quotes.expire_quote(self._store, call, quote_id, etag=request.etag))
