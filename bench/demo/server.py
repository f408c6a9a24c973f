"""Serves the page on this machine, which nothing leaves: no telemetry, no fonts or scripts from elsewhere."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from threading import Thread

from bench.common.errors import UserError, with_extra

HOST = "127.0.0.1"
PORTS = range(1024, 65536)
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}


def check_installed(port: int | None) -> None:
    """Refuse a wrong port, or an installation without Gradio.

    Raises:
        UserError: naming the flag or the extra.
    """
    from importlib.util import find_spec

    if port is not None and port not in PORTS:
        raise UserError("--port", port, f"must be {PORTS.start} to {PORTS.stop - 1}")
    if find_spec("gradio") is None:
        raise UserError("demo", "", f"gradio is missing; {with_extra('demo')}")


@contextmanager
def serving(
    name: str | None, results: Path, runs: Path, data_root: Path | None, port: int | None, browser: bool
) -> Iterator[str]:
    """Serve the page within the context, which gets its address.

    Args:
        name, results, runs, data_root: as the flags ``--run``, ``--results``, ``--runs`` and ``--data-root``.
        port: None for a free one from 7860.
        browser: open a browser.

    Raises:
        UserError: the run's model cannot be used, or the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as folder:
        # Gradio reads these when it is imported. It keeps uploads in that folder; the page itself has none.
        os.environ |= {**QUIET, "GRADIO_TEMP_DIR": folder}
        from bench.demo.page import Page
        from bench.demo.runs import chosen

        page = Page(chosen(name, results, runs), results, runs, data_root)
        if name is not None:
            page.model()  # an error if it cannot be used
        blocks = page.blocks()
        try:
            _, address, _ = blocks.launch(
                server_name=HOST,
                server_port=port,
                inbrowser=browser,
                quiet=True,
                prevent_thread_lock=True,
                share=False,
                ssr_mode=False,
                footer_links=[],
                run_history=False,
                max_file_size="1mb",
                css_paths=str(files("bench.demo") / "page.css"),
            )
        except OSError:
            raise UserError("--port", port or "", "is taken; without --port a free one is used") from None
        Thread(target=page.model, daemon=True).start()  # while the visitor draws
        try:
            yield address
        finally:
            blocks.close(verbose=False)
