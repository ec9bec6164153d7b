"""Runs are undone: what can be undone is numbered in the order in which it was completed."""

from importlib import import_module

from django.db import migrations, models

functions = import_module("workflows.migrations.0002_commit")

HELP = "Its place among the completions of all steps that can be undone."


class Migration(migrations.Migration):
    dependencies = [("workflows", "0020_event_lists")]

    operations = [
        migrations.AddField(
            model_name="step",
            name="completion",
            field=models.BigIntegerField(help_text=HELP, null=True),
        ),
        migrations.RunSQL(
            "CREATE SEQUENCE workflows_completion", "DROP SEQUENCE workflows_completion"
        ),
        migrations.AlterField(
            model_name="incident",
            name="resolution",
            field=models.CharField(
                blank=True,
                choices=[
                    ("replayed", "Replayed"),
                    ("skipped", "Skipped"),
                    ("discarded", "Discarded"),
                    ("cancelled", "Cancelled"),
                    ("compensated", "Compensated"),
                ],
                max_length=16,
            ),
        ),
        migrations.AddIndex(
            model_name="step",
            index=models.Index(
                condition=models.Q(
                    ("completion__isnull", False),
                    ("state__in", ["COMPENSATING", "COMPENSATION_FAILED", "COMPLETED"]),
                ),
                fields=["run", "state", "-completion"],
                name="steps_to_be_undone",
            ),
        ),
        migrations.RunSQL(functions.INSTALL, migrations.RunSQL.noop),
    ]
