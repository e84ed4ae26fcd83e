import json
import math
import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from pycocotools import mask as coco_mask

from zutis_model.zutis import instance_prediction
from zutis_model.zutis.instance_prediction import coco_predictions, predict_instances

SIZE = (93, 131)  # of the fixture's results with a size
NUM_RUNS = 11


@pytest.fixture(scope="module")
def inputs(parity_arrays):
    """Proposals, tokens and text embeddings of the reference's runs."""
    arrays = parity_arrays("predict")
    names = ("mask_proposals", "patch_tokens", "text_embeddings")
    return [torch.from_numpy(arrays[name]) for name in names]


def predict_run(run, inputs):
    return predict_instances(
        *inputs,
        size=run["size"] and tuple(run["size"]),
        threshold=run.get("threshold", 0.5),
        temperature=run.get("temperature", 5.0),
        suppression=run["nms_type"],
    )


def by_image_and_score(predictions):
    return sorted(predictions, key=lambda p: (p["image_id"], -p["score"]))


def box_image(*boxes, values=0.9, size=(12, 16)):
    """Proposals [1, n, h, w] that are `values` in boxes (x1, y1, x2, y2), inclusive, else 0.1."""
    proposals = torch.full((1, len(boxes), *size), 0.1)
    for proposal, (x1, y1, x2, y2) in zip(proposals[0], boxes, strict=True):
        proposal[y1 : y2 + 1, x1 : x2 + 1] = values
    return proposals


def tokens_of(category_map, k=4):
    """Tokens [1, h, w, k] that equal the text embeddings `torch.eye(k)` of a map of categories."""
    return torch.eye(k)[category_map][None]


def in_columns(*categories, size=(12, 16)):
    """Map of categories: as many equal parts side by side."""
    row = torch.tensor(categories).repeat_interleave(size[1] // len(categories))
    return row.expand(size)


def equal(a, b):
    return all(torch.equal(getattr(a, x), getattr(b, x)) for x in vars(a))


@pytest.mark.parametrize("index", range(NUM_RUNS))
def test_instances_agree_with_the_reference(index, inputs, parity_json):
    facts = parity_json("predict")
    assert len(facts["runs"]) == NUM_RUNS
    run = facts["runs"][index]
    mapping = {int(k): v for k, v in facts["new_label_id_to_old_label_id"].items()}
    settings = {}
    if run["mapped"]:
        settings = {
            "category_of_label": mapping,
            "names": {10 * i + 3: f"name{i}" for i in mapping},
        }
    image_ids = run["image_ids"] or [0, 0]
    actual = [
        prediction
        for instances, image_id in zip(predict_run(run, inputs), image_ids, strict=True)
        for prediction in coco_predictions(instances, image_id, box_format="xyxy", **settings)
    ]

    expected = by_image_and_score(run["predictions"])
    assert len(actual) == len(expected) > 0
    for ours, theirs in zip(by_image_and_score(actual), expected, strict=True):
        assert ours.pop("score") == pytest.approx(theirs["score"], abs=1e-5)
        assert ours == {name: value for name, value in theirs.items() if name != "score"}


def test_instances_are_tensors_by_falling_score(inputs):
    for instances in predict_instances(*inputs, size=SIZE):
        n = len(instances.scores)
        assert n > 1
        assert instances.category_ids.dtype == torch.int64
        assert instances.scores.dtype == instances.boxes.dtype == torch.float32
        assert instances.masks.dtype == torch.bool
        assert instances.masks.shape == (n, *SIZE)
        assert instances.boxes.shape == (n, 4)
        assert (instances.scores.diff() <= 0).all()
        assert instances.masks.flatten(1).any(dim=1).all()


def test_category_score_and_box_of_hand_made_proposals():
    proposals = box_image((0, 0, 3, 2), (5, 4, 5, 4), values=0.75)
    tokens = tokens_of(in_columns(2, 1))
    tokens[0, 0, 0] = torch.eye(4)[3]
    (instances,) = predict_instances(proposals, tokens, torch.eye(4))

    # The first holds 11 tokens of category 2 and one of 3; the second one pixel of 2.
    cosine = 11 / math.hypot(11, 1)
    expected = [0.75 / (1 + math.exp(-5)), 0.75 / (1 + math.exp(-5 * cosine))]
    assert instances.category_ids.tolist() == [2, 2]
    assert instances.scores.tolist() == pytest.approx(expected, abs=1e-6)
    assert instances.boxes.tolist() == [[5, 4, 5, 4], [0, 0, 3, 2]]
    assert torch.equal(instances.masks, (proposals[0] > 0.5)[[1, 0]])


def test_equal_scores_are_ordered_by_category_then_query():
    boxes = [(8, 0, 9, 1), (0, 0, 1, 1), (8, 8, 9, 9), (0, 8, 1, 9)]
    (instances,) = predict_instances(box_image(*boxes), tokens_of(in_columns(1, 2)), torch.eye(4))
    assert instances.scores.unique().numel() == 1
    assert instances.category_ids.tolist() == [1, 1, 2, 2]
    assert instances.boxes.tolist() == [list(map(float, boxes[i])) for i in (1, 3, 0, 2)]


def test_best_category_is_found_where_probabilities_saturate():
    text = F.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.0]]), dim=1)
    tokens = torch.tensor([1.0, 0.0]).expand(1, 12, 16, 2)
    (instances,) = predict_instances(box_image((2, 2, 5, 5)), tokens, text, temperature=100.0)
    assert instances.category_ids.tolist() == [1]


@pytest.mark.parametrize("size", [None, (12, 16)])
def test_masks_are_strictly_above_the_threshold(size):
    proposals = box_image((0, 0, 7, 7), values=0.75)
    proposals[0, 0, 2, 3:6] = 0.875
    inputs = proposals, tokens_of(in_columns(1)), torch.eye(4)
    (instances,) = predict_instances(*inputs, size=size, threshold=0.75)
    assert instances.boxes.tolist() == [[3, 2, 5, 2]]
    assert instances.scores.tolist() == pytest.approx([0.875 / (1 + math.exp(-5))])


def test_suppression_settings_reach_the_suppression():
    boxes = [(0, 0, 9, 0), (5, 0, 14, 0)]  # intersection over union 1 / 3
    proposals = box_image(*boxes)
    proposals[0, 1, 0, 5:15] = 0.8
    inputs = proposals, tokens_of(in_columns(1)), torch.eye(4)
    best, other = (x / (1 + math.exp(-5)) for x in (0.9, 0.8))

    def scores(**settings):
        (instances,) = predict_instances(*inputs, **settings)
        return instances.scores.tolist()

    assert scores() == pytest.approx([best])
    assert scores(suppression=None) == pytest.approx([best, other])
    assert scores(suppression_threshold=0.34) == pytest.approx([best, other])
    assert scores(suppression="linear") == pytest.approx([best, other * 2 / 3])
    gaussian = {"suppression": "gaussian", "sigma": 0.1}
    assert scores(**gaussian) == pytest.approx([best, other * math.exp(-(1 / 9) / 0.1)])
    assert scores(suppression="linear", score_threshold=0.6) == pytest.approx([best])


def test_masks_lost_on_the_way_to_the_size_are_dropped():
    proposals = box_image((3, 3, 3, 3), (0, 0, 10, 10))
    inputs = proposals, tokens_of(in_columns(1)), torch.eye(4)
    (low,) = predict_instances(*inputs)
    (small,) = predict_instances(*inputs, size=(3, 4))
    assert len(low.scores) == 2
    assert len(small.scores) == 1
    assert small.boxes.tolist() == [[0, 0, 2, 2]]


def test_only_objects_are_upsampled(inputs, monkeypatch):
    expected = predict_instances(*inputs, size=SIZE, suppression=None)
    upsampled_masks = instance_prediction.upsampled_masks
    upsampled = []

    def record(proposals, size, threshold):
        upsampled.append(len(proposals))
        return upsampled_masks(proposals, size, threshold)

    monkeypatch.setattr(instance_prediction, "upsampled_masks", record)
    actual = predict_instances(*inputs, size=SIZE, suppression=None)

    assert all(equal(a, e) for a, e in zip(actual, expected, strict=True))
    queries = inputs[0].shape[0] * inputs[0].shape[2]
    # Not the empty query and the background; one in each image is lost only after upsampling.
    assert sum(len(e.scores) for e in expected) < sum(upsampled) < queries


def test_last_layer_is_used(inputs):
    proposals, tokens, text = inputs
    for a, b in zip(
        predict_instances(proposals, tokens, text),
        predict_instances(proposals[:, -1], tokens, text),
        strict=True,
    ):
        assert equal(a, b)


def test_batch_equals_singles(inputs):
    proposals, tokens, text = inputs
    batch = predict_instances(proposals, tokens, text, size=SIZE)
    for i, instances in enumerate(batch):
        (single,) = predict_instances(proposals[i : i + 1], tokens[i : i + 1], text, size=SIZE)
        assert torch.equal(single.masks, instances.masks)
        torch.testing.assert_close(single.scores, instances.scores, atol=1e-6, rtol=0)


@pytest.mark.parametrize("suppression", ["hard", "linear", "gaussian", None])
@pytest.mark.parametrize("size", [None, (30, 20)])
def test_nothing_to_find(size, suppression):
    background_only = predict_instances(
        box_image((2, 2, 5, 5)),
        torch.ones(1, 12, 16, 1),
        torch.ones(1, 1),
        size=size,
        suppression=suppression,
    )
    tokens, text = tokens_of(in_columns(1)), torch.eye(4)
    all_empty = predict_instances(
        torch.zeros(1, 5, 12, 16), tokens, text, size=size, suppression=suppression
    )
    no_query = predict_instances(
        torch.zeros(1, 0, 12, 16), tokens, text, size=size, suppression=suppression
    )
    for (instances,) in (background_only, all_empty, no_query):
        assert instances.masks.shape == (0, *(size or (12, 16)))
        assert instances.boxes.shape == (0, 4)
        assert len(instances.scores) == len(instances.category_ids) == 0
        assert coco_predictions(instances, 1) == []


def test_empty_proposals_are_background_whatever_the_text_is():
    tokens, text = tokens_of(in_columns(1)), -torch.eye(4)
    category_ids, scores = instance_prediction._classify(
        torch.zeros(1, 2, 12, 16), tokens, text, 0.5, 5.0
    )
    assert category_ids.tolist() == [[0, 0]]
    assert scores.tolist() == [[0, 0]]


def test_empty_batch(inputs):
    proposals, tokens, text = inputs
    assert predict_instances(proposals[:0], tokens[:0], text, size=SIZE) == []


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 40), (24, 32)])
def test_unusual_sizes(size, inputs):
    for instances in predict_instances(*inputs, size=size):
        assert instances.masks.shape[1:] == size
        x1, y1, x2, y2 = instances.boxes.T
        assert ((x1 >= 0) & (x1 <= x2) & (x2 < size[1])).all()
        assert ((y1 >= 0) & (y1 <= y2) & (y2 < size[0])).all()


def test_one_pixel():
    (instances,) = predict_instances(
        torch.full((1, 1, 1, 1), 0.8), torch.ones(1, 1, 1, 1), torch.tensor([[-1.0], [1.0]])
    )
    assert instances.boxes.tolist() == [[0, 0, 0, 0]]
    assert coco_predictions(instances, 5)[0]["bbox"] == [0, 0, 1, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_computed_in_float32(dtype, inputs):
    cast = [x.to(dtype) for x in inputs]
    actual = predict_instances(*cast, size=SIZE)
    expected = predict_instances(*(x.float() for x in cast), size=SIZE)
    assert all(equal(a, e) for a, e in zip(actual, expected, strict=True))


def test_autocast_around_it_changes_nothing(inputs):
    expected = predict_instances(*inputs, size=SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = predict_instances(*inputs, size=SIZE)
    assert all(equal(a, e) for a, e in zip(actual, expected, strict=True))


def test_results_have_no_gradient(inputs):
    proposals, tokens, text = inputs
    for instances in predict_instances(proposals.clone().requires_grad_(), tokens, text):
        assert not instances.scores.requires_grad


def test_bad_input_is_refused(inputs):
    proposals, tokens, text = inputs
    with pytest.raises(ValueError, match="text_embeddings are 31 wide, patch_tokens 32"):
        predict_instances(proposals, tokens, text[:, :31])
    with pytest.raises(ValueError, match="a row for each category, got none"):
        predict_instances(proposals, tokens, text[:0])
    with pytest.raises(ValueError, match="differ in batch, rows or columns"):
        predict_instances(proposals, tokens[:, :, 1:], text)
    with pytest.raises(ValueError, match="differ in batch, rows or columns"):
        predict_instances(proposals[:1], tokens, text)
    with pytest.raises(ValueError, match=r"mask_proposals must be float .*\[16, 24, 32\]"):
        predict_instances(proposals[0, 0], tokens, text)
    with pytest.raises(ValueError, match=r"probabilities in 0\.\.1, got values -"):
        predict_instances(proposals.logit(), tokens, text)
    broken = proposals.clone()
    broken[1, -1, 3, 2, 2] = math.nan
    with pytest.raises(ValueError, match=r"mask_proposals .* nan\.\.nan"):
        predict_instances(broken, tokens, text)
    broken = tokens.clone()
    broken[1, 2, 2, 2] = math.nan
    with pytest.raises(ValueError, match="patch_tokens must be finite"):
        predict_instances(proposals, broken, text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (0, 4)}, "size"),
        ({"threshold": 1.1}, "threshold must be in 0..1, got 1.1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"suppression": "soft"}, "got 'soft'"),
        ({"suppression_threshold": -1.0}, "suppression_threshold"),
        ({"sigma": -1.0}, "sigma"),
        ({"score_threshold": math.nan}, "score_threshold"),
    ],
)
def test_bad_settings_are_refused(settings, message, inputs):
    with pytest.raises(ValueError, match=message):
        predict_instances(*inputs, **settings)


def test_coco_predictions_are_what_coco_tools_compute(inputs):
    instances = predict_instances(*inputs, size=SIZE)[0]
    predictions = coco_predictions(instances, 17)
    assert json.loads(json.dumps(predictions)) == predictions
    assert len(predictions) == len(instances.masks) > 1
    for mask, prediction in zip(instances.masks.numpy(), predictions, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(prediction["segmentation"]), mask)
        assert prediction["bbox"] == coco_mask.toBbox(prediction["segmentation"]).tolist()
        assert prediction["area"] == mask.sum()
        assert prediction["image_id"] == 17
        assert "pred_class" not in prediction


def test_coco_predictions_refuse_what_they_cannot_write(inputs):
    instances = predict_instances(*inputs)[0]
    with pytest.raises(ValueError, match="box_format must be xywh or xyxy, got 'yx'"):
        coco_predictions(instances, 1, box_format="yx")
    with pytest.raises(ValueError, match="category_of_label has no entry for category"):
        coco_predictions(instances, 1, category_of_label={})
    # Names go by the id that is written.
    ours = range(6)
    with pytest.raises(ValueError, match="names has no entry for category 1"):
        coco_predictions(
            instances,
            1,
            category_of_label={i: i + 10 for i in ours},
            names=dict.fromkeys(ours, "a"),
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("suppression", ["hard", "linear", "gaussian", None])
def test_gpu_agrees(suppression, inputs):
    expected = predict_instances(*inputs, size=SIZE, suppression=suppression)
    actual = predict_instances(*(x.cuda() for x in inputs), size=SIZE, suppression=suppression)
    for a, e in zip(actual, expected, strict=True):
        assert a.masks.is_cuda
        assert torch.equal(a.category_ids.cpu(), e.category_ids)
        torch.testing.assert_close(a.scores.cpu(), e.scores, atol=1e-5, rtol=0)
        assert (a.masks.cpu() != e.masks).float().mean() < 1e-3


@pytest.mark.parametrize("suppression", ["hard", "linear", "gaussian", None])
@pytest.mark.parametrize("bytes_at_once", [1, 5 * SIZE[1] * 3, 10**9])
def test_large_images_give_the_same_by_blocks(suppression, bytes_at_once, inputs, monkeypatch):
    expected = predict_instances(*inputs, size=SIZE, suppression=suppression)
    monkeypatch.setattr(instance_prediction, "MOST_PIXELS", 0)
    monkeypatch.setattr(instance_prediction, "_BYTES_AT_ONCE", bytes_at_once)
    actual = predict_instances(*inputs, size=SIZE, suppression=suppression)
    for a, e in zip(actual, expected, strict=True):
        for name in ("category_ids", "scores", "masks", "boxes"):
            assert torch.equal(getattr(a, name), getattr(e, name)), name
        assert coco_predictions(a, 1) == coco_predictions(e, 1)


def test_masks_lost_on_the_way_to_the_size_of_a_large_image_are_dropped(monkeypatch):
    monkeypatch.setattr(instance_prediction, "MOST_PIXELS", 0)
    proposals = box_image((3, 3, 3, 3), (0, 0, 10, 10))
    (small,) = predict_instances(proposals, tokens_of(in_columns(1)), torch.eye(4), size=(3, 4))
    assert small.boxes.tolist() == [[0, 0, 2, 2]]


def test_all_masks_of_a_large_image_are_never_held():
    proposals = torch.full((1, 100, 12, 16), 0.1)
    proposals[..., 2:9, 3:12] = 0.9
    arguments = proposals, tokens_of(in_columns(1)), torch.eye(4)
    predict_instances(*arguments, size=(30, 40))  # compiles
    tracemalloc.start()
    try:
        (instances,) = predict_instances(*arguments, size=(1500, 2000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(instances.scores) == 1  # they are one mask, a hundred times
    assert peak < 100 * 2**20 < 100 * 1500 * 2000


@pytest.mark.parametrize("large", [False, True])
def test_instances_are_chosen_and_looked_at_one_by_one(large, inputs, monkeypatch):
    if large:
        monkeypatch.setattr(instance_prediction, "MOST_PIXELS", 0)
    instances = predict_instances(*inputs, size=SIZE)[0]
    assert instances.size == SIZE
    assert np.array_equal(np.stack(list(instances.each_mask())), instances.masks.numpy())
    for which in (instances.scores < instances.scores.median(), torch.tensor([2, 0])):
        chosen = instances.chosen(which).cpu()
        assert len(chosen.scores) == len(chosen.run_lengths()) > 0
        assert torch.equal(chosen.masks, instances.masks[which])
        assert torch.equal(chosen.boxes, instances.boxes[which])
        assert torch.equal(chosen.category_ids, instances.category_ids[which])
    nothing = instances.chosen(instances.scores > 1)
    assert nothing.masks.shape == (0, *SIZE)
    assert list(nothing.each_mask()) == nothing.run_lengths() == []
