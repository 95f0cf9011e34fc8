"""Networks by name and out of folders."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import nas
from nas.export.models import split_name
from spaces import SPACES, NasError

SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|none~2|"
DEAD = "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"  # 0 to 1 leads nowhere


def test_a_network_by_name() -> None:
    network = nas.create_model("nats_sss/8:8:8:8:8", num_classes=4, in_chans=1)
    assert network.training
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 4)
    features = nas.create_model("nats_sss/8:8:8:8:16", num_classes=0)
    assert features(torch.zeros(2, 3, 32, 32)).shape == (2, 16)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nats_sss/8:8", ("nats_sss", "8:8")),
        ("a/b/edge.yaml/12x2:k3/x", ("a/b/edge.yaml", "12x2:k3/x")),
        ("/tmp/edge.yml/x", ("/tmp/edge.yml", "x")),
        ("package.module:SPACE/x", ("package.module:SPACE", "x")),
    ],
)
def test_names(name: str, parts: tuple[str, str]) -> None:
    assert split_name(name) == parts


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nats_sss", {}, "expected SPACE/ARCHITECTURE"),
        ("nats_sss/", {}, "expected SPACE/ARCHITECTURE"),
        ("nats_ssss/8:8:8:8:8", {}, "Did you mean 'nats_sss'?"),
        ("nats_sss/8:8:8:8:9", {}, "nats_sss: cannot read '8:8:8:8:9'"),
        ("nats_sss/8:8:8:8:8", {"num_classes": -1}, "num_classes: expected at least 0, got -1"),
        ("nats_sss/8:8:8:8:8", {"in_chans": 0}, "in_chans: expected at least 1, got 0"),
        ("nats_sss/8:8:8:8:8", {"num_classes": 1.5}, "num_classes: expected int, got 1.5"),
        ("nats_sss/8:8:8:8:8", {"pretrained": "nowhere.safetensors"}, "no such file"),
        ("nats_sss/8:8:8:8:8", {"pretrained": "."}, "there is no model.safetensors"),
    ],
)
def test_a_mistake_is_one_message(
    name: str,
    settings: dict[str, object],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NasError) as caught:
        nas.create_model(name, **settings)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_weights(tmp_path: Path) -> None:
    name = "nats_sss/8:8:8:8:8"
    ours = nas.create_model(name).eval()
    path = tmp_path / "w.safetensors"
    save_file(ours.state_dict(), path)
    images = torch.randn(2, 3, 32, 32)
    theirs = nas.create_model(name, pretrained=path).eval()
    assert torch.equal(ours(images), theirs(images))
    for settings in ({"num_classes": 11}, {"in_chans": 1}):
        with pytest.raises(NasError, match=r"w\.safetensors: weights of another network.*expected"):
            nas.create_model(name, pretrained=path, **settings)
    with pytest.raises(NasError, match=r"weights of another network"):
        nas.create_model("nats_sss/8:8:8:8:16", pretrained=path)
    path.write_bytes(b"nonsense")
    with pytest.raises(NasError, match="not readable as safetensors"):
        nas.create_model(name, pretrained=path)


def test_weights_with_and_without_what_leads_nowhere(tmp_path: Path) -> None:
    space = SPACES["nats_tss"]
    whole = space.build(space.from_str(DEAD)).eval()
    state = whole.state_dict()
    kept = {key: value for key, value in state.items() if ".edge01." not in key}
    assert len(kept) < len(state)
    images = torch.randn(2, 3, 32, 32)
    for name, tensors in (("whole", state), ("kept", kept)):
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, path)
        network = nas.create_model(f"nats_tss/{DEAD}", pretrained=path).eval()
        assert len(network.state_dict()) == len(tensors)
        assert torch.equal(network(images), whole(images))
    kept.pop("body.stage0.0.edge03.op.1.weight")  # and this one leads somewhere
    save_file(kept, tmp_path / "less.safetensors")
    with pytest.raises(
        NasError, match=r"channels: body\.stage0\.0\.edge03\.op\.1\.weight is missing$"
    ):
        nas.create_model(f"nats_tss/{DEAD}", pretrained=tmp_path / "less.safetensors")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "not an export, for there is no config.json"),
        ("{", "cannot be read"),
        ("[]", "not a configuration of this version"),
        ({"format": 2}, "not a configuration of this version"),
        ({"format": 1}, "space: expected str, got None"),
        (
            {"format": 1, "space": "nats_sss", "arch": "8:8:8:8:8", "num_classes": "10"},
            "num_classes: expected int, got '10'",
        ),
        (
            {"format": 1, "space": "nats_sss", "arch": "8", "num_classes": 10, "in_chans": 3},
            "nats_sss: cannot read '8'",
        ),
        (
            {
                "format": 1,
                "space": "nats_sss",
                "arch": "8:8:8:8:8",
                "num_classes": 9,
                "in_chans": 3,
            },
            "model.safetensors: no such file",
        ),
    ],
)
def test_a_faulty_folder(config: object, message: str, tmp_path: Path) -> None:
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(NasError) as caught:
        nas.load_model(tmp_path)
    assert message in str(caught.value)
