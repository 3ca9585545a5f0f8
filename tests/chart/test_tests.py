"""What `helm test` runs, and what Helm says after an install."""

import pytest
import yaml

from conftest import CHART, PERSONAS, helm, render


def checks(objects):
    return {
        container["args"][3]: pod["metadata"]["name"]
        for pod in objects.all("Pod")
        for container in pod["spec"]["containers"]
    }


def test_all_checks_are_there_by_default():
    objects = render()
    assert checks(objects) == {
        "http": "roomcast-test-http",
        "upgrade": "roomcast-test-upgrade",
        "across": "roomcast-test-across",
        "redis-refuses": "roomcast-test-redis",
    }
    arguments = {name: objects.one("Pod", name)["spec"]["containers"][0]["args"] for name in set(checks(objects).values())}
    for one in arguments.values():
        # A new pod may get through only after some seconds, where network policies are enforced.
        assert one[:3] == ["check", "--within", "30"]
        del one[1:3]
    assert arguments["roomcast-test-http"] == ["check", "http", "http://roomcast-probes:8081"]
    assert arguments["roomcast-test-upgrade"] == ["check", "upgrade", "ws://roomcast:80/ws"]
    assert arguments["roomcast-test-across"] == ["check", "across", "ws://roomcast:80/ws"]
    assert arguments["roomcast-test-redis"] == ["check", "redis-refuses", "roomcast-redis:6379"]


def test_a_check_that_cannot_pass_is_not_there():
    assert set(checks(render(persona="single"))) == {"http", "upgrade"}
    assert set(checks(render({"replicaCount": 1}))) == {"http", "upgrade", "redis-refuses"}
    assert set(checks(render(persona="ha"))) == {"http", "upgrade", "across"}


@pytest.mark.parametrize("persona", PERSONAS)
def test_checks_are_hooks_and_nothing_else_is(persona):
    for thing in render(persona=persona):
        annotations = thing["metadata"].get("annotations", {})
        assert (annotations.get("helm.sh/hook") == "test") == (thing["kind"] == "Pod")
        if thing["kind"] == "Pod":
            assert thing["spec"]["restartPolicy"] == "Never" and thing["spec"]["activeDeadlineSeconds"] == 120


def notes(values="", persona=None):
    arguments = ["install", "roomcast", str(CHART), "--namespace", "chat", "--dry-run=client"]
    if persona:
        arguments += ["--values", str(PERSONAS[persona])]
    if values:
        arguments += ["--set", values]
    return helm(*arguments).split("\nNOTES:\n")[1]


def test_notes_say_how_to_chat_and_to_test():
    said = notes()
    # Two pods, where there are two, so that the two meet across servers.
    assert "| head -n 1) -- roomcast chat lobby ann\n" in said and "| tail -n 1) -- roomcast chat lobby bob\n" in said
    assert "port-forward service/roomcast 8080:80" in said
    assert "helm test roomcast --namespace chat" in said
    assert "Nowhere from outside the cluster" in said
    assert "get secret roomcast-redis" in said and "delete persistentvolumeclaim data-roomcast-redis-0" in said
    assert "delete secret roomcast-redis" in said
    assert "Please note" not in said


@pytest.mark.parametrize(
    ("persona", "values", "warning"),
    [
        ("single", "", "There is no Redis"),
        (None, "replicaCount=1", "There may be only one server"),
        (None, "redis.persistence.enabled=false", "Redis keeps nothing"),
        ("ingress-ip", "", "all clients meet one server"),
        ("ingress-ip", "", "ingress-nginx is retired"),
        ("ingress-ip", "", "The Ingress has no TLS"),
        ("gateway", "affinity.mode=cookie", "affinity.mode=cookie holds for the Ingress only"),
        ("keda", "", "The ServiceMonitor has no label of yours"),
        (None, "prometheusRule.enabled=true", "The PrometheusRule has no label of yours"),
        ("hpa", "", "needs ws_connected_clients in the custom metrics API"),
    ],
)
def test_notes_warn(persona, values, warning):
    assert warning in notes(values, persona)
    assert warning not in notes()


@pytest.mark.parametrize(
    ("persona", "line"),
    [
        ("ingress-cookie", "wss://chat.example.com/ws"),
        ("ingress-ip", "ws://chat.example.com/ws"),
        ("gateway", "HTTPRoute of the Gateway public:\n    chat.example.com, /ws"),
        ("kind", "Service of type NodePort"),
    ],
)
def test_notes_say_where_clients_come_in(persona, line):
    assert line in notes(persona=persona)
    assert "Nowhere from outside" not in notes(persona=persona)


@pytest.mark.parametrize("persona", PERSONAS)
def test_notes_have_no_password(persona):
    rendered = helm("install", "roomcast", str(CHART), "--namespace", "chat", "--dry-run=client", "--values", str(PERSONAS[persona]))
    manifest, said = rendered.split("\nNOTES:\n")
    for thing in yaml.safe_load_all(manifest.split("\nMANIFEST:\n")[1]):
        if thing and thing["kind"] == "Secret":
            assert thing["data"]["password"] not in said
