import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
from scipy import sparse
from scipy.sparse.linalg import cg

from tests.support.networks.solver_targets import EDGE_CASES, edge_target, target_mask
from zutis_model.refinement import bilateral_grid, bilateral_solver
from zutis_model.refinement.bilateral_grid import ColourGrid, build_grid
from zutis_model.refinement.bilateral_solver import refine_mask

IMAGES = ("astronaut", "coffee", "chelsea", "rocket")


def assert_agrees(soft, arrays, tag):
    half = np.unpackbits(arrays[f"{tag}_soft_gt_half_packed"], count=soft.size)
    assert soft.dtype == np.float64
    np.testing.assert_allclose(soft[::4, ::4], arrays[f"{tag}_soft_every4"], rtol=0, atol=1e-6)
    assert np.count_nonzero((soft > 0.5) != half.reshape(soft.shape)) <= 5


@pytest.mark.parametrize("name", IMAGES)
def test_agrees_with_the_reference(name, parity_arrays, parity_json):
    image = getattr(skimage.data, name)()
    (facts,) = [i for i in parity_json("bilateral")["images"] if i["name"] == name]
    if hashlib.sha256(image.tobytes()).hexdigest() != facts["image_sha256"]:
        pytest.skip("another JPEG decoder")
    target = target_mask(name, *image.shape[:2])
    assert hashlib.sha256(target.tobytes()).hexdigest() == facts["target_sha256"]

    assert_agrees(refine_mask(image, target), parity_arrays("bilateral"), name)


@pytest.mark.parametrize("case", EDGE_CASES)
def test_agrees_in_edge_cases(case, parity_arrays):
    image = skimage.data.chelsea()
    soft = refine_mask(image, edge_target(case, *image.shape[:2]))
    assert_agrees(soft, parity_arrays("bilateral"), f"edge_{case}")


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 5), (2, 2), (17, 33)])
@pytest.mark.parametrize("colour", ["noise", "constant", "black", "white"])
def test_tiny_and_flat_images(shape, colour):
    rng = np.random.default_rng(0)
    fill = {"constant": (90, 128, 200), "black": 0, "white": 255}
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    if colour != "noise":
        image[:] = fill[colour]
    for target in (np.zeros(shape), np.ones(shape), rng.random(shape) < 0.5):
        soft = refine_mask(image, target)
        assert soft.shape == shape
        assert np.isfinite(soft).all()
    np.testing.assert_allclose(refine_mask(image, np.ones(shape)), 1.0, atol=1e-9)
    np.testing.assert_array_equal(refine_mask(image, np.zeros(shape)), 0.0)


def test_type_of_the_target_does_not_matter():
    image = skimage.data.chelsea()[:80, :100]
    target = target_mask("chelsea", 80, 100)
    soft = refine_mask(image, target)
    kinds = [target.astype(kind) for kind in (bool, np.int64, np.float16, np.float32, np.float64)]
    for other in (*kinds, np.asfortranarray(target)):
        np.testing.assert_array_equal(refine_mask(image, other), soft)


def solve_with_scipy(image, target, max_iterations):
    """The same solution from explicit matrices, at the default parameters."""
    grid = build_grid(image, 16.0, ColourGrid(16.0, 8.0))
    vertices = len(grid.pixel_counts)
    rows, slots = np.nonzero(grid.neighbours < vertices)
    ones = np.ones(len(rows))
    adjacency = sparse.csr_array((ones, (rows, grid.neighbours[rows, slots])), (vertices,) * 2)
    blur = adjacency + 10 * sparse.eye_array(vertices)
    n = np.ones(vertices)
    for _ in range(10):
        n = np.sqrt(n * grid.pixel_counts / (blur @ n))
    weight, right = 0.999 * grid.pixel_counts, 0.999 * grid.splat(target)
    scale = sparse.diags_array(n)
    mass = sparse.diags_array(n * (blur @ n))
    system = 256 * (mass - scale @ blur @ scale) + sparse.diags_array(weight)
    jacobi = sparse.diags_array(1 / system.diagonal())
    solution, failed = cg(
        system, right, x0=right / weight, M=jacobi, maxiter=max_iterations, rtol=1e-5, atol=0.0
    )
    return grid.slice(solution), failed


@pytest.mark.parametrize(("max_iterations", "converges"), [(1, False), (25, False), (500, True)])
def test_conjugate_gradient_ends_where_scipys_does(max_iterations, converges, make_image):
    image = make_image(5, 100, 120)
    target = target_mask("ends", 100, 120)
    expected, failed = solve_with_scipy(image, target, max_iterations)
    assert (failed == 0) == converges
    soft = refine_mask(image, target, max_iterations=max_iterations)
    # One iteration more or less changes more than this, even when it has converged.
    np.testing.assert_allclose(soft, expected, rtol=0, atol=1e-11)


def test_threads_give_the_same_bits(make_image):
    images = [make_image(seed, 60, 90) for seed in range(8)]
    target = target_mask("threads", 60, 90)
    expected = [refine_mask(image, target) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for soft, one in zip(
                pool.map(lambda image: refine_mask(image, target), images), expected, strict=True
            ):
                np.testing.assert_array_equal(soft, one)


def test_is_compiled_once_for_all_kinds_of_arrays():
    image = skimage.data.chelsea()[:40, :50]
    unwritable = image.copy()
    unwritable.flags.writeable = False
    for view in (image, unwritable, np.asfortranarray(image), image[::-1]):
        for dtype in (bool, np.uint8, np.float32, np.float64):
            refine_mask(view, np.ones((40, 50), dtype))
    assert len(bilateral_solver._conjugate_gradient.signatures) == 1
    assert len(bilateral_grid._number_vertices.signatures) == 1
    assert len(bilateral_grid._add_at.signatures) <= 2  # bytes and floats


def test_arguments_are_left_as_they_were(make_image):
    image, target = make_image(1, 20, 30), np.random.default_rng(0).random((20, 30))
    before = image.copy(), target.copy()
    refine_mask(image, target)
    for array, old in zip((image, target), before, strict=True):
        assert array.flags.writeable
        np.testing.assert_array_equal(array, old)


def test_snaps_to_an_edge():
    image = np.full((64, 64, 3), 40, dtype=np.uint8)
    image[:, 30:] = 210
    target = np.zeros((64, 64), dtype=bool)
    target[:, 34:] = True  # off by four columns
    refined = refine_mask(image, target) > 0.5
    np.testing.assert_array_equal(refined, image[..., 0] > 100)


@pytest.mark.parametrize(
    ("image", "target", "options", "message"),
    [
        (np.zeros((2, 2, 3)), np.zeros((2, 2)), {}, "uint8"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2)), {}, "image"),
        (np.zeros((0, 2, 3), np.uint8), np.zeros((0, 2)), {}, "image"),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3)), {}, "differ"),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), {"sigma_luma": 0}, "sigma_luma"),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), {"confidence": 0}, "confidence"),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), {"smoothness": -1}, "smoothness"),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), {"sigma_chroma": 1e-3}, "sigma_chroma"),
        (np.zeros((2, 2, 3), np.uint8), np.full((2, 2), np.nan), {}, "finite"),
        (np.zeros((2, 2, 3), np.uint8), np.full((2, 2), np.inf, np.float32), {}, "finite"),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), complex), {}, "real"),
    ],
)
def test_wrong_inputs_are_refused(image, target, options, message):
    with pytest.raises(ValueError, match=message):
        refine_mask(image, target, **options)
