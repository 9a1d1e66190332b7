"""The page docs/demo: its files, and what it does in Chromium with networks that were trained here."""

import contextlib
import functools
import gzip
import http.server
import importlib.util
import itertools
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
pytest.importorskip("matplotlib", reason="the extra plots is not installed")

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "demo"
SERVED = [path for path in sorted(FOLDER.iterdir()) if path.suffix != ".png"]
CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
CHROMIUM += ["--disable-background-networking", "--disable-component-update"]
NAMING = ("for", "aria-labelledby", "aria-describedby")


@pytest.fixture(scope="module")
def script():
    """The module docs/demo.py."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "docs" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- the files ----


class Elements(HTMLParser):
    """The elements of a page: [[name, attributes, text in it]]."""

    EMPTY = ("meta", "link", "input")

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])
        if tag not in self.EMPTY:
            self.open.append(self.found[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data


@pytest.fixture(scope="module")
def elements():
    return Elements((FOLDER / "index.html").read_text(encoding="utf-8")).found


def test_sizes():
    packed = {path.name: len(gzip.compress(path.read_bytes())) for path in SERVED}
    assert packed.pop("spirals.json") <= (FOLDER / "spirals.json").stat().st_size < 300_000
    assert {"index.html", "demo.css", "demo.mjs", "net.mjs", "digits.json"} <= packed.keys()
    assert sum(packed.values()) < 100_000
    for width in ("narrow", "wide"):
        assert 10_000 < (FOLDER / f"screenshot-{width}.png").stat().st_size < 150_000


def test_nothing_comes_from_another_host(elements):
    for path in SERVED:
        assert not re.search(r"\b(https?|wss?|ftp)://|@import|url\(", path.read_text(encoding="utf-8")), path
    policies = [each["content"] for _, each, _ in elements if "http-equiv" in each]
    assert policies == ["default-src 'self'; img-src 'self' data:"]
    links = [each[name] for _, each, _ in elements for name in ("src", "href") if name in each]
    assert {link for link in links if not link.startswith("data:image/png;")} == {"demo.css", "demo.mjs"}
    imported = re.findall(r'from "\./(.*)"|load\("(.*)"\)', (FOLDER / "demo.mjs").read_text(encoding="utf-8"))
    assert {one or other for one, other in imported} | {"index.html", "demo.css", "demo.mjs"} == {
        path.name for path in SERVED
    }


def test_what_is_named_is_there(elements):
    """Controls have names, and what refers to others finds them."""
    ids = [attributes["id"] for _, attributes, _ in elements if "id" in attributes]
    assert len({*ids}) == len(ids)
    assert {*re.findall(r'element\("(\w+)"\)', (FOLDER / "demo.mjs").read_text(encoding="utf-8"))} <= {*ids}
    labelled = {attributes.get("for") for tag, attributes, _ in elements if tag == "label"}
    controls = 0
    for tag, attributes, text in elements:
        assert all(attributes[name] in ids for name in NAMING if name in attributes), attributes
        if tag in ("button", "input", "canvas"):
            controls += 1
            assert text.strip() or attributes.get("aria-label") or attributes["id"] in labelled, attributes
    assert controls == 6
    assert elements[0][:2] == ["html", {"lang": "en"}]


def luminance(colour):
    """WCAG 2.2: relative luminance of "#rrggbb"."""
    shares = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(theme):
    """WCAG 2.2: 4.5 of text, 3 of the borders of controls."""
    css = (FOLDER / "demo.css").read_text(encoding="utf-8")
    start = css.index("prefers-color-scheme: dark")
    part = css[:start] if theme == "light" else css[start:]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", part))
    for name, least in {"text": 4.5, "soft": 4.5, "accent": 4.5, "warm": 4.5, "cool": 4.5, "strong-line": 3}.items():
        for behind in ("page", "card"):
            high, low = sorted((luminance(colours[each]) for each in (name, behind)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, (name, behind)


def test_the_records(script):
    """Digits that no network was trained on, each of its class; as many parameters as the networks have."""
    digits, spirals = (json.loads((FOLDER / name).read_text()) for name in ("digits.json", "spirals.json"))
    X, y = script.held_out()
    rows = [np.array([int(ink, 17) for ink in sample]) / 16 for sample in digits["samples"]]
    assert [y[(row == X).all(axis=1)].tolist() for row in rows] == [[digit] for digit in range(10)]
    assert (np.shape(digits["weights"]), len(digits["biases"])) == ((30, 64), 30)
    assert digits["n_held_out"] == len(y) == 297
    assert 280 <= digits["n_right"] <= 297
    n = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(spirals["sizes"]))
    assert len(script.base64.b64decode(spirals["parameters"])) == 2 * n * len(spirals["epochs"])
    assert spirals["epochs"] == script.RECORDED


def test_the_page_shows_what_trains_its_network(elements, script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(next(text for tag, _, text in elements if tag == "pre"), names)
    model = script.write_digits(tmp_path)
    np.testing.assert_array_equal(names["model"].parameters, model.parameters)
    lead = next(text for _, attributes, text in elements if attributes.get("class") == "lead")
    assert f"{model.n_parameters:,} numbers" in lead


# ---- in a browser ----

# Runs in the page; what it finds is sent to the test.
CHECK = r"""
const errors = [];
addEventListener("error", (event) => errors.push(String(event.message)));
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
const found = { errors };
try {
  await run(found);
} catch (error) {
  errors.push(String(error.stack));
}
await fetch("found", { method: "POST", body: JSON.stringify(found) });

async function run(found) {
  const element = (id) => document.getElementById(id), text = (id) => element(id).textContent.trim();
  const until = async (holds) => {
    while (!holds()) await new Promise((done) => setTimeout(done, 10));
  };
  const numbers = (id) =>
    [...element(id).querySelectorAll("li > span:last-child")].map((each) => Number(each.textContent));
  await until(() => !element("learning").hidden);
  const grid = [...document.querySelectorAll("[role=gridcell]")];
  const inks = () => grid.map((cell) => Number(cell.ariaLabel.match(/ink (\d+) of 16/)[1]));
  const state = () => ({ digit: text("digit"), words: text("words"), inks: inks(), outputs: numbers("outputs") });
  found.start = state();

  const [net, committed, drawing, spirals] = await Promise.all(
    ["./net.mjs", "./committed.mjs", "./drawing.mjs", "./spirals.mjs"].map((name) => import(name)),
  );
  const given = await (await fetch("given.json")).json();
  found.classes = given.rows.map(net.classify);
  found.ofCommitted = given.rows.map(committed.classify);
  found.selfTests = [net.selfTest().passed, committed.selfTest().passed];
  found.traced = given.traced.map((strokes) => net.classify(drawing.picture(strokes)));
  found.pictures = given.shapes.map((strokes) => [...drawing.picture(strokes)]);

  const { left, top, width, height } = element("canvas").getBoundingClientRect();
  const fire = (type, [x, y], pointerId = 7, button = 0) => {
    const at = { clientX: left + x * width, clientY: top + y * height };
    element("canvas").dispatchEvent(new PointerEvent(type, { bubbles: true, pointerId, button, ...at }));
  };
  const stroke = (points, pointerId = 7) => {
    fire("pointerdown", points[0], pointerId);
    const seen = points.slice(1).map((point) => (fire("pointermove", point, pointerId), text("digit")));
    const busy = element("verdict").ariaBusy;
    fire("pointerup", points.at(-1), pointerId);
    return { seen, busy, after: element("verdict").ariaBusy, ...state() };
  };
  found.drawn = given.drawn.map(([digit, ...strokes]) => {
    element("clear").click();
    return strokes.map((points) => stroke(points)).at(-1);
  });
  found.two = stroke([[0.1, 0.1], [0.2, 0.1]]).inks;
  element("undo").click();
  found.one = state();
  fire("pointerdown", [0.5, 0.5], 7, 2); // another button does not draw
  fire("pointerdown", [0.5, 0.5], 1);
  fire("pointerdown", [0.1, 0.1], 2); // nor does a second finger
  fire("pointermove", [0.9, 0.9], 2);
  fire("pointercancel", [0.9, 0.9], 1);
  fire("pointermove", [0.9, 0.9], 1);
  element("undo").click();
  found.oneAgain = state();
  fire("pointerdown", [0.5, 0.5], 1); // what empties the canvas ends a stroke
  element("clear").click();
  fire("pointermove", [0.1, 0.1], 1);
  found.cleared = state();

  const press = (key) =>
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const place = () => grid.indexOf(document.activeElement);
  const reachable = () => grid.flatMap((cell, i) => (cell.tabIndex === 0 ? [i] : []));
  grid[reachable()[0]].focus();
  const keys = "ArrowUp ArrowLeft ArrowRight ArrowDown ArrowDown End ArrowRight ArrowUp Home ArrowLeft".split(" ");
  found.places = keys.map((key) => [press(key), place(), reachable()]);
  press(" ");
  found.spaced = { selected: document.activeElement.ariaSelected, ...state() };
  press(" ");
  found.spacedTwice = state();
  grid[given.one[0]].click();
  given.one.slice(1).forEach((i) => {
    while (place() % 8 < i % 8) press("ArrowRight");
    while (place() % 8 > i % 8) press("ArrowLeft");
    while (place() < i) press("ArrowDown");
    press(" ");
  });
  found.byKeys = state();

  found.samples = [...element("buttons").children].map((button) => {
    button.click();
    return { label: button.ariaLabel, hidden: numbers("neurons"), ...state() };
  });

  const slider = element("epoch"), plane = element("plane");
  const weigh = (i) => {
    slider.value = i;
    slider.dispatchEvent(new Event("input"));
    const { data } = plane.getContext("2d").getImageData(0, 0, plane.width, plane.height);
    const sum = [0, 0, 0, 0];
    data.forEach((value, k) => (sum[k % 4] += value));
    return { sum, now: text("now"), progress: text("progress"), spoken: slider.ariaValueText };
  };
  found.epochs = [0, 10, Number(slider.max)].map(weigh);
  const networks = spirals.recorded(await (await fetch("spirals.json")).json());
  found.probabilities = given.points.map(([x, y]) => spirals.probability(networks.at(-1), x, y));
  element("play").click(); // at the end: from the start
  found.playing = [text("play"), slider.value];
  await until(() => slider.value === "3");
  element("play").click();
  found.paused = [text("play"), slider.value];
  await new Promise((done) => setTimeout(done, 400));
  found.still = slider.value;

  const named = (each) => each.labels?.length || each.textContent.trim() || each.ariaLabel;
  found.unnamed = [...document.querySelectorAll("button, input")].filter((each) => !named(each)).length;
  found.controls = document.querySelectorAll("button, input").length;

  const frame = (sandboxed, width) => {
    const made = Object.assign(document.createElement("iframe"), { src: "plain.html", width, height: 800 });
    if (sandboxed) made.sandbox = "allow-same-origin"; // no scripts
    document.body.append(made);
    return new Promise((done) => made.addEventListener("load", () => done(made.contentDocument)));
  };
  const without = await frame(true, 800);
  const shown = (each) => each.checkVisibility({ visibilityProperty: true });
  await until(() => shown(without.getElementById("notice")));
  found.without = [...without.querySelectorAll("#notice, .live, button, input, canvas")].filter(shown).map((e) => e.id);
  found.notice = without.getElementById("notice").textContent;
  const phone = await frame(false, 360);
  await until(() => !phone.getElementById("learning").hidden);
  found.widths = [phone.documentElement.scrollWidth, phone.defaultView.innerWidth];
  found.cell = phone.querySelector("[role=gridcell]").getBoundingClientRect().width;
  found.requests = performance.getEntriesByType("resource").map(({ name }) => name);
}
"""


def arc(x, y, width, height, start, end):
    """Points of an ellipse, from one angle to another."""
    t = np.linspace(start, end, 25) * np.pi
    return np.stack([x + width * np.cos(t), y + height * np.sin(t)], axis=1).tolist()


# (the digit, its strokes).
DRAWN = [
    (0, arc(0.5, 0.5, 0.25, 0.38, -0.5, 1.5)),
    (1, [[0.5, 0.1], [0.5, 0.9]]),
    (2, [*arc(0.5, 0.33, 0.22, 0.2, -1, 0.25), [0.28, 0.88], [0.76, 0.88]]),
    (3, [*arc(0.48, 0.32, 0.2, 0.17, -0.85, 0.5), *arc(0.47, 0.69, 0.24, 0.2, -0.5, 0.85)]),
    (4, [[0.5, 0.1], [0.22, 0.62], [0.78, 0.6]], [[0.66, 0.38], [0.5, 0.9]]),
    (5, [[0.7, 0.12], [0.35, 0.12], [0.32, 0.45], *arc(0.48, 0.64, 0.24, 0.24, -0.6, 0.8)]),
    (7, [[0.25, 0.15], [0.75, 0.15], [0.42, 0.9]], [[0.35, 0.5], [0.7, 0.5]]),
    (9, [*arc(0.48, 0.32, 0.2, 0.2, 0, 2), [0.68, 0.32], *arc(0.48, 0.7, 0.2, 0.2, 0, 0.8)]),
]
SHAPES = {  # strokes
    "nothing": [],
    "dot": [[[0.3, 0.7]]],
    "line": [[[0.2, 0.4], [0.8, 0.4]]],
    "upright line": [[[0.4, 0.2], [0.4, 0.8]]],
    "slanted line": [[[0.6, 0.2], [0.4, 0.8]]],
    "small slanted line": [[[0.13, 0.1], [0.1, 0.19]]],
    "ring": [arc(0.5, 0.5, 0.3, 0.3, 0, 2)],
}
POINTS = np.stack(np.meshgrid(np.linspace(-1, 1, 15), np.linspace(-1, 1, 15)), axis=2).reshape(-1, 2)
ONE = [3, 4, 10, 11, 12, 19, 20, 27, 28, 35, 36, 43, 44, 51, 52, 59, 60]  # cells of a 1, in order


def traced(row):
    """A digit of 8 x 8 as strokes: its dark cells, joined to those beside them."""
    dark = {(int(i), int(j)) for i, j in np.argwhere(row.reshape(8, 8) >= 0.5)}
    strokes = []
    for i, j in sorted(dark):
        steps = [(0, 1), (1, 0)]
        steps += [(1, k) for k in (-1, 1) if not {(i + 1, j), (i, j + k)} & dark]
        ends = [(i + down, j + right) for down, right in steps if (i + down, j + right) in dark]
        strokes += [[[j / 8, i / 8], [end[1] / 8, end[0] / 8]] for end in ends] or [[[j / 8, i / 8]]]
    return strokes


@contextlib.contextmanager
def served(folder):
    """(the port of a server of a folder on this machine, what is posted to it)."""
    posted = queue.Queue()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_POST(self):
            posted.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port, posted
        finally:
            server.shutdown()


def visited(folder, profile):
    """What the page of a folder posts in Chromium."""
    with served(folder) as (port, posted):
        command = [*CHROMIUM, f"--user-data-dir={profile}", "--remote-debugging-port=0"]  # which keeps it open
        process = subprocess.Popen(
            [*command, f"http://127.0.0.1:{port}/"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return posted.get(timeout=120)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def trained(script, tmp_path_factory):
    """(the folder of the page with networks that were trained here, the networks of digits and of spirals)."""
    folder = tmp_path_factory.mktemp("demo") / "page"
    shutil.copytree(FOLDER, folder)
    shutil.copy(folder / "net.mjs", folder / "committed.mjs")
    return folder, script.write_digits(folder), script.write_spirals(folder)


@pytest.fixture(scope="module")
def found(script, trained, tmp_path_factory):
    """What CHECK finds."""
    if shutil.which("chromium") is None:
        pytest.skip("needs chromium")
    folder, _, _ = trained
    X, _ = script.held_out()
    given = {"rows": X.tolist(), "traced": [traced(row) for row in X], "shapes": [*SHAPES.values()]}
    given |= {"drawn": DRAWN, "one": ONE, "points": POINTS.tolist()}
    (folder / "given.json").write_text(json.dumps(given))
    (folder / "check.mjs").write_text(CHECK)
    page = (folder / "index.html").read_text(encoding="utf-8")
    (folder / "plain.html").write_text(page, encoding="utf-8")
    checked = page.replace("</head>", '<script type="module" src="check.mjs"></script></head>')
    (folder / "index.html").write_text(checked, encoding="utf-8")
    found = visited(folder, tmp_path_factory.mktemp("profile"))
    assert found["errors"] == []
    return found


def cells_of(model, inks):
    """The outputs of the network for inks of 0 to 16."""
    return model.predict(np.array(inks)[None] / 16)[0]


@pytest.mark.slow
def test_it_classifies_as_the_model_does(found, trained, script):
    _, model, _ = trained
    X, y = script.held_out()
    assert found["classes"] == model.classify(X).tolist()
    assert np.mean(found["classes"] == y) > 0.95
    assert np.mean(found["ofCommitted"] == y) >= 0.9
    assert found["selfTests"] == [True, True]


@pytest.mark.slow
def test_what_the_page_shows_is_what_the_model_computes(found, trained):
    """Outputs to two digits; of hidden neurons, which have rounded parameters, nearly so."""
    _, model, _ = trained
    assert len(found["samples"]) == 10
    for digit, shown in enumerate(found["samples"]):
        assert shown["label"] == f"Take a handwritten {digit}"
        outputs = cells_of(model, shown["inks"])
        np.testing.assert_allclose(shown["outputs"], outputs, atol=0.0051)
        best, share = int(outputs.argmax()), f"{outputs.max():.2f}"
        assert shown["digit"] == str(best)
        assert share in shown["words"]
        if outputs.max() > 0.5:
            assert shown["words"] == f"This is {'an' if best == 8 else 'a'} {best}, with probability {share}."
        hidden = 1 / (1 + np.exp(-model.weights[0] @ np.array(shown["inks"]) / 16 - model.biases[0]))
        np.testing.assert_allclose(shown["hidden"], hidden, atol=0.01)
    assert sum(each["digit"] == str(digit) for digit, each in enumerate(found["samples"])) >= 9


@pytest.mark.slow
def test_drawing(found, trained):
    """Each movement of the pen is answered, and a screen reader is told when the stroke ends."""
    _, model, _ = trained
    assert (
        found["start"]
        == found["cleared"]
        == {
            "digit": "",
            "words": "Nothing is drawn yet.",
            "inks": [0] * 64,
            "outputs": [0] * 10,
        }
    )
    for shown in found["drawn"]:
        assert set(shown["seen"]) <= {*"0123456789"}
        assert shown["seen"][-1] == shown["digit"] == str(cells_of(model, shown["inks"]).argmax())
        assert (shown["busy"], shown["after"]) == ("true", "false")
    right = [shown["digit"] == str(digit) for (digit, *_), shown in zip(DRAWN, found["drawn"], strict=True)]
    assert sum(right) >= len(DRAWN) - 1
    last = {name: found["drawn"][-1][name] for name in found["one"]}
    assert found["two"] != last["inks"]
    assert found["one"] == found["oneAgain"] == last


@pytest.mark.slow
def test_preprocessing(found, script):
    """Digits of the set, drawn as strokes, are read again; lines stay lines wherever and how large they are drawn."""
    _, y = script.held_out()
    assert np.mean(found["traced"] == y) > 0.8
    pictures = {name: np.reshape(each, (8, 8)) for name, each in zip(SHAPES, found["pictures"], strict=True)}
    assert not pictures["nothing"].any()
    rows, columns = np.nonzero(pictures["dot"])
    assert {*rows, *columns} == {3, 4}
    assert {*np.nonzero(pictures["line"])[0]} == {*np.nonzero(pictures["upright line"])[1]} == {3, 4}
    for name in ("slanted line", "small slanted line"):
        np.testing.assert_allclose(pictures[name], pictures["upright line"], atol=0.3)
    for ink in (pictures["ring"], pictures["upright line"]):
        assert (ink[0] > 0).any()
        assert (ink[-1] > 0).any()
        np.testing.assert_allclose(ink, ink[::-1], atol=0.15)
        np.testing.assert_allclose(ink, ink[:, ::-1], atol=0.15)
    assert 290 <= 16 * pictures["ring"].sum() <= 330  # black pixels, as the digits have
    assert {*np.nonzero(pictures["ring"])[1]} == {*range(1, 7)}  # columns, as the digits have


@pytest.mark.slow
def test_keyboard(found, trained):
    """Arrows stay within the grid, of which one cell is reached by the tabulator; space changes a cell."""
    _, model, _ = trained
    places = [place for _, place, _ in found["places"]]
    assert places == [0, 0, 1, 9, 17, 23, 23, 15, 8, 8]
    assert all(reachable == [place] for _, place, reachable in found["places"])
    assert found["spaced"]["inks"] == [16 * (i == 8) for i in range(64)]
    assert found["spaced"]["selected"] == "true"
    assert found["spaced"]["digit"] == str(cells_of(model, found["spaced"]["inks"]).argmax())
    assert found["spacedTwice"] == found["cleared"]
    assert found["byKeys"]["inks"] == [16 * (i in ONE) for i in range(64)]
    assert found["byKeys"]["digit"] == str(cells_of(model, found["byKeys"]["inks"]).argmax()) == "1"


@pytest.mark.slow
def test_spirals(found, trained):
    """Each epoch has its own picture; the last network is the trained one."""
    _, _, model = trained
    first, middle, last = found["epochs"]
    assert first["sum"] != middle["sum"] != last["sum"]
    assert (first["now"], last["now"]) == ("0", "400")
    right = [float(re.match(r"([\d.]+)% of the points", each["progress"])[1]) for each in (first, middle, last)]
    assert right[0] < 75
    assert right[2] > 99
    assert last["spoken"] == f"epoch 400 of 400, {right[2]:.1f}% correct"
    np.testing.assert_allclose(found["probabilities"], model.predict(POINTS)[:, 0], atol=0.02)
    assert found["playing"] == ["Pause", "0"]
    assert found["paused"] == ["Play", "3"]
    assert found["still"] == "3"


@pytest.mark.slow
def test_everyone_is_served(found):
    """Names of controls, pages without JavaScript, narrow screens, no other host."""
    assert (found["unnamed"], found["controls"]) == (0, 14)
    assert found["without"] == ["notice"]
    assert "needs JavaScript" in found["notice"]
    assert "draw a digit" in found["notice"]
    assert found["widths"][0] <= found["widths"][1] < 400  # nothing to scroll sideways
    assert found["cell"] >= 24  # pixels, WCAG 2.2's least target
    assert len(found["requests"]) > 8
    assert all(name.startswith("http://127.0.0.1:") for name in found["requests"])
