"""What can be said of examples/android without an SDK: its files fit together."""

import re
import shlex
import xml.etree.ElementTree

import pytest

from keras_shift import zoo
from networks import ROOT

APP = ROOT / "examples" / "android"
MAIN = APP / "app" / "src" / "main"
ANDROID = "{http://schemas.android.com/apk/res/android}"
KOTLIN = {path.stem: path.read_text() for path in MAIN.rglob("*.kt")}
XML = sorted(MAIN.rglob("*.xml"))


def parsed(path):
    return xml.etree.ElementTree.parse(path).getroot()


@pytest.mark.parametrize("path", XML, ids=lambda path: path.name)
def test_xml_refers_to_texts_that_there_are(path):
    known = {each.get("name") for each in parsed(MAIN / "res/values/strings.xml")}
    values = [value for each in parsed(path).iter() for value in each.attrib.values()]
    texts = {value for value in values if value.startswith("@string/")}
    assert {text.removeprefix("@string/") for text in texts} <= known


def test_code_refers_to_what_there_is():
    known = {
        "string": {
            each.get("name") for each in parsed(MAIN / "res/values/strings.xml")
        },
        "layout": {path.stem for path in (MAIN / "res/layout").iterdir()},
        "id": {
            each.get(f"{ANDROID}id", "").removeprefix("@+id/")
            for each in parsed(MAIN / "res/layout/main.xml").iter()
        },
    }
    found = re.findall(r"\bR\.(\w+)\.(\w+)", "".join(KOTLIN.values()))
    assert {kind for kind, _ in found} == set(known)
    assert [name for name in found if name[1] not in known[name[0]]] == []


def test_the_manifest_starts_the_activity_and_asks_for_the_camera():
    manifest = parsed(MAIN / "AndroidManifest.xml")
    (activity,) = manifest.iter("activity")
    name = activity.get(f"{ANDROID}name").removeprefix(".")
    assert f"class {name} : ComponentActivity()" in KOTLIN[name]
    asked = [each.get(f"{ANDROID}name") for each in manifest.iter("uses-permission")]
    assert asked == ["android.permission.CAMERA"]


def test_one_name_for_the_package():
    gradle = (APP / "app" / "build.gradle.kts").read_text()
    (package,) = {re.match(r"package (.+)", text)[1] for text in KOTLIN.values()}
    assert f'namespace = "{package}"' in gradle
    folders = {path.parent for path in MAIN.rglob("*.kt")}
    assert folders == {MAIN / "kotlin" / package.replace(".", "/")}


def test_braces_are_closed():
    for path in APP.rglob("*.kt*"):
        text = re.sub(r'"(\\.|[^"\\])*"', "", path.read_text())
        for opening, closing in ("()", "{}", "[]"):
            assert text.count(opening) == text.count(closing), path


def test_the_readme_writes_the_files_that_the_app_opens():
    opened = set(re.findall(r'"([\w.]+\.(?:tflite|txt))"', "".join(KOTLIN.values())))
    lines = (APP / "README.md").read_text().splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("      ")]
    written = {words[-1].rsplit("/", 1)[-1] for words in commands[1:]}
    assert written == opened
    exports = [words[2] for words in commands if words[0] == "keras-shift"]
    (size,) = re.findall(r"IMAGE_SIZE = (\d+)", KOTLIN["MainActivity"])
    for name in exports:
        assert zoo.get_record(name).input_shape[:2] == (int(size), int(size))
    (labels,) = [words[2] for words in commands if words[0] == "cut"]
    names = [line.split("\t")[1] for line in (APP / labels).read_text().splitlines()]
    assert names == zoo.get_record(exports[0]).names()
