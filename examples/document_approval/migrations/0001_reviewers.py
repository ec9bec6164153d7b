"""Create the group that the definition asks, so that somebody can be added to it."""

from typing import Any

from django.db import migrations

GROUP = "document-reviewers"


def create(apps: Any, _: Any) -> None:
    """Create the group unless it is there."""
    apps.get_model("auth", "Group").objects.get_or_create(name=GROUP)


class Migration(migrations.Migration):
    dependencies = (("auth", "0012_alter_user_first_name_max_length"),)
    operations = (migrations.RunPython(create, migrations.RunPython.noop),)
