"""Child runs are paused with their parent, and go on with it; what is due about them says so."""

from django.db import migrations, models

import workflows.models.wait


class Migration(migrations.Migration):
    dependencies = [("workflows", "0024_undo_permission")]
    operations = [
        migrations.AlterField(
            model_name="wait",
            name="due",
            field=models.CharField(choices=workflows.models.wait.dues, max_length=8, null=True),
        ),
    ]
