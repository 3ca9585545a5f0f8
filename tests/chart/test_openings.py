"""What platform teams may add: each goes where it belongs, and is not there unless asked for."""

import pytest

from conftest import refusal, render

VOLUME = {"name": "more", "emptyDir": {}}
MOUNT = {"name": "more", "mountPath": "/more"}


def pod(values):
    return render(values).one("Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("runtimeClassName", "gvisor"),
        ("schedulerName", "mine"),
        ("dnsPolicy", "None"),
        ("dnsConfig", {"nameservers": ["10.0.0.10"]}),
        ("hostAliases", [{"ip": "10.0.0.1", "hostnames": ["redis.internal"]}]),
        ("initContainers", [{"name": "first", "image": "busybox:1"}]),
    ],
)
def test_fields_of_the_servers_pods(path, value):
    assert pod({path: value})[path] == value
    assert path not in pod({})
    redis = render({path: value}).one("StatefulSet", "roomcast-redis")["spec"]["template"]["spec"]
    assert path not in redis


def test_volumes_beside_the_charts_own():
    with_ca = {"redis.enabled": False, "externalRedis.url": "rediss://r:6379/0", "externalRedis.caSecret": "ca"}
    spec = pod(with_ca | {"extraVolumes": [VOLUME], "extraVolumeMounts": [MOUNT]})
    assert [volume["name"] for volume in spec["volumes"]] == ["redis-ca", "more"]
    assert [mount["name"] for mount in spec["containers"][0]["volumeMounts"]] == ["redis-ca", "more"]
    alone = pod({"extraVolumes": [VOLUME], "extraVolumeMounts": [MOUNT]})
    assert (alone["volumes"], alone["containers"][0]["volumeMounts"]) == ([VOLUME], [MOUNT])
    assert "volumes" not in pod({}) and "volumeMounts" not in pod({})["containers"][0]


def test_sidecars_and_what_the_container_gets():
    side = {"name": "side", "image": "busybox:1"}
    server, other = pod({"sidecars": [side]})["containers"]
    assert (server["name"], other) == ("roomcast", side)
    source = [{"configMapRef": {"name": "more"}}]
    hook = {"postStart": {"exec": {"command": ["true"]}}}
    (server,) = pod({"envFrom": source, "lifecycle": hook})["containers"]
    assert (server["envFrom"], server["lifecycle"]) == (source, hook)
    assert not {"envFrom", "lifecycle"} & set(pod({})["containers"][0])


def test_the_deployment_and_labels_of_all():
    deployment = render({"revisionHistoryLimit": 0, "deploymentAnnotations": {"a": "b"}}).one("Deployment")
    assert (deployment["spec"]["revisionHistoryLimit"], deployment["metadata"]["annotations"]) == (0, {"a": "b"})
    for thing in render({"commonLabels": {"team": "chat"}}, "monitoring"):
        assert thing["metadata"]["labels"]["team"] == "chat", thing["kind"]
    # A label must never move a selector.
    assert "team" not in render({"commonLabels": {"team": "chat"}}).one("Deployment")["spec"]["selector"]["matchLabels"]


def test_the_service():
    values = {
        "service.type": "LoadBalancer",
        "service.externalTrafficPolicy": "Local",
        "service.trafficDistribution": "PreferClose",
        "service.labels": {"team": "chat"},
    }
    service = render(values).one("Service")
    assert service["spec"]["externalTrafficPolicy"] == "Local" and service["spec"]["trafficDistribution"] == "PreferClose"
    assert service["metadata"]["labels"]["team"] == "chat"
    # Kubernetes refuses it on a Service that nothing reaches from outside.
    assert "externalTrafficPolicy" not in render({"service.externalTrafficPolicy": "Local"}).one("Service")["spec"]


def test_a_host_may_have_paths_of_its_own():
    mine = [{"path": "/chat", "type": "Prefix"}]
    rules = render({"ingress.enabled": True, "ingress.hosts": ["a.example", {"host": "b.example", "paths": mine}]}).one("Ingress")
    found = {rule["host"]: [path["path"] for path in rule["http"]["paths"]] for rule in rules["spec"]["rules"]}
    assert found == {"a.example": ["/", "/ws", "/v1"], "b.example": ["/chat"]}


def test_one_registry_for_all_images():
    for name, _, spec in render({"global": {"imageRegistry": "registry.example.com/mirror/"}}).pods():
        for container in spec["containers"]:
            assert container["image"].startswith("registry.example.com/mirror/r"), name


def test_redis_may_be_placed_apart():
    values = {
        "nodeSelector": {"pool": "chat"},
        "redis.nodeSelector": {"pool": "data"},
        "redis.tolerations": [{"key": "data", "operator": "Exists"}],
        "redis.priorityClassName": "high",
        "redis.affinity": {"nodeAffinity": {}},
    }
    objects = render(values)
    redis = objects.one("StatefulSet", "roomcast-redis")["spec"]["template"]["spec"]
    assert redis["nodeSelector"] == {"pool": "data"} and redis["priorityClassName"] == "high"
    assert redis["tolerations"] == [{"key": "data", "operator": "Exists"}] and redis["affinity"] == {"nodeAffinity": {}}
    server = objects.one("Deployment")["spec"]["template"]["spec"]
    assert server["nodeSelector"] == {"pool": "chat"} and not {"priorityClassName", "tolerations"} & set(server)


def test_a_certificate_for_a_redis_that_asks_for_one():
    values = {"redis.enabled": False, "externalRedis.url": "rediss://r:6379/0", "externalRedis.certSecret": "mine"}
    objects = render(values)
    assert objects.env["ROOMCAST_REDIS_TLS_CERT"] == "/etc/roomcast-redis-cert/tls.crt"
    assert objects.env["ROOMCAST_REDIS_TLS_KEY"] == "/etc/roomcast-redis-cert/tls.key"
    (volume,) = objects.one("Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volume["secret"]["secretName"] == "mine"
    assert objects.server["volumeMounts"] == [{"name": "redis-cert", "mountPath": "/etc/roomcast-redis-cert", "readOnly": True}]
    assert "externalRedis.certSecret is for a Redis elsewhere" in refusal({"externalRedis.certSecret": "mine"})
    assert "begins with rediss://" in refusal(values | {"externalRedis.url": "redis://r:6379/0"})
