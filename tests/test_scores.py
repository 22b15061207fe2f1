from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import scored_set
from PIL import Image

import kdscfnet
from kdscfnet.errors import UserError
from kdscfnet.evaluation import scores as scores_module
from kdscfnet.evaluation.pairs import (
    AMBIGUOUS,
    EXTRA_MAP,
    MISSING_MAP,
    MISSING_MASK,
    OTHER_SIZE,
    UNREADABLE,
    MismatchError,
)
from kdscfnet.images import FROM_ALPHA

NAMES = ["MAE", "MAE_unstretched", "maxF", "meanF", "adpF", "wF", "S", "maxE", "meanE", "adpE"]


@pytest.fixture
def folders(tmp_path):
    """(maps folder, data folder, {name: mask}, {name: map})"""
    masks = scored_set.make_data(tmp_path / "ECSSD")
    maps = scored_set.make_maps(tmp_path / "maps", masks)
    return tmp_path / "maps", tmp_path / "ECSSD", masks, maps


def mae(levels, mask):
    """The authors' definition, straight from evaluation.md."""
    levels, mask = levels.astype(float), mask.astype(float)
    levels = (levels - levels.min()) / (levels.max() - levels.min())
    mask = (mask - mask.min()) / (mask.max() - mask.min()) >= 0.5
    return np.abs(levels - mask).mean()


def problems_of(function, *args, **options):
    with pytest.raises(MismatchError) as caught:
        function(*args, **options)
    assert "\n" not in str(caught.value)
    (found,) = caught.value.problems.values()
    return {(problem.kind, problem.name) for problem in found}, str(caught.value)


def test_published_maps_give_the_recorded_scores(shared, golden, tmp_path):
    expected = json.loads((golden / "metrics.json").read_text())
    maps, masks = shared / "maps" / "CSNet-L-x2" / "ECSSD", tmp_path / "mask"
    masks.mkdir()
    for path in maps.iterdir():
        (masks / path.name).write_bytes((shared / "data" / "ECSSD" / "mask" / path.name).read_bytes())
    result = kdscfnet.evaluate(maps, masks)
    assert list(result) == NAMES + ["images"] and result["images"] == 100
    for name in NAMES:
        assert result[name] == pytest.approx(expected[name], abs=1e-9 if "MAE" in name else 1e-6), name
    assert len(result.per_image) == 100
    for scored in result.per_image:
        assert scored.values["MAE"] == pytest.approx(expected["MAE_per_image"][scored.name], abs=1e-9)
    # the data set's folder, of which the maps cover a third
    again = kdscfnet.evaluate(maps, shared / "data" / "ECSSD", allow_missing=True, scores="mae")
    assert (again["MAE"], again["images"], len(again.left_out)) == (result["MAE"], 100, 200)
    assert list(again) == NAMES[:2] + ["images"]


def test_the_result_is_the_mean_over_the_images(folders):
    maps_dir, data, masks, maps = folders
    result = kdscfnet.evaluate(str(maps_dir), str(data / "mask"))
    assert result["images"] == len(masks) and not result.notes and not result.left_out
    assert result["MAE"] == pytest.approx(np.mean([mae(maps[name], masks[name]) for name in masks]), abs=1e-12)
    unstretched = np.mean([np.abs(maps[name] / 255 - (masks[name] > 127)).mean() for name in masks])
    assert result["MAE_unstretched"] == pytest.approx(unstretched, abs=1e-12)
    assert [scored.name for scored in result.per_image] == list(masks)
    assert all(isinstance(result[name], float) for name in NAMES)
    assert result["maxF"] == result.curves["F"].max() and len(result.curves["precision"]) == 256
    json.dumps(result)


@pytest.mark.parametrize("threads", [1, 5])
def test_the_number_of_threads_changes_nothing(folders, threads):
    maps_dir, data = folders[:2]
    assert kdscfnet.evaluate(maps_dir, data, threads=threads) == kdscfnet.evaluate(maps_dir, data)


def test_opencv_keeps_its_threads(folders):
    cv2.setNumThreads(2)
    kdscfnet.evaluate(*folders[:2])
    assert cv2.getNumThreads() == 2


def test_a_missing_map_is_refused_or_left_out(folders):
    maps_dir, data = folders[:2]
    (maps_dir / "0003.png").unlink()
    found, message = problems_of(kdscfnet.evaluate, maps_dir, data)
    assert found == {(MISSING_MAP, "0003")} and "allow_missing" in message and "0003" in message
    result = kdscfnet.evaluate(maps_dir, data, allow_missing=True)
    assert result["images"] == 7 and result.expected == 8 and str(result.left_out[0]) == "missing map: 0003"


def test_an_extra_map_is_refused_or_left_out(folders):
    maps_dir, data, _, maps = folders
    expected = kdscfnet.evaluate(maps_dir, data)
    scored_set.write(maps_dir / "0099.png", maps["0001"])
    found, _ = problems_of(kdscfnet.evaluate, maps_dir, data)
    assert found == {(EXTRA_MAP, "0099.png")}
    result = kdscfnet.evaluate(maps_dir, data, allow_missing=True)
    assert result == expected and len(result.left_out) == 1


def test_a_map_is_one_masks_at_most(tmp_path):
    masks = scored_set.make_data(tmp_path / "S", ["world", "world_map", "x_gt"])
    maps = scored_set.make_maps(tmp_path / "maps", masks)
    (tmp_path / "maps" / "world_map.png").unlink()
    (tmp_path / "maps" / "x_gt.png").rename(tmp_path / "maps" / "x_sal.png")
    for data in (tmp_path / "S", tmp_path / "S" / "mask"):
        assert problems_of(kdscfnet.evaluate, tmp_path / "maps", data)[0] == {(MISSING_MAP, "world_map")}
        result = kdscfnet.evaluate(tmp_path / "maps", data, allow_missing=True)
        assert [scored.name for scored in result.per_image] == ["world", "x_gt"]
    # with a suffix each, they are told apart
    (tmp_path / "maps" / "world.png").rename(tmp_path / "maps" / "world_sal.png")
    scored_set.write(tmp_path / "maps" / "world_map_sal.png", maps["world_map"])
    result = kdscfnet.evaluate(tmp_path / "maps", tmp_path / "S")
    assert result["images"] == 3 and result["MAE"] == pytest.approx(
        np.mean([mae(maps[name], masks[name]) for name in masks]), abs=1e-12
    )


def test_names_that_fit_several_files_are_refused_or_left_out(folders):
    maps_dir, data, _, maps = folders
    (maps_dir / "0003.png").unlink()
    for suffix in ("_map", "_sal"):
        scored_set.write(maps_dir / ("0003%s.png" % suffix), maps["0003"])
    found, message = problems_of(kdscfnet.evaluate, maps_dir, data)
    assert found == {(AMBIGUOUS, "0003")} and "0003: 0003_map, 0003_sal" in message
    assert kdscfnet.evaluate(maps_dir, data, allow_missing=True)["images"] == 7
    # one map that fits two masks, neither of its name
    for name in ("0008_gt", "0008_mask"):
        (data / "mask" / (name + ".png")).write_bytes((data / "mask" / "0008.png").read_bytes())
    (data / "mask" / "0008.png").unlink()
    found, message = problems_of(kdscfnet.evaluate, maps_dir, data / "mask")
    assert found == {(AMBIGUOUS, "0003"), (AMBIGUOUS, "0008_gt"), (AMBIGUOUS, "0008_mask")}
    assert "0008_gt: 0008 fits 0008_mask too" in message


def test_a_missing_mask_is_refused_or_left_out(folders):
    maps_dir, data = folders[:2]
    (data / "mask" / "0005.png").unlink()
    found, _ = problems_of(kdscfnet.evaluate, maps_dir, data)
    assert found == {(MISSING_MASK, "0005")}
    assert kdscfnet.evaluate(maps_dir, data, allow_missing=True)["images"] == 7
    found, _ = problems_of(kdscfnet.evaluate, maps_dir, data / "mask")  # the folder of masks alone
    assert found == {(EXTRA_MAP, "0005.png")}


def test_a_mask_without_an_image_still_needs_a_map(folders):
    maps_dir, data = folders[:2]
    (data / "image" / "0005.jpg").unlink()
    (maps_dir / "0005.png").unlink()
    assert problems_of(kdscfnet.evaluate, maps_dir, data)[0] == {(MISSING_MAP, "0005")}


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
@pytest.mark.parametrize("which", ["map", "mask"])
def test_a_file_that_cannot_be_read_is_refused_or_left_out(folders, damage, which):
    maps_dir, data = folders[:2]
    path = (maps_dir if which == "map" else data / "mask") / "0002.png"
    whole = bytearray(path.read_bytes())
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x10
    path.write_bytes(
        {"cut": whole[: len(whole) * 2 // 3], "flipped": flipped, "text": b"<html>quota</html>", "empty": b""}[damage]
    )
    found, message = problems_of(kdscfnet.evaluate, maps_dir, data)
    assert found == {(UNREADABLE, "0002.png")} and "0002.png" in message
    for which_scores in ("all", "mae"):
        assert kdscfnet.evaluate(maps_dir, data, allow_missing=True, scores=which_scores)["images"] == 7


def test_a_map_of_another_size_is_refused_left_out_or_resized(folders):
    maps_dir, data, masks, maps = folders
    small = cv2.resize(maps["0004"], (31, 22))
    scored_set.write(maps_dir / "0004.png", small)
    found, message = problems_of(kdscfnet.evaluate, maps_dir, data)
    assert found == {(OTHER_SIZE, "0004.png")} and "31×22, its mask 60×40" in message and "resize=True" in message
    assert kdscfnet.evaluate(maps_dir, data, allow_missing=True)["images"] == 7
    result = kdscfnet.evaluate(maps_dir, data, resize=True)
    assert result["images"] == 8 and len(result.notes) == 1 and "resized" in result.notes[0][1]
    # as the authors: stretched first, then resized, bilinear
    stretched = (small / 255 - small.min() / 255) / (small.max() / 255 - small.min() / 255)
    by_hand = np.abs(cv2.resize(stretched, (60, 40)) - (masks["0004"] > 127)).mean()
    (scored,) = [scored for scored in result.per_image if scored.name == "0004"]
    assert scored.values["MAE"] == pytest.approx(by_hand, abs=1e-12)
    assert 0.5 < scored.values["S"] < 1


def test_all_problems_are_listed_at_once(folders):
    maps_dir, data, _, maps = folders
    (maps_dir / "0001.png").unlink()
    (maps_dir / "0002.png").write_bytes(b"")
    scored_set.write(maps_dir / "0003.png", maps["0003"][:20])
    scored_set.write(maps_dir / "x.png", maps["0003"])
    expected = {(MISSING_MAP, "0001"), (UNREADABLE, "0002.png"), (OTHER_SIZE, "0003.png"), (EXTRA_MAP, "x.png")}
    assert problems_of(kdscfnet.evaluate, maps_dir, data)[0] == expected
    result = kdscfnet.evaluate(maps_dir, data, allow_missing=True)
    assert result["images"] == 5 and {(problem.kind, problem.name) for problem in result.left_out} == expected


def test_a_map_of_sixteen_bits_counts_with_its_upper_eight(folders):
    maps_dir, data, _, maps = folders
    expected = kdscfnet.evaluate(maps_dir, data)
    scored_set.write(maps_dir / "0006.png", maps["0006"].astype(np.uint16) * 257)
    result = kdscfnet.evaluate(maps_dir, data)
    assert result == expected and result.notes == [("0006", "map: 16 bits, brought to 8")]


def test_masks_in_rgb_and_palette_and_with_alpha(folders):
    maps_dir, data, masks, _ = folders
    expected = kdscfnet.evaluate(maps_dir, data)
    mask = masks["0001"]
    scored_set.write(data / "mask" / "0001.png", np.dstack([mask] * 3))
    scored_set.write(data / "mask" / "0002.png", np.dstack([masks["0002"]] * 3 + [np.full_like(mask, 77)]))
    assert kdscfnet.evaluate(maps_dir, data) == expected
    reddish = np.dstack([masks["0003"] // 2, masks["0003"] // 2, masks["0003"]])  # BGR
    scored_set.write(data / "mask" / "0003.png", reddish)
    result = kdscfnet.evaluate(maps_dir, data)
    assert result == expected and result.notes == [("0003", "mask: in colour, the mean of its channels counts")]


def test_a_mask_with_grey_edges_is_cut_at_half(folders):
    maps_dir, data, masks, maps = folders
    grey = cv2.GaussianBlur(masks["0001"], (0, 0), 0.8)
    assert len(np.unique(grey)) > 20
    scored_set.write(data / "mask" / "0001.png", grey)
    result = kdscfnet.evaluate(maps_dir, data)
    assert not result.notes
    assert result.per_image[0].values["MAE"] == pytest.approx(mae(maps["0001"], grey), abs=1e-12)


def test_a_mask_of_zeros_and_ones_counts_as_black_and_white(folders):
    maps_dir, data, masks, _ = folders
    expected = kdscfnet.evaluate(maps_dir, data)
    for name, mask in masks.items():
        scored_set.write(data / "mask" / (name + ".png"), mask // 255)
    result = kdscfnet.evaluate(maps_dir, data)
    assert result == expected
    assert len(result.notes) == 8 and "levels are 0 to 1" in result.notes[0][1]


@pytest.mark.parametrize("low,high", [(0, 1), (1, 2), (0, 100), (128, 255)])
@pytest.mark.parametrize("white", [False, True])
def test_a_mask_of_one_level_means_what_it_means_in_its_set(folders, low, high, white):
    """A mask that is wholly 1, in a set of masks of 0 and 1, is white; it counted as black."""
    maps_dir, data, masks, _ = folders
    masks_dir = data / "mask"
    for name, mask in masks.items():
        level = {"0001": np.full_like(mask, 255 * white)}.get(name, mask) > 127
        scored_set.write(masks_dir / (name + ".png"), np.where(level, high, low).astype(np.uint8))
    scored_set.write(maps_dir / "0001.png", np.full_like(masks["0001"], 255 * white))
    result = kdscfnet.evaluate(maps_dir, masks_dir)
    first = {scored.name: scored for scored in result.per_image}["0001"]
    assert first.values["MAE"] == 0 == first.values["MAE_unstretched"]
    assert any(note.startswith(scores_module.WHITE_MASK if white else scores_module.BLACK_MASK) for note in first.notes)
    # validation while training
    from kdscfnet.images import read_mask

    scale = scores_module.Scale([str(path) for path in sorted(masks_dir.glob("*.png"))])
    assert (scale(read_mask(masks_dir / "0001.png")) > 127).all() == white
    mixed = read_mask(masks_dir / "0002.png")
    assert scale(mixed) is mixed


def test_a_photo_in_the_place_of_a_mask_is_noticed(folders):
    maps_dir, data = folders[:2]
    scored_set.write(data / "mask" / "0001.png", np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1)))
    assert "not black and white" in kdscfnet.evaluate(maps_dir, data).notes[0][1]


def test_constant_maps_and_masks_of_one_value_get_their_values_and_a_note(folders):
    maps_dir, data, masks, maps = folders
    scored_set.write(maps_dir / "0001.png", np.full((40, 60), 51, np.uint8))
    scored_set.write(data / "mask" / "0002.png", np.zeros((40, 60), np.uint8))
    scored_set.write(data / "mask" / "0003.png", np.full((40, 60), 255, np.uint8))
    result = kdscfnet.evaluate(maps_dir, data)
    values = {scored.name: scored.values for scored in result.per_image}
    share = (masks["0001"] > 127).mean()
    assert values["0001"]["MAE"] == pytest.approx(share * 0.8 + (1 - share) * 0.2)  # 51 / 255, not stretched
    stretched = (maps["0002"] - maps["0002"].min()) / float(maps["0002"].max() - maps["0002"].min())
    assert values["0002"]["MAE"] == pytest.approx(stretched.mean())
    assert values["0002"]["wF"] == values["0002"]["adpF"] == 0 and values["0002"]["S"] == pytest.approx(
        1 - stretched.mean()
    )
    assert values["0003"]["S"] > 0
    assert {name: note[:20] for name, note in result.notes} == {
        "0001": scores_module.CONSTANT_MAP[:20],
        "0002": scores_module.BLACK_MASK[:20],
        "0003": scores_module.WHITE_MASK[:20],
    }
    assert all(np.isfinite(result[name]) for name in NAMES)


def test_names_pair_up_with_the_usual_suffixes(folders, tmp_path):
    maps_dir, data = folders[:2]
    expected = kdscfnet.evaluate(maps_dir, data)
    for number, path in enumerate(sorted(maps_dir.glob("*.png"))):
        path.rename(path.with_name(path.stem + ("_sal", "-pred", "", "_map")[number % 4] + ".png"))
    for number, path in enumerate(sorted((data / "mask").glob("*.png"))):
        path.rename(path.with_name(path.stem + ("_gt", "_mask")[number % 2] + ".png"))
    assert kdscfnet.evaluate(maps_dir, data) == expected
    assert kdscfnet.evaluate(maps_dir, data / "mask") == expected


@pytest.mark.parametrize(
    "maps,masks,text",
    [
        ("nowhere", "data", "there is no folder of maps"),
        ("maps", "nowhere", "there is no folder of masks"),
        ("empty", "data", "holds no maps"),
        ("maps", "empty", "holds no masks"),
    ],
)
def test_folders_without_anything_are_named(tmp_path, maps, masks, text):
    scored_set.make_maps(tmp_path / "maps", scored_set.make_data(tmp_path / "data"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=text):
        kdscfnet.evaluate(tmp_path / maps, tmp_path / masks)


def test_nothing_left_to_score_is_an_error_even_where_missing_is_allowed(folders):
    maps_dir, data = folders[:2]
    for path in maps_dir.glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="nothing in .* could be scored: 8 unreadable files"):
        kdscfnet.evaluate(maps_dir, data, allow_missing=True)


def test_scores_of_another_name_are_refused(folders):
    with pytest.raises(UserError, match="scores is 'fast': one of mae, all"):
        kdscfnet.evaluate(*folders[:2], scores="fast")


def test_scoring_needs_no_paddle(folders):
    code = "import sys, kdscfnet; kdscfnet.evaluate(*sys.argv[1:]); sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, *map(str, folders[:2])]).returncode == 0


@pytest.mark.parametrize("colours", ["constant", "of a cut-out"])
@pytest.mark.parametrize("which", ["maps", "masks"])
def test_maps_and_masks_in_the_alpha_channel_count_and_are_said(folders, colours, which):
    maps_dir, data, masks, maps = folders
    expected = kdscfnet.evaluate(maps_dir, data)
    arrays = maps if which == "maps" else masks
    for name, array in arrays.items():
        photo = (
            cv2.imread(str(data / "image" / (name + ".jpg"))) if colours != "constant" else np.dstack([array * 0] * 3)
        )
        folder = maps_dir if which == "maps" else data / "mask"
        scored_set.write(folder / (name + ".png"), np.dstack([photo, array]))
    result = kdscfnet.evaluate(maps_dir, data)
    assert result == expected
    assert {note for _, note in result.notes} == {"%s: %s" % (which[:-1], FROM_ALPHA)} and len(result.notes) == 8


def test_masks_of_a_palette_count_by_their_two_levels(folders):
    maps_dir, data, masks, _ = folders
    expected = kdscfnet.evaluate(maps_dir, data)
    for name, mask in masks.items():
        image = Image.fromarray(mask // 255)
        image.putpalette([0, 0, 0, 128, 0, 0])
        image.save(str(data / "mask" / (name + ".png")))
    assert kdscfnet.evaluate(maps_dir, data) == expected


def test_maps_and_masks_by_sequence(tmp_path):
    masks = {}
    for sequence in ("seq1", "seq2"):
        for kind in ("image", "mask"):
            (tmp_path / "set" / kind / sequence).mkdir(parents=True)
        of_sequence = scored_set.make_data(tmp_path / sequence, ["0001", "0002"], seed=len(masks))
        for name, mask in of_sequence.items():
            masks["%s/%s" % (sequence, name)] = mask
            scored_set.write(tmp_path / "set" / "image" / sequence / (name + ".png"), np.dstack([mask] * 3))
            scored_set.write(tmp_path / "set" / "mask" / sequence / (name + ".png"), mask)
    maps = scored_set.make_maps(tmp_path / "maps", masks)
    for data in (tmp_path / "set", tmp_path / "set" / "mask"):
        result = kdscfnet.evaluate(tmp_path / "maps", data)
        assert [scored.name for scored in result.per_image] == sorted(masks)
        assert result["MAE"] == pytest.approx(np.mean([mae(maps[name], masks[name]) for name in masks]), abs=1e-12)
    (tmp_path / "maps" / "seq1" / "0002.png").unlink()
    scored_set.write(tmp_path / "maps" / "seq2" / "0003.png", maps["seq1/0001"])
    (tmp_path / "maps" / "seq2" / "0001.png").write_bytes(b"")
    assert problems_of(kdscfnet.evaluate, tmp_path / "maps", tmp_path / "set")[0] == {
        (MISSING_MAP, "seq1/0002"),
        (EXTRA_MAP, "seq2/0003.png"),
        (UNREADABLE, "seq2/0001.png"),
    }
