"""The pictures of a profile can be read however crowded they are."""

import itertools
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from PIL import Image
from profiles import part_record, profile_of

from blipbench.profiling.plots import plot_batches, plot_kernels, roofline
from blipbench.profiling.record import KernelRecord, Profile

NAMES = ("patch-embed", "vit", "vit-attention", "vit-mlp", "text-encoder", "self-attention", "text-mlp", "itm", "nlvr")


def crowded(apart: float, batches: tuple[int, ...] = (1,)) -> Profile:
    """Many parts in two precisions whose points are this factor apart."""
    return profile_of(
        *(
            part_record(
                name,
                precision=precision,
                batch=batch,
                flops=1e9 * apart**place,
                moved_bytes=4e7 / batch / faster,
                seconds=[0.006 / faster * apart**place] * 3,
                kernels=[KernelRecord(name="gemm", group="products", count=1, seconds=0.001)],
            )
            for precision, faster in (("fp32", 1), ("bf16", 2))
            for batch in batches
            for place, name in enumerate(NAMES)
        )
    )


def boxes(figure: Figure) -> list[Bbox]:
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    labels = [child for child in figure.axes[0].get_children() if isinstance(child, Annotation)]
    return [Text.get_window_extent(label, renderer) for label in labels]


@pytest.mark.parametrize("apart", [1.0, 1.05, 1.5])
def test_labels_cover_neither_each_other_nor_a_point_in_the_saved_picture(apart: float, tmp_path: Path) -> None:
    profile = crowded(apart)
    figure = roofline(profile)
    figure.savefig(tmp_path / "roofline.png")
    axes, found = figure.axes[0], boxes(figure)
    assert len(found) == len(profile.parts)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(found, 2))
    points = [axes.transData.transform((part.flops / part.moved_bytes, part.flop_rate)) for part in profile.parts]
    assert not any(box.contains(*point) for box in found for point in points)
    frame = axes.get_window_extent()
    assert all(frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1) for box in found)


def test_each_precision_has_its_measured_ceilings_and_its_ridge() -> None:
    figure = roofline(crowded(1.5))
    roofs = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert [line.get_xdata()[1] for line in roofs] == pytest.approx([10, 20])
    assert [line.get_ydata()[1:] for line in roofs] == [pytest.approx([2e11] * 2), pytest.approx([4e11] * 2)]


def test_a_part_without_flops_has_no_place_on_the_roofline() -> None:
    assert len(boxes(roofline(profile_of(part_record("decode", flops=0.0), part_record("vit"))))) == 1


def test_the_pictures_grow_with_what_they_show(tmp_path: Path) -> None:
    for draw in (plot_batches, plot_kernels):
        sizes = []
        for profile in (profile_of(crowded(1.0).parts[0]), crowded(1.1, batches=(1, 2, 4))):
            draw(profile, tmp_path / "picture.png")
            sizes.append(Image.open(tmp_path / "picture.png").height)
        assert sizes[0] <= sizes[1]
