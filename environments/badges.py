"""How a state looks on a page: a word, a tone and an icon, so that colour never says it alone."""

from typing import NamedTuple

from django.utils.html import format_html
from django.utils.safestring import SafeString

from environments.states import EnvironmentState


class Look(NamedTuple):
    """A tone of the style sheet (ok, busy, care, bad, quiet) and an icon of Material Symbols."""

    tone: str
    icon: str


ENVIRONMENT_LOOKS = {
    EnvironmentState.PROVISIONING: Look("busy", "construction"),
    EnvironmentState.ACTIVE: Look("ok", "check_circle"),
    EnvironmentState.DRAINING: Look("care", "water_drop"),
    EnvironmentState.SUSPENDED: Look("care", "pause_circle"),
    EnvironmentState.RETIRED: Look("quiet", "inventory_2"),
}


def badge(text: str, look: Look, *, title: str = "") -> SafeString:
    """Return the badge as HTML."""
    return format_html(
        '<span class="badge tone-{}" title="{}">'
        '<span class="material-symbols-outlined" aria-hidden="true">{}</span>{}</span>',
        look.tone,
        title,
        look.icon,
        text,
    )


def environment_badge(state: str) -> SafeString:
    """Return the badge of the state of an environment."""
    return badge(state.capitalize(), ENVIRONMENT_LOOKS[EnvironmentState(state)])
