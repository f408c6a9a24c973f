"""The wheel as users install it: `python tests/install_wheel.py [--resolve] [PYTHON ...]`.

For each interpreter (by default this one) the built wheel is installed by plain pip into a new environment,
and runs in another folder, without git, beside modules of the user's own called `methods` and `yaml`. With
`--resolve` pip only looks for the versions that it would install.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN = ["run", "--method", "siamese_triplet", "--dataset", "glyphs", "--preset", "smoke", "--steps", "2"]


def check(python: str, wheel: Path, folder: Path, resolve: bool) -> None:
    """Install the wheel into an environment in `folder`, and run it.

    Raises:
        subprocess.CalledProcessError: something failed.
    """
    subprocess.run([python, "-m", "venv", folder / "env"], check=True)
    place = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    install = [place / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *(["--dry-run"] if resolve else []), wheel], check=True)
    if resolve:
        return
    here = folder / "elsewhere"
    for name in ("methods", "yaml"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("raise RuntimeError('imported')\n")
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables |= {"PATH": str(place), "FEWSHOT_CACHE": str(folder / "cache")}
    for command in (
        [place / "python", "-m", "bench", "list", "methods"],
        [place / "python", "-m", "bench", *RUN],
        [place / "fewshot-bench", "validate"],
        [place / "fewshot-bench", "report"],
    ):
        subprocess.run(command, check=True, cwd=here, env=variables, stdout=subprocess.DEVNULL)


def main(arguments: list[str]) -> None:
    """Check every interpreter."""
    pythons = [one for one in arguments if one != "--resolve"] or [sys.executable]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
        subprocess.run(build, check=True)
        (wheel,) = folder.glob("*.whl")
        for number, python in enumerate(pythons):
            check(python, wheel, folder / str(number), "--resolve" in arguments)
            print(f"{python}: {'resolved' if '--resolve' in arguments else 'installed and run'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
