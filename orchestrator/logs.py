"""How every process logs: structlog's events and the libraries' records, one format, to stderr."""

import re
from typing import Any, Literal

import structlog
from structlog.typing import EventDict

SIGNATURE = re.compile(r"(/callbacks/[^/\s]+/[^/\s]+/\d+/)[\w-]+")

SHARED = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.ExtraAdder(),
)


def logging_of(*, level: str, style: Literal["console", "json"]) -> dict[str, Any]:
    """Build the configuration for `logging`, and point structlog at it."""
    structlog.configure(
        processors=[
            *SHARED[:-1],
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "events": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    without_signatures,
                    *_rendering(style),
                ],
                "foreign_pre_chain": SHARED,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "events"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "axes": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
            # One line for each message would drown the steps' own events.
            "celery.app.trace": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            # It tells of each pipeline that a lost connection ends; the outage has its own line.
            "psycopg": {"level": "ERROR"},
            # Flower asks before the workers are up, and asks again.
            "flower.inspector": {"level": "ERROR"},
        },
    }


def without_signatures(_: Any, __: str, event: EventDict) -> EventDict:
    """Hide the signatures of callback URLs: whoever bears one may answer for a vendor."""
    for key, value in event.items():
        text = repr(value) if key == "request" and not isinstance(value, str) else value
        if isinstance(text, str) and "/callbacks/" in text:
            event[key] = SIGNATURE.sub(r"\1(signature)", text)
    return event


def _rendering(style: Literal["console", "json"]) -> list[Any]:
    if style == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Not the renderer's own tracebacks: those show the values of variables, secrets among them.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)]
