"""Pages of other hosts cannot reach the explorer."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from client.explore.page_server import Exposure
from tests.browser.conftest import explorer_of
from tests.client.fake_server import FakeServer

UPLOAD = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nA\r\n--x--\r\n'


@pytest.fixture(scope="module")
def port(browser: object) -> Iterator[int]:
    fake = FakeServer()
    with fake.serve(), explorer_of(fake.address) as url:
        yield int(url.rstrip("/").rpartition(":")[2])


def status_of(
    port: int,
    host: str,
    path: str = "/config",
    origin: str | None = None,
    body: bytes | None = None,
    cookie: str | None = None,
) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Host": host, "Content-Type": "multipart/form-data; boundary=x"}
    headers |= {} if origin is None else {"Origin": origin}
    headers |= {} if cookie is None else {"Cookie": cookie}
    connection.request("GET" if body is None else "POST", path, body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_requests_from_this_machine_are_answered(port: int, name: str) -> None:
    host = f"{name}:{port}"
    assert status_of(port, host) == 200
    assert status_of(port, host, "/gradio_api/upload", f"http://{host}", UPLOAD) == 200


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info"])
def test_a_foreign_host_name_that_resolves_to_this_machine_is_refused(port: int, path: str) -> None:
    assert status_of(port, f"other.example:{port}", path) == 400


@pytest.mark.parametrize("origin", ["http://other.example", "null", "http://127.0.0.1:1", "https://127.0.0.1.other"])
def test_requests_from_other_sites_are_refused(port: int, origin: str) -> None:
    assert status_of(port, f"127.0.0.1:{port}", "/gradio_api/upload", origin, UPLOAD) == 403


def test_a_page_behind_a_proxy_answers_to_its_name_and_only_with_the_token(browser: object) -> None:
    fake = FakeServer()
    exposure = Exposure(allowed_hosts=("gpu.example.org",), token="secret")
    with fake.serve(), explorer_of(fake.address, exposure=exposure) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        for path in ("/", "/config", "/gradio_api/info", "/theme.css"):
            assert status_of(port, "gpu.example.org", path) == 401
        assert status_of(port, "gpu.example.org", "/gradio_api/upload", body=UPLOAD) == 401
        assert status_of(port, "gpu.example.org", "/?token=secret") == 303
        assert status_of(port, "gpu.example.org", cookie="ganserve_explorer=secret") == 200
        assert status_of(port, "gpu.example.org", cookie="ganserve_explorer=other") == 401
        assert status_of(port, "other.example", cookie="ganserve_explorer=secret") == 400
