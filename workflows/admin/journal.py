"""The journal: every transition with its actor, as the triggers wrote it."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workflows.admin.base import ReadOnlyAdmin, found_by_id, short
from workflows.admin.looks import reason_words, state_badge
from workflows.models import Journal


@admin.register(Journal)
class JournalAdmin(ReadOnlyAdmin):
    list_display = ("at", "run_link", "subject", "from_state", "to_state", "person", "why")
    list_display_links = None
    list_filter = ()
    nothing = "Every change of the state of a run or a step, with who made it."
    search_fields = ("run_id",)
    search_help_text = "The beginning of a run's id, or a whole actor such as person:ann."
    ordering = ("-id",)
    sortable_by = ()
    actions = None

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Journal], search_term: str
    ) -> tuple[QuerySet[Journal], bool]:
        if not search_term.strip():
            return queryset, False
        by_run = found_by_id(queryset, search_term, "run_id")
        if by_run is not None:
            return by_run, False
        return queryset.filter(actor=search_term.strip()), False

    @admin.display(description="Run")
    def run_link(self, line: Journal) -> SafeString:
        url = reverse("admin:workflows_run_change", args=[line.run_id])
        return format_html('<a class="link" href="{}"><code>{}</code></a>', url, short(line.run_id))

    @admin.display(description="Step")
    def subject(self, line: Journal) -> str:
        if not line.path:
            return "the run"
        return f"{line.path}, attempt {line.attempt}" if line.attempt else line.path

    @admin.display(description="From")
    def from_state(self, line: Journal) -> SafeString:
        return state_badge(line.before)

    @admin.display(description="To")
    def to_state(self, line: Journal) -> SafeString:
        return state_badge(line.after, line.reason)

    @admin.display(description="By")
    def person(self, line: Journal) -> str:
        return line.actor.removeprefix("person:")

    @admin.display(description="Because")
    def why(self, line: Journal) -> str:
        return reason_words(line.reason) or "-"
