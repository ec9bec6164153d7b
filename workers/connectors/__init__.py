"""The built-in task types, one file per kind of work."""
