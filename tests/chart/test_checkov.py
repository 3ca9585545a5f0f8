"""The opinion of checkov, on every example."""

import json
import os
import subprocess

import yaml

from conftest import PERSONAS, ROOT, TOOLS, text


def test_checkov_finds_nothing_but_what_is_waived(tmp_path):
    for persona in PERSONAS:
        (tmp_path / f"{persona}.yaml").write_text(text(persona=persona))
    checkov = [TOOLS / "venv-checkov" / "bin" / "checkov", "--framework", "kubernetes", "--directory", tmp_path]
    # It would ask its maker's server for guidelines.
    env = os.environ | {"BC_SKIP_MAPPING": "TRUE"}
    done = subprocess.run([*checkov, "--skip-download", "--quiet", "--output", "json"], capture_output=True, text=True, env=env)
    said = json.loads(done.stdout)
    assert said["summary"]["passed"] > 1000, done.stderr
    waived = yaml.safe_load((ROOT / "tests" / "chart" / "checkov.yaml").read_text())["skip-check"]
    found = {}
    for check in said["results"]["failed_checks"]:
        found.setdefault(check["check_id"], []).append(f"{check['file_path']}: {check['resource']}: {check['check_name']}")
    assert {check: found[check] for check in found.keys() - set(waived)} == {}
    assert set(waived) <= found.keys(), "a waiver that nothing needs"
    # These two are waived for the pods of tests alone.
    for check in ("CKV_K8S_8", "CKV_K8S_9"):
        assert all("-test-" in where for where in found[check]), check
    assert all(where.startswith("/openshift.yaml: ") for where in found["CKV_K8S_40"])
