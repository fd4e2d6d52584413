"""The log on stderr, as text for people or as one JSON object per line for log collectors."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, get_args

LogFormat = Literal["text", "json"]
LOG_FORMATS: Final[tuple[LogFormat, ...]] = get_args(LogFormat)
_TEXT: Final = "%(asctime)s %(levelname)s %(message)s"

_log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message and, after an error, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, in ASCII."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        parts += [self.formatStack(record.stack_info)] if record.stack_info else []
        if parts:
            line["exception"] = "\n".join(parts)
        return json.dumps(line)


def configure_logging(level: str, log_format: LogFormat = "text") -> None:
    """Sends the logs of all packages to stderr; with "json", also warnings and exceptions that nothing catches."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if log_format == "json":
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _log.critical("interrupted")
        return
    _log.critical("uncaught exception, the process ends", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(hook: threading.ExceptHookArgs) -> None:
    if hook.exc_value is not None and not issubclass(hook.exc_type, SystemExit):
        name = hook.thread.name if hook.thread is not None else "a thread"
        _log.error("uncaught exception in %s", name, exc_info=(hook.exc_type, hook.exc_value, hook.exc_traceback))
