"""Promotions: discounts with conditions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, GetOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, build_query
from storekeep.v1.pricing_pb2 import (
    ActivatePromotionRequest,
    CreatePromotionRequest,
    DeletePromotionRequest,
    EndPromotionRequest,
    GetPromotionRequest,
    ListPromotionsRequest,
    Promotion,
    UndeletePromotionRequest,
    UpdatePromotionRequest,
)
from storekeep.v1.pricing_pb2_grpc import PricingServiceStub


class Promotions:
    """Reads and changes promotions."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = PricingServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> Promotion:
        """Get one promotion, deleted or not.

        Raises: PromotionNotFound.
        """
        return self._calls.get(self._stub.GetPromotion, GetPromotionRequest(name=name), **options)

    def list(
        self,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[DeletableQuery],
    ) -> Listing[Promotion]:
        """List promotions; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListPromotionsRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListPromotions,
            request,
            items=lambda page: page.promotions,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def create(self, promotion: Promotion, *, promotion_id: str = "", **options: Unpack[WriteOptions]) -> Promotion:
        """Create a promotion. Output-only fields are ignored.

        `promotion_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: UnknownCurrency, InvalidAmount, CurrencyMismatch, SkuNotFound, ProductNotFound, CategoryNotFound,
        AlreadyExists.
        """
        request = CreatePromotionRequest(promotion=promotion, promotion_id=promotion_id)
        return self._calls.write(self._stub.CreatePromotion, request, **options)

    def update(
        self, promotion: Promotion, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> Promotion:
        """Update a promotion: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, UnknownCurrency, InvalidAmount, CurrencyMismatch, PromotionNotFound, ResourceDeleted,
        EtagMismatch, IllegalState, SkuNotFound, ProductNotFound, CategoryNotFound.
        """
        request = UpdatePromotionRequest(promotion=promotion, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdatePromotion, request, **options)

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Promotion:
        """Soft-delete a promotion: lists omit it, and it can be undeleted.

        Raises: PromotionNotFound, EtagMismatch.
        """
        return self._calls.write(self._stub.DeletePromotion, DeletePromotionRequest(name=name, etag=etag), **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Promotion:
        """Restore a deleted promotion.

        Raises: PromotionNotFound, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(
            self._stub.UndeletePromotion, UndeletePromotionRequest(name=name, etag=etag), **options
        )

    def activate(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Promotion:
        """Activate a draft: it applies from now on, within its window.

        Raises: PromotionNotFound, ResourceDeleted, EtagMismatch, IllegalState.
        """
        request = ActivatePromotionRequest(name=name, etag=etag)
        return self._calls.write(self._stub.ActivatePromotion, request, **options)

    def end(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Promotion:
        """End a promotion for good.

        Raises: PromotionNotFound, ResourceDeleted, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.EndPromotion, EndPromotionRequest(name=name, etag=etag), **options)
