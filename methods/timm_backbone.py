"""Any model of timm as a backbone, with the images that it needs, and its weights."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EXTRA = "_extra_state"  # torch's name for what `get_extra_state` gives


class TimmBackbone(nn.Module):
    """A model of timm without its classifier, from random weights: ``[N, 3, H, W]`` -> ``[N, dim]``.

    While its weights are random it takes images of any size. Pretrained weights need the image size and
    normalisation of their training: the backbone states them as `size` and `normalisation`, and resizes other
    images. Models with one position embedding per patch always resize.

    Args:
        name: of the model, as timm knows it, with or without the tag of its weights.

    Attributes:
        dim: number of features.
        external: whether its weights began as those of a training elsewhere; checkpoints keep it.
        small_stem: whether the stem is that for images of 32 pixels.

    Raises:
        ValueError: timm has no such model.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm

        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=1, cutoff=0.5)
            hint = f"did you mean timm:{near[0]}?" if near else "timm.list_models() has them all"
            raise ValueError(f"no backbone 'timm:{name}'; {hint}")
        self.name = name
        try:
            self.model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
        except RuntimeError as error:  # no such tag
            raise ValueError(f"no backbone 'timm:{name}': {error}") from None
        self.dim: int = self.model.head_hidden_size  # type: ignore[assignment]
        self.external = self.small_stem = False

    @property
    def _wants(self) -> dict:
        return self.model.pretrained_cfg  # type: ignore[return-value]

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the images that the weights want; None if any will do."""
        needed = self.external and not self.small_stem
        return tuple(self._wants["input_size"][1:]) if needed or self._wants.get("fixed_input_size") else None

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Channel means and deviations, of pixels in [0, 1], that the weights want; None if any will do."""
        return (self._wants["mean"], self._wants["std"]) if self.external else None

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, dim]``."""
        size = self.size
        if size is not None and images.shape[2:] != size:
            images = F.interpolate(images, size, mode=_mode(self._wants), antialias=True)
        return self.model(images)

    def load_pretrained(self) -> None:
        """Load timm's own weights from the Hugging Face cache, or download them.

        Raises:
            ValueError: they are neither cached nor downloadable, or timm has none.
        """
        import timm
        from huggingface_hub import constants

        where = self._wants.get("hf_hub_id") or self._wants.get("url")
        if not where:
            raise ValueError(f"timm has no weights for timm:{self.name}")
        # What is here already needs no network, nor the hub's half a minute of finding that there is none.
        for offline in dict.fromkeys((True, constants.HF_HUB_OFFLINE)):
            try:
                # timm draws random weights first; how often must not decide what is drawn after them.
                with hub(offline), torch.random.fork_rng(devices=[]):
                    self.model = timm.create_model(self.name, pretrained=True, num_classes=0)
                self.external = True
                return
            except Exception as error:  # those of the hub's client, of its HTTP library, of safetensors, ...
                reason = str(error.__cause__ or error).strip().partition("\n")[0]
                if offline and isinstance(error, FileNotFoundError):
                    reason = "they are not on this machine; --offline or HF_HUB_OFFLINE forbids fetching them"
        raise ValueError(f"the weights of timm:{self.name} ({where}) cannot be had: {reason}")

    def make_ready(self, state: dict[str, Tensor]) -> None:
        """Take the stem and the images of the training that a file of weights comes from.

        Files that were not written from a `TimmBackbone` come from a training elsewhere.

        Args:
            state: parameters under the names that they have here.
        """
        self.external = True  # `set_extra_state` knows better, where the file has it
        stem, kernel = self._stem(), state.get(f"model.{self._wants.get('first_conv')}.weight")
        small = EXTRA in state and bool(state[EXTRA][1])
        if stem is not None and kernel is not None and kernel.ndim == 4:
            small |= stem.kernel_size != tuple(kernel.shape[2:]) == (3, 3)
        if small:
            self.shrink_stem()

    def _stem(self) -> nn.Conv2d | None:
        """The first layer, if it is a convolution."""
        name = self._wants.get("first_conv")
        found = self.model.get_submodule(name) if isinstance(name, str) else None
        return found if isinstance(found, nn.Conv2d) else None

    def shrink_stem(self) -> None:
        """Make the stem fit images of 32 pixels: a 3x3 convolution of stride 1, and no pooling after it.

        The new filters are the middle of the old ones. Images are not resized then. (He et al. 2016,
        section 4.2, begins its networks for CIFAR so.)

        Raises:
            ValueError: the model does not begin with a convolution of stride 2.
        """
        if self.small_stem:
            return
        old = self._stem()
        if old is None or old.stride != (2, 2) or old.kernel_size[0] % 2 == 0:
            problem = "needs a network that begins with a convolution of stride 2, such as timm:resnet18"
            raise ValueError(f"small_stem {problem}; timm:{self.name} does not")
        new = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=old.bias is not None)
        margin = (old.kernel_size[0] - 3) // 2
        with torch.no_grad():
            new.weight.copy_(old.weight[:, :, margin : margin + 3, margin : margin + 3])
            if old.bias is not None and new.bias is not None:
                new.bias.copy_(old.bias)
        self.model.set_submodule(self._wants["first_conv"], new)
        if isinstance(getattr(self.model, "maxpool", None), nn.Module):
            self.model.maxpool = nn.Identity()
        self.small_stem = True

    def get_extra_state(self) -> Tensor:
        """`external` and `small_stem`: a checkpoint's weights want the images that they were trained on."""
        return torch.tensor([self.external, self.small_stem])

    def set_extra_state(self, state: Tensor) -> None:
        """Take over `external`; a stem is made before weights are loaded into it."""
        self.external = bool(state[0])


def interpolation(name: str, size: int | None) -> str:
    """How images are brought to `size`: ``bilinear``, or ``bicubic`` where timm resizes them so for a model.

    Args:
        name: of the model, as timm knows it.
        size: height and width in pixels; for sizes other than the model's own the result is ``bilinear``.
    """
    import timm

    try:
        wants = timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag, which `TimmBackbone` says
        return "bilinear"
    return _mode(wants.to_dict()) if wants and size == max(wants.input_size[1:]) else "bilinear"


def _mode(wants: dict) -> str:
    return "bilinear" if wants["interpolation"] == "bilinear" else "bicubic"


@contextmanager
def hub(offline: bool) -> Iterator[None]:
    """Silence the hub's retries, and keep it off the network if `offline`."""
    from huggingface_hub import constants

    logger = logging.getLogger("huggingface_hub")
    before = logger.level, constants.HF_HUB_OFFLINE
    logger.setLevel(logging.ERROR)
    constants.HF_HUB_OFFLINE = offline or before[1]
    try:
        yield
    finally:
        logger.setLevel(before[0])
        constants.HF_HUB_OFFLINE = before[1]
