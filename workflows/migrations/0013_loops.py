"""Steps that are done once for each item, or again and again; reasons that change no table."""

from importlib import import_module

from django.db import migrations, models

import workflows.models.step

functions = import_module("workflows.migrations.0002_commit")


class Migration(migrations.Migration):

    dependencies = [
        ('workflows', '0012_waits'),
    ]

    operations = [
        migrations.AddField(
            model_name='step',
            name='born',
            field=models.IntegerField(help_text='Of a loop: how many of them have begun.', null=True),
        ),
        migrations.AddField(
            model_name='step',
            name='item',
            field=models.JSONField(help_text='What it is for, inside a loop; of a loop: what it goes through.', null=True),
        ),
        migrations.AddField(
            model_name='step',
            name='total',
            field=models.IntegerField(help_text='Of a loop: how many items there are.', null=True),
        ),
        migrations.RunSQL(functions.INSTALL, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name='step',
            name='reason',
            field=models.CharField(blank=True, choices=workflows.models.step.reasons, default='', max_length=32),
        ),
    ]
