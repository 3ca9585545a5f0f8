"""ServiceMonitor, PrometheusRule and dashboard."""

import json

import yaml

from conftest import CHART, refusal, render


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
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["chat"]}
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


def test_the_rules_are_the_file_and_nothing_is_done_to_them():
    rule = render(persona="monitoring").one("PrometheusRule")
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    assert list(rule["spec"]) == ["groups"]
    assert rule["metadata"]["labels"]["release"] == "monitoring"


def test_the_dashboard_is_the_file_and_has_the_label_that_grafana_looks_for():
    board = render({"dashboard.annotations": {"folder": "chat"}}, "monitoring").one("ConfigMap", "roomcast-dashboard")
    assert json.loads(board["data"]["roomcast.json"]) == json.loads((CHART / "files" / "dashboard.json").read_text())
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert board["metadata"]["annotations"] == {"folder": "chat"}
