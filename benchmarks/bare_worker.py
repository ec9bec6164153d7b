"""What `celery -A` loads in a worker of bare Celery."""

import json
import os

from benchmarks.bare import SETTINGS, build

app = build(json.loads(os.environ[SETTINGS])).app
