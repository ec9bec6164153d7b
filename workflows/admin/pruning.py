"""What retention has removed: who, by what bounds, how much, and where it is kept."""

from django.contrib import admin

from workflows.admin.base import ReadOnlyAdmin
from workflows.models import Pruning


@admin.register(Pruning)
class PruningAdmin(ReadOnlyAdmin):
    list_display = ("day", "actor", "bounds", "runs", "steps", "journal", "last_at", "archive")
    list_display_links = None
    nothing = "What retention has removed, by day, and where it was archived."
    ordering = ("-id",)
    sortable_by = ()
    actions = None
