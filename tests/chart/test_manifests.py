"""The plain manifests in k8s: rendered from the chart, and whole."""

import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

from conftest import KUBERNETES, ROOT, Rendered, render, unavailable

K8S = ROOT / "k8s"


OVERLAYS = sorted(str(path.relative_to(K8S)) for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
# What people write; all else is rendered.
WRITTEN = {"kustomization.yaml", "name-references.yaml", "values.yaml"}


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.yaml") if path.name not in WRITTEN}


def test_they_are_what_the_chart_renders(tmp_path):
    subprocess.run([ROOT / "scripts" / "manifests.sh", tmp_path], check=True)
    for part in ("base", "components"):
        assert files(K8S / part) == files(tmp_path / part), f"k8s/{part} is out of date. Write it with: make manifests"


@pytest.mark.parametrize("folder", ["base", *(f"components/{name}" for name in COMPONENTS)])
def test_each_lists_all_of_its_own(folder):
    listed = yaml.safe_load((K8S / folder / "kustomization.yaml").read_text()).get("resources", [])
    assert sorted(listed) == sorted(files(K8S / folder))


def built(folder):
    if not shutil.which("kubectl"):
        unavailable("kubectl is missing")
    done = subprocess.run(["kubectl", "kustomize", K8S / folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Rendered(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("folder", ["base", *OVERLAYS])
@pytest.mark.parametrize("kube", KUBERNETES)
def test_they_are_valid(folder, kube):
    namespace = yaml.safe_load((K8S / folder / "kustomization.yaml").read_text())["namespace"]
    for thing in built(folder):
        if thing["kind"] not in ("HTTPRoute", "ServiceMonitor", "PrometheusRule"):
            kubernetes_validate.validate(thing, kube, strict=True)
        assert thing["kind"] == "Namespace" or thing["metadata"]["namespace"] == namespace


def test_the_base_is_what_helm_would_install():
    def plain(objects):
        for thing in objects:
            labels = thing["metadata"]["labels"]
            labels.pop("helm.sh/chart", None)
            labels.pop("app.kubernetes.io/managed-by")
        return sorted((thing["kind"], thing["metadata"]["name"], yaml.safe_dump(thing)) for thing in objects)

    # Its settings come from a ConfigMap that kustomize makes.
    objects = built("base")
    (settings,) = [thing for thing in objects.all("ConfigMap") if "settings" in thing["metadata"]["name"]]
    assert settings["data"] == {"ROOMCAST_MAX_CONNECTIONS": "10000"}
    assert objects.server["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
    objects.remove(settings)
    objects.server["envFrom"][0]["configMapRef"]["name"] = "roomcast-settings"
    values = yaml.safe_load((K8S / "values.yaml").read_text())
    installed = render(values, namespace="roomcast")
    assert plain(objects) == plain([thing for thing in installed if thing["kind"] != "Pod"])


def test_the_overlay_for_kind():
    objects = built("overlays/kind")
    assert objects.one("Namespace")["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    assert objects.server["image"] == "roomcast:dev"
    assert objects.one("Secret", "roomcast-redis")
    cluster = yaml.safe_load((K8S / "kind-cluster.yaml").read_text())
    (mapping,) = cluster["nodes"][0]["extraPortMappings"]
    (port,) = objects.one("Service")["spec"]["ports"]
    assert mapping["containerPort"] == port["nodePort"] and mapping["listenAddress"] == "127.0.0.1"
    # The chart's values for kind lead to the same door.
    assert render(persona="kind").one("Service")["spec"]["ports"][0]["nodePort"] == port["nodePort"]


def test_a_prefix_reaches_all_names_and_two_copies_keep_apart():
    objects = built("overlays/staging")
    made = {thing["metadata"]["name"] for thing in objects}
    assert all(name.startswith("staging-roomcast") for name in made)
    assert objects.one("Deployment", "staging-roomcast")
    (server,) = objects.one("Deployment", "staging-roomcast")["spec"]["template"]["spec"]["containers"]
    env = {entry["name"]: entry.get("value") for entry in server["env"]}
    assert env["REDIS_HOST"] == "staging-roomcast-redis" in made
    assert env["ROOMCAST_REDIS_URL"] == "redis://$(REDIS_HOST):6379/0"
    names = [entry["name"] for entry in server["env"]]
    assert names.index("REDIS_HOST") < names.index("ROOMCAST_REDIS_URL"), "Kubernetes fills in only what comes before"
    (rule,) = objects.one("Ingress", "staging-roomcast")["spec"]["rules"]
    assert rule["host"] == "chat.staging.example.com"
    assert {path["backend"]["service"]["name"] for path in rule["http"]["paths"]} == {"staging-roomcast"}
    for service in objects.all("Service"):
        assert service["spec"]["selector"]["app.kubernetes.io/instance"] == "staging"
    for policy in objects.all("NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "staging"
    (settings,) = [thing for thing in objects.all("ConfigMap") if "settings" in thing["metadata"]["name"]]
    assert settings["data"] == {
        "ROOMCAST_MAX_CONNECTIONS": "10000",
        "ROOMCAST_HISTORY_AGE": "10m",
        "ROOMCAST_LOG": "debug",
    }


def test_the_overlay_for_production():
    objects = built("overlays/production")
    assert not objects.all("StatefulSet")
    assert {thing["metadata"]["name"] for thing in objects.all("Service")} == {"roomcast", "roomcast-probes"}
    assert objects.env["ROOMCAST_REDIS_URL"] == {"secretKeyRef": {"name": "roomcast-redis", "key": "url"}}
    assert "REDIS_HOST" not in objects.env
    assert "replicas" not in objects.one("Deployment")["spec"], "the autoscaler has it"
    assert objects.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "roomcast"
    (backend,) = objects.one("HTTPRoute")["spec"]["rules"][0]["backendRefs"]
    assert backend["name"] == "roomcast"
    (_, redis) = objects.one("NetworkPolicy")["spec"]["egress"]
    assert redis == {"ports": [{"port": 6379, "protocol": "TCP"}]}
    assert objects.all("ServiceMonitor") and objects.all("PrometheusRule")


@pytest.mark.parametrize("name", COMPONENTS)
def test_each_component_goes_on_the_base_alone(name, tmp_path):
    folder = tmp_path / "k8s"
    shutil.copytree(K8S, folder)
    overlay = folder / "overlays" / "one"
    overlay.mkdir()
    kustomization = {"kind": "Kustomization", "resources": ["../../base"], "components": [f"../../components/{name}"]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    assert len(built(overlay)) > 7
