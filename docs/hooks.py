"""The site's pages that are not in docs/: those of the repository's root, and the commands from Typer."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "leaderboard.md": "leaderboard.md",
    "speed.md": "benchmarks/speed.md",
}
"""Page -> its file in the repository."""

LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
PICTURE = re.compile(r"(?<=\]\()docs/(?=pictures/)")
FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)


def on_config(config: Any) -> Any:
    """List the methods' pages, which are generated too, in the navigation."""
    methods = sorted(f"methods/{path.name}" for path in (ROOT / "docs/methods").glob("*.md"))
    reference = next(section["Reference"] for section in config.nav if "Reference" in section)
    next(page for page in reference if "Methods" in page)["Methods"] = methods
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    made = {page: (ROOT / source).read_text(encoding="utf-8") for page, source in PAGES.items()}
    made["reference/cli.md"] = commands()
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at the site; files of the repository that are not in it are named without a link."""
    here = page.file.src_uri

    def on_site(link: re.Match[str]) -> str:
        return _on_site(link, here)

    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(on_site, PICTURE.sub("", part)) for part in parts[::2]]
    return "".join(parts)


def _on_site(link: re.Match[str], here: str) -> str:
    text, target, anchor = link["text"], link["target"], link["anchor"] or ""
    if re.match(r"[a-z]+:", target):
        return link[0]
    source = PAGES.get(here, f"docs/{here}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    pages = {source: page for page, source in PAGES.items()}
    page = pages.get(path, path.removeprefix("docs/"))
    if page == path:  # not on the site
        if not (ROOT / path).exists():
            raise PluginError(f"{source}: no such file: {target}")
        return f"`{text}`" if "/" in text and "`" not in text else text
    return f"[{text}]({posixpath.relpath(page, posixpath.dirname(here) or '.')}{anchor})"


def commands() -> str:
    """All commands with their flags, as Markdown."""
    import typer

    from bench.cli.commands import app

    group = typer.main.get_command(app)
    context = group.context_class(group, info_name="python -m bench")
    parts = ["# Commands", group.help or "", *_described(group, context)]
    return "\n\n".join(parts) + "\n"


def _described(group: Any, context: Any) -> list[str]:
    parts = []
    for name, command in group.commands.items():
        own = command.context_class(command, info_name=name, parent=context)
        if hasattr(command, "commands"):
            parts += _described(command, own)
            continue
        rows = [record for parameter in command.get_params(own) if (record := parameter.get_help_record(own))]
        table = "\n".join(f"| `{flags}` | {text.replace('|', '&#124;')} |" for flags, text in rows)
        usage = f"```text\n{command.get_usage(own).removeprefix('Usage: ').strip()}\n```"
        parts += [f"## {own.command_path.removeprefix('python -m bench ')}", command.help or "", usage]
        parts += [f"| flag | meaning |\n| --- | --- |\n{table}"] if rows else []
    return parts
