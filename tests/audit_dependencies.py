"""Known vulnerabilities of what is installed: `python tests/audit_dependencies.py`, by pip-audit.

pip-audit exits 1 for a vulnerability and for a service that it cannot reach alike. Here only the first fails:
a machine without a network must not stop anybody's work.
"""

import json
import subprocess
import sys
from pathlib import Path

COMMAND = ["pip-audit", "--local", "--skip-editable", "--format", "json", "--progress-spinner", "off"]
COMMAND += ["--timeout", "15"]


def audit(command: list[str]) -> int:
    """Run pip-audit and say what it found.

    Returns:
        The exit code: 1 if a package is vulnerable.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        said = done.stderr.strip().splitlines()[-1:] if isinstance(error, ValueError) else [repr(error)]
        print(f"not audited: {' '.join(said) or 'pip-audit said nothing'}", file=sys.stderr)
        return 0
    found = [(package, problem) for package in packages for problem in package.get("vulns", [])]
    for package, problem in found:
        fixed = ", ".join(problem["fix_versions"]) or "no release"
        print(f"{package['name']} {package['version']}: {problem['id']}, fixed in {fixed}")
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    print(f"{len(packages) - len(skipped)} packages audited, {len(found)} vulnerabilities")
    if skipped:
        print(f"not audited: {', '.join(skipped)}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(audit([str(Path(sys.executable).with_name(COMMAND[0])), *COMMAND[1:]]))
