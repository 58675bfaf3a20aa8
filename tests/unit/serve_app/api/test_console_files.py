"""The files of the console are named by their contents, are small, and have the libraries unchanged."""

import gzip
import hashlib
import re
from pathlib import Path

from serve_app.api.console_files import DIRECTORY, MEDIA_TYPES, console_files

MAX_COMPRESSED_BYTES = 150_000
IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*["']([^"']+)["']""")
VENDOR = DIRECTORY / "vendor"


def scripts() -> list[Path]:
    return sorted(DIRECTORY.rglob("*.js"))


def own_scripts() -> list[Path]:
    return [path for path in scripts() if VENDOR not in path.parents]


def written(root: Path, **contents: str) -> Path:
    root.mkdir()
    for name, text in contents.items():
        (root / name.replace("_", ".")).write_text(text)
    return root


def test_index_names_only_files_that_exist() -> None:
    found = console_files()
    named = re.findall(rb'(?:src|href)="([^"]+)"', found.index.content)
    assert len(named) >= 3
    assert [name for name in named if name.decode() not in found.files] == []


def test_index_names_all_modules_so_that_a_browser_loads_them_at_once() -> None:
    files = console_files()
    named = re.findall(rb'<link rel="modulepreload" href="([^"]+)"', files.index.content)
    assert {name.decode() for name in named} == {
        name for name in files.files if name.endswith(".js") and name.partition("/")[2] != "theme.js"
    }


def test_digest_changes_with_any_content_and_not_otherwise(tmp_path: Path) -> None:
    index = '<script src="{digest}/app.js">'
    first = console_files(written(tmp_path / "first", index_html=index, app_js="1"))
    same = console_files(written(tmp_path / "same", index_html=index, app_js="1"))
    other = console_files(written(tmp_path / "other", index_html=index, app_js="2"))
    assert first == same
    assert first.index.etag != other.index.etag
    assert not first.files.keys() & other.files.keys()


def test_compressed_content_is_the_content() -> None:
    for file in console_files().files.values():
        assert gzip.decompress(file.compressed) == file.content


def test_every_import_is_a_relative_path_to_a_file() -> None:
    for path in scripts():
        for target in IMPORT.findall(path.read_text()):
            assert target.startswith("."), (path.name, target)
            assert (path.parent / target).resolve().is_file(), (path.name, target)


def test_no_script_is_loaded_later_than_at_the_start() -> None:
    """After an upgrade the service no longer has the files of the tabs that are still open."""
    assert [path.name for path in own_scripts() if re.search(r"\bimport\s*\(", path.read_text())] == []


def test_all_scripts_together_are_small() -> None:
    files = console_files().files.items()
    assert sum(len(file.compressed) for name, file in files if name.endswith(".js")) < MAX_COMPRESSED_BYTES


def test_own_scripts_make_no_html_of_texts_and_name_no_other_host() -> None:
    forbidden = re.compile(
        r"dangerouslySetInnerHTML|innerHTML|insertAdjacentHTML|\beval\(|https?://|console\."
    )
    for path in own_scripts():
        assert forbidden.findall(path.read_text()) == [], path.name


def test_own_scripts_begin_with_a_comment_and_are_short() -> None:
    for path in own_scripts():
        lines = path.read_text().splitlines()
        assert lines[0].startswith("// ") and len(lines) < 300, path.name


def test_libraries_are_those_of_the_list_with_their_licences() -> None:
    rows = [line.split() for line in (VENDOR / "VERSIONS").read_text().splitlines() if line[0] != "#"]
    digests = {name: digest for name, _, _, _, digest in rows}
    found = {path.name: path for path in VENDOR.iterdir() if path.suffix in MEDIA_TYPES}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()} == digests
    for _, package, *_ in rows:
        name = package.rpartition("@")[0].rpartition("/")[2]
        assert "ermi" in (VENDOR / "licences" / f"{name}.txt").read_text(), name
