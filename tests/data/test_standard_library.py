"""The standard library of the running Python is a corpus without a download."""

from remask.data.corpus import documents


def test_modules_and_help_without_tests() -> None:
    found = list(documents("stdlib"))
    names = [document.name for document in found]
    assert "argparse.py" in names
    assert any(name.startswith("pydoc_data/topics#") for name in names)
    assert not any("site-packages" in name or "/test/" in name or name.startswith("test/") for name in names)
    assert sum(len(document.text) for document in found) > 5_000_000
    assert names == [document.name for document in documents("stdlib")]
