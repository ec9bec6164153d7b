"""A permission to have runs undone."""

from django.db import migrations

PERMISSIONS = [
    ("pause_run", "Can pause and resume runs"),
    ("cancel_run", "Can cancel runs"),
    ("compensate_run", "Can have runs undone"),
]


class Migration(migrations.Migration):
    dependencies = [("workflows", "0023_approvals_by_age")]

    operations = [
        migrations.AlterModelOptions(
            name="run", options={"ordering": ["-id"], "permissions": PERMISSIONS}
        ),
    ]
