"""The settings of a test session: the platform's, with embedded services for this session alone.

The directory is named after the process that began the session; its xdist workers and every process
that a test starts inherit it. So tests run beside `make run`, and beside each other.
"""

import os

from tests.support.home import of_this_session

os.environ["LOCAL_DIR"] = of_this_session(os.environ.get("LOCAL_DIR"))
os.environ.setdefault("EXAMPLES", "true")
os.environ.setdefault("APPS", "tests.support.bank,tests.support.hostile")

from orchestrator.settings import *  # noqa: F403

# Each xdist worker has a database of its own in Redis too, numbered as it is.
number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
if ENV.broker_url is None:  # noqa: F405
    CELERY_BROKER_URL = CELERY_RESULT_BACKEND = f"{ENV.broker}?virtual_host={number}"  # noqa: F405

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# What commits is tested by emptying the tables afterwards, which the law refuses to everybody else.
options = DATABASES["default"]["OPTIONS"]  # noqa: F405
options["options"] = f"{options.get('options', '')} -c orchestrator.emptying=on".strip()
