"""`demo`: the web page."""

from __future__ import annotations

import contextlib
import threading
from typing import Annotated

from bench.cli.app import RESULTS, RUNS, DataRoot, Results, Runs, app, flag


@app.command()
def demo(
    run: Annotated[
        str | None,
        flag("--run", "RUN", "Use this run's model.", default="a small one that ships with the package"),
    ] = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
    data_root: DataRoot = None,
    port: Annotated[
        int | None, flag("--port", "N", "Port of the page.", default="a free one from 7860")
    ] = None,
    no_browser: Annotated[bool, flag("--no-browser", "", "Only print the address.")] = False,
) -> None:
    """Serve a web page on this machine: draw, compare and classify pictures, browse episodes and results."""
    from bench.demo.server import check_installed, serving

    check_installed(port)
    with serving(run, results, runs, data_root, port, not no_browser) as address:
        print(f"{address} (press Ctrl-C to stop)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
