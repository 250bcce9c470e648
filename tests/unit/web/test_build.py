import json
import os
import re
import shutil
import time

import pytest

from sandbox.npm import NodeUnavailable
from web.build import APP, FILES, BuildError, build_assets, is_built, main

WRITES_ALL = (
    'test "$1" = --version && echo v20.0.0 && exit\nfor f in ' + " ".join(FILES) + '; do echo $f > "$2/$f"; done'
)
INSTALLS = "mkdir -p node_modules; touch node_modules/.package-lock.json"


@pytest.fixture
def app(tmp_path):
    """A copy of the sources, without packages."""
    return shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns("node_modules"))


def tools(folder, monkeypatch, node=WRITES_ALL, npm=INSTALLS):
    """Put a node and an npm that are shell scripts on PATH."""
    for name, script in (("node", node), ("npm", npm)):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_without_node_one_line_tells_it_and_nothing_fails(app, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(app, tmp_path / "assets") == 0
    assert capsys.readouterr().err == ("Left out: the market's pages need Node.js 18 or newer (none found on PATH)\n")
    assert not (tmp_path / "assets").exists()


def test_when_npm_fails_the_pages_are_left_out_with_its_reason(app, tmp_path, monkeypatch, capsys):
    tools(tmp_path, monkeypatch, npm="echo 'npm error network no internet' >&2; exit 1")
    assert main(app, tmp_path / "assets") == 0
    assert "npm could not install what the market's pages need: network no internet\n" in capsys.readouterr().err


def test_it_builds_once_and_again_when_a_source_changes(app, tmp_path, monkeypatch, capsys):
    tools(tmp_path, monkeypatch)
    assets = tmp_path / "assets"
    for said in ("Building web/assets\n", "", "Building web/assets\n"):
        assert main(app, assets) == 0
        assert capsys.readouterr().out == said
        assert is_built(app, assets)
        if said == "":
            later = time.time() + 60
            os.utime(app / "src" / "pages" / "data.js", (later, later))
            assert not is_built(app, assets)
            os.utime(app / "src" / "pages" / "data.js")
    assert {path.name for path in assets.iterdir()} == set(FILES)


def test_sources_that_cannot_be_bundled_leave_what_was_built(app, tmp_path, monkeypatch, capsys):
    tools(tmp_path, monkeypatch)
    assets = build_assets(app, tmp_path / "assets")
    fails = 'echo half > "$2/app.js"; echo "X [ERROR] Unexpected }" >&2; exit 1'
    broken = f'test "$1" = --version && echo v20.0.0 && exit\n{fails}'
    tools(tmp_path, monkeypatch, node=broken)
    with pytest.raises(BuildError, match=r"^the market's pages cannot be bundled: X \[ERROR\] Unexpected }$"):
        build_assets(app, assets)
    assert (assets / "app.js").read_text() == "app.js\n"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".assets")] == []
    os.utime(app / "index.html", (time.time() + 60,) * 2)
    assert main(app, assets) == 1
    assert capsys.readouterr().err == "error: the market's pages cannot be bundled: X [ERROR] Unexpected }\n"


def test_what_is_shipped_is_pinned_and_names_no_registry():
    lock = json.loads((APP / "package-lock.json").read_text())
    for name, package in lock["packages"].items():
        assert not name or package["integrity"].startswith("sha512-")
        assert "resolved" not in package
    versions = json.loads((APP / "package.json").read_text())
    assert all(
        re.fullmatch(r"\d+\.\d+\.\d+", each)
        for each in (versions["dependencies"] | versions["devDependencies"]).values()
    )
    assert "registry" not in re.sub(r"omit-lockfile-registry-resolved", "", (APP / ".npmrc").read_text())
    assert "ignore-scripts=true" in (APP / ".npmrc").read_text().splitlines()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    try:
        return build_assets(APP, tmp_path_factory.mktemp("built") / "assets")
    except NodeUnavailable as error:
        pytest.skip(str(error))


def test_the_same_sources_give_the_same_bytes(built, tmp_path):
    again = build_assets(APP, tmp_path / "assets")
    assert [(again / name).read_bytes() for name in FILES] == [(built / name).read_bytes() for name in FILES]


def test_the_script_can_be_put_into_a_page(built):
    script = (built / "app.js").read_text(encoding="ascii")
    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert len(script) < 400_000


def test_licenses_name_every_package_in_the_script(built):
    text = (built / "licenses.txt").read_text(encoding="utf-8")
    for line in (
        "TradingView Lightweight Charts™",
        "lightweight-charts 5.2.1",
        "hyparquet 1.33.0",
        "fancy-canvas 2.1.0",
    ):
        assert line in text
    assert "Apache License" in text
    assert "Permission is hereby granted" in text
    assert "esbuild" not in text
    script = (built / "app.js").read_text(encoding="ascii")
    assert "Apache License" in script  # it also goes into pages that are passed on alone
    assert "hyparquet 1.33.0" in script


def test_the_page_holds_no_inline_script_or_style(built):
    page = (built / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script[^>]*>", page) == ['<script src="assets/app.js" defer>']
    assert "<style" not in page
    assert " style=" not in page
    assert not re.search(r' on\w+="', page)


def test_the_style_loads_nothing(built):
    style = (built / "style.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_sources_set_no_markup():
    for path in APP.glob("src/**/*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", path.read_text()), (
            path.name
        )
