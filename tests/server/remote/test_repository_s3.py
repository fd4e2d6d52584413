"""The S3 driver against moto's S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.remote.errors import NotThere, RemoteUnavailable
from server.remote.fetch import Fetcher
from server.remote.repository import RemoteRepository
from tests.server.remote.remotes import content, labels
from tests.server.tiny_bundles import publish_tiny_bundle

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:(boto|aioboto|moto|s3fs)")]
s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """An S3 server with the bucket "gan-models"; yields its file system."""
    with pytest.MonkeyPatch.context() as patch:
        server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()  # returns once it listens
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        files = s3fs.S3FileSystem()
        files.mkdir("gan-models")
        yield files
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


@pytest.fixture
def source(s3: Any, tmp_path: Path) -> Path:
    """What is in the bucket."""
    folder = tmp_path / "source"
    publish_tiny_bundle(folder)
    publish_tiny_bundle(folder, "other", 3)
    s3.put(f"{folder}/", "gan-models/models", recursive=True)
    return folder


def test_models_in_a_bucket_are_copied_and_new_versions_are_seen(source: Path, s3: Any, tmp_path: Path) -> None:
    models = tmp_path / "models"
    heard: list[tuple[str, int, int | None]] = []
    fetcher = Fetcher(RemoteRepository("s3://gan-models/models"), models, (), lambda *part: heard.append(part))
    assert [*fetcher.fetch().fetched] == ["other:3", "tiny:1"]
    assert content(models) == content(source)
    size = (source / "tiny" / "1" / "model.onnx").stat().st_size
    assert heard[-1] == ("tiny/1/model.onnx", size, size)

    graph = publish_tiny_bundle(source, "tiny", 2) / "model.onnx"
    s3.put(str(source / "tiny" / "2" / "card.json"), "gan-models/models/tiny/2/card.json")
    assert len(fetcher.fetch().problems) == 1  # the graph is not there yet
    assert labels(models) == ["other:3", "tiny:1"]
    s3.put(str(graph), "gan-models/models/tiny/2/model.onnx")
    assert [*fetcher.fetch().fetched] == ["tiny:2"]
    assert content(models) == content(source)


def test_keys_that_lead_elsewhere_are_no_models(source: Path, s3: Any, tmp_path: Path) -> None:
    # Clients normalise such keys, but a bucket can hold them.
    for key in ("models/../1/card.json", "models//1/card.json", "models/tiny/../evil/card.json", "models/tiny/1/../x"):
        s3.call_s3("put_object", Bucket="gan-models", Key=key, Body=b"{}")
    s3.invalidate_cache()
    remote = RemoteRepository("s3://gan-models/models")
    assert remote.models() == ["other", "tiny"]
    fetched = Fetcher(remote, tmp_path / "deep" / "models").fetch()
    assert not fetched.problems
    assert {path.name for path in tmp_path.iterdir()} == {"source", "deep"}


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_does_not_exist_is_named(tmp_path: Path) -> None:
    url = "s3://no-such-bucket/models"
    with pytest.raises(NotThere, match=rf"^{url}: there is no such bucket, folder or file"):
        Fetcher(RemoteRepository(url), tmp_path / "models").fetch()


def test_without_credentials_the_error_says_so(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    type(s3).clear_instance_cache()
    with pytest.raises(RemoteUnavailable, match=r"NoCredentialsError: Unable to locate credentials\); check"):
        Fetcher(RemoteRepository("s3://gan-models/models"), tmp_path / "models").fetch()
