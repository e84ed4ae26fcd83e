"""The demonstration's page: complete, self-contained, and safe with any text."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from PIL import Image

from flows.demo.page import (
    Curve,
    Figure,
    Page,
    Scene,
    ScenePanel,
    SceneSheet,
    ScoreTable,
    Series,
    Thumbnail,
    goals_in_words,
    render_page,
)
from flows.reports.parts import CategoryGallery, CategoryRow
from flows.summaries.data_uris import data_uri
from tasks.packing.mask_sheet import MASK_COLOUR, TRUTH_COLOUR
from tests.support.made_reports import empty_report, report_of
from tests.support.pages import LOADS, Reader


def picture_file(kind: str = "PNG", colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(buffer, kind)
    return buffer.getvalue()


def picture(caption: str = "IoU 0.93", right: bool = True) -> Thumbnail:
    return Thumbnail(image=picture_file(), caption=caption, right=right)


def figure(**values: Any) -> Figure:
    return Figure(**{"baseline": "", "command": "zutis demo --folder .", **values})


def full_page() -> Page:
    return Page(
        title="One run",
        lead="What this run came to.",
        facts=(("Corpus", "4,000 images"), ("Wall time", "14 min")),
        systems=ScoreTable(
            title="Systems",
            note="Of one CLIP.",
            columns=("", "mean IoU"),
            rows=(("MaskCLIP", "29.2"), ("the ceiling", "-")),
            command="zutis demo --ceiling",
        ),
        figures=(
            figure(name="precision@60", value="97.1 %", goal="at least 95 %", reached=True),
            figure(
                name="mIoU",
                value="61 %",
                goal="at least 65 %",
                reached=False,
                note="scenes",
                baseline="40 %, MaskCLIP",
                command="zutis evaluate --on x",
            ),
            figure(name="accuracy", value="92 %", goal="", reached=None),
            figure(name="wall time", value="—", goal="at most 1 min", reached=None),
        ),
        tables=(
            ScoreTable(
                title="Scores",
                note="In percent.",
                columns=("category", "IoU"),
                rows=(("star", "91.2"), ("key", "80.5")),
                command="zutis evaluate --on x",
            ),
        ),
        build=replace(
            empty_report(),
            categories=tuple(
                CategoryRow(category_id=at, name=name, retrieved=1, kept=1, labels=1, quality=None)
                for at, name in enumerate(("star", "crescent moon"), start=1)
            ),
            galleries=(
                CategoryGallery(name="star", note="precision 0.50", thumbnails=(picture(),)),
                CategoryGallery(
                    name="crescent moon", note="", thumbnails=(picture("IoU 0.10", right=False),)
                ),
            ),
        ),
        worst=(picture("key, IoU 0.02"),),
        curves=(
            Curve(
                title="Loss",
                x_label="iteration",
                y_label="loss",
                series=(Series(name="training", points=((0.0, 2.0), (10.0, 0.5))),),
            ),
        ),
        scenes=SceneSheet(
            note="truth, prediction",
            command="zutis evaluate --on y",
            scenes=(
                Scene(
                    title="Scene 1",
                    panels=(
                        ScenePanel(label="image", image=picture_file("JPEG"), alt="a scene"),
                        ScenePanel(label="truth", image=picture_file("JPEG"), alt="a star"),
                    ),
                ),
            ),
        ),
        again="zutis demo --folder .",
        commands=(("Build it again", "zutis demo --seed 0"),),
    )


EMPTY = Page(
    title="One run", lead="", facts=(), systems=None, figures=(), tables=(), build=None, worst=(),
    curves=(), scenes=SceneSheet(note="", command="", scenes=()), again="", commands=(),
)  # fmt: skip


def ids(reader: Reader) -> list[str]:
    return [attributes["id"] or "" for _, attributes in reader.tags if "id" in attributes]


@pytest.mark.parametrize("page", [full_page(), EMPTY], ids=["full", "empty"])
def test_it_is_well_formed_and_loads_nothing(page):
    html = render_page(page)
    reader = Reader(html)
    assert html.startswith("<!doctype html>")
    for _, attributes in reader.tags:
        for name in LOADS & attributes.keys():
            assert (attributes[name] or "").startswith(("data:", "#"))
    assert not reader.of("script")
    assert "@import" not in html
    assert "url(" not in html
    assert "http:" not in html
    assert "https:" not in html


def test_every_text_that_was_handed_in_is_on_the_page():
    reader = Reader(render_page(full_page()))
    texts = {text for _, text in reader.texts}
    assert {
        "One run", "What this run came to.", "Corpus", "4,000 images", "precision@60", "97.1 %",
        "at least 95 %", "scenes", "In percent. Given again by command", "category", "star", "91.2",
        "precision 0.50",
        "IoU 0.93", "key, IoU 0.02", "iteration", "truth, prediction Given again by command",
        "Build it again",
        "zutis demo", "40 %, MaskCLIP", "Scene 1", "truth",
    } <= texts  # fmt: skip


def lines(html: str) -> list[str]:
    """All command lines of a page, as users copy them."""
    return [unescape(re.sub("<[^>]*>", "", one)) for one in re.findall("<code>(.*?)</code>", html)]


def test_every_figure_leads_to_the_command_that_gives_it_again():
    html = render_page(full_page())
    assert lines(html) == [
        "zutis demo --ceiling", "zutis demo --folder .", "zutis evaluate --on x",
        "zutis evaluate --on y", "zutis demo --seed 0",
    ]  # fmt: skip
    named = dict(re.findall(r'<dt id="command-(\w)">\w</dt><dd><pre[^>]*><code>([^<]*)', html))
    assert named.keys() == {"A", "B", "C", "D"}
    figures = html.partition('<section id="figures">')[2].partition("</section>")[0]
    rows = re.findall(r"<tr><th scope=\"row\">([^<]*).*?</tr>", figures, re.DOTALL)
    letters = re.findall(r'<td class="command"><a class="letter" href="#command-(\w)"', figures)
    assert dict(zip(rows, letters, strict=False)) == {
        "precision@60": "B", "mIoU": "C", "accuracy": "B", "wall time": "B",
    }  # fmt: skip
    parts = {"systems": "A", "tables": "C", "worst": "B", "scenes": "D"}
    for part, letter in parts.items():
        section = html.partition(f'<section id="{part}">')[2].partition("</section>")[0]
        assert f'href="#command-{letter}"' in section, part


def test_options_are_not_broken_at_their_hyphens():
    assert "<code>zutis demo <span>--seed</span> 0</code>" in render_page(full_page())


def test_the_images_have_a_legend_in_the_colours_that_are_drawn():
    html = render_page(full_page())
    worst = html.partition('<section id="worst">')[2].partition("</section>")[0]
    galleries = html.partition('<section id="galleries">')[2].partition("</section>")[0]
    for section in (worst, galleries):
        assert f"rgb{MASK_COLOUR}" in section
        assert "yellow edge: of the mask that was made" in section
        assert "dimmed: what lies outside" in section
        assert "dashed frame" in section
    assert f"rgb{TRUTH_COLOUR}" in worst
    assert "blue edge: of the true mask" in worst
    assert "blue" not in galleries, "the truth is not drawn there"


def test_views_of_one_scene_stand_in_one_row_and_say_what_they_show():
    html = render_page(full_page())
    [row] = re.findall(r'<ul class="scene">(.*?)</ul>', html, re.DOTALL)
    assert re.findall(r'alt="([^"]*)"><span>([^<]*)</span>', row) == [
        ("Scene 1; a scene", "image"), ("Scene 1; a star", "truth"),
    ]  # fmt: skip


def test_figures_say_in_words_what_was_reached():
    html = render_page(full_page())
    marks = re.findall(r'<td class="mark (\w+)">(.*?)</td>', html)
    assert marks == [
        ("reached", "✓ reached"),
        ("missed", "✗ missed"),
        ("none", "\N{EN DASH} no goal"),
        ("none", "\N{EN DASH} not measured"),
    ]
    assert "1 of 2 goals reached." in html


def test_goals_are_counted_where_there_are_any():
    goal = figure(name="a", value="1", goal="1", reached=True)
    assert goals_in_words((goal,)) == "1 of 1 goal reached."
    assert goals_in_words((goal, replace(goal, reached=False))) == "1 of 2 goals reached."
    assert goals_in_words((replace(goal, reached=None),)) == ""


def test_a_picture_of_something_else_is_marked_in_words_and_in_its_alternative_text():
    html = render_page(full_page())
    before, _, after = html.partition('<section id="worst">')
    [marked] = re.findall(r'<li class="wrong"><img.*? alt="([^"]+)".*?>(<b>.*?</b>)', before)
    assert marked == ("crescent moon: IoU 0.10; does not show the category", "<b>✗ wrong</b>")
    assert '<li class="wrong">' not in after.partition("</section>")[0]


def test_the_contents_lead_to_the_headings_in_their_order():
    html = render_page(full_page())
    reader = Reader(html)
    contents = re.search(r'<nav class="contents".*?</nav>', html, re.DOTALL)
    assert contents is not None
    entries = re.findall(r'href="#([\w-]+)">(.*?)</a>', contents[0])
    assert entries == re.findall(r'<section id="([\w-]+)">\s*<h2>(.*?) <a', html)
    assert len(entries) == 9
    targets = [link["href"] or "" for link in reader.of("a")]
    assert {target[1:] for target in targets} <= set(ids(reader))
    assert "#category-2-crescent-moon" in targets


def test_parts_without_content_have_no_heading():
    reader = Reader(render_page(replace(full_page(), build=None, worst=(), scenes=EMPTY.scenes)))
    assert reader.inside("h2") == ["Systems", "Results", "Scores", "Curves", "Commands"]
    assert not Reader(render_page(EMPTY)).of("section")


def test_texts_are_never_markup():
    nasty = '<script>alert("1")</script>&amp;'
    page = Page(
        title=nasty,
        lead=nasty,
        facts=((nasty, nasty),),
        systems=ScoreTable(
            title=nasty, note=nasty, columns=(nasty,), rows=((nasty,),), command=nasty
        ),
        figures=(
            Figure(
                name=nasty,
                value=nasty,
                baseline=nasty,
                goal=nasty,
                reached=True,
                command=nasty,
                note=nasty,
            ),
        ),
        tables=(
            ScoreTable(title=nasty, note=nasty, columns=(nasty,), rows=((nasty,),), command=nasty),
        ),
        build=report_of(nasty),
        worst=(picture(nasty, right=False),),
        curves=(
            Curve(
                title=nasty,
                x_label=nasty,
                y_label=nasty,
                series=(Series(name=nasty, points=((0.0, 1.0),)),),
            ),
        ),
        scenes=SceneSheet(
            note=nasty,
            command=nasty,
            scenes=(
                Scene(
                    title=nasty,
                    panels=(ScenePanel(label=nasty, image=picture_file(), alt=nasty),),
                ),
            ),
        ),
        again=nasty,
        commands=((nasty, nasty),),
    )
    reader = Reader(render_page(page))
    assert not reader.of("script")
    assert reader.inside("h1") == [nasty]
    assert reader.inside("code").count(nasty) >= 2


def test_images_are_in_the_page_byte_by_byte():
    page = full_page()
    sources = [image["src"] or "" for image in Reader(render_page(page)).of("img")]
    assert len(sources) == 5
    assert sources[0].startswith("data:image/png;base64,")
    assert base64.b64decode(sources[0].partition(",")[2]) == picture().image
    assert sources[3].startswith("data:image/jpeg;base64,")
    image = page.scenes.scenes[0].panels[0].image
    assert base64.b64decode(sources[3].partition(",")[2]) == image


@pytest.mark.parametrize("image", [b"", b"GIF89a", b"<svg>"])
def test_other_files_are_refused(image):
    with pytest.raises(ValueError, match="neither a PNG nor a JPEG"):
        data_uri(image)
    with pytest.raises(ValueError, match="neither a PNG nor a JPEG"):
        render_page(replace(EMPTY, worst=(replace(picture(), image=image),)))


def test_a_row_has_a_cell_for_each_column():
    with pytest.raises(ValueError, match="'Scores' has 1 cells for 2 columns"):
        ScoreTable(
            title="Scores", note="", columns=("category", "IoU"), rows=(("star",),), command=""
        )


def test_the_same_page_is_rendered_twice_alike_and_weighs_little():
    page = full_page()
    html = render_page(page)
    assert html == render_page(page)
    assert len(html) < 27_000
