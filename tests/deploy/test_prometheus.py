"""A real Prometheus scrapes a real server: rules, alerts and the dashboard's queries answer."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from client import GanClient
from tests.deploy import manifests
from tests.deploy.manifests import DEPLOY
from tests.deploy.test_monitoring import ALERTS, QUERIES, RECORDED
from tests.docs.test_operations import free_ports
from tests.end_to_end.conftest import running_server
from tests.server.tiny_bundles import publish_tiny_bundle

pytestmark = pytest.mark.slow  # many scrapes must pass

TIMEOUT_S: Final = 60.0
ROUNDS: Final = 6
EMPTY: Final = {  # queries without an answer here: nothing computes on CUDA, is refused or broken
    "ganserve:cuda_busy:ratio_rate5m",
    "Busy CUDA devices A",
    "Refused requests A",
}


class Prometheus:
    """The HTTP interface of Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            answer = json.load(response)
        assert answer["status"] == "success"
        return answer["data"]

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """The labels and values of an instant query."""
        result = self.get("query", query=promql)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def value(self, promql: str) -> float | None:
        """The value of a query with at most one series."""
        found = self.query(promql)
        assert len(found) <= 1
        return found[0][1] if found else None


def until(is_true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not is_true():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


@contextlib.contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Prometheus with deploy/monitoring/prometheus.yml, which scrapes one server, every 0.5 s."""
    program = manifests.program("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed; Debian's package has its name")
    config = manifests.load("monitoring/prometheus.yml")
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    [scrape] = config["scrape_configs"]
    scrape["static_configs"] = [{"targets": [target]}]
    del scrape["dns_sd_configs"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(DEPLOY / "monitoring" / "rules.yml", folder)
    [port] = free_ports(1)
    flags = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    flags += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([program, *flags], stdout=log, stderr=log)
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def test_prometheus_answers_every_query_about_a_loaded_server(tmp_path: Path) -> None:
    publish_tiny_bundle(tmp_path / "models")
    with contextlib.ExitStack() as stack:
        with running_server(tmp_path / "models", "--device", "cpu") as server:
            target = server.metrics_url.removeprefix("http://").removesuffix("/metrics")
            scraper = stack.enter_context(prometheus(tmp_path, target))

            def is_up() -> bool:
                with contextlib.suppress(OSError):
                    return scraper.value('up{job="ganserve"}') == 1
                return False

            until(is_up)
            with GanClient(server.address) as client:
                for _ in range(ROUNDS):
                    client.generate("tiny", seed=1, count=4)
                    client.generate("tiny", seed=1, count=2)
                    time.sleep(0.3)  # so that several scrapes see the counters grow
            until(lambda: scraper.value("sum(ganserve_rows_total)") == ROUNDS * 6)
            until(lambda: all(scraper.query(name) for name in RECORDED if name not in EMPTY))
            assert scraper.value('ganserve:request_errors:ratio_rate5m{model="tiny"}') == 0
            empty = set()
            for name, query in QUERIES:
                if name not in ALERTS:
                    asked = query.replace("$model", ".*").replace("$__rate_interval", "1m")
                    if not scraper.query(asked):
                        empty.add(name)
            assert empty == EMPTY
            rules = scraper.get("rules")["groups"][0]["rules"]
            assert {rule["health"] for rule in rules} == {"ok"}
            assert {rule["name"] for rule in rules} == ALERTS.keys() | RECORDED.keys()
            assert not scraper.get("alerts")["alerts"]
        until(lambda: bool(scraper.get("alerts")["alerts"]))
        assert {alert["labels"]["alertname"] for alert in scraper.get("alerts")["alerts"]} == {"GanserveDown"}
