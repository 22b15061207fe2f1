"""The network equals the authors': keys, shapes, outputs, sizes."""

from __future__ import annotations

import functools
import json

import golden_inputs
import numpy as np
import paddle
import pytest
from golden_models import KINDS, golden_model, tensor
from paddle import nn

from kdscfnet.models.backbones import BACKBONES, shift_mask
from kdscfnet.models.scfnet import SCFNet
from kdscfnet.selfcheck import checks, goldens
from kdscfnet.selfcheck.report import PASS

# architecture.md: parameters that are counted, paddle.flops' "Total Params", {size: multiply-adds}
COUNTS = {
    "M3_0.5": (800_154, 800_154, {352: 253_194_747, 384: 301_250_142}),
    "R50": (26_148_420, 26_148_420, {352: 13_148_501_421}),
    "ST": (88_359_932, 88_158_980, {384: 46_747_600_848}),
}


@pytest.fixture(scope="module", params=KINDS)
def kind_and_model(request):
    model = golden_model(request.param)
    model.eval()
    return request.param, model


def test_state_dict_is_the_manifest(kind_and_model, golden):
    kind, model = kind_and_model
    manifest = json.loads((golden / ("manifest_%s.json" % kind)).read_text())
    ours = {k: (list(v.shape), str(v.dtype).split(".")[-1].lower()) for k, v in model.state_dict().items()}
    theirs = {k: (v["shape"], v["dtype"]) for k, v in manifest.items()}
    if paddle.__version__.startswith("2.2"):  # VarType.FP32 and the like
        names = {"fp32": "float32", "int64": "int64"}
        ours = {k: (s, names.get(d, d)) for k, (s, d) in ours.items()}
    assert ours == theirs


@pytest.fixture(scope="module")
def passes(kind_and_model):
    """A function (n, height, width) → (outputs, maps of the backbone, operations) of the golden image of that shape."""
    _, model = kind_and_model

    @functools.lru_cache(maxsize=None)  # Swin-B takes seconds
    def one_pass(n, height, width):
        maps = []
        hook = model.bkbone.register_forward_post_hook(lambda layer, inputs, output: maps.extend(output))
        image = tensor(golden_inputs.image(height * 1000 + width, n, height, width))
        outputs, counted = counting(model, image)
        hook.remove()
        return outputs, maps, counted

    return one_pass


def test_outputs_equal_the_recorded(kind_and_model, passes, golden, monkeypatch):
    kind, model = kind_and_model
    recorded = np.load(golden / "forward.npz")
    tolerance = 1e-4 if kind == "ST" else 1e-5
    sizes = sorted({key.split("|")[1] for key in recorded.files if key.startswith(kind + "|")})
    assert sizes
    for size in sizes:
        n, h, w = map(int, size.split("x"))
        outputs, maps, _ = passes(n, h, w)
        for number, output in enumerate(outputs, 2):
            expected = recorded["%s|%s|out%d" % (kind, size, number)]
            assert output.shape == [n, 1, h, w]
            assert np.abs(output.numpy()[:, :, ::8, ::8] - expected).max() <= tolerance
        for number, feature in enumerate(maps, 1):
            expected = recorded["%s|%s|feat%d|stats" % (kind, size, number)]
            values = feature.numpy().astype("float64")
            assert list(values.shape) == [int(v) for v in expected[:4]]
            stats = [values.mean(), values.std(), values.min(), values.max()]
            assert np.abs(np.array(stats) - expected[4:]).max() <= tolerance

    def run(model, images):
        n, _, height, width = images.shape
        assert np.array_equal(images.numpy(), golden_inputs.image(height * 1000 + width, n, height, width))
        return passes(n, height, width)[0]

    # kdscfnet selfcheck, which allows for another device, says so too
    asked = [forward for forward in goldens.FORWARDS if forward[0] == kind]
    monkeypatch.setattr(goldens, "FORWARDS", asked)
    monkeypatch.setattr(goldens.Goldens, "network", lambda self, kind: model)
    rows = list(checks.outputs(goldens.Goldens(), "float32", run))
    assert len(rows) == len(asked) > 0 and {row.verdict for row in rows} == {PASS}


def counting(model, image):
    """(outputs, (multiply-adds, parameters of the layers that ran)) of images, by the rules of paddle.flops.

    Layers without sublayers count; attention, activations and normalisation other than BatchNorm count nothing.
    """
    ran, handles = {}, []

    def count(layer, inputs, output):
        if isinstance(layer, nn.Conv2D):
            kernel = int(np.prod(layer.weight.shape[1:]))  # input channels of a group, height, width
            each = kernel + (layer.bias is not None)
        elif isinstance(layer, nn.Linear):
            each = layer.weight.shape[0]
        elif isinstance(layer, (nn.BatchNorm, nn.BatchNorm2D)):
            each = 2
        elif isinstance(layer, nn.AdaptiveAvgPool2D):
            each = int(np.prod(np.array(inputs[0].shape[2:]) // np.array(output.shape[2:]))) + 1
        else:
            each = 0
        parameters = sum(int(np.prod(parameter.shape)) for parameter in layer.parameters())
        ran[id(layer)] = ran.get(id(layer), (0,))[0] + each * int(np.prod(output.shape)) * (each > 0), parameters

    for layer in model.sublayers():
        if not list(layer.children()):
            handles.append(layer.register_forward_post_hook(count))
    with paddle.no_grad():
        outputs = model(image)
    for handle in handles:
        handle.remove()
    return outputs, tuple(sum(column) for column in zip(*ran.values()))


def test_parameters_and_flops_are_the_papers(kind_and_model, passes, capsys):
    kind, model = kind_and_model
    parameters, total, flops_of = COUNTS[kind]
    buffers = golden_inputs.DERIVED_BUFFERS
    counted = sum(int(np.prod(v.shape)) for k, v in model.state_dict().items() if not k.endswith(buffers))
    assert counted == parameters
    for size, flops in flops_of.items():
        assert passes(1, size, size)[2] == (flops, total)
        if np.__version__.startswith("1."):  # paddle.flops fails with the newest numpy
            assert paddle.flops(model, [1, 3, size, size]) == flops
            assert "Total Params: %d" % total in capsys.readouterr().out


def test_out_channels_are_what_the_backbones_return(kind_and_model):
    kind, model = kind_and_model
    assert type(model.bkbone) is BACKBONES[KINDS[kind]]
    with paddle.no_grad():
        maps = model.bkbone(paddle.zeros([1, 3, 64, 96]))
    assert len(maps) == 5
    assert tuple(m.shape[1] for m in maps[1:]) == model.bkbone.out_channels
    assert [m.shape[2:] for m in maps[1:]] == [[16, 24], [8, 12], [4, 6], [2, 3]]


def shorten(model, monkeypatch):
    """Swin-B's third stage with 4 of its 18 blocks, which are all alike: the time of most of the network."""
    stage = model.bkbone.layers[2]
    monkeypatch.setitem(stage._sub_layers, "blocks", nn.LayerList(list(stage.blocks)[:4]))


def test_any_size_and_no_leak_between_samples(kind_and_model, monkeypatch):
    kind, model = kind_and_model
    if kind == "ST":
        shorten(model, monkeypatch)
    # odd sizes for all; for Swin also those that users train and test at (its recorded output is at 384² alone)
    for height, width in [(100, 36)] + ([(224, 224), (352, 352), (320, 256)] if kind == "ST" else []):
        image = tensor(golden_inputs.image(1, 2 if height == 100 else 1, height, width))
        with paddle.no_grad():
            outputs = model(image)
        assert [o.shape for o in outputs] == [[image.shape[0], 1, height, width]] * 4
        assert all(np.isfinite(o.numpy()).all() for o in outputs)
        if image.shape[0] == 2:
            with paddle.no_grad():
                alone = model(image[1:])
            assert max(np.abs(o.numpy()[1:] - a.numpy()).max() for o, a in zip(outputs, alone)) < 1e-3


@pytest.mark.parametrize("kind_and_model", ["ST"], indirect=True)
def test_swin_takes_training_steps(kind_and_model, monkeypatch):
    """The last test of this network, which it changes: another one would take seconds to make."""
    from kdscfnet.losses import supervised_loss
    from kdscfnet.optim import build_optimizer

    _, model = kind_and_model
    shorten(model, monkeypatch)
    model.train()
    optimizer = build_optimizer(model, 0.001)
    image, mask = tensor(golden_inputs.image(0, 2, 64, 96)), tensor(golden_inputs.mask(1, 2, 64, 96))
    before = model.bkbone.layers[2].blocks[3].attn.qkv.weight.numpy().copy()
    for _ in range(2):
        total, _ = supervised_loss(model(image), mask, 0)
        total.backward()
        optimizer.step()
        optimizer.clear_grad()
    assert np.isfinite(float(total))
    assert np.abs(model.bkbone.layers[2].blocks[3].attn.qkv.weight.numpy() - before).max() > 0


def test_shift_mask_separates_what_is_no_neighbour():
    mask = shift_mask(24, 24, 12)
    assert mask.shape == (4, 144, 144) and mask.dtype == np.float32
    assert (mask[0] == 0).all()  # the first window does not wrap around
    # the last window holds four regions of 6×6 tokens
    assert (mask[3] == 0).sum() == 4 * 36 * 36
    assert set(np.unique(mask)) == {-100.0, 0.0}


def test_unknown_backbone_is_named():
    with pytest.raises(ValueError, match="R34.*mobilenetv3"):
        SCFNet("R34")


def test_initialisation_outside_the_backbone():
    paddle.seed(0)
    model = SCFNet("mobilenetv3")
    for name, value in model.state_dict().items():
        if name.startswith("bkbone"):
            continue
        if name.endswith((".bias", "_mean")):
            assert (value.numpy() == 0).all(), name
        elif len(value.shape) == 4:  # KaimingNormal: std = sqrt(2 / fan-in)
            expected = np.sqrt(2 / np.prod(value.shape[1:]))
            assert abs(value.numpy().std() / expected - 1) < 0.25, name
        else:
            assert (value.numpy() == 1).all(), name
