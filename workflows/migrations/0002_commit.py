"""The function `workflows_commit`: store decisions, in one statement (see workflows.store)."""

from pathlib import Path

from django.db import migrations

INSTALL = (Path(__file__).parents[1] / "store" / "commit.sql").read_text()
"""As it is now, whichever migration installs it: each change of it comes with one that does."""

REMOVE = """
DROP FUNCTION workflows_commit(text, timestamptz, uuid[], jsonb);
DROP FUNCTION workflows_unexpected(uuid[], jsonb);
DROP FUNCTION workflows_others(uuid, text, jsonb, jsonb);
DROP FUNCTION workflows_move_runs(timestamptz, uuid[], jsonb, int[]);
"""


class Migration(migrations.Migration):
    dependencies = [("workflows", "0001_initial")]
    operations = [migrations.RunSQL(INSTALL, REMOVE)]
