"""What linters say of the image, of Compose, of the workflows and of the values."""

import subprocess

import yaml

from conftest import CHART, PERSONAS, ROOT, TOOLS


def says_nothing(tool, *arguments):
    done = subprocess.run([TOOLS / "venv-chart" / "bin" / tool, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile():
    says_nothing("hadolint", "docker/Dockerfile")


def test_compose():
    says_nothing("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_the_workflows():
    says_nothing("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *(ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_schema_of_the_values_is_one_and_the_values_follow_it():
    schema = CHART / "values.schema.json"
    says_nothing("check-jsonschema", "--check-metaschema", schema)
    says_nothing("check-jsonschema", "--schemafile", schema, CHART / "values.yaml", *PERSONAS.values())


def test_the_chart_has_what_chart_testing_asks_for():
    """Its linter runs in the public workflow only."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert {"apiVersion", "name", "version", "description", "home", "maintainers"} <= chart.keys()
    assert all(isinstance(value, str) for value in chart["annotations"].values())
