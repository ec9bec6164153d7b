"""An environment says whose runs may send steps to it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("environments", "0002_journal_of_environments")]
    operations = [
        migrations.AddField(
            model_name="environment",
            name="admits",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="The environments whose runs may send steps here.",
            ),
        ),
    ]
