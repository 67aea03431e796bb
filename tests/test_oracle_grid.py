"""Exact hierarchies over small grids: the spine, with latents that are images, is exact too."""

import pytest
import torch
from linear_gaussian import D
from torch import nn

from hvae_course.oracles import Isometry, LinearGaussian, LinearGaussianGrid, isometric_kernel
from hvae_course.oracles.grid import Transposed
from hvae_course.posteriors import Chain


def isometry(channels_in: int, channels_out: int, stride: int) -> Isometry:
    return Isometry(isometric_kernel(channels_in, channels_out, stride, seed=7), stride)


GRIDS = {
    "one level": LinearGaussianGrid(
        LinearGaussian((1.3,), (0.4,)), [isometry(2, 2, 1)], (2, 4, 4)
    ),
    "one resolution": LinearGaussianGrid(
        LinearGaussian((0.9, -0.7), (0.3, 0.5)), [isometry(2, 3, 1), isometry(2, 2, 1)], (2, 3, 3)
    ),
    "three resolutions": LinearGaussianGrid(
        LinearGaussian((0.8, -1.1, 0.6), (0.3, 0.5, 0.2)),
        [isometry(2, 1, 2), isometry(2, 2, 1), isometry(3, 2, 2)],
        (3, 2, 2),
    ),
}
grids = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def assert_exact(grid, posterior):
    model = grid.hvae(posterior)
    x = model.generate(32).px.sample()
    log_w = model(x, 5).log_weight(x)
    expected = grid.log_px(x).repeat_interleave(5)
    torch.testing.assert_close(log_w, expected, rtol=0, atol=1e-10)


CHAIN = LinearGaussian((0.8, -1.1), (0.3, 0.5))
LINKS = [isometry(3, 1, 2), isometry(3, 3, 1)]


@pytest.mark.parametrize(
    ("links", "shape", "match"),
    [
        (LINKS, (2, 2, 2), "A_1 takes 3 channels and z_2 has 2; isometries are listed bottom to"),
        (
            LINKS[::-1],
            (3, 2, 2),
            "A_0 takes 3 channels and what A_1 gives has 1",
        ),
        (LINKS, (3, 2), r"shape is that of z_L, three whole numbers \(C, H, W\), got \(3, 2\)"),
        (LINKS, 12, r"three whole numbers \(C, H, W\), got 12"),
        (LINKS, (3, 2, 0), r"three whole numbers \(C, H, W\), got \(3, 2, 0\)"),
        (LINKS, (3, 2.0, 2), r"three whole numbers \(C, H, W\), got \(3, 2.0, 2\)"),
        (LINKS[:1], (2, 2, 2), "2 levels need as many isometries, got 1"),
    ],
)
def test_grids_that_do_not_fit_together_are_refused_with_what_does_not(links, shape, match):
    with pytest.raises(ValueError, match=match):
        LinearGaussianGrid(CHAIN, links, shape)


def test_a_grid_refuses_other_modules_kernels_and_strides():
    with pytest.raises(TypeError, match=r"isometries are Isometry\(.*, got Identity\(\)"):
        LinearGaussianGrid(CHAIN, [nn.Identity()] * 2, (2, 2, 2))
    with pytest.raises(ValueError, match=r"shape \(C_in, C_out, k, k\), got \(2, 2, 2\)"):
        Isometry(torch.zeros(2, 2, 2), 1)
    for stride in (0, 3):
        with pytest.raises(ValueError, match=f"size 2 lies between 1 and that size, got {stride}"):
            Isometry(torch.zeros(1, 1, 2, 2), stride)
        with pytest.raises(ValueError, match=f"1 and 1 channels with stride {stride}"):
            isometric_kernel(1, 1, stride)
    with pytest.raises(ValueError, match="at least one channel on either side, got 0 and 1"):
        isometric_kernel(0, 1, 1)


def test_a_grid_scores_images_of_its_shape_only():
    """Also flat ones, whose order it cannot know."""
    grid = LinearGaussianGrid(CHAIN, LINKS, (3, 2, 2))
    assert grid.log_px(torch.zeros(5, 1, 4, 4, dtype=D)).shape == (5,)
    for shape in ((5, 16), (5, 4, 4), (5, 4, 4, 1), (5, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"x has shape \(B, 1, 4, 4\) here, got \(5, "):
            grid.log_px(torch.zeros(shape, dtype=D))


@grids
@pytest.mark.parametrize("kind", ["concatenation", "delta", "merge"])
def test_with_the_exact_posterior_every_draw_gives_the_evidence(kind, grid):
    assert_exact(grid, grid.chain.exact_rules(kind))


@pytest.mark.parametrize("name", ["one level", "one resolution"])
def test_a_chain_is_exact_where_the_levels_have_equal_sizes(name):
    """Otherwise z_2 varies more in some directions than in others, and q(z_2 | z_1) too."""
    grid = GRIDS[name]
    first, *rest = grid.chain.posterior_chain()
    links = zip(grid.isometries[1:], rest, strict=True)
    assert_exact(grid, Chain([first, *(nn.Sequential(Transposed(a), q) for a, q in links)]))


@grids
def test_the_transposed_convolution_is_the_transposed_matrix(grid):
    shape = grid.shape
    for convolution, matrix in zip(
        reversed(grid.isometries), reversed(grid.matrices()), strict=True
    ):
        z = torch.randn(4, *shape, dtype=D)
        image = convolution(None, z)
        torch.testing.assert_close(image.flatten(1), z.flatten(1) @ matrix.T)
        image = torch.randn_like(image)
        back = convolution.transposed(image)
        assert back.shape == z.shape
        torch.testing.assert_close(back.flatten(1), image.flatten(1) @ matrix)
        shape = image.shape[1:]


def test_neighbouring_pixels_share_latents():
    """The oracle is not a set of separate pixels: a location of z moves several pixels of x."""
    (matrix,) = GRIDS["one level"].matrices()
    assert ((matrix.abs() > 1e-6).sum(dim=0) > 2).all()
    covariance = GRIDS["three resolutions"].covariance()
    assert (covariance - covariance.diagonal().diag()).abs().max() > 0.1


def test_what_is_not_exact_is_refused():
    chain = LinearGaussian((1.0, 1.0), (0.5, 0.5))
    with pytest.raises(ValueError, match="5 channels do not fit into 1 with stride 2; raise chan"):
        isometric_kernel(5, 1, 2)
    with pytest.raises(ValueError, match="2 levels need as many isometries, got 1; give A_0, ..."):
        LinearGaussianGrid(chain, [isometry(2, 2, 1)], (2, 4, 4))
    longer = Isometry(2 * isometric_kernel(2, 2, 1), 1)
    with pytest.raises(ValueError, match="A_1 does not keep lengths: its columns are orthonormal"):
        LinearGaussianGrid(chain, [isometry(2, 2, 1), longer], (2, 4, 4))
