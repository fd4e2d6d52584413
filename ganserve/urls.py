"""URLs of files and folders elsewhere, such as hf://user/repository or s3://bucket/models, through fsspec.

fsspec is optional, so it is imported only when a URL is opened.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from ganserve.foreign import first_line

# What `pip install` needs besides fsspec, by protocol; fsspec's own messages name the others.
DRIVERS: Final = {
    "abfs": "adlfs",
    "az": "adlfs",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
}
_SEPARATOR: Final = "://"
_PASSWORD: Final = re.compile(r"(?<=://)[^/@]*:[^/@]*@")


class UrlError(Exception):
    """A URL cannot be opened; the message says why and what to do, but does not name the URL."""


def is_url(location: str | Path) -> bool:
    """Whether it names something elsewhere, such as hf://user/repository/file.safetensors or s3://bucket/models."""
    return _SEPARATOR in str(location)


def without_password(url: str) -> str:
    """The URL as it may be printed: without a user and a password before the host."""
    return _PASSWORD.sub("", url)


def open_file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path of the URL in it; most file systems do not connect yet.

    Raises:
        UrlError: A package is missing, or nothing knows such URLs.
    """
    protocol = url.partition(_SEPARATOR)[0]
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(url, **_options(protocol))  # type: ignore[no-any-return]  # fsspec has no types
    except ImportError as error:
        packages = ["fsspec", *filter(None, [DRIVERS.get(protocol)])]
        raise UrlError(
            f"{protocol}:// needs another package ({first_line(error)}); run pip install {' '.join(packages)}"
        ) from error
    except ValueError as error:  # an unknown protocol
        raise UrlError(
            f"cannot be opened ({first_line(error)}); give a URL like s3://, gs://, hf:// or https://"
        ) from error


def _options(protocol: str) -> dict[str, Any]:
    """Settings of a file system that its users would otherwise need for large files."""
    if protocol not in ("http", "https"):
        return {}
    import aiohttp

    # By default, a transfer has five minutes in all, however large the file is.
    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)}}
