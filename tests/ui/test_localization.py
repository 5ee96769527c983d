"""Every sentence that the tab can show has its entry in the Chinese table, with the same places to fill in."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lib_finetune
from lib_finetune.config import codec
from lib_finetune.data.file_kinds import FileKind

PACKAGE = Path(lib_finetune.__file__).parent
FILE = PACKAGE.parent / "localizations" / "zh_CN.json"
TABLE: dict[str, str] = json.loads(FILE.read_text(encoding="utf-8"))
ELSEWHERE = ("nano", "cli.py", "__main__.py", "environment.py", "standalone.py", "headless", "bench.py")
"""What is said on the command line only."""
NOT_SHOWN = {
    *("stop task", "group sheet", "give back", "too weak"),  # names of actions and stages
    *("preferred weight", "activation text"),  # what the WebUI calls them in a card's file
    *("a photo of {trigger} {class}", "a photo of a house by the sea", "a bowl of fruit on a table"),  # prompts
    *("{} for {} is no case to advise on", "crop {} is none of {}"),  # mistakes of a program, not of a person
}
JOINTS = (r"\s·\s", r"(?<=[.!?…])\s+(?=\S)", r":\s", r";\s", r",\s")
"""The same as in javascript/finetune_localization.js."""
SPEAKING = (
    *("estimates/method_choice.py", "estimates/method_costs.py", "estimates/memory_plan.py", "estimates/trial.py"),
    *("runs/class_images.py", "runs/admission.py", "runs/checkpoint_record.py", "runs/finish.py", "runs/schedule.py"),
    *("app/feedback.py", "app/method_advisor.py", "app/storage.py", "preflight/dataset_report.py", "preflight/teaching.py"),
    *("jobs/queue.py", "jobs/job_list.py", "jobs/task_list.py", "jobs/run_folders.py", "estimates/run_form.py"),
    *("data/plan.py", "data/scan.py", "data/caption_syntax.py", "data/caption_tables.py", "data/folder_names.py"),
    *("evaluation/watch.py", "text/word_name.py", "text_files.py", "regular_files.py"),
    *(
        "ui/cards.py",
        "ui/form.py",
        "ui/gallery.py",
        "ui/library.py",
        "ui/outcome.py",
        "ui/queue.py",
        "ui/status.py",
        "ui/tool_forms.py",
        "ui/tools_panel.py",
    ),
    *(
        "app/library.py",
        "app/class_gallery.py",
        "app/thumbnails.py",
        "app/extracted_lora.py",
        "app/lora_tools.py",
        "app/resized_lora.py",
        "app/training_files.py",
    ),
)
SAID = ("Problem", "say", "note", "PageChange", "problems", "InputError", "HostError", "SaveError", "CheckpointError", "OutOfMemoryError")


def templates(node: ast.expr) -> list[str]:  # noqa: PLR0911  a kind of expression each
    """The texts that an expression can become, with {} where something is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return templates(node.body) + templates(node.orelse)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [text for part in node.elts for text in templates(part)]
    if isinstance(node, ast.ListComp):
        return templates(node.elt)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [one + other for one in templates(node.left) or ["{}"] for other in templates(node.right) or ["{}"]]
    return []


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not any(part in ELSEWHERE for part in Path(name).parts):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            yield (function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")), node


def messages() -> Iterator[str]:
    """What is said in the log, above Train and at the fields."""
    for _, tree in modules():
        for name, call in calls(tree):
            if name in SAID:
                for argument in call.args[name == "Problem" :][:1]:
                    yield from templates(argument)


def on_the_screen() -> Iterator[str]:
    """Labels, buttons and the texts of the panels, without their tags."""
    for name, tree in modules():
        if not name.startswith("ui/"):
            continue
        pieces = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, (ast.JoinedStr, ast.Constant)) and node not in pieces:
                for text in templates(node):
                    if "<" in text and ">" in text and "=>" not in text:
                        yield from re.sub(r"<[^>]*>", "\n", text).split("\n")
        for called, call in calls(tree):
            shown = [keyword.value for keyword in call.keywords if keyword.arg in ("label", "info", "help_text", "sure")]
            if called in ("Button", "Accordion", "button"):
                shown += call.args[:1]
            for expression in shown:
                yield from templates(expression)


TEMPLATES = PACKAGE / "ui" / "templates"


def of_the_templates() -> Iterator[str]:
    """Texts between the tags of the templates, what their attributes say, and what stands on buttons."""
    quoted = r"""(?:'((?:[^'\\\\]|\\\\.)*)'|"((?:[^"\\\\]|\\\\.)*)")"""
    for path in sorted(TEMPLATES.glob("*.html")):
        source = re.sub(r"{%-?.*?-?%}", "\n", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for expression in re.findall(r"{{.*?}}", source, flags=re.DOTALL):
            for found in re.finditer(r"(?:button\(|help_text=|sure=)" + quoted, expression):
                whole = (found[1] or found[2]).replace("\\'", "'")
                yield whole if expression[found.end() : found.end() + 2] != " ~" else ""
            joined = re.search(r"sure=(" + quoted + r"(?: ~ (?:[\w.]+|" + quoted + r"))+)", expression)
            if joined:
                yield "".join(part.strip("'") if part.startswith("'") else "{}" for part in joined[1].split(" ~ "))
        bare = re.sub(r"{{.*?}}", "{}", source, flags=re.DOTALL)
        yield from re.findall(r'(?:title|aria-label|placeholder)="([^"]*)"', bare)
        yield from (text.strip() for text in re.sub(r"<[^>]*>", "\n", bare).split("\n"))


def of_the_scripts() -> Iterator[str]:
    """What the page's scripts say by themselves."""
    for path in sorted((PACKAGE.parent / "javascript").glob("*.js")):
        source = re.sub(r"^\s*//.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for quoted in re.findall(r'"([A-Z][^"]*[a-z][^"]*)"|`([A-Z][^`]*)`', source):
            text = re.sub(r"\$\{[^}]*\}", "{}", "".join(quoted))
            if " " in text and not re.search(r"[<>=;#]", text):
                yield text


def sentences() -> Iterator[str]:
    """Whatever has two words in the modules that make what the tab shows."""
    for name, tree in modules():
        if name not in SPEAKING:
            continue
        holders = (ast.Module, ast.ClassDef, ast.FunctionDef)
        bodies = [node.body for node in ast.walk(tree) if isinstance(node, holders)]
        silent = {id(line.value) for body in bodies for line in body if isinstance(line, ast.Expr)}
        silent |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        silent |= {id(part) for called, call in calls(tree) if called in ("debug", "info", "exception", "warning") for part in call.args}
        for node in ast.walk(tree):
            if isinstance(node, (ast.JoinedStr, ast.Constant)) and id(node) not in silent:
                yield from (text for text in templates(node) if re.search("[a-z,] [a-z]", text) and not re.search("[<>=]", text))


def of_the_settings() -> Iterator[str]:
    for leaf in codec.all_leaves().values():
        about = leaf.about
        yield f"{about.label} ({about.unit})" if about.unit else about.label
        yield about.help


def piece(text: str) -> bool:
    """Whether the text is a part of an entry: it is put together with others before it is shown."""
    bare = re.sub(r"\{value[^}]*\}|\{limit[^}]*\}", "{}", text).strip(" ·").removeprefix("{} ")
    return any(bare in key for key in TABLE)


def covered(text: str) -> bool:
    """Whether the page's script finds the text, whole or in its parts."""
    bare = text.strip()
    if not re.search("[A-Za-z]", bare.replace("{}", "")) or bare in TABLE:
        return True
    parts = next((found for joint in JOINTS if len(found := re.split(joint, bare)) > 1), [])
    return bool(parts) and all(covered(part) for part in parts)


@pytest.mark.parametrize("found", [messages, on_the_screen, of_the_templates, of_the_scripts, sentences, of_the_settings])
def test_everything_that_is_said_has_a_translation(found):
    texts = list(found())
    assert len(texts) > (5 if found is of_the_scripts else 60)
    missing = [text for text in dict.fromkeys(texts) if not covered(text)]
    if found is sentences:
        missing = [text for text in missing if text not in NOT_SHOWN and not piece(text)]
    assert missing == []


def test_the_modules_that_speak_are_there():
    assert [name for name in SPEAKING if not (PACKAGE / name).is_file()] == []


def test_every_kind_of_file_has_a_translation():
    shown = [kind.value for kind in FileKind if kind not in (FileKind.PICTURE, FileKind.CAPTION)]
    assert [value for value in shown if value not in TABLE] == []


def test_a_text_without_an_entry_is_noticed():
    assert not covered("Nobody has translated this sentence.") and covered("Trigger word: {} is gone.")


def test_nothing_is_filled_in_that_is_not_there():
    for text, into in TABLE.items():
        places = re.findall(r"\{(\d*)\}", into)
        given = text.count("{}")
        assert all(int(place) < given for place in places if place), text
        assert sum(place == "" for place in places) <= given, text


def test_every_entry_is_chinese_or_a_name():
    english = [text for text, into in TABLE.items() if not re.search("[\u4e00-\u9fff]", into)]
    assert set(english) <= {"LoRA", "DreamBooth", "Alpha", "Min-SNR gamma", "lora", "loha", "lokr", "unet", "★ {}"}
