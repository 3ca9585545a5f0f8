"""What every test of the chart uses: the real helm, and what it renders as parsed YAML."""

import functools
import json
import os
import pathlib
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "helm" / "roomcast"
TOOLS = ROOT / "target" / "tools"
PERSONAS = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
# The oldest that the chart promises, and the newest that the schemas at hand know.
KUBERNETES = ["1.30", "1.37"]


class Refused(Exception):
    """Helm would not render; its text says why."""


@functools.cache
def helm(*arguments, version=4):
    done = subprocess.run([TOOLS / f"helm-{version}", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


class Rendered(list):
    """The objects of one rendering."""

    def all(self, kind):
        return [thing for thing in self if thing["kind"] == kind]

    def one(self, kind, name="roomcast"):
        (found,) = [thing for thing in self.all(kind) if thing["metadata"]["name"] == name]
        return found

    def pods(self):
        """Every pod that this leads to, as (name, labels, spec)."""
        for thing in self:
            name = f"{thing['kind']}/{thing['metadata']['name']}"
            if thing["kind"] == "Pod":
                yield name, thing["metadata"]["labels"], thing["spec"]
            elif "template" in thing.get("spec", {}):
                template = thing["spec"]["template"]
                yield name, template["metadata"]["labels"], template["spec"]

    @property
    def server(self):
        """The one container of the server's pods."""
        (container,) = self.one("Deployment")["spec"]["template"]["spec"]["containers"]
        return container

    @property
    def env(self):
        return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in self.server["env"]}


def text(values=None, persona=None, kube=KUBERNETES[-1], version=4, namespace="chat", release="roomcast", only=()):
    """What helm prints. `values` is a tree, as in a values file; it goes through --set-json, one key at a time."""
    arguments = ["template", release, str(CHART), "--namespace", namespace, "--kube-version", kube]
    if persona:
        arguments += ["--values", str(PERSONAS[persona])]
    for key, value in (values or {}).items():
        arguments += ["--set-json", f"{key}={json.dumps(value)}"]
    for template in only:
        arguments += ["--show-only", template]
    return helm(*arguments, version=version)


def render(values=None, persona=None, **more):
    # Helm runs on what YAML 1.1 makes of `on` and `yes`, and so does the loader of PyYAML.
    return Rendered(thing for thing in yaml.safe_load_all(text(values, persona, **more)) if thing)


def refusal(values=None, persona=None, **more):
    with pytest.raises(Refused) as caught:
        text(values, persona, **more)
    return str(caught.value)


def unavailable(what):
    """Leaves a test out where a tool is missing, which in CI is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
