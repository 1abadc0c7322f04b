#!/usr/bin/env python3
"""Draws the tables of docs/benchmarks.md as SVG bars into docs/benchmarks/.

usage: plot.py [MARKDOWN=docs/benchmarks.md]
A table is drawn when the line before it is <!-- plot NAME COLUMN -->: a bar for each row, as long as the number
in that column; rows are called by their first columns, up to the first one that holds a number.
"""
import html
import pathlib
import re
import sys

ROW, BAR, LABEL, LEFT = 26, 420, 220, 8


def number(cell):
    found = re.match(r"[\s*]*(\d+(?:\.\d+)?)\b", cell)
    return float(found.group(1)) if found else None


def tables(lines):
    for at, line in enumerate(lines):
        mark = re.fullmatch(r"<!-- plot (\S+) (.+) -->", line.strip())
        if mark:
            rows = []
            for line in lines[at + 1:]:
                if not line.startswith("|"):
                    break
                rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
            yield mark.group(1), mark.group(2), rows[0], rows[2:]


def svg(title, bars):
    height = ROW * (len(bars) + 1) + 10
    longest = max(value for _, value in bars) or 1.0
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + LABEL + BAR + 80}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-weight="bold">{html.escape(title)}</text>',
    ]
    for at, (label, value) in enumerate(bars, 1):
        y, width = at * ROW, value / longest * BAR
        ours = any(word in label for word in ("lode", "push", "cut-hash"))
        out.append(f'<text x="{LEFT + LABEL - 8}" y="{y + 17}" text-anchor="end">{html.escape(label)}</text>')
        out.append(
            f'<rect x="{LEFT + LABEL}" y="{y + 3}" width="{width:.1f}" height="{ROW - 7}" '
            f'fill="{"#2a6fb0" if ours else "#a9b4bf"}"/>'
        )
        out.append(f'<text x="{LEFT + LABEL + width + 6:.1f}" y="{y + 17}">{value:g}</text>')
    return "\n".join([*out, "</svg>", ""])


def main():
    source = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "docs/benchmarks.md")
    target = source.with_suffix("")
    target.mkdir(exist_ok=True)
    for name, column, head, rows in tables(source.read_text().splitlines()):
        if column not in head:
            sys.exit(f"{source}: table {name} has no column {column!r}, only {head}")
        index, bars = head.index(column), []
        for row in rows:
            named = next(at for at, cell in enumerate(row) if number(cell) is not None and at > 0)
            bars.append((", ".join(row[:named]).strip("*"), number(row[index])))
        (target / f"{name}.svg").write_text(svg(f"{name}: {column}", bars))
        print(target / f"{name}.svg")


main()
