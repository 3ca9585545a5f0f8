"""ServiceMonitor, PrometheusRule and dashboard."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from conftest import CHART, refusal, render, unavailable


def test_nothing_of_it_is_there_until_asked_for():
    kinds = {thing["kind"] for thing in render()}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    assert not [thing for thing in render().all("ConfigMap") if "dashboard" in thing["metadata"]["name"]]


def test_the_monitor_finds_the_service_and_its_port():
    objects = render(persona="monitoring")
    monitor = objects.one("ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "monitoring"
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    (service,) = [
        thing
        for thing in objects.all("Service")
        if wanted <= thing["metadata"]["labels"].items()
        and endpoint["port"] in [port["name"] for port in thing["spec"]["ports"]]
    ]
    assert service["metadata"]["name"] == "roomcast-probes"
    assert (endpoint["path"], endpoint["interval"], endpoint["scrapeTimeout"]) == ("/metrics", "15s", "10s")
    assert endpoint["honorLabels"] is False
    # Without a selector of namespaces, it is about its own.
    assert "namespaceSelector" not in monitor["spec"]
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "roomcast"


def test_relabelings_of_targets_and_of_samples_are_kept_apart():
    target, sample = {"targetLabel": "a"}, {"targetLabel": "b"}
    values = {"serviceMonitor.relabelings": [target], "serviceMonitor.metricRelabelings": [sample]}
    (endpoint,) = render(values, "monitoring").one("ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["relabelings"] == [target] and endpoint["metricRelabelings"] == [sample]
    (endpoint,) = render(persona="monitoring").one("ServiceMonitor")["spec"]["endpoints"]
    assert not {"relabelings", "metricRelabelings"} & set(endpoint)


def test_a_scrape_longer_than_its_interval_is_refused():
    assert "that is longer than serviceMonitor.interval" in refusal({"serviceMonitor.interval": "9s"}, "monitoring")
    assert render({"serviceMonitor.interval": "10s"}, "monitoring")


def test_the_rules_are_those_of_the_file_about_this_release():
    rule = render(persona="monitoring").one("PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "monitoring"
    scope = 'namespace="chat", job="roomcast"'
    theirs = rule["spec"]["groups"][0]["rules"]
    ours = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert len(theirs) == len(ours) > 20
    for made, written in zip(theirs, ours):
        assert {key: value for key, value in made.items() if key != "expr"} == {
            key: value for key, value in written.items() if key != "expr"
        }
        # Taken out again, what was put in leaves the expression of the file.
        assert made["expr"].replace(f"{{{scope}}}", "").replace(f"{{{scope}, ", "{") == written["expr"]
        metrics = re.findall(r"\b(?:(?:roomcast|ws|process)_\w+|roomcast:[\w:]+|up\b)", written["expr"])
        assert metrics and made["expr"].count(scope) == len(metrics), made["expr"]
    mine = render({"prometheusRule.selector": 'job="chat"'}, "monitoring").one("PrometheusRule")["spec"]["groups"][0]["rules"]
    assert 'count by (namespace, job) (roomcast_broker_up{job="chat"})' in mine[0]["expr"]


@pytest.mark.parametrize("scope", [None, 'job="chat"'])
def test_prometheus_takes_the_rules_as_rendered(scope, tmp_path):
    if shutil.which("promtool") is None:
        unavailable("promtool is not installed; apt-get install prometheus brings it")
    values = {"prometheusRule.selector": scope} if scope else {}
    rules = render(values, "monitoring").one("PrometheusRule")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_the_file_about_this_release_and_has_the_label_that_grafana_looks_for():
    board = render({"dashboard.annotations": {"folder": "chat"}}, "monitoring").one("ConfigMap", "roomcast-dashboard")
    shown, written = json.loads(board["data"]["roomcast.json"]), json.loads((CHART / "files" / "dashboard.json").read_text())
    assert (shown["uid"], shown["title"]) == ("chat-roomcast", "roomcast, roomcast in chat")
    chosen = {variable["name"]: variable["current"].get("value") for variable in shown["templating"]["list"]}
    assert (chosen["namespace"], chosen["job"]) == (["chat"], ["roomcast"])
    for key in set(written) - {"uid", "title", "templating"}:
        assert shown[key] == written[key], key
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert board["metadata"]["annotations"] == {"folder": "chat"}
