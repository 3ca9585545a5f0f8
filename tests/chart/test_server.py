"""The server's Deployment, its environment and its end."""

import itertools

import pytest

from conftest import refusal, render


def spec(**values):
    return render(values).one("Deployment")["spec"]


def test_the_servers_name_is_the_pods():
    assert render().env["ROOMCAST_ORIGIN_SERVER"] == {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}


def test_it_listens_on_the_port_that_the_probes_and_the_service_use():
    objects = render()
    assert objects.env["ROOMCAST_LISTEN"] == "0.0.0.0:8080"
    assert objects.env["ROOMCAST_PROBE_LISTEN"] == "0.0.0.0:8081"
    assert objects.server["ports"] == [
        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
        {"name": "probes", "containerPort": 8081, "protocol": "TCP"},
    ]
    (service,) = objects.one("Service")["spec"]["ports"]
    assert (service["name"], service["port"], service["targetPort"], service["appProtocol"]) == ("http", 80, "http", "http")


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_what_watches_the_servers_is_led_to_them_inside_only(kind):
    spec = render({"service.type": kind}).one("Service", "roomcast-probes")["spec"]
    assert (spec["type"], spec["clusterIP"]) == ("ClusterIP", "None")
    (port,) = spec["ports"]
    assert (port["name"], port["port"], port["targetPort"]) == ("probes", 8081, "probes")


def test_each_probe_asks_its_own_question():
    server = render().server
    paths = {kind: server[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths["startupProbe"] == paths["livenessProbe"] == {"path": "/healthz", "port": "probes"}
    assert paths["readinessProbe"] == {"path": "/readyz", "port": "probes"}


def test_the_log_is_json_unless_asked_otherwise():
    assert render().env["ROOMCAST_LOG_FORMAT"] == "json"
    assert render({"config": {"ROOMCAST_LOG_FORMAT": "pretty"}}).env["ROOMCAST_LOG_FORMAT"] == "pretty"


@pytest.mark.parametrize(
    ("name", "given", "written"),
    [
        ("HISTORY_LENGTH", 1000000, "1000000"),
        ("TRACE_RATIO", 0.05, "0.05"),
        ("HISTORY_AGE", "6h", "6h"),
        ("RECENT_BYTES", 0, "0"),
        ("OTLP_ENDPOINT", "", ""),
        ("MAX_CONNECTIONS", "1000", "1000"),
    ],
)
def test_a_setting_is_written_as_a_person_would(name, given, written):
    assert render({"config": {f"ROOMCAST_{name}": given}}).env[f"ROOMCAST_{name}"] == written


def test_the_page_is_there_only_if_it_is_asked_for():
    assert render().env["ROOMCAST_PAGE"] == "off"
    assert render({"page": True}).env["ROOMCAST_PAGE"] == "on"
    # On a machine of one's own it is the first thing to see.
    assert render(persona="kind").env["ROOMCAST_PAGE"] == "on"


@pytest.mark.parametrize("persona", ["ingress-cookie", "gateway"])
def test_the_page_is_let_in_with_its_files_or_not_at_all(persona):
    assert "The page would come without its files" in refusal({"page": True}, persona)
    assert render({"page": True, "paths": [{"path": "/", "type": "Prefix"}]}, persona)


@pytest.mark.parametrize(
    "name", ["LISTEN", "PROBE_LISTEN", "ORIGIN_SERVER", "PAGE", "REDIS_URL", "REDIS_PASSWORD", "DRAIN_DELAY", "DRAIN_TIME", "SHUTDOWN_TIMEOUT"]
)
def test_settings_of_the_charts_own_are_refused(name):
    assert f"config.ROOMCAST_{name} is for the chart to set: " in refusal({"config": {f"ROOMCAST_{name}": "1s"}})


def test_extra_env_replaces_and_adds():
    secret = {"secretKeyRef": {"name": "s", "key": "k"}}
    objects = render(
        {"extraEnv": [{"name": "ROOMCAST_ORIGIN_SERVER", "value": "mine"}, {"name": "ROOMCAST_NEW", "valueFrom": secret}]}
    )
    assert objects.env["ROOMCAST_ORIGIN_SERVER"] == "mine"
    assert objects.env["ROOMCAST_NEW"] == secret
    names = [entry["name"] for entry in objects.server["env"]]
    assert len(names) == len(set(names)) == len(render().server["env"]) + 1
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    assert "extraEnv names A twice." in refusal({"extraEnv": twice})


def test_the_image_is_the_version_of_the_chart_or_what_is_asked_for():
    assert render().server["image"] == "roomcast:0.1.0"
    assert render({"image.tag": "1.2.3", "image.repository": "r.example/x"}).server["image"] == "r.example/x:1.2.3"
    digest = "sha256:" + "a" * 64
    objects = render({"image.tag": "1.2.3", "image.digest": digest})
    assert objects.server["image"] == f"roomcast@{digest}"
    tests = [pod["spec"]["containers"][0]["image"] for pod in objects.all("Pod")]
    assert set(tests) == {f"roomcast@{digest}"}


def test_the_signal_comes_at_once_and_the_probes_notice_before_the_first_client_goes():
    server = render().server
    assert "lifecycle" not in server
    readiness = server["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < 5
    slow = {"probes.readiness.periodSeconds": 3, "probes.readiness.failureThreshold": 2}
    assert "needs 6 seconds (periodSeconds × failureThreshold) to notice" in refusal(slow | {"drain.delaySeconds": 6})
    assert render(slow | {"drain.delaySeconds": 7}).server["readinessProbe"]["periodSeconds"] == 3
    assert render({"drain.delaySeconds": 0}).env["ROOMCAST_DRAIN_DELAY"] == "0s"


@pytest.mark.parametrize(("delay", "drain"), [*itertools.product([0, 5, 30], [0, 20, 600])])
def test_it_is_never_killed_while_it_drains(delay, drain):
    values = {"drain.delaySeconds": delay, "drain.seconds": drain, "autoscaling.scaleDownPeriodSeconds": 630}
    needs = delay + drain + 5
    objects = render(values | {"drain.gracePeriodSeconds": needs + 1})
    assert objects.env["ROOMCAST_DRAIN_DELAY"] == f"{delay}s"
    assert objects.env["ROOMCAST_DRAIN_TIME"] == f"{drain}s"
    assert objects.env["ROOMCAST_SHUTDOWN_TIMEOUT"] == f"{delay + drain + 5}s"
    deployment = objects.one("Deployment")["spec"]
    grace = deployment["template"]["spec"]["terminationGracePeriodSeconds"]
    assert needs < grace == needs + 1
    assert deployment["progressDeadlineSeconds"] > grace + deployment["minReadySeconds"]
    said = refusal(values | {"drain.gracePeriodSeconds": needs})
    assert "Servers would be killed while they drain: " in said and f"is {needs}, so set drain.gracePeriodSeconds ({needs})" in said


def test_one_at_a_time_is_replaced_and_never_fewer_than_wanted():
    assert spec()["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec()["minReadySeconds"] == 5
    assert spec(**{"rollout.maxSurge": "25%"})["strategy"]["rollingUpdate"]["maxSurge"] == "25%"
    assert "No server could ever be replaced" in refusal({"rollout.maxSurge": 0, "rollout.maxUnavailable": 0})
    assert "No server could ever be replaced" in refusal({"rollout.maxSurge": "0%", "rollout.maxUnavailable": 0})


def test_one_server_without_redis_ends_before_the_next_starts():
    objects = render(persona="single")
    assert objects.one("Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert "ROOMCAST_REDIS_URL" not in objects.env


@pytest.mark.parametrize(
    "values",
    [
        {"redis.enabled": False},
        {"redis.enabled": False, "replicaCount": 1, "autoscaling.mode": "hpa"},
        {"redis.enabled": False, "replicaCount": 5},
    ],
)
def test_several_servers_without_redis_are_refused(values):
    assert "servers without Redis would not hear each other." in refusal(values)


def test_pods_are_spread_over_nodes_and_zones_by_their_own_labels():
    for constraint in spec()["template"]["spec"]["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == spec()["selector"]["matchLabels"]
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway" and constraint["maxSkew"] == 1
    mine = {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    other = {**mine, "labelSelector": {"matchLabels": {"team": "chat"}}}
    made, kept = spec(topologySpreadConstraints=[mine, other])["template"]["spec"]["topologySpreadConstraints"]
    assert made == {**mine, "labelSelector": spec()["selector"]}
    assert kept["labelSelector"]["matchLabels"]["team"] == "chat"


def test_where_pods_go_holds_for_all_of_them():
    toleration = [{"key": "a", "operator": "Exists"}]
    values = {"nodeSelector": {"a": "b"}, "tolerations": toleration, "priorityClassName": "high", "imagePullSecrets": [{"name": "s"}]}
    for name, _, pod in render(values).pods():
        assert pod["nodeSelector"] == {"a": "b"} and pod["tolerations"] == toleration, name
        assert pod["priorityClassName"] == "high" and pod["imagePullSecrets"] == [{"name": "s"}], name
    for name, _, pod in render().pods():
        assert not {"nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets", "affinity"} & set(pod), name
    affinity = {"nodeAffinity": {}}
    assert spec(podAffinity=affinity)["template"]["spec"]["affinity"] == affinity


def test_labels_and_annotations_of_pods():
    template = spec(podLabels={"team": "chat", "app.kubernetes.io/component": "x"}, podAnnotations={"a": "b"})["template"]
    assert template["metadata"]["labels"]["team"] == "chat"
    assert template["metadata"]["labels"]["app.kubernetes.io/component"] == "server"
    assert template["metadata"]["annotations"] == {"a": "b"}
    assert "annotations" not in spec()["template"]["metadata"]


def test_a_new_version_of_the_chart_alone_replaces_no_pod():
    for name, labels, _ in render().pods():
        if not name.startswith("Pod/"):
            assert set(labels) == {f"app.kubernetes.io/{label}" for label in ("name", "instance", "component")}


def test_security_contexts_can_lose_a_field():
    """OpenShift chooses the user itself."""
    for name, _, pod in render({"podSecurityContext.runAsUser": None, "podSecurityContext.fsGroup": None}).pods():
        assert not {"runAsUser", "fsGroup"} & set(pod["securityContext"]), name


def test_service_account():
    account = render().one("ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    named = render({"serviceAccount.name": "mine", "serviceAccount.annotations": {"a": "b"}}).one("ServiceAccount", "mine")
    assert named["metadata"]["annotations"] == {"a": "b"}
    without = render({"serviceAccount.create": False})
    assert not without.all("ServiceAccount")
    assert {pod["serviceAccountName"] for _, _, pod in without.pods()} == {"default"}


def test_names_can_be_set():
    assert render({"fullnameOverride": "talk"}).one("Deployment", "talk")
    objects = render({"nameOverride": "talk"}, release="x")
    assert objects.one("Deployment", "x-talk")["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == "talk"


def test_extra_objects_are_rendered_as_templates():
    thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": '{{ include "roomcast.fullname" . }}-x'}}
    assert render({"extraObjects": [thing]}).one("ConfigMap", "roomcast-x")
