"""The formats of ``nas export``: how each is written, and how it is held against the network.

A file is written beside its place, checked, and then moved there: nothing half-done or wrong is
left behind. :data:`FORMATS` is the table; one more format is one more entry.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas.builder import SPACE, is_file
from nas.environment import version
from nas.export.chosen import Chosen
from nas.export.models import (
    CONFIG,
    FORMAT,
    WEIGHTS,
    check_sizes,
    load_model,
    load_weights,
    read_weights,
    without_dead,
)
from nas.export.source import About, module_source
from nas.seeds import seeded_torch, torch_generator
from nas.space_file import find_space
from spaces.errors import NasError, look_up

SAME = 1e-4  # difference that the same kernels in another order may make, of the logits' spread
OTHER = 1e-3  # and that other kernels may make
BATCHES = (1, 3)
SETTLING = 8  # random images whose statistics the batch-norms of an untrained network take


@dataclass(frozen=True)
class Model:
    """What is exported.

    Attributes:
        chosen: Which architecture.
        network: It, in evaluation mode, without what its logits do not depend on.
        num_classes: Width of its classifier, 0 for none.
        in_chans: Channels of its images.
        resolution: Height and width of its images, pixels.
        params: Weights.
        macs: Multiply-accumulates for one image.
        left_out: Names of the modules that were taken out.
        weights: Where its weights come from, a sentence.
        seed: Of weights and of the images of the checks.
    """

    chosen: Chosen
    network: nn.Module
    num_classes: int
    in_chans: int
    resolution: int
    params: int
    macs: int
    left_out: tuple[str, ...]
    weights: str
    seed: int

    def images(self, n: int) -> Tensor:
        """Return a random batch, the same each time."""
        shape = (n, self.in_chans, self.resolution, self.resolution)
        return torch.randn(shape, generator=torch_generator(self.seed, "export", "images", n))

    @property
    def costs(self) -> str:
        """Parameters and multiply-accumulates, in words."""
        return f"{self.params:,} parameters, {self.macs / 1e6:,.2f} M multiply-accumulates"

    @property
    def left_out_text(self) -> str:
        """What was taken out, a sentence or nothing."""
        if not self.left_out:
            return ""
        return (
            f"Left out, for no path leads on from it to the logits: {', '.join(self.left_out[:4])}"
            f"{f' and {len(self.left_out) - 4} more' if len(self.left_out) > 4 else ''}."
        )


def make(
    chosen: Chosen,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    resolution: int | None = None,
    seed: int = 0,
    untrained: bool = False,
) -> Model:
    """Build what is exported.

    Args:
        chosen: Which architecture.
        num_classes: Width of the classifier, 0 for none; by default that of the run, else 10.
        in_chans: Channels of the images.
        resolution: Height and width of the images, pixels; by default that of the run, else 32.
        seed: Of weights, where there are none of a training.
        untrained: Leave the weights of a training aside.

    Raises:
        NasError: A size that cannot be, or weights that do not fit.
    """
    usual = 10 if chosen.num_classes is None else chosen.num_classes
    classes = usual if num_classes is None else num_classes
    size = (chosen.resolution or 32) if resolution is None else resolution
    check_sizes(num_classes=classes, in_chans=in_chans, input_size=size)
    space = find_space(chosen.place)
    arch = space.from_str(chosen.arch)
    with seeded_torch(seed, "export", "weights"):
        network = space.build(arch, num_classes=classes, in_chans=in_chans)
    _macs(network, in_chans, size, classes)  # a size that it cannot run on is told at once
    trained = chosen.weights is not None and not untrained
    if trained:
        _load(network, chosen, in_chans)
        told = f"{chosen.weights}. {chosen.trained}"
    else:
        told = (
            f"initialised under seed {seed}, not trained; batch-norm statistics are those of "
            f"{SETTLING} random images"
        )
    noise = torch_generator(seed, "export", "settling")
    left_out = without_dead(network, in_chans)
    if not trained:
        _settle(network, torch.randn((SETTLING, in_chans, size, size), generator=noise))
    network.eval()
    return Model(
        chosen=chosen,
        network=network,
        num_classes=classes,
        in_chans=in_chans,
        resolution=size,
        params=sum(weight.numel() for weight in network.parameters()),
        macs=_macs(network, in_chans, size, classes),
        left_out=tuple(left_out),
        weights=told,
        seed=seed,
    )


def _load(network: nn.Module, chosen: Chosen, in_chans: int) -> None:
    assert chosen.weights is not None
    try:
        load_weights(network, read_weights(chosen.weights), str(chosen.weights), in_chans)
    except NasError as error:
        raise NasError(
            f"{error}; the training had {chosen.num_classes} classes and 3 channels: leave out "
            "--num-classes and --in-chans, or say --untrained"
        ) from None


def _settle(network: nn.Module, images: Tensor) -> None:
    """Give batch-norms the statistics of some images.

    Those that a layer is made with (mean 0, variance 1) let the maps of a deep network fade until
    its logits no longer depend on the image, so that no comparison of logits would say anything.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain mean of all batches
    with torch.no_grad():
        network.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _macs(network: nn.Module, in_chans: int, resolution: int, num_classes: int) -> int:
    """Count multiply-accumulates for one image, biases of the classifier as one each."""
    image = torch.zeros((1, in_chans, resolution, resolution))
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.eval()(image)
    except (RuntimeError, ValueError) as error:
        raise NasError(
            f"--input-size: the network cannot run on images of {resolution} pixels: {error}"
        ) from None
    flops: int = counter.get_total_flops()
    return flops // 2 + num_classes


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        name: As on the command line.
        summary: One line for a person.
        files: What it writes.
        write: Writes them into a folder.
        check: Compares them with the network: returns what was compared, and raises NasError.
        needs: Modules that have to be installed.
        extra: Of this package, which brings them.
    """

    name: str
    summary: str
    files: tuple[str, ...]
    write: Callable[[Model, Path], None]
    check: Callable[[Model, Path], str]
    needs: tuple[str, ...] = ()
    extra: str = ""


@dataclass(frozen=True)
class Written:
    """A file that was written and checked.

    Attributes:
        format: Its name.
        path: Where it lies.
        check: What was compared.
    """

    format: str
    path: Path
    check: str


def formats_named(texts: Sequence[str]) -> list[Format]:
    """Return the formats of a command line, each once.

    Raises:
        UnknownName: There is no such format.
        NasError: None is named, or a package that one needs is missing.
    """
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if not names:
        raise NasError(f"--format: say what to write, one or several of {', '.join(FORMATS)}")
    found = [look_up(FORMATS, name, kind="format") for name in dict.fromkeys(names)]
    for each in found:
        missing = [name for name in each.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise NasError(
                f"--format {each.name} needs {', '.join(missing)}: "
                f"pip install 'nas-search[{each.extra}]'"
            )
    return found


def check_free(formats: Sequence[Format], folder: Path, *, force: bool) -> None:
    """Refuse to overwrite, before the work.

    Raises:
        NasError: A file is there already, or the folder is none.
    """
    if folder.exists() and not folder.is_dir():
        raise NasError(f"{folder}: cannot write: it is no folder")
    there = [name for each in formats for name in each.files if (folder / name).exists()]
    if there and not force:
        raise NasError(
            f"{folder}: {', '.join(there)} is there already; --force overwrites, "
            "--out names another folder"
        )


def export(
    model: Model, formats: Sequence[Format], folder: Path, *, force: bool = False
) -> list[Written]:
    """Write files, all or none, each held against the network before it is in its place.

    Args:
        model: What to write.
        formats: How.
        folder: Where; made if need be.
        force: Overwrite.

    Raises:
        NasError: A file exists, cannot be written, or computes something else.
    """
    check_free(formats, folder, force=force)
    checks = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as name:
            scratch = Path(name)
            for each in formats:
                each.write(model, scratch)
                checks[each.name] = each.check(model, scratch)
            moved = sorted(path.name for path in scratch.iterdir() if path.is_file())
            for file in moved:
                (scratch / file).replace(folder / file)
    except OSError as error:
        raise NasError(f"{folder}: cannot write: {error.strerror or error}") from None
    return [Written(f.name, folder / file, checks[f.name]) for f in formats for file in f.files]


def compare(what: str, got: Tensor, expected: Tensor, tolerance: float) -> float:
    """Return the largest difference, as a share of what the images differ in.

    Raises:
        NasError: It is beyond the tolerance.
    """
    spread = float((expected - expected.mean(dim=0)).abs().max())
    scale = max(spread, 1e-3 * float(expected.abs().max()), 1e-12)
    if len(expected) == 1:
        scale = max(scale, float(expected.abs().max()))
    off = float((got - expected).abs().max()) / scale
    if got.shape != expected.shape or not off <= tolerance:
        raise NasError(
            f"{what}: the exported file computes something else: off by {off:.3g} of the spread "
            f"of its logits, at most {tolerance:g} is allowed; nothing was written"
        )
    return off


def _agreement(offs: Sequence[float], on: str) -> str:
    return f"{on}: {max(offs):.1g}"


_PROGRAM = "model.pt2"


def _write_torch(model: Model, folder: Path) -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        model.network, (model.images(2),), dynamic_shapes=({0: batch},), strict=False
    )
    torch.export.save(program, folder / _PROGRAM)


def _check_torch(model: Model, folder: Path) -> str:
    program: Any = torch.export.load(folder / _PROGRAM).module()
    offs = []
    for n in BATCHES:
        images = model.images(n)
        with torch.no_grad():
            offs.append(compare("torch", program(images), model.network(images), SAME))
    return _agreement(offs, f"batches of {BATCHES[0]} and {BATCHES[1]}")


def _write_safetensors(model: Model, folder: Path) -> None:
    from safetensors.torch import save_file

    state = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    chosen = model.chosen
    config = {
        "format": FORMAT,
        "space": SPACE if is_file(chosen.place) else chosen.place,
        "arch": chosen.arch,
        "num_classes": model.num_classes,
        "in_chans": model.in_chans,
        "input_size": model.resolution,
        "params": model.params,
        "macs": model.macs,
        "origin": chosen.origin,
        "weights": model.weights,
        "nas_search": version("nas-search"),
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
    if is_file(chosen.place):
        shutil.copyfile(chosen.place, folder / SPACE)


def _check_safetensors(model: Model, folder: Path) -> str:
    images = model.images(BATCHES[-1])
    with torch.no_grad():
        off = compare("safetensors", load_model(folder)(images), model.network(images), 0.0)
    return _agreement([off], "nas.load_model")


_ONNX = "model.onnx"


def _write_onnx(model: Model, folder: Path) -> None:
    # The exporter tells its steps on standard output and of its plans in warnings and logs.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model.network,
                (model.images(2),),
                folder / _ONNX,
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["images"],
                output_names=["logits"],
                external_data=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)


def _check_onnx(model: Model, folder: Path) -> str:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / _ONNX), providers=["CPUExecutionProvider"])
    offs = []
    for n in BATCHES:
        images = model.images(n)
        (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        with torch.no_grad():
            offs.append(compare("onnx", torch.from_numpy(logits), model.network(images), OTHER))
    return _agreement(offs, f"onnxruntime, batches of {BATCHES[0]} and {BATCHES[1]}")


_MODULE = "model.py"


def _write_python(model: Model, folder: Path) -> None:
    space = find_space(model.chosen.place)
    about = About(
        space=space.name,
        arch=model.chosen.arch,
        origin=" ".join(filter(None, (model.chosen.origin, model.chosen.trained))),
        costs=f"{model.costs} ({model.num_classes} classes, {model.resolution} pixels)",
        left_out=model.left_out_text,
        version=version("nas-search") or "",
    )
    text = module_source(
        space,
        model.chosen.arch,
        about,
        num_classes=model.num_classes,
        in_chans=model.in_chans,
    )
    (folder / _MODULE).write_text(text, encoding="utf-8")


def _check_python(model: Model, folder: Path) -> str:
    spec = importlib.util.spec_from_file_location("exported_model", folder / _MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    network = module.Network()
    state = model.network.state_dict()
    if list(network.state_dict()) != list(state):
        raise NasError("python: the exported module has other weights than the network")
    network.load_state_dict(state)
    original = copy.deepcopy(model.network)
    images = model.images(BATCHES[-1])
    offs = []
    for mode in (False, True):
        with torch.no_grad(), seeded_torch(model.seed, "export", "check"):
            expected = original.train(mode)(images)
        with torch.no_grad(), seeded_torch(model.seed, "export", "check"):
            offs.append(compare("python", network.train(mode)(images), expected, SAME))
    return _agreement(offs, "same names of weights; evaluation and train mode")


FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format(
            "torch",
            "a torch.export program for any batch size",
            (_PROGRAM,),
            _write_torch,
            _check_torch,
        ),
        Format(
            "safetensors",
            "weights and configuration, for nas.load_model",
            (WEIGHTS, CONFIG),
            _write_safetensors,
            _check_safetensors,
        ),
        Format(
            "onnx",
            "for onnxruntime and others, any batch size",
            (_ONNX,),
            _write_onnx,
            _check_onnx,
            ("onnx", "onnxscript", "onnxruntime"),
            "onnx",
        ),
        Format(
            "python",
            "a module that needs torch only",
            (_MODULE,),
            _write_python,
            _check_python,
        ),
    )
}
