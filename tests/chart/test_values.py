"""The values themselves: what is refused, and that schema, README and values say the same."""

import json
import re
import subprocess
import sys
import tarfile

import pytest
import yaml

from conftest import CHART, ROOT, helm, refusal, render

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def groups(values, schema, path=()):
    """Every group of values that the schema closes, as (path, values, schema)."""
    if schema.get("additionalProperties") is False and "properties" in schema:
        yield path, values, schema
        for key, inner in schema["properties"].items():
            if isinstance(values.get(key), dict):
                yield from groups(values[key], inner, (*path, key))


# Both are verbatim pieces of a pod.
CLOSED = [(path, values, schema) for path, values, schema in groups(VALUES, SCHEMA) if path[-1:] != ("resources",)]


def test_the_schema_knows_the_same_names_as_the_values():
    assert len(CLOSED) > 15
    for path, values, schema in CLOSED:
        if path != ("config",):
            assert set(values) == set(schema["properties"]), ".".join(path)


@pytest.mark.parametrize("path", [path for path, _, _ in CLOSED], ids=lambda path: ".".join(path) or "top")
def test_an_unknown_name_is_refused_everywhere(path):
    assert "'typo' not allowed" in refusal({".".join((*path, "typo")): 1})


def leaves():
    for path, values, schema in CLOSED:
        for key, value in values.items():
            if (*path, key) not in [closed for closed, _, _ in CLOSED]:
                yield ".".join((*path, key)), value


@pytest.mark.parametrize(("path", "value"), [*leaves()], ids=lambda part: part if isinstance(part, str) else "")
def test_a_wrong_type_is_refused_everywhere(path, value):
    """A list is never right where something else is, nor a text where a list is."""
    wrong = "x" if isinstance(value, list) else ["x"]
    assert "values don't meet the specifications of the schema" in refusal({path: wrong})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("affinity.mode", "foo"),
        ("autoscaling.mode", "both"),
        ("service.port", "abc"),
        ("service.port", 0),
        ("service.port", 70000),
        ("service.type", "ExternalName"),
        ("replicaCount", 0),
        ("replicaCount", "2"),
        ("image.digest", "sha256:12"),
        ("image.pullPolicy", "Sometimes"),
        ("paths", [{"path": "ws", "type": "Exact"}]),
        ("paths", [{"path": "/ws", "type": "Regex"}]),
        ("config", {"LOG": "info"}),
        ("config", {"ROOMCAST_LOG": ["a"]}),
        ("config", {"ROOMCAST_HISTORY_LENGHT": 5}),
        ("config", {"ROOMCAST_HISTORY_AGE": "soon"}),
        ("config", {"ROOMCAST_HISTORY_BYTES": "4 MB"}),
        ("config", {"ROOMCAST_TRACE_RATIO": 1.5}),
        ("image.repository", "registry.example.com/chat/roomcast:1.0"),
        ("ingress.hosts", ["https://chat.example.com"]),
        ("probes.readiness.periodSeconds", 0),
        ("drain.seconds", -1),
        ("redis.maxmemory", "70%"),
        ("redis.persistence.size", "big"),
        ("redis.persistence.whenDeleted", "Maybe"),
        ("resources.limits.memory", "1 GB"),
        ("serviceMonitor.interval", "soon"),
        ("podLabels", {"a": 1}),
        ("httpRoute.parentRefs", [{}]),
    ],
)
def test_a_value_out_of_range_is_refused(path, value):
    assert "values don't meet the specifications of the schema" in refusal({path: value})


def test_all_that_is_wrong_is_said_at_once():
    said = refusal({"redis.enabled": False, "drain.seconds": 60, "httpRoute.enabled": True})
    # Two servers without Redis, their memory, the drain and the route.
    assert said.count("\n  - ") == 4


def test_helm_3_refuses_the_same():
    assert "'typo' not allowed" in refusal({"typo": 1}, version=3)
    assert "would not hear each other" in refusal({"redis.enabled": False}, version=3)


def test_a_chart_that_contains_this_one_may_have_globals():
    assert render({"global": {"anything": 1}})


def test_the_readme_is_written_from_the_values():
    script = ROOT / "scripts" / "chart-readme.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_version_of_the_chart_has_an_entry_and_is_that_of_the_program():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f"\n## {chart['version']}\n" in (CHART / "CHANGELOG.md").read_text()
    assert f'\nversion = "{chart["appVersion"]}"\n' in (ROOT / "Cargo.toml").read_text()
    assert yaml.safe_load(chart["annotations"]["artifacthub.io/changes"])


def test_a_chart_that_was_released_is_not_changed_under_the_same_version():
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    git = ["git", "-C", ROOT]
    if subprocess.run([*git, "rev-parse", "--quiet", "--verify", f"v{version}^{{commit}}"], capture_output=True).returncode == 0:
        changed = subprocess.run([*git, "diff", "--stat", f"v{version}", "--", CHART], capture_output=True, text=True).stdout
        assert not changed, f"raise the version in Chart.yaml: {version} is out\n{changed}"


def test_the_schema_knows_every_setting_and_takes_its_default():
    page = (ROOT / "docs" / "configuration.md").read_text()
    defaults = dict(re.findall(r"^\| `(ROOMCAST_\w+)` \| (?:`([^`]*)`|not set)? ", page, re.M))
    known = SCHEMA["properties"]["config"]["properties"]
    assert set(known) == set(defaults)
    owned = {"LISTEN", "PROBE_LISTEN", "ORIGIN_SERVER", "PAGE", "REDIS_URL", "REDIS_PASSWORD", "DRAIN_DELAY", "DRAIN_TIME", "SHUTDOWN_TIMEOUT"}
    free = {name: default for name, default in defaults.items() if default and name.removeprefix("ROOMCAST_") not in owned}
    assert len(free) > 25
    assert render({"config": free, "resources.limits.memory": "2Gi"})


GIB = {"resources.limits.memory": "1Gi"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"config": {"ROOMCAST_MAX_CONNECTIONS": 200000}}, "Set it to at least 2011Mi"),
        ({"config": {"ROOMCAST_MAX_CONNECTIONS": "auto"}}, "Set it to at least 1230Mi"),
        ({"config": {"ROOMCAST_RECENT_BYTES": "1GiB"}}, "resources.limits.memory (640Mi) does not hold"),
        ({"redis.enabled": False, "replicaCount": 1}, "without Redis, ROOMCAST_MEMORY_BROKER_BYTES"),
        ({"redis.maxmemory": "1gb"}, "Redis would be killed before it is full"),
        ({"redis.config": "maxmemory-policy allkeys-lru"}, "with which a full Redis deletes the logs of rooms"),
        ({"resources.requests.memory": "2Gi"}, "resources.requests.memory (2Gi) is more than resources.limits.memory (640Mi)"),
        ({"resources.requests.cpu": "500m", "resources.limits.cpu": 0.25}, "resources.requests.cpu (500m) is more than"),
        ({"redis.resources.requests.memory": "3Gi"}, "redis.resources.requests.memory (3Gi) is more than"),
        ({"extraEnv": [{"name": "ROOMCAST_LISTEN", "value": "0.0.0.0:9000"}]}, "extraEnv must not set ROOMCAST_LISTEN"),
        ({"ingress.enabled": True, "ingress.timeoutSeconds": 10}, "The ingress would close quiet clients"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(values, sentence):
    assert sentence in refusal(values)


@pytest.mark.parametrize(
    "values",
    [
        {"resources.limits.memory": None, "config": {"ROOMCAST_MAX_CONNECTIONS": 200000}},
        {"config": {"ROOMCAST_MAX_CONNECTIONS": 60000}, **GIB},
        {"redis.config": "maxmemory-policy noeviction"},
        {"resources.limits": None},
        {"serviceMonitor.interval": "1m"},
        {"redis.persistence.size": "1Pi"},
        {"ingress.enabled": True, "ingress.timeoutSeconds": 26},
    ],
)
def test_values_that_fit_together_are_taken(values):
    assert render(values)


def test_the_package_has_the_examples_that_its_readme_names(tmp_path):
    helm.__wrapped__("package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        packed = set(archive.getnames())
    for name in re.findall(r"\]\((ci/[^)]+)\)", (CHART / "README.md").read_text()):
        assert f"roomcast/{name}" in packed
