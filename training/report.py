"""The page of an evaluation: one HTML file with everything inside it, for the screen and for print.

    report (plain values) + pictures (PNG) ─► summary, what was run, a section a head, pretraining, data
"""

from __future__ import annotations

import base64
import html
import json
import re

from .lineage import as_run
from .report_tables import table, text

STYLE = """body{font:15px/1.5 sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#222;background:#fff}
h1,h2,h3{line-height:1.2}h2{border-bottom:2px solid #4477aa;padding-bottom:.15em;margin-top:2.2em}
.wide{overflow-x:auto}table{border-collapse:collapse;margin:.4em 0 .2em;font-size:13px}
td,th{border:1px solid #ccc;padding:.15em .5em;text-align:right;white-space:nowrap}th{background:#eef2f7}
td:first-child,th:first-child{text-align:left;white-space:normal}tr.ours td{font-weight:bold;background:#eef7ee}
.pictures{display:flex;flex-wrap:wrap;gap:.6em 1.4em;align-items:flex-start}img{max-width:100%;display:block}
.note{color:#555;font-size:13px;margin:.1em 0}.bad{color:#a51d1d}nav ul{columns:2}pre{white-space:pre-wrap;
word-break:break-all;background:#f5f5f5;padding:.5em;font-size:12px}code{word-break:break-all}
figure{margin:.4em 0;break-inside:avoid}figcaption{font-size:13px;color:#555;max-width:60em}
@media print{body{max-width:none;margin:0;font-size:10px}h2.head{break-before:page}h3{break-after:avoid}
img{max-height:8.5cm}tr{break-inside:avoid}.note,figcaption{font-size:9px}
table{font-size:9px}.wide{overflow:visible}}"""
WIDE = 11  # columns from which on a table is shown in pieces of
PIECE = 8



def _not_own(pretraining: dict) -> str:
    return "" if pretraining["own"] else ", an encoder of this size; these weights did not start from it"


def page(report: dict, pictures: dict[str, list[tuple[str, bytes]]]) -> str:
    """``pictures``: section ("" for the summary, a head's name, "pretraining") -> (caption, PNG)."""
    heads = report["heads"]
    sections = [("summary", "Summary"), ("run", "What was run"),
                *((f"head-{name}", f"Head {name}: {head['set']}") for name, head in heads.items())]
    sections += [("pretraining", "Pretraining")] if report["pretraining"] else []
    sections.append(("data", "Data and weights"))
    title = f"Evaluation of {report['weights']['name']}"
    parts = ["<!doctype html><html lang='en'><head><meta charset='utf-8'>",
             f"<title>{_e(title)}</title><style>{STYLE}</style></head><body><h1>{_e(title)}</h1>",
             "<nav><ul>", *(f"<li><a href='#{key}'>{_e(name)}</a></li>" for key, name in sections), "</ul></nav>",
             "<h2 id='summary'>Summary</h2>", _table(report["tables"]["summary"]),
             *(f"<p class='bad'>{_e(line)}</p>" for line in report["warnings"]), _pictures(pictures.get("", [])),
             "<h2 id='run'>What was run</h2>", _table(_run(report)), f"<pre>{_e(as_run(report['command']))}</pre>"]
    for name, head in heads.items():
        parts += [f"<h2 class='head' id='head-{name}'>Head {_e(name)}: {_e(head['set'])}</h2>", *_about(head),
                  *map(_table, report["tables"][name]), _pictures(pictures.get(name, []))]
    if report["pretraining"]:
        own = report["pretraining"]
        parts += ["<h2 id='pretraining'>Pretraining</h2>", f"<p>Of {_e(own['name'])}{_not_own(own)}.</p>",
                  *map(_table, report["tables"]["pretraining"]), _pictures(pictures.get("pretraining", []))]
    parts += ["<h2 id='data'>Data and weights</h2>", *_data(report)]
    return "\n".join(parts) + "</body></html>\n"


def _run(report: dict) -> dict:
    machine = report["machine"]
    return table("", ["", ""], [
        ["weights", report["weights"]["name"]], ["SHA-256", report["weights"]["sha256"]],
        ["parameters", report["weights"]["parameters"]],
        ["encoder", ", ".join(f"{k} {v}" for k, v in report["weights"]["architecture"].items())],
        ["code of the evaluation", report["code"]], ["processor", machine["processor"]], ["torch", machine["torch"]],
        ["time", f"{report['seconds']:.0f} s"], ["date", report["date"]],
        ["bound", f"at most {report['windows']:,} windows a head" if report["windows"] else "none"]])


def _about(head: dict) -> list[str]:
    trained = head["trained"]
    words = [f"Track {trained['track']}; {trained['examples']:,} windows were shown in training."]
    if head["measured"]:
        if head["differs"] is None:
            words.append("Measured anew on part of the test windows." if head["bounded"] else
                         f"Measured on {head['data']['set']}, another set than the head was trained on.")
        elif not head["differs"]:
            words.append("Measured anew on all test windows: every figure is that of the file.")
        else:
            words.append(f"Measured anew: {len(head['differs'])} figures differ from those of the file, the first is "
                         f"{head['differs'][0]}; machine, library or generator are not those of the training.")
    else:
        words.append(f"Not measured anew ({head['why']}): the figures are those of the file.")
    calibration = head["calibration"]
    if "temperature" in calibration:
        note = head.get("details", {}).get("temperature_note")
        words.append(f"Temperature {calibration['temperature']:.3f}." + (f" To know: {note}." if note else ""))
    made = (f"<li>{_step(command)}<p class='note'>{_words(how)}</p></li>" for command, how in trained["made"])
    return [f"<p>{_e(' '.join(words))}</p>", "<p>Made by</p><ol>", *made, "</ol>"]


def _step(command: str) -> str:
    """A command in backticks, or a sentence where the file has none."""
    return f"<pre>{_e(command.strip('`'))}</pre>" if command.startswith("`") else f"<p>{_words(command)}</p>"


def _words(text: str) -> str:
    return re.sub("`([^`]*)`", r"<code>\1</code>", _e(text))


def _data(report: dict) -> list[str]:
    rows = []
    for name, head in report["heads"].items():
        data = head.get("data", {})
        for file, digest in (data.get("files") or {}).items():
            same = "that of the training run" if data["same_files"] else "another than in the training run"
            rows.append([name, file, digest, same])
        if not data.get("files"):
            drawn = f"drawn anew, seed {data['seed']}" if "seed" in data else "not opened"
            rows.append([name, head["set"], drawn, ""])
    config = json.dumps({name: head["trained"] for name, head in report["heads"].items()}, indent=1, sort_keys=True)
    return [_table(table("Test files", ["head", "file", "SHA-256", ""], rows)),
            f"<details><summary>How each head was trained</summary><pre>{_e(config)}</pre></details>"]


def _table(one: dict) -> str:
    title = f"<h3>{_e(one['title'])}</h3>" if one["title"] else ""
    notes = "".join(f"<p class='note'>{_e(note)}</p>" for note in one["notes"])
    width = len(one["head"])
    each = width if width <= WIDE else PIECE
    pieces = [range(at, min(at + each, width)) for at in range(1, width, each)]
    return title + "".join(_piece(one, columns) for columns in pieces) + notes


def _piece(one: dict, columns: range) -> str:
    """The first column and those of ``columns``."""
    chosen = [0, *columns]
    head = "".join(f"<th>{_e(str(one['head'][k]))}</th>" for k in chosen)
    rows = "".join(("<tr class='ours'>" if number in one["ours"] else "<tr>")
                   + "".join(f"<td>{_e(text(row[k]))}</td>" for k in chosen) + "</tr>"
                   for number, row in enumerate(one["rows"]))
    return f"<div class='wide'><table><tr>{head}</tr>{rows}</table></div>"


def _pictures(pictures: list[tuple[str, bytes]]) -> str:
    return "<div class='pictures'>" + "".join(
        f"<figure><img alt='{_e(caption)}' src='data:image/png;base64,{base64.b64encode(data).decode()}'>"
        f"<figcaption>{_e(caption)}</figcaption></figure>" for caption, data in pictures) + "</div>"


def _e(value: str) -> str:
    return html.escape(str(value), quote=True)
