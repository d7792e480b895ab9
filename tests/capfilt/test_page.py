"""CapFilt's table and its page of examples."""

import io
from pathlib import Path
from typing import Any

import pytest
from goldens import Golden

from blipbench.capfilt.page import choose_examples, print_capfilt, render_report
from blipbench.capfilt.result import CapfiltResult, JudgedImage, JudgedText, count
from blipbench.reporting.terminal import result_console

MODEL = {"file": "model.pth", "sha256": "0123456789abcdef" * 4, "size": "base", "image_size": 384}


def image(path: Path, name: str, *texts: JudgedText) -> JudgedImage:
    return JudgedImage(name, path, texts)


@pytest.fixture
def images(golden: Golden) -> list[JudgedImage]:
    picture = golden.pictures()[0]
    return [
        image(picture, "a.png", JudgedText("cheap shoes", False, False, 0.031), JudgedText("a ship", True, True, 0.97)),
        image(picture, "b.png", JudgedText("a dog", False, True, 0.8), JudgedText("a cat", True, False, 0.2)),
    ]


def result(images: list[JudgedImage], **changes: Any) -> CapfiltResult:
    record = {
        "status": "complete",
        "created": "2026-01-01T00:00:00+00:00",
        "out": "boot.json",
        "report": "boot.html",
        "counts": count(images, failed=len(changes.get("failures", []))),
        "captioner": MODEL,
        "filter": MODEL,
        "settings": {"top_p": 0.9},
        "data": {
            "annotation": "web.json",
            "annotation_sha256": "a" * 64,
            "counts": {"images": 2, "texts": 2},
            "limited_from": None,
        },
        "failures": [],
        "stages": [],
        "environment": {
            "blipbench": "0",
            "python": "3",
            "torch": "2",
            "platform": "p",
            "device": "cpu",
            "driver": None,
            "precision": "fp32",
            "threads": 1,
            "world_size": 1,
            "git_commit": None,
        },
        "seed": 0,
    }
    return CapfiltResult.model_validate({**record, **changes})


def page(images: list[JudgedImage], **changes: Any) -> str:
    return render_report(result(images, **changes), images, images, lambda items: None)


def test_texts_stand_beside_their_picture_with_verdict_and_probability(images: list[JudgedImage]) -> None:
    html = " ".join(page(images).split())
    shoes, ship = html.index("cheap shoes"), html.index("a ship")
    assert html.count('<img src="data:image/jpeg;base64,') == 2
    assert html.rindex('class="is-dropped"', 0, shoes) > html.index("a.png")
    assert html.rindex('class="is-kept"', 0, ship) > shoes
    assert "3% ✗" in html and "97% ✓" in html
    assert "T<sub>w</sub>" in html[:shoes] and "T<sub>s</sub>" in html[shoes:ship]


def test_the_counts_are_at_the_top(images: list[JudgedImage]) -> None:
    top = " ".join(page(images).split("<h2>")[0].split())
    assert "2 images" in top
    assert top.count("50.0%") == 2
    assert "1 kept" in top and "1 dropped" in top


def test_a_page_is_grouped_by_what_was_kept(images: list[JudgedImage]) -> None:
    html = page(images)
    assert "Web text dropped, synthetic text kept" in html
    assert "Web text kept, synthetic text dropped" in html


def test_nothing_from_the_web_becomes_markup(golden: Golden) -> None:
    hostile = "<script>alert('x')</script>"
    judged = [image(golden.pictures()[0], f'"><img src=x>{hostile}', JudgedText(hostile, False, True))]
    html = page(judged, data={**result(judged).data.model_dump(), "annotation": hostile})
    assert "<script" not in html and "<img src=x>" not in html
    assert html.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") == 4  # title, heading, name, text


def test_without_a_captioner_there_is_no_synthetic_text(golden: Golden) -> None:
    judged = [image(golden.pictures()[0], "a.png", JudgedText("a dog", False, True, 0.9))]
    html = page(judged, captioner=None)
    assert "ynthetic" not in html and "captioner: none" in " ".join(html.split())


def test_without_a_filter_there_are_no_probabilities(golden: Golden) -> None:
    judged = [image(golden.pictures()[0], "a.png", JudgedText("a dog", False, True), JudgedText("x", True, True))]
    html = " ".join(page(judged, filter=None).split())
    assert "every text is kept" in html and "probability" not in html and "%" not in html.split("<h2>")[1]


def test_images_that_failed_are_mentioned(images: list[JudgedImage]) -> None:
    failure = {"stage": "caption", "unit": "image-7", "error": "c.png: not an image"}
    assert "1 image is left out" in page(images, failures=[failure], status="incomplete")


def test_examples_show_every_outcome_and_are_the_same_for_the_same_seed(golden: Golden) -> None:
    picture = golden.pictures()[0]
    common = [image(picture, str(i), JudgedText("x", False, True)) for i in range(98)]
    rare = [image(picture, name, JudgedText("x", False, False)) for name in ("rare", "scarce")]
    chosen = choose_examples([*common, *rare], 10, seed=0)
    assert len(chosen) == 10
    assert {"rare", "scarce"} < {example.name for example in chosen}
    assert choose_examples([*common, *rare], 10, seed=0) == chosen
    assert choose_examples([*common, *rare], 10, seed=1) != chosen


def test_the_terminal_shows_counts_failures_and_files(images: list[JudgedImage]) -> None:
    failure = {"stage": "caption", "unit": "image-7", "error": "c.png: not an image"}
    stream = io.StringIO()
    print_capfilt(result(images, failures=[failure], status="incomplete"), result_console(stream))
    rows = [line.split() for line in stream.getvalue().splitlines()]
    assert ["web", "1", "1", "50.0%"] in rows and ["synthetic", "1", "1", "50.0%"] in rows
    for expected in ("incomplete", "c.png: not an image", "boot.json", "boot.html"):
        assert expected in stream.getvalue()
