import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from PIL import Image

from sandbox.renderer import Renderer, RendererUnavailable

ROOT = Path(__file__).parents[3]
SERVER = ROOT / "sandbox" / "quickchart"
BARS = {"type": "bar", "data": {"labels": ["a"], "datasets": [{"data": [1], "backgroundColor": "#FF0000"}]}}


@pytest.fixture(scope="module")
def url():
    try:
        with Renderer() as renderer:
            yield renderer.url
    except RendererUnavailable as error:
        pytest.skip(str(error))


def post(url, body):
    return requests.post(url, data=body if isinstance(body, bytes) else json.dumps(body), timeout=10)


def listens(url):
    try:
        return requests.get(url, timeout=10).status_code > 0
    except requests.ConnectionError:
        return False


def program(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_it_listens_on_this_machine_only_and_is_healthy(url):
    assert url.startswith("http://127.0.0.1:")
    assert requests.get(url.replace("/chart", "/healthcheck"), timeout=10).json() == {"success": True}


@pytest.mark.parametrize("chart", [BARS, json.dumps(BARS)])
@pytest.mark.parametrize("version", ["2", "2.9.4", "4"])
def test_a_chart_is_a_png_of_the_size_that_was_asked_for(url, version, chart):
    body = {"version": version, "width": 200, "height": 100, "backgroundColor": "#00FF00", "chart": chart}
    answer = post(url, {**body, "devicePixelRatio": 3})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    image = Image.open(io.BytesIO(answer.content)).convert("RGB")
    assert image.size == (600, 300)
    assert image.getpixel((1, 1)) == (0, 255, 0)
    assert (255, 0, 0) in {color for _, color in image.getcolors(1 << 16)}


def test_as_at_the_service_a_chart_is_500_by_300_at_twice_the_pixels_and_transparent(url):
    image = Image.open(io.BytesIO(post(url, {"chart": BARS}).content))
    assert image.size == (1000, 600)
    assert image.convert("RGBA").getchannel("A").getpixel((1, 1)) == 0


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"chart": {**BARS, "type": "pretzel"}}, 400, "pretzel"),
        ({"chart": "{type: 'bar'}"}, 400, "chart is not JSON"),
        ({"chart": [1]}, 400, "chart is not a JSON object"),
        ({}, 400, "You are missing variable `c` or `chart`"),
        ({"chart": BARS, "width": 3001}, 400, "width is 3001; valid is 1 to 3000 pixels"),
        ({"chart": BARS, "height": 0}, 400, "height is 0; valid is 1 to 3000 pixels"),
        ({"chart": BARS, "version": "9"}, 400, "Chart.js version 9 is unknown; valid are 2.9.4 and 4"),
        ({"chart": BARS, "format": "pdf"}, 400, "format is pdf; valid is png"),
        ({"chart": BARS, "devicePixelRatio": 99}, 400, "devicePixelRatio is 99; valid is 1 to 4"),
        (b"not json", 400, "The request is not JSON"),
        (b" " * 200_000, 413, "The request is larger than 102400 bytes"),
    ],
)
def test_a_mistake_is_answered_with_a_picture_of_its_message(url, body, status, message):
    answer = post(url, body)
    assert answer.status_code == status
    assert message in answer.headers["X-quickchart-error"]
    assert Image.open(io.BytesIO(answer.content)).height == 40


def test_the_server_survives_mistakes(url):
    post(url, {"chart": {"type": "bar", "data": {"datasets": 7}}})
    assert post(url, {"chart": BARS}).status_code == 200


def test_an_unknown_address_is_not_found(url):
    assert requests.get(url + "s", timeout=10).status_code == 404


def test_stop_ends_the_server_and_start_begins_again(url):
    renderer = Renderer()
    renderer.stop()
    renderer.start()
    first = renderer.url
    renderer.start()
    assert renderer.url == first
    renderer.stop()
    assert renderer.url == ""
    assert not listens(first)


def test_the_server_does_not_outlive_a_parent_that_was_killed(url):
    code = "from sandbox.renderer import Renderer; r = Renderer(); r.start(); print(r.url, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        orphan = parent.stdout.readline().strip()
        assert requests.get(orphan, timeout=10).status_code == 404
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while listens(orphan):
        assert time.monotonic() < deadline


def test_path_and_home_are_enough_of_an_environment(url):
    code = "from sandbox.renderer import Renderer\nwith Renderer() as r: print(r.url)"
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("http://127.0.0.1:"), done.stderr


def test_without_node_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RendererUnavailable, match=r"need Node.js 18 or newer \(none found on PATH\)"):
        Renderer().start()


@pytest.mark.parametrize(("script", "found"), [("echo v16.20.2", "v16.20.2"), ("echo no >&2; exit 1", "broken")])
def test_a_node_that_is_too_old_or_does_not_run_is_named(tmp_path, monkeypatch, script, found):
    program(tmp_path, "node", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RendererUnavailable, match=f"node is {found}"):
        Renderer().start()


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "quickchart"
    home.mkdir()
    for name in ("server.js", "package-lock.json"):
        shutil.copy(SERVER / name, home)
    return home


def fake_node(folder, monkeypatch, npm):
    program(folder, "node", 'test "$1" = --version && echo v20.0.0 && exit\necho \'{"port": 7}\'; read line')
    program(folder, "npm", npm)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_when_npm_fails_its_reason_is_told(home, tmp_path, monkeypatch):
    complaint = (
        "npm error code ENOTFOUND\nnpm error syscall getaddrinfo\nnpm error network no internet\nnpm error A log"
    )
    fake_node(tmp_path, monkeypatch, f"echo '{complaint}' >&2; exit 1")
    with pytest.raises(RendererUnavailable, match=r"^npm could not install what charts need: network no internet; "):
        Renderer(home).start()


def test_packages_are_installed_once_and_again_when_the_lock_file_changes(home, tmp_path, monkeypatch):
    install = "echo run >> ../runs; mkdir -p node_modules; touch node_modules/.package-lock.json"
    fake_node(tmp_path, monkeypatch, install)
    for runs in ("run\n", "run\n", "run\nrun\n"):
        if runs == "run\nrun\n":
            os.utime(home / "package-lock.json", (time.time() + 60,) * 2)
        with Renderer(home) as renderer:
            assert renderer.url == "http://127.0.0.1:7/chart"
        assert (tmp_path / "runs").read_text() == runs


def test_two_processes_install_one_after_the_other(home, tmp_path, monkeypatch):
    install = (
        "mkdir ../busy && sleep 0.2 && rmdir ../busy; mkdir -p node_modules; touch node_modules/.package-lock.json"
    )
    fake_node(tmp_path, monkeypatch, f"echo run >> ../runs; {install}")
    code = f"from pathlib import Path; from sandbox.renderer import Renderer\nwith Renderer(Path({str(home)!r})): pass"
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]
    assert [process.wait(20) for process in both] == [0, 0]
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_server_that_cannot_start_says_why(home, tmp_path, monkeypatch):
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    (home / "node_modules").mkdir()
    (home / "node_modules" / ".package-lock.json").touch()
    with pytest.raises(RendererUnavailable, match="ended at once: Error: Cannot find module '@napi-rs/canvas'"):
        Renderer(home).start()


def test_what_is_shipped_names_no_registry():
    for name in ("package.json", "package-lock.json", ".npmrc"):
        assert 'resolved"' not in (SERVER / name).read_text()
        assert "registry=" not in (SERVER / name).read_text()
