"""`workflows_commit` takes decisions about many runs, and does each part of all with a statement."""

from importlib import import_module

from django.db import migrations

functions = import_module("workflows.migrations.0002_commit")


class Migration(migrations.Migration):
    dependencies = [("workflows", "0008_last_probe")]
    operations = [migrations.RunSQL(functions.INSTALL, migrations.RunSQL.noop)]
