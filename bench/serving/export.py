"""A run's model for use elsewhere: safetensors, ONNX or TorchScript, with a model card."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.common.errors import UserError, with_extra
from bench.common.files import write_files
from bench.common.streams import say, without_logs
from bench.records import store
from bench.records.schema import CONFIG_FILE, MODEL_FILE, Record
from bench.run.models import CARD
from bench.serving.calibration import FILE as CALIBRATION
from bench.serving.model_card import model_card
from bench.serving.predictor import Predictor, load

ENDINGS = {"onnx": ".onnx", "torchscript": ".pt"}
TOLERANCE = 1e-3  # of the spread of the answers: other kernels round differently
OPSET = 18
NEEDED = ("onnx", "onnxruntime", "onnxscript")
FREE = {"support": 2, "query": 1}  # inputs of `Classes`, and their leading dimensions of any length
NOT_HELD = "this format cannot hold how it answers, for example because it fits the support set"

Run = Callable[..., np.ndarray]


class Embedding(nn.Module):
    """uint8 images ``[N, 3, H, W]`` -> embeddings ``[N, D]``, in float32, normalisation included."""

    mean: Tensor
    std: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.method = predictor.method
        self.register_buffer("mean", predictor.normalise.mean.clone(), persistent=False)
        self.register_buffer("std", predictor.normalise.std.clone(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images."""
        return self.method.embed((images.float() - self.mean) / self.std).float()


class Classes(nn.Module):
    """Embeddings of a support set ``[way, shot, D]`` and of queries ``[Q, D]`` -> scores ``[Q, way]``."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.method = predictor.method

    def forward(self, support: Tensor, query: Tensor) -> Tensor:
        """Score queries."""
        return self.method.episode_logits(support[None], query[None])[0].float()


def write(
    run: str, format_: str, output: Path | None, results: Path, runs: Path, run_code: bool = False
) -> list[Path]:
    """Export a model; everything written has been compared with the model's own answers.

    Args:
        run, runs, run_code: as in `predictor.load`.
        format_: ``safetensors``: the weights and cards, for `bench.load`. ``onnx``, ``torchscript``: the
            embedding, and how a support set answers, where it is a fixed formula of embeddings.
        output: folder to write; by default ``export/<run>-<format>``.
        results: folder of records, for the numbers in the model card.

    Returns:
        The files, the model card last.

    Raises:
        UserError: there is no such run, its method cannot be exported like this, a library is missing, or an
            exported graph gives other answers than the model.
    """
    predictor = load(run, runs=runs, device="cpu", run_code=run_code)
    output = output or Path("export") / f"{predictor.card.run_id}-{format_}"
    record = store.try_read(store.locate_file(results, f"{predictor.card.run_id}.json"))
    if format_ == "safetensors":
        names = (MODEL_FILE, CARD, CONFIG_FILE, CALIBRATION)
        there = [name for name in names if (predictor.folder / name).exists()]
        files = {output / name: (predictor.folder / name).read_bytes() for name in there}
    else:
        if not predictor.method.fixed_embedding:
            allowed = f"{predictor.card.method} adapts its weights to each support set; allowed: safetensors"
            raise UserError("--format", format_, allowed)
        files = _graphs(predictor, format_, output)
    text = model_card(predictor, record if isinstance(record, Record) else None, format_, list(files))
    files[output / "README.md"] = text.encode()
    write_files(files, "--output")
    return list(files)


def _graphs(predictor: Predictor, format_: str, output: Path) -> dict[Path, bytes]:
    """The embedding's graph and, if it can be exported, the classes': path -> content."""
    save, run = (_onnx, _run_onnx) if format_ == "onnx" else (_torchscript, _run_torchscript)
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> tuple[Tensor, ...]:
        shape = (count, 3, *predictor.card.image_size)
        return (torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),)

    embedding = Embedding(predictor).eval()
    with torch.no_grad():
        made = embedding(*images(60))

    def episode(way: int, shot: int, query: int) -> tuple[Tensor, ...]:
        chosen = made[torch.randperm(60, generator=generator)]
        return chosen[: way * shot].unflatten(0, (way, shot)), chosen[-query:]

    ending = ENDINGS[format_]
    files = {}
    with _quiet():
        graph = save(embedding, images(3), {"images": 1}, "embeddings")
        _compare(embedding, run(graph), [images(1), images(5)], f"embedding{ending}", format_)
        files[output / f"embedding{ending}"] = graph
        classes, example = Classes(predictor).eval(), episode(5, 3, 7)
        try:
            graph = save(classes, example, FREE, "scores")
            others = [episode(2, 1, 1), episode(6, 5, 9)]
            _compare(classes, run(graph), others, f"classes{ending}", format_)
            files[output / f"classes{ending}"] = graph
        except Exception as error:  # PyTorch's exporters and runtimes raise many types
            if isinstance(error, UserError) and _is_formula(classes, example):
                raise
    if len(files) == 1:
        say(f"note: no classes{ending} of {predictor.card.method}: {NOT_HELD}")
    return files


def _is_formula(module: nn.Module, example: tuple[Tensor, ...]) -> bool:
    """Whether the answers are a fixed formula of the inputs, for any numbers of classes and images.

    A trace also succeeds where they are not: it holds what was fitted to the example as constants.
    """
    try:
        with torch.no_grad():
            torch.export.export(module, example, dynamic_shapes=_shapes(FREE))
    except Exception:
        return False
    return True


def _shapes(inputs: dict[str, int]) -> tuple[dict[int, Any], ...]:
    return tuple({at: torch.export.Dim.DYNAMIC for at in range(free)} for free in inputs.values())


def _compare(module: nn.Module, run: Run, inputs: list[tuple[Tensor, ...]], name: str, format_: str) -> None:
    """Refuse a graph whose answers differ from the module's, for other numbers of images too."""
    for own in inputs:
        with torch.no_grad():
            expected = module(*own).numpy()
        found = run(*own)
        if found.shape != expected.shape or np.abs(found - expected).max() > TOLERANCE * expected.std():
            raise UserError("--format", format_, f"the exported {name} gives other answers than the model")


def _onnx(module: nn.Module, example: tuple[Tensor, ...], inputs: dict[str, int], output: str) -> bytes:
    """The module as ONNX. `inputs`: name -> number of leading dimensions that have any length."""
    if any(find_spec(name) is None for name in NEEDED):
        raise UserError("--format", "onnx", f"packages are missing; {with_extra('export')}")
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=_shapes(inputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program.model_proto.SerializeToString()


def _run_onnx(graph: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a graph that does not run is reported by us
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*tensors: Tensor) -> np.ndarray:
        given = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        return session.run(None, given)[0]

    return run


def _torchscript(
    module: nn.Module, example: tuple[Tensor, ...], inputs: dict[str, int], output: str
) -> bytes:
    """The module as TorchScript, traced; names do not exist there."""
    # A function is traced, with weights as constants: properties of a Lightning module cannot be compiled.
    module.requires_grad_(False)
    traced = torch.jit.trace(lambda *given: module(*given), example, check_trace=False)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    return file.getvalue()


def _run_torchscript(graph: bytes) -> Run:
    module = torch.jit.load(io.BytesIO(graph))

    def run(*tensors: Tensor) -> np.ndarray:
        with torch.no_grad():
            return module(*tensors).numpy()

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters print and log about their own steps and future."""
    text = io.StringIO()
    with (
        without_logs(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(text),
        contextlib.redirect_stderr(text),
    ):
        warnings.simplefilter("ignore")
        yield
