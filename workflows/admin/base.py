"""What the pages of this door have in common: reading only, bounded lists, search by id, actors."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import DropdownFilter

from workflows.models.ids import first_id_of
from workflows.selectors.errors import MissingError

Row = TypeVar("Row")

MOST_COUNTED = 5_000
"""Lists end here: older rows are found by filters, and no page counts a table of millions."""

_DIGITS = 32
_LEAST_DIGITS = 4
_SHOWN_DIGITS = 12


class BoundedPaginator(Paginator):  # type: ignore[type-arg] # generic in the stubs alone
    """Counts no more rows than anybody would turn pages for."""

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or `MOST_COUNTED` if there are more."""
        rows: Any = self.object_list
        return int(rows.order_by()[:MOST_COUNTED].count())


class ReadOnlyAdmin(ModelAdmin):
    """Rows are looked at here; what changes them are services, behind buttons."""

    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 0
    list_filter_submit = True
    actions_on_top = True
    search_help_text = "The beginning of an id."
    nothing = ""
    """What to say where the list is empty."""
    greets = False
    """Whether what stands before the list says it already, where nothing is filtered."""
    page_template = ""
    """The page of one row, for which `page_of` says what is on it; without, it is Django's form."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if not self.page_template:
            answer: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
            return answer
        if not self.has_view_permission(request):
            raise PermissionDenied
        page = self.context(request, **self.page_of(request, object_id))
        return TemplateResponse(request, self.page_template, page)

    def page_of(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        """Return what the page of the row at an address shows. Raises Http404."""
        raise NotImplementedError

    def title_of(self, row: Any) -> str:
        """Return what a row is called where somebody is asked whether to do something to it."""
        return str(row)

    def page(self, route: str, view: Callable[..., Any], name: str) -> URLPattern:
        """Return the address of a page of this model, for staff only."""
        options = self.model._meta  # noqa: SLF001 - public in Django's documentation
        name = f"{options.app_label}_{options.model_name}_{name}"
        pattern: URLPattern = path(route, self.admin_site.admin_view(view), name=name)
        return pattern

    def context(self, request: HttpRequest, **more: Any) -> dict[str, Any]:
        """Return what every page of the admin needs, and more."""
        return {**self.admin_site.each_context(request), "opts": self.model._meta, **more}  # noqa: SLF001 - as above


def demand(request: HttpRequest, permission: str) -> None:
    """Raise `PermissionDenied` unless the person has the permission."""
    if not request.user.has_perm(permission):
        raise PermissionDenied


def actor_of(request: HttpRequest) -> str:
    """Return how the journal names the person who asks."""
    user = request.user
    if isinstance(user, AnonymousUser):
        raise PermissionDenied
    return f"person:{user.get_username()}"


def uuid_or_404(text: str) -> UUID:
    """Return the id in an address."""
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


def found_or_404(find: Callable[[UUID], Row], object_id: str) -> Row:
    """Return what a selector finds for the id in an address."""
    try:
        return find(uuid_or_404(object_id))
    except MissingError as error:
        raise Http404(str(error)) from error


def is_uuid(text: str) -> bool:
    """Say whether a text is a whole id."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def ids_beginning_with(text: str) -> tuple[UUID, UUID] | None:
    """Return the first and the last id that begin like this; None if no id does."""
    digits = text.strip().replace("-", "").lower()
    if not _LEAST_DIGITS <= len(digits) <= _DIGITS or set(digits) - set("0123456789abcdef"):
        return None
    return UUID(digits.ljust(_DIGITS, "0")), UUID(digits.ljust(_DIGITS, "f"))


def found_by_id(rows: QuerySet[Any], text: str, *columns: str) -> QuerySet[Any] | None:
    """Narrow to the rows whose first or second column begins like this; None if it is no id."""
    ends = ids_beginning_with(text)
    if ends is None:
        return None
    column = columns[0] if columns else "pk"
    return rows.filter(**{f"{column}__gte": ends[0], f"{column}__lte": ends[1]})


def of_run(rows: QuerySet[Any], text: str, column: str) -> QuerySet[Any]:
    """Narrow to the rows of runs whose ids begin like this; nothing asked is everything."""
    if not text.strip():
        return rows
    found = found_by_id(rows, text, column)
    return rows.none() if found is None else found


def newest_of(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Narrow to the newest `MOST_COUNTED` rows, by an id: a sliced subquery hides their number."""
    oldest = rows.order_by("-pk").values_list("pk", flat=True)[MOST_COUNTED:].first()
    return rows if oldest is None else rows.filter(pk__gt=oldest)


def short(identity: UUID) -> str:
    """Return the end of an id, by which people tell rows apart."""
    return identity.hex[-_SHOWN_DIGITS:]


def step_url(identity: UUID) -> str:
    """Return the address of a step's page."""
    return reverse("admin:workflows_step_change", args=[identity])


def duration(begin: datetime | None, end: datetime | None) -> str:
    """Return how long it took, as people say it."""
    if begin is None:
        return ""
    return spoken(((end or timezone.now()) - begin).total_seconds())


def spoken(seconds: float) -> str:
    """Return seconds in the two largest units that matter."""
    minute, hour, day = 60, 3600, 86400
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < minute:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < hour:
        return f"{whole // minute} min {whole % minute} s"
    if whole < day:
        return f"{whole // hour} h {whole % hour // minute} min"
    return f"{whole // day} d {whole % day // hour} h"


class CreatedFilter(DropdownFilter):
    """Rows by their age, as a range of ids: those begin with the time, and are the order."""

    title = "age"
    parameter_name = "age"
    ages: Sequence[tuple[str, str, timedelta]] = (
        ("hour", "Last hour", timedelta(hours=1)),
        ("day", "Last 24 hours", timedelta(days=1)),
        ("week", "Last 7 days", timedelta(days=7)),
        ("month", "Last 30 days", timedelta(days=30)),
    )

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, words) for name, words, _ in self.ages] + [("older", "Older than 30 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        ages = {name: age for name, _, age in self.ages}
        value = self.value()
        if value in ages:
            return queryset.filter(pk__gte=first_id_of(timezone.now() - ages[value]))
        if value == "older":
            return queryset.filter(pk__lt=first_id_of(timezone.now() - ages["month"]))
        return queryset
