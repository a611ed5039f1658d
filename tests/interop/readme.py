"""The blocks of tests/README.md that the checks write."""

from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def write_block(name, text):
    """Replaces what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = README.read_text().split(begin)
    _, after = rest.split(end)
    README.write_text(f"{before}{begin}\n{text}\n{end}{after}")
