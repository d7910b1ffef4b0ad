"""Draw docs/where_the_time_goes.svg from the results of `python -m benchmarks.speed stages`, and write their numbers into the page beside it.

    python -m benchmarks.speed.picture [--results FOLDER] [--docs FOLDER]

One panel and one table for each device that has results (speed_stages*.json).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.common import RESULTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAME = "where_the_time_goes"
MARKS = "<!-- numbers: written by benchmarks.speed.picture -->", "<!-- end of numbers -->"
COLORS = {"geometry": "#e69f00", "convolution": "#0072b2", "product": "#009e73", "rest": "#8c8c8c"}
"""Okabe and Ito's, which differ for the colour-blind too."""
KINDS = {"forward": "energy", "with derivative": "energy and forces"}
STYLE = {"font.family": "DejaVu Sans", "font.size": 11, "svg.fonttype": "path", "svg.hashsalt": NAME}
INK, BAR = "#222222", 0.62


def load(folder: Path) -> list[dict[str, Any]]:
    """Results of each device, the CPU first."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("speed_stages*.json"), key=lambda p: (len(p.name), p.name))]


def device_of(result: dict[str, Any]) -> str:
    """What the numbers are of."""
    name = result["environment"]["device"]
    return "one CPU core" if name.startswith("cpu") else name


def title_of(result: dict[str, Any]) -> str:
    """Device and structure."""
    row = result["results"][0]
    return f"{device_of(result)}, silicon, {row['atoms']} atoms"


def draw_bar(axes: Any, y: float, timing: dict[str, Any], end: float) -> list[tuple[str, float]]:
    """The stages of one kind of call one after the other, and a mark at the whole call; returns where their middles are."""
    left, middles = 0.0, []
    for at in timing["stages"][:-1]:
        axes.barh(y, at["ms"], BAR, left=left, color=COLORS[at["stage"]], edgecolor="white", linewidth=0.8)
        if at["ms"] > 0.05 * end:
            axes.text(
                left + at["ms"] / 2, y, f"{at['ms']:.3g}", color=INK if at["stage"] == "geometry" else "white", ha="center", va="center"
            )
        middles.append((at["stage"], left + at["ms"] / 2))
        left += at["ms"]
    whole = timing["stages"][-1]["ms"]
    axes.plot([whole, whole], [y - 0.42, y + 0.42], color=INK, linewidth=2, solid_capstyle="butt")
    axes.text(max(left, whole) + 0.012 * end, y, f"{whole:.3g} ms", color=INK, ha="left", va="center")
    return middles


def label_stages(axes: Any, y: float, middles: list[tuple[str, float]], end: float) -> None:
    """Names above a bar, in the colours of its parts, moved right where they would touch."""
    free = 0.0
    for name, middle in middles:
        width = 0.0125 * end * len(name)
        left = max(middle - width / 2, free)
        free = left + width + 0.02 * end
        axes.plot([middle, left + width / 2], [y - BAR / 2, y - 0.62], color=COLORS[name], linewidth=1, clip_on=False)
        axes.text(left + width / 2, y - 0.68, name, color=COLORS[name], ha="center", va="bottom", fontweight="bold")


def draw_panel(axes: Any, result: dict[str, Any]) -> None:
    """The bars of one device, on its own scale."""
    rows = result["results"]
    end = max(sum(at["ms"] for at in row["with derivative"]["stages"][:-1]) for row in rows)
    y = 0.0
    for row in rows:
        for kind in reversed(KINDS):
            middles = draw_bar(axes, y, row[kind], end)
            if y == 0:
                label_stages(axes, y, middles, end)
            axes.text(-0.012 * end, y, KINDS[kind], color=INK, ha="right", va="center")
            y += 0.85
        axes.text(-0.35 * end, y - 1.275, row["model"], color=INK, ha="left", va="center", fontweight="bold", fontsize=12)
        y += 0.45
    axes.set(xlim=(0, 1.1 * end), ylim=(y - 0.75, -1.15))
    axes.axis("off")
    axes.set_title(title_of(result), loc="left", x=-0.35 / 1.1, color=INK, fontsize=12)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """All panels, one below the other."""
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(len(results), 1, figsize=(9, 3.35 * len(results)), squeeze=False)
        for axes, result in zip(panels[:, 0], results, strict=True):
            draw_panel(axes, result)
        figure.subplots_adjust(left=0.255, right=0.985, top=1 - 0.3 / 3.35 / len(results), bottom=0.35 / 3.35 / len(results), hspace=0.25)
        note = "Bars: each stage run alone, milliseconds. Black mark and number at the end: the whole call."
        figure.text(0.255 - 0.73 * 0.35 / 1.1, 0.1 / 3.35 / len(results), note, color="#555555", fontsize=10)
        figure.savefig(path, facecolor="white", metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def table_of(result: dict[str, Any]) -> list[str]:
    """A device's numbers in Markdown."""
    at, roof = result["environment"], result["results"][0]["roof"]
    lines = [
        f"**{title_of(result)}** ({at['device']}, jax {at['jax']}, commit {at['commit']}, {at['date'][:10]}): "
        f"{roof['gemm_gflops']:.0f} GFLOP/s in a large float32 product, {roof['bandwidth_gb_s']:.0f} GB/s in a pass over memory.",
        "",
        "| model | stage | energy, ms | energy and forces, ms | share | Mflop | GFLOP/s | flop per byte | of the roof |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["results"]:
        total = sum(stage["ms"] for stage in row["with derivative"]["stages"][:-1])
        for forward, both in zip(row["forward"]["stages"], row["with derivative"]["stages"], strict=True):
            share = "" if both["stage"] == "whole call" else f"{100 * both['ms'] / total:.0f} %"
            counts = (
                f"{both['flops'] / 1e6:.0f} | {both['gflops']:.0f} | {both['flops_per_byte']:.0f} | {100 * both['fraction_of_roof']:.0f} %"
            )
            lines.append(f"| {row['model']} | {both['stage']} | {forward['ms']:.3g} | {both['ms']:.3g} | {share} | {counts} |")
        sums = [f"{row[kind]['sum_over_whole']:.2f} ×" for kind in KINDS]
        lines.append(f"| {row['model']} | sum of stages / whole call | {sums[0]} | {sums[1]} | | | | | |")
    return lines


def fill(page: Path, results: list[dict[str, Any]]) -> None:
    """Put the tables between the page's marks."""
    before, rest = page.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    tables = "\n\n".join("\n".join(table_of(result)) for result in results)
    page.write_text(f"{before}{MARKS[0]}\n\n{tables}\n\n{MARKS[1]}{after}")


def main() -> None:
    """Draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="FOLDER")
    options = parser.parse_args()
    results = load(options.results)
    if not results:
        parser.error(f"no speed_stages*.json in {options.results}: run python -m benchmarks.speed stages")
    draw(results, options.docs / f"{NAME}.svg")
    fill(options.docs / f"{NAME}.md", results)
    print(f"written: {options.docs / NAME}.svg and .md")


if __name__ == "__main__":
    main()
