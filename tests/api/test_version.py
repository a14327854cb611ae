"""The version tells engines apart: the release, and a hash of the sources that decide bytes."""
import re
import shutil
import subprocess

from conftest import REPQUANTD, ROOT
from support import repquant


def test_all_tell_the_same_version(daemon):
    version = repquant("--version").split()[1]
    assert re.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{12}", version)
    assert subprocess.run([REPQUANTD, "--version"], capture_output=True, text=True, check=True).stdout == f"repquantd {version}\n"
    assert daemon("GET", "/v1/capabilities").json()["version"] == version
    assert f'repquant_build_info{{version="{version}"}} 1' in daemon("GET", "/metrics").text


def build_id(tree):
    told = subprocess.run(["make", "-n", "-p", "help"], cwd=tree, capture_output=True, text=True, check=False).stdout
    return re.search(r"^BUILD_ID := ([0-9a-f]{12})$", told, re.M)[1]


def test_the_build_is_known_by_its_sources_alone(tmp_path):
    tree = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "core", tree / "core")
    shutil.copy(ROOT / "Makefile", tree)
    assert build_id(tree) == build_id(ROOT)
    (tree / "server").mkdir()
    (tree / "server/other.c").write_text("int x;\n")
    assert build_id(tree) == build_id(ROOT)
    with open(tree / "core/quant/clip.c", "a") as f:
        f.write("\n")
    assert build_id(tree) != build_id(ROOT)
