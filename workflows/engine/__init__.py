"""The heart: a plan and an event in; what changes, and what to do about it, out.

Pure: neither Django, Celery, a clock, chance nor a log. Read `states`, `plan`
and `advance`, in this order.
"""
