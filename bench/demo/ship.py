"""Puts a run's record and model into the package. These made those there, in a few minutes of one core each:

python -m bench run --method siamese_triplet --dataset glyphs --preset quick --steps 1000
python -m bench.demo.ship siamese-triplet_glyphs
python -m bench run --method siamese_triplet --dataset letters --preset quick --steps 800 --augment none \\
    --set classes=48 --set images=2 --measure 5w1s,5w5s,pairs --results results
python -m bench.demo.ship siamese-triplet_letters
"""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path

from bench.common.files import write_files
from bench.demo.page import MOST_CLASSES
from bench.records import store
from bench.records.schema import MODEL_FILE
from bench.run.models import CARD
from bench.serving.calibration import FILE as CALIBRATION
from bench.serving.predictor import load
from bench.serving.shipped import SHIPPED

SHOTS = (1, 2, 3, 5)  # of which calibrations ship; others are measured when asked for


def ship(run: str, results: Path = Path("results"), runs: Path = Path("runs")) -> Path:
    """Replace the shipped model that was trained on the same data by that of a run; returns the folder.

    Raises:
        UserError: there is no such run.
    """
    record = store.find_run(results, run, "RUN")
    predictor = load(record.stem, runs=runs)
    for way, shot in itertools.product(range(2, MOST_CLASSES + 1), SHOTS):
        predictor.calibration(way, shot)  # which writes it into the run's folder
    model = [Path(record.stem) / name for name in (MODEL_FILE, CARD, CALIBRATION)]
    files = {SHIPPED / name: (runs / name).read_bytes() for name in model}
    for old in SHIPPED.glob(f"*_{store.read(record).dataset}_*"):
        old.unlink() if old.is_file() else shutil.rmtree(old)
    write_files(files | {SHIPPED / record.name: record.read_bytes()}, "run")
    return SHIPPED


if __name__ == "__main__":
    print(ship(sys.argv[1]))
