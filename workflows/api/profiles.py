"""Profiles: who has them, and clearing, disabling and enabling them by hand."""

from collections.abc import Callable
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workflows.api.door import Door
from workflows.api.forms import ProfileOrder, ProfileQuery
from workflows.selectors.profiles import get_profile, list_profiles
from workflows.selectors.shapes import PageDocument, ProfileDocument
from workflows.services.profiles import (
    clear_profile,
    disable_profile,
    empty_folder,
    enable_profile,
)


class Profiles(Door):
    """All profiles."""

    needs = {"GET": "environments.view_profile"}
    query = {"GET": ProfileQuery}

    @extend_schema(operation_id="list_profiles", responses=PageDocument[ProfileDocument])
    def get(self, request: Request) -> Response:
        """List profiles by environment, pool and name; what is in them is not shown."""
        return self.page(list_profiles(**self.asked.where, **self.asked.page))


class OneProfile(Door):
    """A profile."""

    needs = {"GET": "environments.view_profile"}

    @extend_schema(operation_id="show_profile", responses=ProfileDocument)
    def get(self, request: Request, profile: int) -> Response:
        """Show who has a profile; what is in it is not shown."""
        return Response(get_profile(profile))


class Operate(Door):
    """What is done to a profile by hand, with a reason."""

    needs = {"POST": "environments.operate_profile"}
    do: ClassVar[Callable[..., None]]

    def done(self, profile: int) -> Response:
        """Do it, and show what has become of the profile."""
        order: dict[str, Any] = self.body(ProfileOrder)
        type(self).do(profile=profile, why=order["why"], by=self.actor)
        return Response(get_profile(profile))


class ClearProfile(Operate):
    """Clear a tainted profile."""

    do = staticmethod(clear_profile)

    @extend_schema(operation_id="clear_profile", request=ProfileOrder, responses=ProfileDocument)
    def post(self, request: Request, profile: int) -> Response:
        """Have a tainted profile leased again: somebody has looked, and it is well."""
        return self.done(profile)


class EmptyFolder(Door):
    """Empty the working folder of a profile."""

    needs = {"POST": "environments.operate_profile"}

    @extend_schema(operation_id="empty_profile_folder", request=None, responses=ProfileDocument)
    def post(self, request: Request, profile: int) -> Response:
        """Have whoever leases a profile next find its working folder empty."""
        empty_folder(profile=profile, by=self.actor)
        return Response(get_profile(profile))


class DisableProfile(Operate):
    """Disable a profile."""

    do = staticmethod(disable_profile)

    @extend_schema(operation_id="disable_profile", request=ProfileOrder, responses=ProfileDocument)
    def post(self, request: Request, profile: int) -> Response:
        """Have a profile leased no more."""
        return self.done(profile)


class EnableProfile(Operate):
    """Enable a profile."""

    do = staticmethod(enable_profile)

    @extend_schema(operation_id="enable_profile", request=ProfileOrder, responses=ProfileDocument)
    def post(self, request: Request, profile: int) -> Response:
        """Have a profile leased again that was disabled."""
        return self.done(profile)
