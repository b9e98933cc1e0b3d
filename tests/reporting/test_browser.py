"""The page in a real browser: it draws, sorts, filters, and asks nobody for anything."""

import pytest

from marginbench.experiments.suites import Suite
from marginbench.reporting.page import write_report
from tests import browser
from tests.reports.frames import frame, row, with_history

pytestmark = pytest.mark.skipif(
    browser.installed() is None, reason="no Chromium here: apt-get install chromium"
)
HEADS = {"softmax": 0.30, "arcface": 0.20, "hinge": 0.35, "curricularface": 0.31}
SECTIONS = ("overfitting", "comparison", "account")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page of four heads with three seeds, and a name as hostile as names can be."""
    folder = tmp_path_factory.mktemp("browser")
    rows = [
        row(head, None, seed, error + 0.01 * seed * (1 + len(head) % 3), setting="</script>, A")
        for head, error in HEADS.items()
        for seed in range(3)
    ]
    suite = Suite("tested", "a suite", "nothing", 3, "softmax", SECTIONS, lambda seeds: [])
    report = write_report(frame(with_history(rows, folder, (25, 200))), suite, folder / "report")
    assert report.failed_sections == []
    return report


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    """The page on a screen of 1280 × 900 pixels: one browser for all tests."""
    profile = tmp_path_factory.mktemp("profile")
    with browser.Browser(browser.installed(), profile) as page:
        page.screen(1280, 900)
        page.open(f"file://{report.page}")
        yield page


@pytest.fixture(autouse=True)
def nothing_wrong(page):
    yield
    assert page.errors == []
    assert page.requests == []


LINES = "document.querySelectorAll('#overfitting .panels > div:first-child .mark-line path').length"


def test_charts_stand_in_place_of_the_still_pictures(page):
    charts = page.run("document.querySelectorAll('script.chart').length")
    assert charts == 2
    assert page.run("document.querySelectorAll('figure.drawn').length") == charts
    assert page.run("[...document.querySelectorAll('figure.drawn img')].every(i => i.hidden)")
    assert page.run(LINES) == len(HEADS)


def test_lines_switch_off_and_on(page):
    box = "document.querySelector('#overfitting input[name=arcface]').click()"
    frames = "new Promise(done => setTimeout(done, 100))"
    page.run(f"{box}; {frames}")
    assert page.run(LINES) == len(HEADS) - 1
    page.run(f"{box}; {frames}")
    assert page.run(LINES) == len(HEADS)
    for name, left in (("none", 0), ("all", len(HEADS))):
        buttons = "[...document.querySelectorAll('#overfitting .legend button')]"
        page.run(f"{buttons}.find(b => b.textContent == '{name}').click(); {frames}")
        assert page.run(LINES) == left


def test_the_pointer_shows_the_values(page):
    chart = "document.querySelector('#overfitting .panels svg')"
    page.run(f"{chart}.scrollIntoView({{block: 'center'}})")
    place = page.run(f"{chart}.getBoundingClientRect().toJSON()")
    for share in (0.5, 0.6):
        page.point_at(place["x"] + share * place["width"], place["y"] + place["height"] / 2)
    told = page.run("document.getElementById('tip').innerText")
    assert "head" in told
    assert "iteration" in told
    assert "highest seed" in told


def column(page, number):
    return page.run(
        f"[...document.querySelectorAll('#comparison figure.table:last-of-type tbody tr')]"
        f".map(r => r.cells[{number}].textContent)"
    )


def test_tables_sort_both_ways(page):
    heads = "[...document.querySelectorAll('#comparison figure.table:last-of-type th')]"
    names = page.run(f"{heads}.map(h => h.textContent)")
    place = names.index("test error %")
    given = column(page, 0)
    page.run(f"{heads}[{place}].firstChild.click()")
    assert column(page, 0) == ["arcface", "softmax", "curricularface", "hinge"]
    page.run(f"{heads}[{place}].firstChild.click()")
    assert column(page, 0) == ["hinge", "curricularface", "softmax", "arcface"]
    assert given == list(HEADS)


def test_the_data_of_a_chart_are_in_the_page(page, report):
    link = "document.querySelector('#overfitting figure a.csv')"
    address, name = page.run(f"[{link}.href, {link}.download]")
    assert address.startswith("blob:")
    assert page.run(f"fetch({link}.href).then(r => r.text())") == (
        (report.page.parent / name).read_text()
    )


def test_a_phone_cuts_nothing(page):
    page.screen(400, 860)
    assert page.run("document.documentElement.scrollWidth") <= 400
    edges = "[...document.querySelectorAll('figcaption, .panels svg, .findings')]"
    assert page.run(f"Math.max(...{edges}.map(e => e.getBoundingClientRect().right))") <= 400
    assert page.run("document.querySelector('figcaption').getBoundingClientRect().height") > 40
    page.screen(1280, 900)


def test_charts_have_room_for_their_labels(page):
    """Vega measures them with a font; another one's may be wider."""
    for width in (400, 1280):
        page.screen(width, 900)
        outside = page.run(
            "[...document.querySelectorAll('.panels svg')].flatMap(svg => {"
            "  const place = svg.getBoundingClientRect();"
            "  return [...svg.querySelectorAll('.role-axis-label text')].filter(text => {"
            "    const own = text.getBoundingClientRect();"
            "    return own.left < place.left - 1 || own.right > place.right + 1;"
            "  }).map(text => text.textContent)"
            "})"
        )
        assert outside == []
        nearest = page.run(
            "Math.min(...[...document.querySelectorAll('.panels svg .role-axis-label')].flatMap("
            "  axis => [...axis.querySelectorAll('text')]"
            "    .filter(text => getComputedStyle(text).opacity > 0)"
            "    .map(text => text.getBoundingClientRect())"
            "    .flatMap((own, number, all) => number && own.top == all[0].top"
            "      ? [own.left - all[number - 1].right] : [])))"
        )
        assert 4 < nearest < width
    assert page.run("document.querySelectorAll('.panels .role-axis-label text').length") > 10


def test_dark_and_print_render(page):
    background = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('.panels svg text')).fill"
    light = page.run(background), page.run(ink)
    page.screen(1280, 900, dark=True)
    assert page.run(background) == "rgb(23, 24, 27)"
    # Figures stay as they are in the light, on white.
    panel = "getComputedStyle(document.querySelector('.panels > div')).backgroundColor"
    assert (page.run(panel), page.run(ink)) == ("rgb(255, 255, 255)", light[1])
    assert page.run("getComputedStyle(document.querySelector('.panels svg path')).filter") == "none"
    page.screen(1280, 900, dark=True, medium="print")
    assert page.run(background) == light[0] == "rgb(255, 255, 255)"
    assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    page.screen(1280, 900)
    assert (page.run(background), page.run(ink)) == light
    assert page.paper().startswith(b"%PDF")
