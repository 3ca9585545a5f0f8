"""How many servers there are, and what keeps them from going all at once."""

import pytest

from conftest import refusal, render

KINDS = {"none": None, "hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}
PROMETHEUS = {"autoscaling.keda.serverAddress": "http://p:9090"}


@pytest.mark.parametrize("mode", KINDS)
def test_there_is_one_autoscaler_or_none(mode):
    objects = render({"autoscaling.mode": mode} | PROMETHEUS)
    assert [thing["kind"] for thing in objects if thing["kind"] in KINDS.values()] == [KINDS[mode]] * (mode != "none")
    # Who scales also owns the number.
    assert ("replicas" in objects.one("Deployment")["spec"]) == (mode == "none")


def test_the_number_of_servers_without_one():
    assert render().one("Deployment")["spec"]["replicas"] == 2
    assert render({"replicaCount": 7}).one("Deployment")["spec"]["replicas"] == 7


def slow(behavior):
    assert behavior["scaleDown"] == {
        "stabilizationWindowSeconds": 600,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
    }
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0


def test_the_hpa_counts_clients_and_scales_down_slowly():
    hpa = render(persona="hpa").one("HorizontalPodAutoscaler")["spec"]
    assert hpa["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "roomcast"}
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (3, 30)
    target = {"type": "AverageValue", "averageValue": "5000"}
    assert hpa["metrics"] == [{"type": "Pods", "pods": {"metric": {"name": "ws_connected_clients"}, "target": target}}]
    slow(hpa["behavior"])


def test_keda_asks_prometheus_and_takes_no_answer_for_an_error():
    keda = render(persona="keda").one("ScaledObject")["spec"]
    assert keda["scaleTargetRef"] == {"name": "roomcast"}
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (2, 20)
    (trigger,) = keda["triggers"]
    assert trigger["type"] == "prometheus" and trigger["metricType"] == "AverageValue"
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus-operated.monitoring:9090",
        "query": 'sum(ws_connected_clients{namespace="chat", pod=~"roomcast-[a-z0-9]+-[a-z0-9]+"})',
        "threshold": "5000",
        "ignoreNullValues": "false",
    }
    assert keda["fallback"]["behavior"] == "currentReplicasIfHigher"
    slow(keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"])
    mine = render({"autoscaling.keda.query": 'sum(x{a="b"})'}, "keda").one("ScaledObject")["spec"]
    assert mine["triggers"][0]["metadata"]["query"] == 'sum(x{a="b"})'


def test_large_numbers_stay_numbers():
    values = {"autoscaling.clientsPerPod": 1000000, "config": {"ROOMCAST_MAX_CONNECTIONS": 2000000}, "resources.limits.memory": "20Gi"}
    hpa = render(values, "hpa").one("HorizontalPodAutoscaler")["spec"]
    assert hpa["metrics"][0]["pods"]["target"]["averageValue"] == "1000000"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"autoscaling.minReplicas": 11}, "autoscaling.minReplicas (11) is more than autoscaling.maxReplicas (10)."),
        ({"autoscaling.scaleDownPeriodSeconds": 24}, "The next server would go while one still drains"),
        ({"autoscaling.clientsPerPod": 10000}, "Servers would be full before another is added"),
        ({"autoscaling.mode": "keda"}, "KEDA needs the address of a Prometheus."),
        ({"autoscaling.clientsPerPod": 0}, "The autoscaler has nothing to go by."),
        ({"autoscaling.cpuPercent": 70, "resources.requests.cpu": None}, "autoscaling.cpuPercent is in percent of the request."),
    ],
)
def test_what_cannot_scale_is_refused(values, sentence):
    assert sentence in refusal({"autoscaling.mode": "hpa"} | values)


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ({}, True),
        ({"replicaCount": 1}, False),
        ({"podDisruptionBudget.enabled": False}, False),
        ({"autoscaling.mode": "hpa", "replicaCount": 1}, True),
        ({"autoscaling.mode": "hpa", "autoscaling.minReplicas": 1}, False),
        ({"autoscaling.mode": "keda", "autoscaling.minReplicas": 1} | PROMETHEUS, False),
    ],
)
def test_a_budget_only_where_there_are_several_servers(values, there):
    assert bool(render(values).all("PodDisruptionBudget")) == there


def test_the_budget():
    assert render().one("PodDisruptionBudget")["spec"] == {
        "maxUnavailable": 1,
        # When Redis is away no server may be ready, and the others must not be evicted for that.
        "unhealthyPodEvictionPolicy": "IfHealthyBudget",
        "selector": render().one("Deployment")["spec"]["selector"],
    }
    chosen = render({"podDisruptionBudget.maxUnavailable": "10%"}).one("PodDisruptionBudget")
    assert chosen["spec"]["maxUnavailable"] == "10%"


def test_redis_has_a_budget_only_if_it_is_asked_for():
    assert "roomcast-redis" not in [thing["metadata"]["name"] for thing in render().all("PodDisruptionBudget")]
    budget = render({"redis.podDisruptionBudget.enabled": True}).one("PodDisruptionBudget", "roomcast-redis")["spec"]
    assert budget["maxUnavailable"] == 0
    assert budget["selector"] == render().one("StatefulSet", "roomcast-redis")["spec"]["selector"]


def test_an_autoscaler_can_go_by_cpu_and_memory():
    values = {"autoscaling.mode": "hpa", "autoscaling.clientsPerPod": 0, "autoscaling.cpuPercent": 70, "autoscaling.memoryPercent": 80}
    hpa = render(values).one("HorizontalPodAutoscaler")["spec"]
    use = {metric["resource"]["name"]: metric["resource"]["target"] for metric in hpa["metrics"]}
    assert use == {
        "cpu": {"type": "Utilization", "averageUtilization": 70},
        "memory": {"type": "Utilization", "averageUtilization": 80},
    }
    both = render({"autoscaling.mode": "hpa", "autoscaling.cpuPercent": 70}).one("HorizontalPodAutoscaler")["spec"]
    assert [metric["type"] for metric in both["metrics"]] == ["Pods", "Resource"]
    keda = render(values | {"autoscaling.mode": "keda"}).one("ScaledObject")["spec"]
    assert [(trigger["type"], trigger["metadata"]["value"]) for trigger in keda["triggers"]] == [("cpu", "70"), ("memory", "80")]


def test_how_an_autoscaler_moves_can_be_replaced():
    mine = {"scaleDown": {"stabilizationWindowSeconds": 1}}
    assert render({"autoscaling.behavior": mine}, "hpa").one("HorizontalPodAutoscaler")["spec"]["behavior"] == mine
    keda = render({"autoscaling.behavior": mine}, "keda").one("ScaledObject")["spec"]
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == mine
