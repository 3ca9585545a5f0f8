#!/usr/bin/env python3
"""Writes the table of values in the chart's README from the comments in values.yaml.

    scripts/chart-readme.py            write it
    scripts/chart-readme.py --check    only say whether it is up to date

A value has a comment above it that starts with `# --`; a group of values has none. It fails on a value without one.
"""

import re
import sys
from pathlib import Path

CHART = Path(__file__).resolve().parent.parent / "helm" / "roomcast"
START = "<!-- The rest of this page is written by `make chart-readme` from the comments in values.yaml. -->\n"


def sections(lines):
    """The banners of values.yaml, each with its values: path, default and description."""
    found = []
    path, comment, documented = [], None, None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if documented is not None and text and (indent > documented or line.startswith(" " * documented + "- ")):
            continue  # This is part of the default of a value that has its comment.
        if text.startswith("# --") and not set(text) <= {"#", "-", " "}:
            comment = [text[4:].strip()]
        elif text.startswith("#"):
            if comment is not None:
                comment.append(text[1:].strip())
            elif set(lines[number - 2].strip()) == {"#", "-", " "}:
                found.append((text[1:].strip(), []))
        elif key := re.match(r"( *)([A-Za-z]\w*):(.*)", line):
            depth, name, default = len(key[1]) // 2, key[2], key[3].strip()
            path = [*path[:depth], name]
            documented = None
            if comment is not None:
                documented = indent
                found[-1][1].append((".".join(path), default, " ".join(comment)))
            elif default:
                sys.exit(f"values.yaml:{number}: {'.'.join(path)} has no comment that starts with `# --`")
            comment = None
        elif text:
            sys.exit(f"values.yaml:{number}: this is not understood: {text}")
    return found


def table(lines):
    out = []
    for title, values in sections(lines):
        out.append(f"\n### {title}\n\n| value | default | meaning |\n|---|---|---|\n")
        for path, default, meaning in values:
            default = f"`{default}`" if default else "see [values.yaml](values.yaml)"
            out.append(f"| `{path}` | {default} | {meaning} |\n".replace("||", "|"))
    return "".join(out)


def main():
    readme = CHART / "README.md"
    now = readme.read_text()
    if START not in now:
        sys.exit(f"{readme} has lost the line after which the table is written:\n{START}")
    wanted = now[: now.index(START) + len(START)] + table((CHART / "values.yaml").read_text().splitlines())
    if sys.argv[1:] == ["--check"]:
        if now != wanted:
            sys.exit("helm/roomcast/README.md is not what values.yaml says. Write it with: make chart-readme")
    else:
        readme.write_text(wanted)


if __name__ == "__main__":
    main()
