"""The plain manifests in k8s: rendered from the chart, and whole."""

import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

from conftest import KUBERNETES, ROOT, Rendered, render, unavailable

K8S = ROOT / "k8s"


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.yaml") if path.name != "kustomization.yaml"}


def test_they_are_what_the_chart_renders(tmp_path):
    subprocess.run([ROOT / "scripts" / "manifests.sh", tmp_path], check=True)
    assert files(K8S / "base") == files(tmp_path), "k8s/base is out of date. Write it with: make manifests"


def test_the_base_lists_all_of_them():
    listed = yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(files(K8S / "base"))


def built(folder):
    if not shutil.which("kubectl"):
        unavailable("kubectl is missing")
    done = subprocess.run(["kubectl", "kustomize", K8S / folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Rendered(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("folder", ["base", "overlays/kind"])
@pytest.mark.parametrize("kube", KUBERNETES)
def test_they_are_valid(folder, kube):
    for thing in built(folder):
        kubernetes_validate.validate(thing, kube, strict=True)
        assert thing["kind"] == "Namespace" or thing["metadata"]["namespace"] == "roomcast"


def test_the_base_is_what_helm_would_install():
    def plain(objects):
        for thing in objects:
            labels = thing["metadata"]["labels"]
            labels.pop("helm.sh/chart", None)
            labels.pop("app.kubernetes.io/managed-by")
        return sorted((thing["kind"], thing["metadata"]["name"], yaml.safe_dump(thing)) for thing in objects)

    installed = render({"redis.auth.existingSecret": "roomcast-redis"}, namespace="roomcast")
    assert plain(built("base")) == plain([thing for thing in installed if thing["kind"] != "Pod"])


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
