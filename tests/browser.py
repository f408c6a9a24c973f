"""A page in a browser: what it complains of, and what it asks for."""

from typing import Any


def watched(page: Any) -> tuple[list[str], list[str]]:
    """Lists to which errors of the console, and addresses of requests, will be added."""
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    return problems, requests
