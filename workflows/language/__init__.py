"""The workflow language: document in; a Spec, or every finding with its line, out.

Pure: neither Django, Celery, a clock, chance nor a log.
"""
