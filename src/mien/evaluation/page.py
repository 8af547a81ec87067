"""Findings as one HTML page: it needs no network, only the strips and videos beside it."""

from collections.abc import Mapping
from html import escape
from typing import Any

from mien.evaluation.findings import STRIPS, VIDEOS, Curves, Findings, columns_of, rows_of, shown

WIDTH, HEIGHT = 640, 120  # pixels of a plot
COLOURS = "#c44", "#47b"
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em }}
table {{ border-collapse: collapse; font-size: 13px }} td, th {{ padding: .15em .7em }}
td {{ text-align: right }} th {{ text-align: left }} tr:nth-child(even) {{ background: #f2f2f2 }}
pre {{ white-space: pre-wrap }} figure {{ margin: 1em 0 }} img, video {{ max-width: 100% }}
</style><h1>{title}</h1><pre>{meaning}</pre>{body}</html>
"""


def page_of(findings: Findings) -> str:
    """The whole page as text: tables, curves as SVG, and links to strips and videos."""
    body = [f"<p>{escape(note)}</p>" for note in findings.notes]
    for name, section in findings.figures.items():
        body.append(f"<h2>{escape(name.capitalize())}</h2>{_table(section)}")
    if findings.curves:
        body.append("<h2>Curves</h2>")
        body += map(_plot, findings.curves)
    if findings.videos:
        body.append("<h2>Videos</h2>")
        body += [
            f'<figure><video src="{VIDEOS}/{escape(file)}" controls loop muted></video>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for caption, file in findings.videos
        ]
    if findings.strips:
        body.append("<h2>Frames</h2>")
        body += [
            f'<figure><img src="{STRIPS}/{escape(file)}" alt="{escape(caption)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for caption, file in findings.strips
        ]
    return PAGE.format(
        title=escape(findings.title), meaning=escape(findings.meaning), body="".join(body)
    )


def _table(section: Mapping[str, Any]) -> str:
    columns = columns_of(section)
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *columns))
    lines = "".join(
        f"<tr><th>{escape(name)}</th>"
        + "".join(f"<td>{shown(figures.get(column))}</td>" for column in columns)
        + "</tr>"
        for name, figures in rows_of(section)
    )
    return f"<table><tr>{head}</tr>{lines}</table>"


def _plot(curves: Curves) -> str:
    known = [v for values in curves.values for v in values if v == v]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (HEIGHT - 4) / max(high - low, 1e-9)
    lines = "".join(
        '<polyline fill="none" stroke="{}" points="{}"/>'.format(
            colour,
            " ".join(
                f"{i * WIDTH / max(1, len(values) - 1):.1f},{HEIGHT - 2 - (v - low) * scale:.1f}"
                for i, v in enumerate(values)
                if v == v
            ),
        )
        for values, colour in zip(curves.values, COLOURS, strict=True)
    )
    names = ", ".join(
        f'<span style="color:{colour}">{escape(name)}</span>'
        for name, colour in zip(curves.names, COLOURS, strict=True)
    )
    caption = f"{escape(curves.title)}: {names} ({low:.3g} to {high:.3g})"
    return (
        f'<figure><svg width="{WIDTH}" height="{HEIGHT}" role="img">{lines}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
