"""What holds for every example in ci/, and so for every choice that somebody may make."""

import re

import kubernetes_validate
import pytest
import yaml

from conftest import CHART, KUBERNETES, PERSONAS, ROOT, helm, render, text

everyone = pytest.mark.parametrize("persona", PERSONAS)


@everyone
def test_lints(persona):
    for version in (3, 4):
        helm("lint", "--strict", str(CHART), "--values", str(PERSONAS[persona]), "--kube-version", KUBERNETES[0], version=version)


# Those that the schemas at hand lack; test_doors, test_scaling and test_monitoring look into them.
FOREIGN = {"HTTPRoute", "Route", "ScaledObject", "ServiceMonitor", "PrometheusRule"}


@everyone
@pytest.mark.parametrize("kube", KUBERNETES)
def test_is_valid_for_the_oldest_and_the_newest_kubernetes(persona, kube):
    for thing in render(persona=persona, kube=kube):
        if thing["kind"] not in FOREIGN:
            kubernetes_validate.validate(thing, kube, strict=True)


@everyone
def test_helm_3_and_helm_4_make_the_same(persona):
    def made(version):
        objects = render(persona=persona, version=version)
        for secret in objects.all("Secret"):
            assert re.fullmatch(r"[A-Za-z0-9+/=]{44}", secret["data"].pop("password"))
        return sorted((thing["kind"], thing["metadata"]["name"], yaml.safe_dump(thing)) for thing in objects)

    assert made(3) == made(4)


def test_two_renderings_differ_in_nothing_but_a_password_that_is_made_up():
    def twice(persona):
        return [helm.__wrapped__("template", "roomcast", str(CHART), "--values", str(PERSONAS[persona])) for _ in "12"]

    first, second = twice("existing-secret")
    assert first == second
    first, second = twice("default")
    assert first != second
    password = re.compile(r"^  password: .*$", re.M)
    assert password.sub("", first) == password.sub("", second)


@everyone
def test_every_pod_passes_the_restricted_standard_and_more(persona):
    pods = list(render(persona=persona).pods())
    assert {labels["app.kubernetes.io/component"] for _, labels, _ in pods} >= {"server", "test"}
    for name, _, spec in pods:
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True, name
        if persona == "openshift":
            assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(pod), name
        else:
            assert pod["runAsUser"] >= 10000 and pod["runAsGroup"] >= 10000, name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert all({"configMap", "emptyDir", "secret"} & set(volume) for volume in spec.get("volumes", [])), name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        for container in spec["containers"] + spec.get("initContainers", []):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "privileged" not in context, name
            assert not any("hostPort" in port for port in container.get("ports", [])), name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
            assert not container["image"].endswith(":latest") and re.search("[:@]", container["image"]), name


@everyone
def test_selectors_never_meet_a_pod_of_another_kind(persona):
    objects = render(persona=persona)
    pods = [(name, labels) for name, labels, _ in objects.pods()]
    for thing in objects:
        spec = thing.get("spec", {})
        where = f"{thing['kind']}/{thing['metadata']['name']}"
        selector = spec.get("podSelector") or spec.get("selector") or {}
        selector = selector.get("matchLabels", selector)
        if not selector or thing["kind"] == "ServiceMonitor":
            continue
        met = {labels["app.kubernetes.io/component"] for _, labels in pods if labels.items() >= selector.items()}
        assert met == {selector["app.kubernetes.io/component"]}, where


@everyone
def test_selectors_are_those_of_every_version_before(persona):
    """Kubernetes refuses an upgrade that changes them."""
    for thing in render(persona=persona):
        if thing["kind"] in ("Deployment", "StatefulSet"):
            assert thing["spec"]["selector"]["matchLabels"] == {
                "app.kubernetes.io/name": "roomcast",
                "app.kubernetes.io/instance": "roomcast",
                "app.kubernetes.io/component": "redis" if thing["kind"] == "StatefulSet" else "server",
            }


@everyone
def test_objects_have_the_usual_labels_and_their_namespace(persona):
    for thing in render(persona=persona):
        where = f"{thing['kind']}/{thing['metadata']['name']}"
        assert thing["metadata"]["namespace"] == "chat", where
        if thing["kind"] == "Route":
            continue  # One of extraObjects, whose labels are for the user to choose.
        labels = thing["metadata"]["labels"]
        wanted = {"name", "instance", "component", "part-of", "version", "managed-by"}
        assert {f"app.kubernetes.io/{label}" for label in wanted} | {"helm.sh/chart"} <= set(labels), where
        assert labels["app.kubernetes.io/version"] == yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]


@everyone
def test_what_refers_to_another_object_finds_it(persona):
    """Secrets of the user are the one thing that the chart does not make."""
    objects = render(persona=persona)
    made = {(thing["kind"], thing["metadata"]["name"]) for thing in objects}
    theirs = re.findall(r"[sS]ecret: (\S+)", PERSONAS[persona].read_text())
    made |= {("Secret", name) for name in theirs}
    for name, _, spec in objects.pods():
        assert ("ServiceAccount", spec["serviceAccountName"]) in made, name
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in made, name
        for container in spec["containers"]:
            for entry in container.get("env", []):
                if ref := entry.get("valueFrom", {}).get("secretKeyRef"):
                    assert ("Secret", ref["name"]) in made, name
    for stateful in objects.all("StatefulSet"):
        assert ("Service", stateful["spec"]["serviceName"]) in made
    ports = {service["metadata"]["name"]: [port["name"] for port in service["spec"]["ports"]] for service in objects.all("Service")}
    for ingress in objects.all("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                assert service["port"]["name"] in ports[service["name"]]


@everyone
def test_env_has_no_name_twice(persona):
    """Helm 4 applies on the server's side, which refuses that."""
    for name, _, spec in render(persona=persona).pods():
        for container in spec["containers"]:
            names = [entry["name"] for entry in container.get("env", [])]
            assert len(names) == len(set(names)), name


@everyone
def test_the_settings_are_settings_of_the_server(persona):
    known = set(re.findall(r"^\| `(ROOMCAST_\w+)`", (ROOT / "docs" / "configuration.md").read_text(), re.M))
    assert {name for name in render(persona=persona).env if name.startswith("ROOMCAST_")} <= known


@everyone
def test_a_password_is_nowhere_but_in_its_secret(persona):
    objects = render(persona=persona)
    for secret in objects.all("Secret"):
        objects.remove(secret)
        passwords = [*secret["data"].values()]
        import base64

        passwords += [base64.b64decode(value).decode() for value in passwords]
        for password in passwords:
            assert password not in yaml.safe_dump_all(objects)


@pytest.mark.parametrize("persona", PERSONAS)
def test_names_stay_valid_for_the_longest_release(persona):
    objects = render(persona=persona, release="r" * 53)
    for thing in objects:
        assert len(thing["metadata"]["name"]) <= 63
        # StatefulSet pods carry their name and a hash of eleven characters in a label.
        if thing["kind"] == "StatefulSet":
            assert len(thing["metadata"]["name"]) <= 52
        kubernetes_validate.validate(thing, KUBERNETES[-1]) if thing["kind"] not in FOREIGN else None


def test_every_persona_is_in_the_readme():
    readme = (CHART / "README.md").read_text()
    missing = [name for name in PERSONAS if name != "kind" and f"(ci/{name}-values.yaml)" not in readme]
    assert not missing


def test_renders_without_any_crd_or_namespace_by_default():
    kinds = {thing["kind"] for thing in render(persona="default")}
    assert not kinds & FOREIGN
    assert "apiVersion" in text(persona="default")
