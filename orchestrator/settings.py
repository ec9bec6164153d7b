"""Django's settings, made of the typed ones in `orchestrator.env` and of nothing else."""

import sys
from typing import Any

import dj_database_url
from csp.constants import NONCE, NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.templatetags.static import static

from orchestrator import env as environment
from orchestrator.logs import logging_of

ENV = environment.read()
BASE_DIR = environment.ROOT
EMBEDDED_HOME = ENV.home if any(ENV.embedded_parts.values()) else None

SECRET_KEY = ENV.signing_key()
DEBUG = ENV.debug
ALLOWED_HOSTS = list(ENV.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(ENV.csrf_trusted_origins)
ROOT_URLCONF = "orchestrator.urls"
WSGI_APPLICATION = "orchestrator.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "orchestrator.apps.OrchestratorConfig",
    "environments.apps.EnvironmentsConfig",
    "workflows.apps.WorkflowsConfig",
    "workers.apps.WorkersConfig",
    "monitoring.apps.MonitoringConfig",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "pgtrigger",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_structlog",
    "axes",
    "csp",
    *ENV.installed_examples,
    *ENV.apps,
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "axes.middleware.AxesMiddleware",
    # The last of all is the first to hear of what a view raises.
    "orchestrator.outage.AnswerOutages",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ]
        },
    }
]


NOTICED_SOON = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Seconds, but for the last, which is milliseconds; they matter to TCP, not to a socket."""


AS_THE_STATEMENT_SAYS = {"prepare_threshold": sys.maxsize}
"""Django's own default is that psycopg prepares nothing, not even what asks for it. So it does what
the store marks, and not what has merely been said often: a plan for that might not fit for ever."""


def _database() -> dict[str, Any]:
    """One connection for each process or thread, kept open and checked before each request.

    A server that is gone without a word is noticed in seconds, not when TCP gives up; what the
    address says of that wins.
    """
    parsed: dict[str, Any] = dict(
        dj_database_url.parse(ENV.database, conn_max_age=None, conn_health_checks=True)
    )
    options = parsed.setdefault("OPTIONS", {})
    parsed["HOST"] = options.pop("host", parsed.get("HOST", ""))
    options["application_name"] = "orchestrator"
    return parsed | {"OPTIONS": NOTICED_SOON | AS_THE_STATEMENT_SAYS | options}


DATABASES = {"default": _database()}

LANGUAGE_CODE = "en-us"
TIME_ZONE = ENV.time_zone
USE_TZ = True
FORMAT_MODULE_PATH = "monitoring.formats"

STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = ENV.https
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.https else None
SECURE_HSTS_SECONDS = 31_536_000 if ENV.https else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        # The admin theme's Alpine.js evaluates the expressions in its attributes.
        "script-src": [SELF, NONCE, UNSAFE_EVAL],
        # Alpine.js and HTMX set style attributes, which no nonce can cover.
        "style-src": [SELF, UNSAFE_INLINE],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "workflows.api.auth.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["workflows.api.parsers.StrictJSONParser"],
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "workflows.api.openapi.DoorSchema",
    "EXCEPTION_HANDLER": "workflows.api.problems.answer",
    # Counted in each web process: a brake for runaway clients, not a quota.
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"user": "100/second", "tokens": "10/minute"},
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer"}
SPECTACULAR_SETTINGS = {
    "TITLE": "Automation orchestrator",
    "DESCRIPTION": "Workflows, their runs and what needs a person.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": ["workflows.api.openapi.describe_problems"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
PRIMARY = {
    "50": "#eef4ff",
    "100": "#dbe6fe",
    "200": "#bfd3fe",
    "300": "#93b4fd",
    "400": "#7ba6ff",
    "500": "#5b8def",
    "600": "#1d4fbf",
    "700": "#173f9a",
    "800": "#15347c",
    "900": "#132d66",
    "950": "#0c1c40",
}
UNFOLD = {
    "SITE_TITLE": "Orchestrator",
    "SITE_HEADER": "Orchestrator",
    "SITE_DROPDOWN": [
        {"icon": "monitoring", "title": "Workers (Flower)", "link": "/flower/"},
        {"icon": "api", "title": "REST API", "link": "/api/v1/docs/"},
    ],
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}orchestrator/favicon.svg"}
    ],
    "STYLES": [lambda _: static("monitoring/console.css")],
    "SHOW_HISTORY": False,
    "SITE_SYMBOL": "account_tree",
    "COLORS": {"primary": PRIMARY},
    "DASHBOARD_CALLBACK": "monitoring.dashboard.dashboard",
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": "monitoring.navigation.sidebar",
    },
}

LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logging_of(level=ENV.log_level, style=ENV.log_format)
DJANGO_STRUCTLOG_CELERY_ENABLED = False

ORCHESTRATOR: dict[str, Any] = {
    "PUBLISHER": "workers.publisher.CeleryPublisher",
    "CATALOG": "workers.registry.catalog",
    "PUBLIC_URL": ENV.address,
    "VAULT_KEYS": ENV.vault_keys(),
    "ENVIRONMENT_KEYS": ENV.keys_of_environments,
    "PROFILE_DIR": ENV.folders_of_profiles,
    "PROFILE_FOLDER_MIB": ENV.profile_folder_mib,
    "LEASE_SECONDS": ENV.lease_seconds,
    "CANARY_SECONDS": ENV.canary_seconds,
    "REPUBLISH_SECONDS": ENV.republish_seconds,
    "RETENTION_DAYS": ENV.retention,
    "RETENTION_ARCHIVE": ENV.retention_archive and BASE_DIR / ENV.retention_archive,
    "EVENT_RETENTION_DAYS": ENV.event_retention_days,
    "AUDIT_RETENTION_DAYS": ENV.audit_retention_days,
    # What grows and belongs to no run: a table, its key, and the time of a row. Lines are kept for
    # a while, and their keys grow with time; what has expired is of no use to anybody.
    "LINES": (
        ("workflows_breakerjournal", "id", "at"),
        ("environments_profilejournal", "id", "at"),
        ("django_admin_log", "id", "action_time"),
        ("axes_accesslog", "id", "attempt_time"),
        ("axes_accessattempt", "id", "attempt_time"),
        ("axes_accessfailurelog", "id", "attempt_time"),
    ),
    "EXPIRING": (
        ("django_session", "session_key", "expire_date"),
        ("knox_authtoken", "digest", "expiry"),
    ),
    "EARLY_EVENT_SECONDS": ENV.early_event_seconds,
    "LONGEST_STEP_SECONDS": ENV.longest_step_seconds,
    "TIMEOUT_GRACE_SECONDS": ENV.timeout_grace_seconds,
    "SOFT_SHUTDOWN_SECONDS": ENV.soft_shutdown_seconds,
    "WORKER_MEMORY_MIB": ENV.worker_memory_mib,
}

# What a late or repeated message does is decided by the fence in the database; these only keep
# messages from being lost, forged or hoarded. `orchestrator.celery` refuses to start without them.
CELERY_BROKER_URL = ENV.broker
CELERY_RESULT_BACKEND = ENV.results
CELERY_RESULT_EXPIRES = 3600
# A dispatch is a hint: while Redis is away it is given up at once, and recovery sends it later.
CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = {"retry_policy": {"max_retries": 0}}
CELERY_REDIS_SOCKET_TIMEOUT = CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = 1.0
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A step that overruns is ended by `workers.warden`; this comes after that and a whole slice.
CELERY_TASK_TIME_LIMIT = ENV.longest_step_seconds + ENV.timeout_grace_seconds + 60
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": int(CELERY_TASK_TIME_LIMIT) + 3600,
    # A consumer whose broker is gone without a word finds out; `orchestrator.celery` has less
    # patience with it where something is sent.
    "socket_timeout": 10.0,
    "socket_connect_timeout": 10.0,
    "socket_keepalive": True,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_ACKS_ON_FAILURE = True
CELERY_TASK_ACKS_ON_TIMEOUT = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "orchestrator"
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = CELERY_EVENT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = CELERY_RESULT_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_CONSUMER = "orchestrator.consumer:SteadyConsumer"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
if ENV.worker_memory_mib:
    # KiB. A process that has grown so far is replaced after its message, before a step meets the
    # bound of which `workers.warden` tells the kernel.
    CELERY_WORKER_MAX_MEMORY_PER_CHILD = ENV.worker_memory_mib * 1024 * 3 // 4
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = ENV.soft_shutdown_seconds
# A new process first puts right what the one before it left (`workers.warden`, `workers.tasks`).
CELERY_WORKER_PROC_ALIVE_TIMEOUT = 15.0
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
# A process of the engine that does not come to the end of one of these hangs, and there may be no
# other: it is replaced, as a whole worker that is stuck is (`workers.vitals.Periods.restart`).
CELERY_TASK_ANNOTATIONS = {
    f"workers.{name}": {"time_limit": ENV.canary_seconds * 5}
    for name in ("attend", "tick", "recover", "canaries", "prune")
}
CELERY_BEAT_SCHEDULE = {
    # What nobody fetched in time is worthless: the next one does the same. There is no tick here:
    # beat asks for one when something is due (`workers.lookout`).
    "recover": {
        "task": "workers.recover",
        "schedule": 5.0,
        "options": {"queue": "orchestrator", "expire_seconds": 15},
    },
    "canaries": {
        "task": "workers.canaries",
        "schedule": ENV.canary_seconds,
        "options": {"queue": "orchestrator", "expire_seconds": 15},
    },
    "prune": {
        "task": "workers.prune",
        "schedule": 60.0,
        "options": {"queue": "orchestrator", "expire_seconds": 30},
    },
}
CELERY_BEAT_SCHEDULER = "orchestrator.clock:Clock"
DJANGO_CELERY_BEAT_TZ_AWARE = True
