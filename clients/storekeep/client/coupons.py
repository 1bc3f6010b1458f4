"""Coupons: codes that make promotions apply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Unpack

import grpc

from storekeep.client.batches import BatchResults, get_mode, read_results
from storekeep.client.calls import Calls, GetOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, build_query
from storekeep.client.times import to_timestamp
from storekeep.v1.pricing_pb2 import (
    BatchCreateCouponsRequest,
    BatchUpdateCouponsRequest,
    Coupon,
    CreateCouponRequest,
    DeleteCouponRequest,
    GenerateCouponsRequest,
    GetCouponRequest,
    ListCouponsRequest,
    UndeleteCouponRequest,
    UpdateCouponRequest,
)
from storekeep.v1.pricing_pb2_grpc import PricingServiceStub


class Coupons:
    """Reads and changes coupons."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = PricingServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> Coupon:
        """Get one coupon, deleted or not.

        Raises: CouponNotFound.
        """
        return self._calls.get(self._stub.GetCoupon, GetCouponRequest(name=name), **options)

    def list(
        self,
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[DeletableQuery],
    ) -> Listing[Coupon]:
        """List coupons; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListCouponsRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListCoupons,
            request,
            items=lambda page: page.coupons,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def create(self, coupon: Coupon, *, coupon_id: str = "", **options: Unpack[WriteOptions]) -> Coupon:
        """Create a coupon. Output-only fields are ignored.

        `coupon_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: PromotionNotFound, AlreadyExists.
        """
        request = CreateCouponRequest(coupon=coupon, coupon_id=coupon_id)
        return self._calls.write(self._stub.CreateCoupon, request, **options)

    def update(self, coupon: Coupon, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]) -> Coupon:
        """Update a coupon: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, CouponNotFound, ResourceDeleted, EtagMismatch.
        """
        request = UpdateCouponRequest(coupon=coupon, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateCoupon, request, **options)

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Coupon:
        """Soft-delete a coupon: lists omit it, and it can be undeleted.

        Raises: CouponNotFound, EtagMismatch.
        """
        return self._calls.write(self._stub.DeleteCoupon, DeleteCouponRequest(name=name, etag=etag), **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Coupon:
        """Restore a deleted coupon.

        Raises: CouponNotFound, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(self._stub.UndeleteCoupon, UndeleteCouponRequest(name=name, etag=etag), **options)

    def batch_create(
        self, items: Iterable[CreateCouponRequest], *, per_item: bool = False, **options: Unpack[WriteOptions]
    ) -> BatchResults[Coupon]:
        """Create up to 1000 coupons: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all.

        Raises: unless `per_item`, the error of the first item that fails: PromotionNotFound, AlreadyExists.
        """
        request = BatchCreateCouponsRequest(requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchCreateCoupons, request, **options)
        return read_results(reply.results, resource=lambda result: result.coupon)

    def batch_update(
        self, items: Iterable[UpdateCouponRequest], *, per_item: bool = False, **options: Unpack[WriteOptions]
    ) -> BatchResults[Coupon]:
        """Update up to 1000 coupons: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all.

        Raises: unless `per_item`, the error of the first item that fails: InvalidUpdateMask, CouponNotFound,
        ResourceDeleted, EtagMismatch.
        """
        request = BatchUpdateCouponsRequest(requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchUpdateCoupons, request, **options)
        return read_results(reply.results, resource=lambda result: result.coupon)

    def generate(
        self,
        promotion: str,
        count: int,
        *,
        prefix: str = "",
        max_uses: int = 0,
        max_uses_per_customer: int = 0,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        **options: Unpack[WriteOptions],
    ) -> Sequence[Coupon]:
        """Generate up to 1000 coupons with random codes that begin with `prefix`.

        Raises: PromotionNotFound.
        """
        request = GenerateCouponsRequest(
            promotion=promotion,
            count=count,
            prefix=prefix,
            max_uses=max_uses,
            max_uses_per_customer=max_uses_per_customer,
            start_time=to_timestamp(start_time),
            end_time=to_timestamp(end_time),
        )
        return self._calls.write(self._stub.GenerateCoupons, request, **options).coupons
