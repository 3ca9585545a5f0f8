"""The values that docs/operations.md shows are values of the chart."""

import re

import pytest
import yaml

from conftest import CHART, ROOT, render

PAGE = (ROOT / "docs" / "operations.md").read_text()
BLOCKS = re.findall(r"^### (.*?)$|^## (.*?)$|^```yaml\n# values.*?\n(.*?)^```$", PAGE, re.M | re.S)


def recipes():
    """Every block of YAML that begins with `# values`, under its heading."""
    heading, seen = None, {}
    for lower, upper, block in BLOCKS:
        if block:
            seen[heading] = seen.get(heading, 0) + 1
            yield pytest.param(block, id=f"{heading} {seen[heading]}")
        else:
            heading = lower or upper


@pytest.mark.parametrize("block", list(recipes()))
def test_they_are_taken(block):
    assert render(yaml.safe_load(block))


def test_there_are_as_many_as_the_page_shows():
    assert len(list(recipes())) == PAGE.count("```yaml\n# values") > 10


def test_the_values_that_the_text_names_exist():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for name in re.findall(r"`([a-z]\w*(?:\.\w+)+)(?::[^`]*)?`", PAGE):
        place = values
        if name.split(".")[0] in values:
            for part in name.split("."):
                assert part in place, name
                place = place[part]
