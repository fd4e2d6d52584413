"""Rules, dashboard and scrape settings use what the server exports, and each alert fires when it should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from scripts import dashboard, prometheus_rule
from server.config import ServerConfig
from server.gate import Gate
from server.metrics import Metrics
from server.models.catalog import Catalog
from tests.deploy import manifests
from tests.deploy.manifests import DEPLOY
from tests.server.served_models import served
from tests.server.test_metrics import fill

MONITORING: Final = DEPLOY / "monitoring"
RULES: Final[list[dict[str, Any]]] = [
    rule for group in manifests.load("monitoring/rules.yml")["groups"] for rule in group["rules"]
]
ALERTS: Final = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED: Final = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
OF_PROMETHEUS: Final = {"job", "instance"}  # labels that a scrape adds


def grouped(query: str) -> set[str]:
    """The labels that a query groups or joins by."""
    lists = re.findall(r"\b(?:by|on|without|group_left|group_right)\s*\(([^)]*)\)", query)
    return {label.strip() for names in lists for label in names.split(",") if label.strip()}


def exported() -> dict[str, set[str]]:
    """The labels of each metric of a server, those of Prometheus, and the recorded ones."""
    catalog = Catalog()
    catalog.add(served(queued_rows=5))
    metrics = Metrics(catalog, Gate())
    fill(metrics, catalog)
    labels: dict[str, set[str]] = {"up": OF_PROMETHEUS}
    for family in metrics.registry.collect():
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update({*sample.labels} | OF_PROMETHEUS)
    return labels | {name: grouped(query) for name, query in RECORDED.items()}


EXPORTED: Final = exported()


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard, also those inside rows."""
    page = json.loads((MONITORING / "dashboard.json").read_text())
    found = [inner for panel in page["panels"] for inner in (panel, *panel.get("panels", []))]
    return [panel for panel in found if panel["type"] != "row"]


TARGETS: Final = [(panel["title"], target) for panel in panels() for target in panel["targets"]]
QUERIES: Final = [
    *((rule.get("alert") or rule["record"], rule["expr"]) for rule in RULES),
    *((f"{title} {target['refId']}", target["expr"]) for title, target in TARGETS),
    *(
        (f"trigger {index}", trigger["metadata"]["query"])
        for index, trigger in enumerate(
            manifests.only(manifests.kubernetes("overlays/keda"), "ScaledObject")["spec"]["triggers"]
        )
    ),
]


def faults(query: str) -> list[str]:
    """What a query uses and no server exports."""
    bare = re.sub(r'"[^"]*"', '""', query)
    used = set(re.findall(r"\b(?:ganserve[_:][a-z0-9_:]+|process_[a-z_]+|python_[a-z_]+|up)\b", bare))
    found = [f"no metric {name}" for name in used - EXPORTED.keys()]
    for name, matchers in re.findall(r"([a-z][a-z0-9_:]*)\{([^}]*)\}", bare):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        found += [f"no label {label} of {name}" for label in labels - EXPORTED.get(name, set())]
    known = set().union(*(EXPORTED.get(name, set()) for name in used))
    found += [f"no label {label} to group by" for label in grouped(bare) - known]
    return found if used else ["no metric at all"]


@pytest.mark.parametrize(("name", "query"), QUERIES, ids=[name for name, _ in QUERIES])
def test_a_query_uses_metrics_and_labels_that_exist(name: str, query: str) -> None:
    assert not faults(query), name


@pytest.mark.parametrize(
    "query",
    [
        "ganserve_requests > 0",
        "ganserve_model_redy == 0",
        'rate(ganserve_requests_total{code="OK"}[5m])',
        "sum by (lane) (rate(ganserve_engine_busy_core_seconds_total[5m]))",
        'ganserve_cores{le="1"}',
        "ganserve:cores_busy:ratio > 1",
        'histogram_quantile(0.9, rate(ganserve_batch_rows_bucket{phase="queue"}[5m]))',
    ],
)
def test_a_query_for_something_else_is_found(query: str) -> None:
    assert faults(query)


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=[f"{title} {of['refId']}" for title, of in TARGETS])
def test_a_legend_names_labels_of_its_query(title: str, target: dict[str, Any]) -> None:
    named = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
    query = target["expr"]
    metrics = re.findall(r"ganserve_[a-z_]+|process_[a-z_]+", query)
    has_labels = grouped(query) or EXPORTED[metrics[0]]
    assert named <= has_labels, title


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_severity_and_says_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.parametrize("alert", ALERTS)
def test_the_unit_test_of_the_rules_has_each_alert_firing_and_quiet(alert: str) -> None:
    tests = manifests.load("monitoring/rules_test.yml")["tests"]
    expected = [
        bool(of.get("exp_alerts")) for test in tests for of in test["alert_rule_test"] if of["alertname"] == alert
    ]
    assert set(expected) == {True, False}


def test_the_dashboard_is_current() -> None:
    assert dashboard.FILE.read_text() == dashboard.build(), "run make pages"


def test_the_rules_of_the_operator_are_current_and_the_same() -> None:
    assert prometheus_rule.FILE.read_text() == prometheus_rule.build(), "run make pages"
    assert yaml.safe_load(prometheus_rule.build())["spec"] == manifests.load("monitoring/rules.yml")


def test_panels_do_not_overlap() -> None:
    page = json.loads((MONITORING / "dashboard.json").read_text())
    cells = [
        (x, y)
        for panel in page["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


def test_every_way_to_scrape_gives_the_job_that_the_queries_expect() -> None:
    jobs = {job for _, query in QUERIES for job in re.findall(r'job="([^"]*)"', query)}
    assert jobs == {"ganserve"}
    [config] = manifests.load("monitoring/prometheus.yml")["scrape_configs"]
    assert config["job_name"] == "ganserve"
    service = manifests.only(manifests.kubernetes("base"), "Service")
    rendered = manifests.render(MONITORING)
    monitor = manifests.only(rendered, "ServiceMonitor")["spec"]
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "ganserve"
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    [endpoint] = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_prometheus_looks_for_the_servers_where_they_are() -> None:
    [config] = manifests.load("monitoring/prometheus.yml")["scrape_configs"]
    [discovery] = config["dns_sd_configs"]
    assert ServerConfig.metrics_address is not None
    assert discovery["port"] == ServerConfig.metrics_address.port
    assert discovery["names"] == ["ganserve"]
    assert "ganserve" in manifests.load("compose.yaml")["services"]


def test_the_config_map_holds_the_dashboard() -> None:
    config_map = manifests.only(manifests.render(MONITORING), "ConfigMap")
    assert config_map["data"] == {"ganserve.json": (MONITORING / "dashboard.json").read_text()}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = manifests.program("promtool")
    if program is None:
        pytest.skip("promtool is not installed; on Debian, the package prometheus has it")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_promtool_accepts_rules_and_settings() -> None:
    for done in (
        promtool("check", "rules", MONITORING / "rules.yml"),
        promtool("check", "config", MONITORING / "prometheus.yml"),
    ):
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should() -> None:
    done = promtool("test", "rules", MONITORING / "rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("broken", ["vector(1) == 0", "vector(1)"], ids=["never", "always"])
def test_alerts_that_fire_never_or_always_are_found(broken: str, tmp_path: Path) -> None:
    rules = manifests.load("monitoring/rules.yml")
    for rule in rules["groups"][0]["rules"]:
        if "alert" in rule:
            rule["expr"] = broken
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    shutil.copy(MONITORING / "rules_test.yml", tmp_path)
    done = promtool("test", "rules", tmp_path / "rules_test.yml")
    assert done.returncode != 0
    assert not [alert for alert in ALERTS if alert not in done.stdout + done.stderr]
