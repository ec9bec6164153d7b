"""A run may be the child of a step, which waits for it."""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

functions = import_module("workflows.migrations.0002_commit")


class Migration(migrations.Migration):
    dependencies = [("workflows", "0015_events")]
    operations = [
        migrations.AddField(
            model_name="run",
            name="parent",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="children",
                to="workflows.run",
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="parent_path",
            field=models.CharField(max_length=1000, null=True),
        ),
        migrations.AddField(
            model_name="wait",
            name="child",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="awaited_by",
                to="workflows.run",
            ),
        ),
        migrations.AddField(
            model_name="wait",
            name="due",
            field=models.CharField(
                choices=[
                    ("start", "Start"),
                    ("replay", "Replay"),
                    ("tell", "Tell"),
                    ("stop", "Stop"),
                ],
                max_length=8,
                null=True,
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(("parent__isnull", False)),
                fields=["parent", "-id"],
                name="children_of_a_run",
            ),
        ),
        migrations.AddIndex(
            model_name="wait",
            index=models.Index(
                condition=models.Q(("due__isnull", False)),
                fields=["run"],
                name="children_to_see_to",
            ),
        ),
        migrations.AddIndex(
            model_name="wait",
            index=models.Index(
                condition=models.Q(("child__isnull", False)),
                fields=["child", "-attempt"],
                name="who_waits_for_a_child",
            ),
        ),
        migrations.RunSQL(functions.INSTALL, migrations.RunSQL.noop),
    ]
