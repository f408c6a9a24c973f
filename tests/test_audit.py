"""What the audit makes of pip-audit's answers."""

import json
import sys

import pytest
from audit_dependencies import audit

SAFE = {"name": "safe", "version": "1.0", "vulns": []}
VULNERABLE = {"name": "torn", "version": "2.0", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
PRIVATE = {"name": "own", "skip_reason": "Dependency not found on PyPI"}


def answering(text: str, code: int, error: str = "") -> list[str]:
    """A command that answers as pip-audit might."""
    return [
        sys.executable,
        "-c",
        f"import sys; print({text!r}); print({error!r}, file=sys.stderr); sys.exit({code})",
    ]


@pytest.mark.parametrize(
    ("packages", "code"), [([SAFE], 0), ([SAFE, PRIVATE], 0), ([SAFE, VULNERABLE, PRIVATE], 1)]
)
def test_only_a_vulnerability_fails(packages, code, capsys):
    answer = json.dumps({"dependencies": packages, "fixes": []})
    assert audit(answering(answer, code, "Found 1 known vulnerability")) == code
    said = capsys.readouterr()
    assert ("torn 2.0: CVE-1, fixed in 2.1" in said.out) == (code == 1)
    assert ("own" in said.err) == (PRIVATE in packages)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}"])
def test_a_service_that_is_not_there_fails_nothing(text, capsys):
    assert audit(answering(text, 1, "ConnectionError: Max retries exceeded")) == 0
    said = capsys.readouterr()
    assert said.err.startswith("not audited: ") and said.out == ""
